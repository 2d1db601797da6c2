// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { residentMemory } from "../telemetry/process.ts";
import { giveMemoryBack, trimRegularly } from "./memory.ts";

const MIB = 2 ** 20;

/** Objects in V8's heap, and small buffers outside of it. */
function fill(): { readonly objects: unknown[]; readonly buffers: Uint8Array[] } {
  const objects = Array.from({ length: 500_000 }, (_, index) => ({ index, text: `text ${index}` }));
  const buffers = Array.from({ length: 20_000 }, () => new Uint8Array(2000).fill(1));
  return { objects, buffers };
}

test("what was needed once is given back to the system", async () => {
  await giveMemoryBack();
  const before = residentMemory().own;
  let { objects, buffers } = fill();
  const full = residentMemory().own;
  assert(full - before > 60 * MIB, `only ${full - before} bytes were filled`);
  objects = [];
  // Some stay, between those that go.
  buffers = buffers.filter((_, index) => index % 20 === 0);
  await giveMemoryBack();
  const after = residentMemory().own;
  const kept = ((after - before) / MIB).toFixed(1);
  assert(after - before < 20 * MIB, `${kept} MiB are still there`);
  assert.deepEqual([objects.length, buffers.length], [0, 1000]);
});

test("what is freed outside of V8's heap is given back from time to time", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  using _trimming = trimRegularly();
  await giveMemoryBack();
  const before = residentMemory().own;
  let { buffers } = fill();
  buffers = buffers.filter((_, index) => index % 20 === 0);
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  const kept = (): number => residentMemory().own - before;
  const freed = kept();
  assert(freed > 30 * MIB, `only ${freed} bytes were there to give back`);
  t.mock.timers.tick(20_000);
  for (const endMs = performance.now() + 5000; freed - kept() < 20 * MIB; await sleep(5)) {
    assert(performance.now() < endMs, `${freed - kept()} of ${freed} bytes in 5 s`);
  }
  assert.equal(buffers.length, 1000);
});
