// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEntryCount } from "./entry-count.ts";

function createMap(chunks: readonly number[], read: () => void) {
  const none = new Uint8Array();
  return {
    *lookupBatches() {
      for (const count of chunks) {
        read();
        yield { keys: none, values: none, count };
      }
    },
  };
}

test("entries are counted when somebody asks, a chunk in each turn of the event loop", async () => {
  let [reads, turns, nowMs] = [0, 0, 0];
  const map = createMap([1024, 1024, 7], () => {
    reads++;
  });
  const counted = createEntryCount(map, () => nowMs);
  assert.deepEqual([counted.entries, reads], [undefined, 0]);
  const turn = (): void => {
    turns++;
    if (counted.entries === undefined) setImmediate(turn);
  };
  setImmediate(turn);
  const [first, second] = [counted.count(), counted.count()];
  assert.equal(reads, 1);
  await Promise.all([first, second]);
  assert.deepEqual([counted.entries, reads], [2055, 3]);
  assert.ok(turns >= 3, `${turns} turns`);
  nowMs = 1;
  await counted.count();
  assert.equal(reads, 6);
});

test("a walk that takes long is not made again at once", async () => {
  let [reads, nowMs] = [0, 0];
  const map = createMap([5], () => {
    reads++;
    nowMs += 100;
  });
  const counted = createEntryCount(map, () => nowMs);
  await counted.count();
  nowMs += 899;
  await counted.count();
  assert.equal(reads, 1);
  nowMs += 1;
  await counted.count();
  assert.equal(reads, 2);
});
