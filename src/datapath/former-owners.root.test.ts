// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BpfMap } from "../kernel/map.ts";
import { ANY_IPV4, ANY_IPV6, type Ipv4, parseIpv4, parseIpv6 } from "../net/address.ts";
import { createFormerOwnersTarget } from "./former-owners.ts";
import { type FormerOwners, maps, type ServiceId, type SlotKey } from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";

const A = parseIpv4("10.0.0.1");
const B = parseIpv4("10.0.0.2");
const C = parseIpv4("10.0.0.3");
const SERVICE = 7 as ServiceId;

function open(maxEntries = 16) {
  const spec = { ...maps.formerOwners, maxEntries };
  return new TypedMap<SlotKey, FormerOwners>(BpfMap.create(spec), spec);
}

/** Slots with three owners each, as the words of a list. */
function slots(...words: number[]) {
  const owners = [A, B, C];
  const packed = words.map((word, index) =>
    index % 4 === 0 ? word : owners.indexOf(word as Ipv4) + 1,
  );
  return { owners, slots: Uint32Array.from(packed) };
}

function contents(map: TypedMap<SlotKey, FormerOwners>) {
  return [...map.entries()]
    .map(([{ service, slot }, { owner }]) => [service, slot, ...owner])
    .sort((a, b) => (a[1] ?? 0) - (b[1] ?? 0));
}

describe("the target of former owners", () => {
  test("writes and removes the slots that differ", () => {
    using map = open();
    const target = createFormerOwnersTarget(map, ANY_IPV4);
    const first = slots(1, A, 0, 0, 5, A, B, 0, 9, C, 0, 0);
    assert.deepEqual(target.apply([{ key: SERVICE, value: first }]), []);
    const second = slots(2, B, 0, 0, 5, A, B, 0, 9, B, C, 0);
    assert.deepEqual(target.apply([{ key: SERVICE, value: second }]), []);
    assert.deepEqual(contents(map), [
      [7, 2, B, 0, 0],
      [7, 5, A, B, 0],
      [7, 9, B, C, 0],
    ]);
    assert.equal(target.used, 3);
    target.remove([{ key: SERVICE }]);
    assert.deepEqual(contents(map), []);
    assert.deepEqual([...target.keys()], []);
  });

  test("finds what is there, and takes it away when it isn't wanted", () => {
    using map = open();
    createFormerOwnersTarget(map, ANY_IPV4).apply([
      { key: SERVICE, value: slots(1, A, 0, 0, 5, A, B, C) },
      { key: 8 as ServiceId, value: slots(3, A, 0, 0) },
    ]);
    const target = createFormerOwnersTarget(map, ANY_IPV4);
    assert.deepEqual([...target.keys()].toSorted(), [7, 8]);
    const found = [...target.found()].filter(({ service }) => service === SERVICE);
    assert.deepEqual(found, [
      { service: 7, slot: 1, owners: [A] },
      { service: 7, slot: 5, owners: [A, B, C] },
    ]);
    target.apply([{ key: SERVICE, value: slots(5, A, B, C) }]);
    target.remove([{ key: 8 as ServiceId }]);
    assert.deepEqual(contents(map), [[7, 5, A, B, C]]);
  });

  test("owners of IPv6 are written and found as those of IPv4", () => {
    const spec = { ...maps.formerOwners6, maxEntries: 16 };
    using map = new TypedMap(BpfMap.create(spec), spec);
    const owners = ["fd00::1", "fd00::2"].map(parseIpv6);
    const value = { owners, slots: Uint32Array.of(1, 1, 0, 0, 5, 2, 1, 0) };
    const first = createFormerOwnersTarget(map, ANY_IPV6);
    assert.deepEqual(first.apply([{ key: SERVICE, value }]), []);
    assert.deepEqual(map.lookup({ service: SERVICE, slot: 5 })?.owner, [
      ...owners.toReversed(),
      0n,
    ]);
    const second = createFormerOwnersTarget(map, ANY_IPV6);
    const found = [...second.found()].toSorted((a, b) => a.slot - b.slot);
    assert.deepEqual(found, [
      { service: 7, slot: 1, owners: owners.slice(0, 1) },
      { service: 7, slot: 5, owners: owners.toReversed() },
    ]);
    second.remove([{ key: SERVICE }]);
    assert.equal(map.lookup({ service: SERVICE, slot: 5 }), undefined);
  });

  test("a full map names the key that makes it larger, and the next attempt goes on", () => {
    using map = open(2);
    const target = createFormerOwnersTarget(map, ANY_IPV4);
    const value = slots(1, A, 0, 0, 2, A, 0, 0, 3, A, 0, 0);
    const [refusal] = target.apply([{ key: SERVICE, value }]);
    assert.match(refusal?.error.message ?? "", /full with 2 entries; raise tables.formerOwners/);
    assert.deepEqual(target.apply([{ key: SERVICE, value: slots(3, B, 0, 0) }]), []);
    assert.deepEqual(contents(map), [[7, 3, B, 0, 0]]);
  });
});
