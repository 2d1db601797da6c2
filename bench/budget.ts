// SPDX-License-Identifier: Apache-2.0

/** How much time measurements may take. */
export interface Budget {
  /** Samples of each contender; odd, so that there is one in the middle. */
  readonly rounds: number;
  /** Packets of one sample. */
  readonly packets: number;
  /** Where it runs; wherever the kernel likes when left out. */
  readonly cpu?: number;
}

export const FULL: Budget = { rounds: 31, packets: 250_000, cpu: 1 };
/** Enough to see whether something broke. */
export const QUICK: Budget = { rounds: 5, packets: 50_000, cpu: 1 };
