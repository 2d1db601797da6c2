// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Extent, Extents } from "./extents.ts";

test("rows that are given out never overlap, and all come back", () => {
  const extents = new Extents(1000);
  const owner = new Array<number>(1000).fill(0);
  const held: Extent[] = [];
  let state = 7;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
  for (let step = 1; step < 20_000; step++) {
    const count = below(40) + 1;
    const start = below(2) === 0 ? extents.allocate(count) : undefined;
    if (start !== undefined) {
      for (let row = start; row < start + count; row++) {
        assert.equal(owner[row], 0, `row ${row} is given out twice`);
        owner[row] = step;
      }
      held.push({ start, count });
    } else if (held.length > 0) {
      const [one] = held.splice(below(held.length), 1);
      assert(one);
      extents.free(one);
      owner.fill(0, one.start, one.start + one.count);
    }
    assert.equal(
      extents.used,
      held.reduce((sum, { count: rows }) => sum + rows, 0),
    );
  }
  for (const one of held) extents.free(one);
  assert.equal(extents.allocate(1000), 0, "free rows are joined again");
  assert.equal(extents.allocate(1), undefined);
});

test("rows in use at the start are not given out", () => {
  const extents = new Extents(
    10,
    [
      { start: 6, count: 2 },
      { start: 2, count: 1 },
    ],
    1,
  );
  assert.deepEqual([1, 2, 3, 8, 9].map(() => extents.allocate(1)).toSorted(), [1, 3, 4, 8, 9]);
  assert.equal(extents.allocate(2), undefined);
  assert.equal(extents.allocate(1), 5);
  assert.throws(() => new Extents(10, [{ start: 8, count: 3 }]), /overlap/);
});
