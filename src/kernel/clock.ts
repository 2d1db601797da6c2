// SPDX-License-Identifier: Apache-2.0

/**
 * CLOCK_MONOTONIC in nanoseconds: the clock of bpf_ktime_get_ns(). It passes 2^53 after 104 days,
 * so it is a bigint.
 */
export function monotonicNs(): bigint {
  return process.hrtime.bigint();
}
