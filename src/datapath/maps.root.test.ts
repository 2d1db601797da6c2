// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TypedMapSpec } from "../kernel/codec.ts";
import { KernelError } from "../kernel/error.ts";
import { BpfMap } from "../kernel/map.ts";
import { makePinDirectory } from "../kernel/testdata/build.ts";
import { parseIpv4 } from "../net/address.ts";
import { createMapTarget } from "./map-target.ts";
import { TypedMap } from "./maps.ts";
import { Numbers, type Peer, Peer as PeerCodec, type Port } from "./testdata/gen/shared.ts";

const ZERO = Numbers.decode(new DataView(new ArrayBuffer(Numbers.size)), 0);

/** Peers to numbers: a hash, or what else is asked for. */
function specOf(changes: Partial<TypedMapSpec<Peer, Numbers>> = {}): TypedMapSpec<Peer, Numbers> {
  const sizes = { keySize: PeerCodec.size, valueSize: Numbers.size };
  const types = { key: PeerCodec, value: Numbers, layout: "" };
  return {
    name: "cil_typed",
    type: "hash",
    maxEntries: 8,
    flags: 0,
    ...sizes,
    ...types,
    ...changes,
  };
}

function make(changes: Partial<TypedMapSpec<Peer, Numbers>> = {}): TypedMap<Peer, Numbers> {
  const spec = specOf(changes);
  return new TypedMap(BpfMap.create(spec), spec);
}

function peer(number: number): Peer {
  return { address: parseIpv4(`10.0.${number >> 8}.${number & 255}`), port: number as Port };
}

function row(number: number): Numbers {
  return { ...ZERO, u32: number, be64: BigInt(number) };
}

function rows(count: number) {
  return Array.from({ length: count }, (_, index) => ({ key: peer(index), value: row(index) }));
}

function byPort(entries: Iterable<readonly [Peer, Numbers]>): [number, number][] {
  return [...entries]
    .map(([key, value]): [number, number] => [key.port, value.u32])
    .sort(([a], [b]) => a - b);
}

describe("a typed map", () => {
  test("gives back what was written, and forgets what was deleted", () => {
    using map = make();
    map.update(peer(1), row(100));
    map.update(peer(2), row(200));
    assert.deepEqual(map.lookup(peer(1)), row(100));
    assert.deepEqual(map.lookup(peer(2)), row(200));
    assert.equal(map.lookup(peer(3)), undefined);
    assert.equal(map.delete(peer(1)), true);
    assert.equal(map.delete(peer(1)), false);
    assert.deepEqual([...map.entries()], [[peer(2), row(200)]]);
  });

  test("holds back by mode, in the kernel's words", () => {
    using map = make();
    map.update(peer(1), row(1), "create");
    assert.throws(() => map.update(peer(1), row(2), "create"), { code: "EEXIST" });
    assert.throws(() => map.update(peer(2), row(2), "replace"), { code: "ENOENT" });
    assert.deepEqual(map.lookup(peer(1)), row(1));
  });

  test("adds only what isn't there and has room, and gives what it takes out", () => {
    using map = make({ maxEntries: 2 });
    assert.equal(map.add(peer(1), row(100)), true);
    assert.equal(map.add(peer(1), row(101)), false);
    assert.equal(map.add(peer(2), row(200)), true);
    assert.equal(map.add(peer(3), row(300)), false);
    assert.deepEqual(map.take(peer(1)), row(100));
    assert.equal(map.take(peer(1)), undefined);
    assert.deepEqual([...map.entries()], [[peer(2), row(200)]]);
  });

  test("writes, reads and removes more elements than one chunk holds", () => {
    const count = 10_000;
    using map = make({ maxEntries: count, flags: 1 });
    assert.deepEqual(map.updateAll(rows(count)), []);
    const read = byPort(map.entries());
    assert.equal(read.length, count);
    for (const [index, pair] of read.entries()) assert.deepEqual(pair, [index, index]);
    const half = rows(count).filter((_, index) => index % 2 === 0);
    assert.equal(map.deleteAll(half.map(({ key }) => key)), count / 2);
    assert.equal(map.deleteAll(half.map(({ key }) => key)), 0);
    assert.deepEqual(byPort(map.entries()).slice(0, 2), [
      [1, 1],
      [3, 3],
    ]);
  });

  test("that is full refuses what is new and still takes what is there", () => {
    using map = make({ maxEntries: 4 });
    map.updateAll(rows(4));
    const batch = [
      rows(6)[4],
      { key: peer(2), value: row(22) },
      rows(6)[5],
      { key: peer(0), value: row(11) },
    ];
    const refused = map.updateAll(batch.filter((it) => it !== undefined));
    assert.deepEqual(
      refused.map(({ index }) => index),
      [0, 2],
    );
    for (const { error } of refused)
      assert.match(error.message, /cil_typed.*E2BIG.*it is full with 4 entries/);
    assert.deepEqual(byPort(map.entries()), [
      [0, 11],
      [1, 1],
      [2, 22],
      [3, 3],
    ]);
  });

  test("names what it refuses by its place in the whole batch, beyond the first chunk too", () => {
    using map = make({ maxEntries: 4500 });
    const indexes = map.updateAll(rows(4600)).map(({ index }) => index);
    assert.deepEqual(
      indexes,
      Array.from({ length: 100 }, (_, index) => 4500 + index),
    );
  });

  test("of a type without batches does the same one by one", () => {
    const trie = { keySize: 4 + PeerCodec.size };
    const key = {
      name: "prefix",
      size: trie.keySize,
      decode: (view: DataView, offset: number) => PeerCodec.decode(view, offset + 4),
      encode: (view: DataView, offset: number, value: Peer) => {
        view.setUint32(offset, 64, true);
        PeerCodec.encode(view, offset + 4, value);
      },
    };
    using map = make({ ...trie, type: "lpm_trie", flags: 1, key, maxEntries: 2 });
    const refused = map.updateAll(rows(3));
    assert.deepEqual(
      refused.map(({ index }) => index),
      [2],
    );
    assert.deepEqual(byPort(map.entries()), [
      [0, 0],
      [1, 1],
    ]);
  });

  test("is opened by its name from a directory of pins, and refused for other sizes", () => {
    const directory = makePinDirectory();
    using map = make();
    map.update(peer(1), row(1));
    map.raw.pin(`${directory}/cil_typed`);
    using opened = TypedMap.openPinned(directory, specOf());
    assert.deepEqual([...opened.entries()], [[peer(1), row(1)]]);
    assert.throws(
      () => TypedMap.openPinned(directory, specOf({ valueSize: 40 })),
      new Error(
        "map cil_typed: its elements have 8 + 48 bytes, this build's 8 + 40; remove its pin to start anew",
      ),
    );
    assert.throws(() => TypedMap.openPinned(`${directory}`, specOf({ name: "gone" })), KernelError);
  });

  test("of a per-CPU type is refused, for its elements are another size", () => {
    assert.throws(() => make({ type: "percpu_hash" }), /its elements have 8 \+ \d+ bytes/);
  });
});

describe("a typed map as a target", () => {
  test("applies, removes and lists, and knows same keys and values by their bytes", () => {
    using map = make({ maxEntries: 2 });
    const target = createMapTarget(map, "tables.peers");
    assert.equal(target.name, "cil_typed");
    const refused = target.apply(rows(3));
    assert.deepEqual(
      refused.map(({ index }) => index),
      [2],
    );
    assert.match(refused[0]?.error.message ?? "", /full with 2 entries; raise tables\.peers$/);
    assert.deepEqual([...target.keys()].map(({ port }) => port).sort(), [0, 1]);
    assert.deepEqual(target.remove([{ key: peer(0) }, { key: peer(7) }]), []);
    assert.deepEqual([...target.keys()], [peer(1)]);
    assert.equal(target.idOf(peer(1)), target.idOf({ ...peer(1) }));
    assert.equal(new Set(rows(1000).map(({ key }) => target.idOf(key))).size, 1000);
    assert.equal(target.same(row(1), { ...row(1) }), true);
    assert.equal(target.same(row(1), row(2)), false);
  });
});
