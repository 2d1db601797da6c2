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
  const ids = createIdAllocator("service ids", 1, 100_000);
  ids.release(ids.allocate());
  assert.equal(ids.allocate(), 2);
  for (let count = 0; count < 5000; count++) ids.release(ids.allocate());
  assert.ok(ids.allocate() < 300);
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
