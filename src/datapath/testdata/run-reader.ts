// SPDX-License-Identifier: Apache-2.0
// A Worker that runs a program again and again until it is told to stop.

import { workerData } from "node:worker_threads";
import { BpfProgram } from "../../kernel/program.ts";

const { id, stop } = workerData as { readonly id: number; readonly stop: SharedArrayBuffer };
const flag = new Int32Array(stop);
using program = BpfProgram.openId(id);
// Few at a time: a test run is one long reader as far as RCU goes.
while (Atomics.load(flag, 0) === 0) program.testRun({ data: new Uint8Array(64), repeat: 20 });
