// SPDX-License-Identifier: Apache-2.0

// How many entries a table has that forgets the least used one for one more. The kernel doesn't
// count them, so they are walked through, and only when somebody asks.

import type { BpfMap } from "../kernel/map.ts";

/** A table's entries, counted on demand. */
export interface EntryCount {
  /** Of the last whole walk; undefined before the first. */
  readonly entries: number | undefined;
  /**
   * Counts anew. Calls that come meanwhile share a walk, and none begins so soon after the last
   * that walking would take more than a tenth of the time. Rejects with KernelError.
   */
  count(): Promise<void>;
}

/** Entries in one reading, after which other work goes on. */
const CHUNK = 1024;
const REST_PER_WALK = 9;

/** `nowMs`: milliseconds, monotonic; tests bring their own. */
export function createEntryCount(
  map: Pick<BpfMap, "lookupBatches">,
  nowMs: () => number = () => performance.now(),
): EntryCount {
  let entries: number | undefined;
  let restsUntilMs = Number.NEGATIVE_INFINITY;
  let walking: Promise<void> | undefined;
  const walk = async (): Promise<void> => {
    const startMs = nowMs();
    let found = 0;
    for (const { count } of map.lookupBatches(CHUNK)) {
      found += count;
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    entries = found;
    const endMs = nowMs();
    restsUntilMs = endMs + (endMs - startMs) * REST_PER_WALK;
  };
  return {
    get entries() {
      return entries;
    },
    count() {
      if (walking === undefined && nowMs() < restsUntilMs) return Promise.resolve();
      walking ??= walk().finally(() => {
        walking = undefined;
      });
      return walking;
    },
  };
}
