// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { threadCpuMs } from "./clock.ts";

/** What a thread uses is part of what passes; every reading is between two of the other clock. */
async function usedOf(run: () => unknown): Promise<{ readonly used: number; passed: number }> {
  const beganMs = performance.now();
  const before = threadCpuMs();
  await run();
  const used = threadCpuMs() - before;
  return { used, passed: performance.now() - beganMs };
}

test("a thread's processor time goes on while it works, and stands while it waits", async () => {
  let sum = 0;
  const work = await usedOf(() => {
    for (let turn = 0; turn < 1e6; turn++) sum += Math.sqrt(turn);
  });
  assert(sum > 0);
  assert(work.used > 0 && work.used <= work.passed, JSON.stringify(work));
  const wait = await usedOf(() => sleep(100));
  assert(wait.used < wait.passed / 2, JSON.stringify(wait));
});
