// SPDX-License-Identifier: Apache-2.0

// A Worker that runs a program once, while the main thread does something else.

import { workerData } from "node:worker_threads";
import { BpfProgram } from "../program.ts";

using program = BpfProgram.openId((workerData as { id: number }).id);
program.testRun({ data: new Uint8Array(64) });
