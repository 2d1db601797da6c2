// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { residentMemory } from "../telemetry/process.ts";
import { giveMemoryBack } from "./memory.ts";

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
