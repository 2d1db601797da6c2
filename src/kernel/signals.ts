// SPDX-License-Identifier: Apache-2.0

import { check } from "./error.ts";
import { setSignalMask } from "./ffi.ts";

const SIGSET_BYTES = 128;

/**
 * Runs something while signals to this thread wait. The verifier begins anew whenever one comes,
 * and ours come with every change that netlink tells: more often than it ends on a slow machine.
 */
export function holdingSignals<T>(run: () => T): T {
  const before = new Uint8Array(SIGSET_BYTES);
  const all = new Uint8Array(SIGSET_BYTES).fill(0xff);
  check(setSignalMask(all, before), "hold signals of", "this thread");
  try {
    return run();
  } finally {
    check(setSignalMask(before, null), "take signals again in", "this thread");
  }
}
