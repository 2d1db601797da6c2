// SPDX-License-Identifier: Apache-2.0
// The kernel's ticks as a clock of ours.

import { monotonicNs } from "../kernel/clock.ts";
import { readJiffies } from "../kernel/jiffies.ts";

/** Jiffies, of which programs keep the low half. */
export interface Ticks {
  /** HZ. */
  readonly perSecond: number;
  /** The low half of the tick count now, without asking the kernel. */
  now(): number;
  /** Ticks of a time span, rounded up. */
  fromMs(spanMs: number): number;
  /** Milliseconds since a stored low half; 0 for one that lies ahead. */
  msSince(stored: number): number;
}

/**
 * Reads the tick count once; from there on it follows CLOCK_MONOTONIC, by which the kernel itself
 * advances it.
 */
export function createTicks(): Ticks {
  const { now: first, perSecond } = readJiffies();
  const firstNs = monotonicNs();
  const now = (): number => {
    const passed = Number(monotonicNs() - firstNs) / 1e9;
    return (first + Math.floor(passed * perSecond)) % 2 ** 32;
  };
  return {
    perSecond,
    now,
    fromMs: (spanMs) => Math.ceil((spanMs * perSecond) / 1000),
    msSince(stored) {
      const ticks = (now() - stored) >>> 0;
      return ticks >= 2 ** 31 ? 0 : (ticks * 1000) / perSecond;
    },
  };
}
