// SPDX-License-Identifier: Apache-2.0
import { clockGetTime } from "./ffi.ts";

const CLOCK_THREAD_CPUTIME_ID = 3;
const time = new BigInt64Array(2);
const timeBytes = new Uint8Array(time.buffer);

/**
 * CLOCK_MONOTONIC in nanoseconds: the clock of bpf_ktime_get_ns(). It passes 2^53 after 104 days,
 * so it is a bigint.
 */
export function monotonicNs(): bigint {
  return process.hrtime.bigint();
}

/**
 * Milliseconds of a processor that this thread has used, to the moment: what getrusage(2) says of
 * it, and Node by that, follows by the kernel's ticks.
 */
export function threadCpuMs(): number {
  clockGetTime(CLOCK_THREAD_CPUTIME_ID, timeBytes);
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
}
