// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Address } from "../net/address.ts";
import { changeRing, eachSlot, type OwnedRing, packSlots, withoutDead } from "./former-owners.ts";
import { createRing } from "./maglev.ts";
import type { FormerOwners } from "./rows.ts";
import { ip, lastByte } from "./testing.ts";

const FOREVER = Number.POSITIVE_INFINITY;

/** A ring as it would be: slot by slot, owners by the last byte of their address. */
function ringOf(slots: readonly number[]): OwnedRing {
  const owners = [...new Set(slots)].sort((a, b) => a - b);
  const ring = Uint16Array.from(slots, (owner) => owners.indexOf(owner));
  return { ring, owners: owners.map(ip) };
}

function change(
  from: readonly number[],
  to: readonly number[],
  before?: FormerOwners,
  dead: readonly number[] = [],
  expiresAtMs = FOREVER,
): FormerOwners | undefined {
  const lives = (address: Address): boolean => !dead.includes(lastByte(address));
  return changeRing({ from: ringOf(from), to: ringOf(to), before, lives, expiresAtMs });
}

/** `2: 1 3` for slot 2, formerly of 1 and before that of 3. */
function show(former: FormerOwners | undefined): string {
  const slots = former === undefined ? [] : [...eachSlot(former)];
  return slots
    .map(({ slot, owners }) => `${slot}: ${owners.map((owner) => lastByte(owner)).join(" ")}`)
    .join(", ");
}

test("a slot that changes hands remembers its former owner, the others nothing", () => {
  assert.equal(show(change([1, 1, 2, 3], [1, 2, 2, 1])), "1: 1, 3: 3");
  assert.equal(change([1, 2], [1, 2]), undefined);
});

test("former owners add up newest first, each once, three at most, never the present one", () => {
  const steps = [[1], [2], [3], [2], [4], [5], [6]];
  const told: string[] = [];
  let former: FormerOwners | undefined;
  for (const [index, to] of steps.entries()) {
    if (index > 0) former = change(steps[index - 1] ?? [], to, former);
    told.push(show(former));
  }
  assert.deepEqual(told, ["", "0: 1", "0: 2 1", "0: 3 1", "0: 2 3 1", "0: 4 2 3", "0: 5 4 2"]);
});

test("who doesn't live is no former owner, and makes room for who does", () => {
  const former = change([2, 2], [3, 2], change([1, 2], [2, 2]));
  assert.equal(show(former), "0: 2 1");
  assert.equal(show(change([3, 2], [4, 2], former, [2])), "0: 3 1");
  assert.equal(show(former && withoutDead(former, (address) => lastByte(address) !== 2)), "0: 1");
  assert.equal(former && withoutDead(former, () => true), former);
  assert.equal(former && withoutDead(former, () => false), undefined);
});

test("a larger ring's slots have the former owners of the slots that they were cut from", () => {
  const before = change([9, 1], [2, 1]);
  assert.equal(show(before), "0: 9");
  const former = change([2, 1], [2, 2, 3, 2, 1, 1, 1, 4], before);
  assert.equal(show(former), "0: 9, 1: 9, 2: 2 9, 3: 9, 7: 1");
});

test("a smaller ring's slots have those of all that went into them, largest part first", () => {
  assert.equal(show(change([1, 1, 2, 3, 4, 4, 4, 4], [1, 4])), "0: 2 3");
  assert.equal(show(change([1, 2, 3, 4, 5], [6, 6])), "0: 1 2 3, 1: 4 5 3");
  const before = change([7, 1, 1, 1], [1, 1, 1, 1]);
  assert.equal(show(change([1, 1, 1, 1], [1], before)), "0: 7");
});

test("the time at which they expire moves on only when one is added", () => {
  const before = change([1, 2], [2, 2], undefined, [], 100);
  assert.equal(before?.expiresAtMs, 100);
  assert.equal(change([2, 2], [2, 2], before, [], 200)?.expiresAtMs, 100);
  assert.equal(change([2, 2], [2, 3], before, [], 200)?.expiresAtMs, 200);
});

test("what is read back from the kernel in any order is what was written", () => {
  const former = change([1, 1, 2, 3], [1, 2, 2, 1], change([3, 3, 3, 3], [1, 1, 2, 3]));
  assert.ok(former !== undefined);
  const list = [...eachSlot(former)].reverse();
  assert.deepEqual(packSlots(former.size, list, FOREVER), former);
  assert.deepEqual([...(former?.owners ?? [])].sort(), [ip(1), ip(3)]);
  assert.equal(packSlots(4, [], FOREVER), undefined);
});

test("whatever sets follow each other, each slot remembers what a list of its own would", () => {
  const ring = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 5, maxLength: 5 });
  const dead = fc.subarray([1, 2, 3, 4, 5, 6, 7], { maxLength: 3 });
  fc.assert(
    fc.property(fc.array(fc.tuple(ring, dead), { minLength: 2, maxLength: 12 }), (steps) => {
      let former: FormerOwners | undefined;
      const lists: number[][] = [[], [], [], [], []];
      for (const [index, [to, gone]] of steps.entries()) {
        const from = steps[index - 1]?.[0];
        if (from === undefined) continue;
        former = change(from, to, former, gone);
        for (const [slot, list] of lists.entries()) {
          const all = [...new Set([from[slot] ?? 0, ...list])];
          lists[slot] = all.filter((one) => one !== to[slot] && !gone.includes(one)).slice(0, 3);
        }
      }
      const expected = lists
        .map((list, slot) => `${slot}: ${list.join(" ")}`)
        .filter((line) => !line.endsWith(": "));
      assert.equal(show(former), expected.join(", "));
    }),
  );
});

test("through a rolling update across a step of the ladder, idle flows find their owners", () => {
  const pods = (first: number, count: number): OwnedRing => {
    const size = count > 10 ? 4084 : 1021;
    const owners = Array.from({ length: count }, (_, index) => ip(first + index));
    const members = owners.map((address) => ({ address, port: 80, weight: 100 }));
    return { ring: createRing(members, size), owners };
  };
  const rings = [pods(1, 10), pods(1, 11), pods(2, 10), pods(2, 11), pods(3, 10)];
  let former: FormerOwners | undefined;
  for (const [index, to] of rings.entries()) {
    const from = rings[index - 1];
    if (from === undefined) continue;
    former = changeRing({ from, to, before: former, lives: () => true, expiresAtMs: FOREVER });
  }
  const ownerOf = ({ ring, owners }: OwnedRing | undefined = pods(1, 1), part: number): Address =>
    owners[ring[Math.floor(part * ring.length)] ?? 0] ?? ip(0);
  const slots = new Map(
    [...eachSlot(former as FormerOwners)].map((slot) => [slot.slot, slot.owners]),
  );
  let lost = 0;
  for (let flow = 0; flow < 20_000; flow++) {
    const part = (flow + 0.5) / 20_000;
    const known = [ownerOf(rings[4], part), ...(slots.get(Math.floor(part * 1021)) ?? [])];
    if (!known.includes(ownerOf(rings[0], part))) lost++;
  }
  assert.ok(lost < 20_000 * 0.003, `${lost} of 20000 flows are lost`);
});
