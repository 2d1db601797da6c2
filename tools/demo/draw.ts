// SPDX-License-Identifier: Apache-2.0

// A packet's way as a picture: a line of life for each place, an arrow for each wire.

import type { Header, Hop } from "./observe.ts";
import { type Paint, pad, type Screen } from "./screen.ts";

const LANE_COLUMNS = 4;

/** One row: an arrow from lane `from` to lane `to`, the other lanes going on. */
export function arrow(screen: Screen, lanes: number, from: number, to: number): string {
  const { life, from: tail, right, left, rule } = screen.glyphs;
  const [low, high] = from < to ? [from, to] : [to, from];
  let row = "";
  for (let lane = 0; lane < lanes; lane++) {
    const inside = lane > low && lane < high;
    row += lane === from ? tail : inside ? rule : life;
    if (lane === lanes - 1) break;
    if (lane < low || lane >= high) row += " ".repeat(LANE_COLUMNS - 1);
    else if (from < to) row += lane === high - 1 ? rule.repeat(2) + right : rule.repeat(3);
    else row += lane === low ? left + rule.repeat(2) : rule.repeat(3);
  }
  return row;
}

function header(screen: Screen, { source, target }: Header, paint?: Paint): string {
  const text = `${source}${screen.glyphs.to}${target}`;
  return paint === undefined ? text : screen.paint(paint, text);
}

/** Draws the way of one packet below the names of the places. */
export function drawHops(
  screen: Screen,
  places: readonly string[],
  hops: readonly Hop[],
  paint: Paint,
): void {
  for (const { from, to, first } of hops) {
    const row = arrow(screen, places.length, places.indexOf(from), places.indexOf(to));
    const outer =
      first.outer === undefined
        ? ""
        : `${header(screen, first.outer, "yellow")} ${screen.glyphs.life} `;
    const headers = pad(`${outer}${header(screen, first.inner)}`, 54);
    const bytes = screen.paint("grey", `${first.frameBytes}`.padStart(4));
    screen.line(` ${screen.paint(paint, row)}  ${headers} ${bytes}`);
  }
}

/** The head of a picture: one letter for each place, and what the letters stand for. */
export function drawHead(
  screen: Screen,
  letters: readonly string[],
  meanings: readonly string[],
): void {
  const head = letters.map((letter) => pad(letter, LANE_COLUMNS)).join("");
  const legend = letters.map((letter, index) => `${letter} ${meanings[index] ?? ""}`).join(", ");
  screen.line(` ${screen.paint("bold", head.trimEnd())}  ${screen.paint("grey", legend)}`);
}

/** A bar of a length between 0 and 1. */
export function bar(screen: Screen, share: number, columns: number): string {
  return screen.glyphs.block.repeat(Math.max(0, Math.round(share * columns)));
}

/** One character for each value, as high as the value. */
export function spark(screen: Screen, values: readonly number[], most: number): string {
  const steps = [...screen.glyphs.spark];
  return values
    .map((value) => {
      const step = Math.ceil((value / Math.max(most, 1)) * (steps.length - 1));
      return steps[Math.min(steps.length - 1, Math.max(0, step))] ?? "";
    })
    .join("");
}
