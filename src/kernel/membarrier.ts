// SPDX-License-Identifier: Apache-2.0

import { check } from "./error.ts";
import * as sys from "./ffi.ts";

// Waits for an RCU grace period, which every BPF program runs inside of. With a single CPU online
// the kernel returns at once, and may: packet programs run with preemption off, so none is half way
// through while this thread runs.
const MEMBARRIER_CMD_GLOBAL = 1;

let running: Promise<void> | undefined;
let next: Promise<void> | undefined;

/**
 * Resolves when every program run that may have begun before this call has ended: what was
 * unpublished before it can be reused after it. Takes about 10 ms, off the main thread; callers
 * that come meanwhile share the next one.
 */
export function gracePeriod(): Promise<void> {
  if (running === undefined) {
    running = start();
    return running;
  }
  next ??= running.then(begin, begin);
  return next;
}

function begin(): Promise<void> {
  next = undefined;
  running = start();
  return running;
}

function start(): Promise<void> {
  const waited = wait().finally(() => {
    if (running === waited) running = undefined;
  });
  return waited;
}

async function wait(): Promise<void> {
  const result = await sys.membarrierAsync(MEMBARRIER_CMD_GLOBAL);
  check(
    result,
    "wait for running programs",
    "with membarrier(2); it is refused where nohz_full is set",
  );
}
