// SPDX-License-Identifier: Apache-2.0
// Backends by chance: whatever the kernel drew, the model has to come to the same with one of the
// backends that it might have drawn.

import type { Input, Node, Outcome } from "../model/node.ts";
import type { Place } from "../model/numbers.ts";
import { copyWritten, type Written } from "../model/tables.ts";

/** A draw that the model was asked for. */
interface Draw {
  /** One for each backend. */
  readonly slots: readonly number[];
  /** Tables before the first that follows from it. */
  readonly before: Written;
}

export interface Drawn {
  readonly outcome: Outcome;
  /** What follows from each draw; empty when the packet needs none. */
  readonly others: readonly (() => Outcome)[];
}

/** Runs a packet, with any draw; each of the others undoes what was done before. */
export function runDrawing(node: Node, place: Place, input: Omit<Input, "draw">): Drawn {
  const draws: Draw[] = [];
  const any = (slots: readonly number[]): number => {
    draws.push({ slots, before: copyWritten(node.tables) });
    return slots[0] ?? 0;
  };
  const outcome = node.run(place, { ...input, draw: any });
  const [draw] = draws;
  if (draw === undefined) return { outcome, others: [] };
  const { slots, before } = draw;
  const others = slots.map((slot) => (): Outcome => {
    node.tables = { ...node.tables, ...copyWritten(before) };
    return node.run(place, { ...input, draw: () => slot });
  });
  return { outcome, others };
}
