// SPDX-License-Identifier: Apache-2.0

export interface BackoffOptions {
  readonly firstMs: number;
  readonly longestMs: number;
}

/**
 * How long to wait after the `attempts`-th failure in a row (from 1): doubling from `firstMs` up
 * to `longestMs`, of which a random half is taken off so that failures don't march in step.
 */
export function backoffMs(options: BackoffOptions, attempts: number, random: number): number {
  const full = Math.min(options.longestMs, options.firstMs * 2 ** Math.min(attempts - 1, 40));
  return full * (1 - random / 2);
}
