// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { createIdAllocator, OutOfIdsError } from "./ids.ts";

test("numbers start at the first and are given once", () => {
  const ids = createIdAllocator("service ids", 1, 3);
  assert.deepEqual([ids.allocate(), ids.allocate(), ids.allocate()], [1, 2, 3]);
  assert.throws(() => ids.allocate(), OutOfIdsError);
  assert.equal(ids.used, 3);
});

test("when no fresh number is left, the one released longest ago comes back", () => {
  const ids = createIdAllocator("service ids", 1, 3);
  for (let count = 0; count < 3; count++) ids.allocate();
  ids.release(2);
  ids.release(1);
  assert.deepEqual([ids.allocate(), ids.allocate()], [2, 1]);
});

test("a released number rests while fresh ones last, but the numbers stay small", () => {
  let nowMs = 0;
  const ids = createIdAllocator("service ids", 1, 100_000, () => nowMs);
  ids.release(ids.allocate());
  assert.equal(ids.allocate(), 2);
  for (let count = 0; count < 5000; count++) {
    nowMs += 1000;
    ids.release(ids.allocate());
  }
  assert.ok(ids.allocate() < 300);
});

test("a number rests for a minute, however many are released at once", () => {
  let nowMs = 0;
  const ids = createIdAllocator("service ids", 1, 100_000, () => nowMs);
  const old = Array.from({ length: 1000 }, () => ids.allocate());
  for (const id of old) ids.release(id);
  nowMs = 59_999;
  for (let count = 0; count < 1000; count++) assert.ok(ids.allocate() > 1000);
  nowMs = 60_000;
  assert.equal(ids.allocate(), 1);
});

test("a number found in use at start is not given out", () => {
  const ids = createIdAllocator("service ids", 1, 10);
  assert.equal(ids.claim(2), true);
  assert.equal(ids.claim(2), false);
  assert.equal(ids.claim(11), false);
  assert.deepEqual([ids.allocate(), ids.allocate()], [1, 3]);
});

test("releasing what isn't in use is a mistake of the caller", () => {
  const ids = createIdAllocator("service ids", 1, 10);
  assert.throws(() => ids.release(4), /service ids: 4 is released but not in use/);
});
