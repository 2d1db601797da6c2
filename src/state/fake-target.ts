// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from "node:util";
import type { Outcome, Refusal, Target } from "./target.ts";

/** A target in this process's memory, for tests: shows what it holds and what was done to it. */
export interface FakeTarget<Key extends string | number, Value> extends Target<Key, Value> {
  maxBatch?: number;
  readonly held: Map<Key, Value>;
  /** One line per element done: `set name key`, `remove name key`, in order. */
  readonly log: string[];
  /** Elements per call of `apply`. */
  readonly batches: number[];
  /** Asked before each element; an error refuses it. */
  refuse: (verb: "set" | "remove", key: Key) => Error | undefined;
}

/** `log` may be shared between targets, to see the order between them. */
export function createFakeTarget<Key extends string | number, Value>(
  name: string,
  log: string[] = [],
): FakeTarget<Key, Value> {
  const held = new Map<Key, Value>();
  const batches: number[] = [];
  const each = <Element extends { readonly key: Key }>(
    verb: "set" | "remove",
    batch: readonly Element[],
    run: (element: Element) => void,
  ): Outcome => {
    const refused: Refusal[] = [];
    for (const [index, element] of batch.entries()) {
      const error = target.refuse(verb, element.key);
      if (error !== undefined) {
        refused.push({ index, error });
        continue;
      }
      log.push(`${verb} ${name} ${element.key}`);
      run(element);
    }
    return refused;
  };
  const target: FakeTarget<Key, Value> = {
    name,
    held,
    log,
    batches,
    refuse: () => undefined,
    idOf: (key) => key,
    same: isDeepStrictEqual,
    apply(batch) {
      batches.push(batch.length);
      return each("set", batch, ({ key, value }) => held.set(key, value));
    },
    remove: (batch) => each("remove", batch, ({ key }) => held.delete(key)),
    keys: () => [...held.keys()],
  };
  return target;
}
