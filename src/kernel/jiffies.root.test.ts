// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { readJiffies, secondsSince } from "./jiffies.ts";

// An emulated machine (test/kernels) is too slow for this to mean anything.
const TIMED = process.env.CILIATE_EMULATED ? { skip: "measures time, and this is emulated" } : {};

test("jiffies run as fast as the clock", TIMED, async () => {
  const before = readJiffies();
  const start = performance.now();
  await new Promise((done) => setTimeout(done, 500));
  const after = readJiffies();
  const ticked = secondsSince(before.now, after);
  const passed = (performance.now() - start) / 1000;
  assert(Math.abs(ticked - passed) < 0.1, `${ticked} s by jiffies, ${passed} s by the clock`);
});

test("jiffies wrap", () => {
  const jiffies = { now: 50, perSecond: 100 };
  assert.equal(secondsSince(2 ** 32 - 50, jiffies), 1);
  assert.equal(secondsSince(60, jiffies), 0);
});
