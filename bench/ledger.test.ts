// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { measureFunctions, readLedger } from "./ledger.ts";

test("the ledger has the sizes of the programs as they are", () => {
  const rewrite = "run toolchain/node bench/main.ts size, and commit bench/ledger.txt";
  assert.deepEqual(readLedger(), measureFunctions(), rewrite);
});
