// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { ipv4FromNumber, parseIpv4 } from "../net/address.ts";
import {
  compareMembers,
  createRing,
  createRingInSteps,
  RING_SIZES,
  type RingMember,
  ringSizeFor,
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
  assert.equal(createHash("sha256").update(ring).digest("hex").slice(0, 16), "37058f0d0650fc3b");
});

test("a ring has at least a hundred slots for each backend, up to the largest size", () => {
  const table = [1, 10, 11, 40, 41, 163, 653, 654, 2613, 10455, 20000];
  assert.deepEqual(
    table.map((backends) => ringSizeFor(backends)),
    [1021, 1021, 4084, 4084, 16336, 16336, 65344, 261376, 261376, 1045504, 1045504],
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

test("a share follows its weight, to a slot, in rings of every size", () => {
  const sizes = fc.constantFrom(...RING_SIZES.slice(0, 3));
  fc.assert(
    fc.property(members(1, fc.integer({ min: 1, max: 1000 })), sizes, (list, size) => {
      const slots = shares(createRing(list, size), list.length);
      const sum = list.reduce((total, { weight }) => total + weight, 0);
      for (const [index, { weight }] of list.entries()) {
        assert.ok(Math.abs((slots[index] ?? 0) - (size * weight) / sum) <= 1);
      }
    }),
  );
});

test("who is nearest to one more slot gets it", () => {
  const list = [1, 2, 4].map((weight, index) => ({
    address: ipv4FromNumber(index + 1),
    port: 80,
    weight,
  }));
  assert.deepEqual(shares(createRing(list, 1021), 3), [146, 292, 583]);
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

test("when one of many leaves, two in a hundred slots of the others change hands", () => {
  const moved = (count: number): number => {
    const list = Array.from({ length: count }, (_, index) => ({
      address: ipv4FromNumber(0x0a000000 + index * 7),
      port: 80,
      weight: 100,
    }));
    const before = createRing(list, ringSizeFor(count));
    const leavers = [0, count >> 1, count - 1];
    let others = 0;
    for (const leaver of leavers) {
      const rest = list.filter((_, index) => index !== leaver);
      const after = createRing(rest, before.length);
      for (const [slot, owner] of before.entries()) {
        if (owner !== leaver && list[owner] !== rest[after[slot] ?? -1]) others++;
      }
    }
    return others / before.length / leavers.length;
  };
  assert.ok(moved(10) < 0.025, `${moved(10)} of 10's`);
  assert.ok(moved(100) < 0.025, `${moved(100)} of 100's`);
  assert.ok(moved(300) < 0.015, `${moved(300)} of 300's`);
});

test("a larger ring is the smaller one, cut finer: few hashes get another owner", () => {
  fc.assert(
    fc.property(members(1, fc.constant(100)), (list) => {
      const [coarse, fine] = [createRing(list, 1021), createRing(list, 16336)];
      let moved = 0;
      for (const [slot, owner] of fine.entries()) if (coarse[slot >> 4] !== owner) moved++;
      assert.ok(moved < 16336 * 0.02, `${moved} slots moved`);
    }),
  );
});

test("a ring made in steps is the ring made at once, and no step is long", () => {
  const list = Array.from({ length: 700 }, (_, index) => ({
    address: ipv4FromNumber(0x0a000000 + index * 7),
    port: 80,
    weight: 1 + (index % 5),
  }));
  const steps = createRingInSteps(list, 261376);
  let count = 0;
  let next = steps.next();
  for (; next.done !== true; next = steps.next()) count++;
  assert.deepEqual(next.value, createRing(list, 261376));
  assert.ok(count > 10, `${count} steps`);
});

test("more members than slots of the smallest ring still have even shares", () => {
  const list = Array.from({ length: 3000 }, (_, index) => ({
    address: ipv4FromNumber(0x0a000000 + index),
    port: 80,
    weight: 100,
  }));
  const slots = shares(createRing(list, 65344), list.length);
  assert.deepEqual([Math.min(...slots), Math.max(...slots)], [21, 22]);
});

test("no members make an empty ring", () => {
  assert.equal(createRing([], 1021).length, 0);
});
