// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { ipv4FromNumber, parseIpv4 } from "../net/address.ts";
import {
  compareMembers,
  createRing,
  RING_SIZES,
  type RingMember,
  ringSizeFor,
  startRing,
} from "./maglev.ts";

const members = (least: number, weight: fc.Arbitrary<number>): fc.Arbitrary<RingMember[]> =>
  fc
    .uniqueArray(
      fc.record({
        address: fc.integer({ min: 0, max: 0xffffffff }).map(ipv4FromNumber),
        port: fc.integer({ min: 1, max: 65535 }),
        weight,
      }),
      { minLength: least, maxLength: 10, selector: ({ address, port }) => `${address}:${port}` },
    )
    .map((list) => list.sort(compareMembers));

function shares(ring: Uint16Array, count: number): number[] {
  const slots = new Array<number>(count).fill(0);
  for (const index of ring) slots[index] = (slots[index] ?? 0) + 1;
  return slots;
}

test("the ring of three known backends is what it always was", () => {
  const known = ["10.1.0.10", "10.1.0.11", "10.2.0.10"].map((text) => ({
    address: parseIpv4(text),
    port: 8080,
    weight: 100,
  }));
  const ring = createRing(known, 1021);
  assert.equal([...ring.subarray(0, 24)].join(""), "111200220021012001212001");
  assert.equal(createHash("sha256").update(ring).digest("hex").slice(0, 16), "6df9cd9c1565cdfc");
});

test("every size is prime, as a walk over all slots needs", () => {
  for (const size of RING_SIZES) {
    for (let divisor = 2; divisor * divisor <= size; divisor++) assert.ok(size % divisor > 0);
  }
});

test("a ring has at least a hundred slots for each backend, up to the largest size", () => {
  const table = [1, 10, 11, 40, 41, 163, 655, 656, 2621, 10485, 10486];
  assert.deepEqual(
    table.map((backends) => ringSizeFor(backends)),
    [1021, 1021, 4093, 4093, 16381, 16381, 65521, 262139, 262139, 1048573, 1048573],
  );
});

test("equal weights have equal shares, to a slot", () => {
  fc.assert(
    fc.property(members(1, fc.constant(100)), (list) => {
      const slots = shares(createRing(list, 1021), list.length);
      assert.ok(Math.max(...slots) - Math.min(...slots) <= 1);
    }),
  );
});

test("a share follows its weight, to two slots", () => {
  fc.assert(
    fc.property(members(1, fc.integer({ min: 1, max: 1000 })), (list) => {
      const slots = shares(createRing(list, 1021), list.length);
      const sum = list.reduce((total, { weight }) => total + weight, 0);
      for (const [index, { weight }] of list.entries()) {
        assert.ok(Math.abs((slots[index] ?? 0) - (1021 * weight) / sum) <= 2);
      }
    }),
  );
});

test("when one of N leaves, few slots of the others change hands", () => {
  fc.assert(
    fc.property(members(3, fc.constant(100)), fc.nat(), (list, pick) => {
      const leaver = pick % list.length;
      const before = createRing(list, 1021);
      const rest = list.filter((_, index) => index !== leaver);
      const after = createRing(rest, 1021);
      let moved = 0;
      for (const [slot, owner] of before.entries()) {
        if (owner === leaver) continue;
        if (list[owner] !== rest[after[slot] ?? -1]) moved++;
      }
      assert.ok(moved <= 1021 * 0.2, `${moved} slots of the others moved`);
    }),
  );
});

test("a ring made in steps is the ring made at once", () => {
  fc.assert(
    fc.property(members(1, fc.integer({ min: 1, max: 1000 })), (list) => {
      const fill = startRing(list, 1021);
      let steps = 1;
      while (!fill.step(100)) steps++;
      assert.deepEqual(fill.ring, createRing(list, 1021));
      assert.ok(steps > 5 && steps < 12, `${steps} steps`);
    }),
  );
});

test("no members make an empty ring", () => {
  assert.equal(createRing([], 1021).length, 0);
});
