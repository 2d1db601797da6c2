// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { waysUse } from "./feature-metrics.ts";

test("ways out that fill their table are told with the key to raise", () => {
  assert.equal(waysUse("nexthops", 1022, 1024).problem, "");
  assert.match(waysUse("nexthops", 1023, 1024).problem, /^full, .*; raise tables\.nodes$/);
});
