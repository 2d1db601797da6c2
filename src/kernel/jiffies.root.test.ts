// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { readJiffies, secondsSince } from "./jiffies.ts";

/** Jiffies, and the clock's seconds before and after they were read. */
function readBoth() {
  const before = performance.now() / 1000;
  const jiffies = readJiffies();
  return { before, jiffies, after: performance.now() / 1000 };
}

test("jiffies run as fast as the clock", async () => {
  const first = readBoth();
  await new Promise((done) => setTimeout(done, 500));
  const last = readBoth();
  const ticked = secondsSince(first.jiffies.now, last.jiffies);
  // However late this process is; the kernel counts its ticks a little late too.
  const lateness = 0.1;
  const least = last.before - first.after - lateness;
  const most = last.after - first.before + lateness;
  assert(least <= ticked && ticked <= most, `${ticked} s by jiffies, ${least}–${most} s passed`);
});

test("jiffies wrap", () => {
  const jiffies = { now: 50, perSecond: 100 };
  assert.equal(secondsSince(2 ** 32 - 50, jiffies), 1);
  assert.equal(secondsSince(60, jiffies), 0);
});
