// SPDX-License-Identifier: Apache-2.0

import { setTimeout as sleep } from "node:timers/promises";

const LIMIT_MS = 10_000;

/** Waits until something is so; throws when it isn't in time. */
export async function waitFor(
  condition: () => boolean,
  what = "what was waited for",
): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what} didn't happen in ${LIMIT_MS} ms`);
    await sleep(10);
  }
}
