// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { backoffMs } from "./backoff.ts";
import { createSyncGate } from "./gate.ts";

test("a gate opens when it is complete and the last source is synced", async () => {
  const gate = createSyncGate();
  const files = gate.register("files");
  const api = gate.register("api");
  files();
  api();
  assert.equal(gate.open, false, "another source may still register");
  const again = createSyncGate();
  const late = again.register("late");
  again.complete();
  assert.deepEqual([again.open, again.waitingFor], [false, ["late"]]);
  late();
  await again.opened;
  gate.complete();
  assert.deepEqual([gate.open, again.open], [true, true]);
});

test("a source registers once, and not after the gate is complete", () => {
  const gate = createSyncGate();
  gate.register("files");
  assert.throws(() => gate.register("files"), /source files is registered twice/);
  gate.complete();
  assert.throws(() => gate.register("api"), /source api is registered after/);
});

test("waits double up to the longest, and chance takes up to half off", () => {
  const options = { firstMs: 100, longestMs: 1000 };
  const waits = [1, 2, 3, 4, 5, 1000].map((attempts) => backoffMs(options, attempts, 0));
  assert.deepEqual(waits, [100, 200, 400, 800, 1000, 1000]);
  assert.equal(backoffMs(options, 5, 0.5), 750);
});
