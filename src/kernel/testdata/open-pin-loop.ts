// SPDX-License-Identifier: Apache-2.0

// A Worker that opens a pinned map over and over, and tells how often that failed.

import { parentPort, workerData } from "node:worker_threads";
import { BpfMap } from "../map.ts";

const { path, control } = workerData as { path: string; control: SharedArrayBuffer };
const words = new Int32Array(control);
let failed = 0;
let opened = 0;
while (Atomics.load(words, 0) === 0) {
  try {
    BpfMap.openPinned(path).close();
    opened += 1;
    Atomics.store(words, 1, opened);
    Atomics.notify(words, 1);
  } catch {
    failed += 1;
  }
}
parentPort?.postMessage({ opened, failed });
