// SPDX-License-Identifier: Apache-2.0

import { readFileSync } from "node:fs";
import { monotonicNs } from "./clock.ts";

/** The kernel's tick count. */
export interface Jiffies {
  /** Its low half, as programs store it. */
  readonly now: number;
  /** HZ. */
  readonly perSecond: number;
}

const RATES = [100, 250, 300, 1000];

/** Reads the tick count. One reading takes a millisecond on a large machine: it isn't for loops. */
export function readJiffies(): Jiffies {
  const match = /^jiffies: (\d+)$/m.exec(readFileSync("/proc/timer_list", "utf8"));
  if (match === null) throw new Error("cannot read jiffies: /proc/timer_list doesn't have them");
  const ticks = Number(match[1]);
  return { now: ticks % 2 ** 32, perSecond: rateOf(ticks, Number(monotonicNs()) / 1e9) };
}

/** The kernel starts counting 300 seconds before the 32-bit count wraps, so one rate fits best. */
function rateOf(ticks: number, uptimeSeconds: number): number {
  const error = (rate: number): number =>
    Math.abs((ticks - 2 ** 32 + 300 * rate) / rate - uptimeSeconds);
  return RATES.reduce((best, rate) => (error(rate) < error(best) ? rate : best));
}

/** Seconds since a stored low half; times that lie ahead are 0. */
export function secondsSince(stored: number, { now, perSecond }: Jiffies): number {
  const ticks = (now - stored) >>> 0;
  return ticks >= 2 ** 31 ? 0 : ticks / perSecond;
}
