// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { possibleCpus } from "./bpf.ts";
import { listPins } from "./bpffs.ts";
import { LoadedBtf, readBtf } from "./btf-load.ts";
import { KernelError } from "./error.ts";
import { MapFlags } from "./kinds.ts";
import { BpfMap, type MapSpec } from "./map.ts";
import { BatchError } from "./map-batch.ts";
import { openObject } from "./object.ts";
import { buildObject, makePinDirectory, readU32, u32 } from "./testdata/build.ts";

const sample = buildObject("sample");

function makeHash(maxEntries: number): BpfMap {
  return BpfMap.create({ name: "cil_hash", type: "hash", keySize: 4, valueSize: 4, maxEntries });
}

function makeArray(flags: number): BpfMap {
  const sizes = { keySize: 4, valueSize: 12, maxEntries: 5, flags };
  return BpfMap.create({ name: "cil_array", type: "array", ...sizes });
}

function pack(count: number, at: (index: number) => number): Uint8Array {
  return u32(...Array.from({ length: count }, (_, index) => at(index)));
}

test("a map gives back what was written, and forgets what was deleted", () => {
  using map = makeHash(8);
  map.update(u32(1), u32(100));
  map.update(u32(2), u32(200));
  const into = new Uint8Array(4);
  assert.equal(map.lookup(u32(2), into), into);
  assert.equal(readU32(into), 200);
  assert.equal(map.delete(u32(2)), true);
  assert.equal(map.delete(u32(2)), false);
  assert.equal(map.lookup(u32(2)), undefined);
  assert.deepEqual(map.nextKey(), u32(1));
  assert.equal(map.nextKey(u32(1)), undefined);
  assert.deepEqual([...map.entries()], [[u32(1), u32(100)]]);
});

test("what is taken from a map is given back, and gone", () => {
  using map = makeHash(8);
  map.update(u32(1), u32(100), "create");
  map.update(u32(2), u32(200));
  assert.deepEqual(map.take(u32(1)), u32(100));
  assert.equal(map.take(u32(1)), undefined);
  assert.deepEqual([...map.entries()], [[u32(2), u32(200)]]);
  using array = makeArray(0);
  assert.throws(() => array.take(u32(1)), { operation: "take a key from map", code: "ENOTSUPP" });
});

test("create and replace hold back what is there and what is not", () => {
  using map = makeHash(8);
  map.update(u32(1), u32(100), "create");
  assert.throws(() => map.update(u32(1), u32(101), "create"), { code: "EEXIST" });
  assert.throws(() => map.update(u32(2), u32(200), "replace"), { code: "ENOENT" });
  assert.deepEqual(map.lookup(u32(1)), u32(100));
});

test("a lookup is not disturbed by the mode of an update before it", () => {
  using map = makeHash(8);
  map.update(u32(1), u32(100), "create");
  assert.deepEqual(map.lookup(u32(1)), u32(100));
});

test("a full map says that it is full", () => {
  using map = makeHash(2);
  map.update(u32(1), u32(1));
  map.update(u32(2), u32(2));
  assert.throws(() => map.update(u32(3), u32(3)), {
    code: "E2BIG",
    object: "cil_hash",
    detail: "it is full with 2 entries",
  });
});

test("an index beyond an array names the last one", () => {
  using map = makeArray(0);
  assert.throws(() => map.update(u32(5), new Uint8Array(12)), { detail: "its last index is 4" });
  assert.equal(map.lookup(u32(5)), undefined);
});

test("keys and values of the wrong size are refused before the kernel reads beyond them", () => {
  using map = makeHash(2);
  assert.throws(() => map.lookup(new Uint8Array(3)), /key given to map cil_hash must have 4 bytes/);
  assert.throws(() => map.update(u32(1), new Uint8Array(5)), /value given .* 4 bytes, not 5/);
  assert.throws(() => map.updateBatch(u32(1, 2), u32(1), 2), /values given .* 8 bytes, not 4/);
});

test("a closed map says so", () => {
  const map = makeHash(2);
  map.lookup(u32(1));
  map.close();
  map.close();
  assert.throws(() => map.lookup(u32(1)), /map cil_hash is closed/);
});

test("batches larger than a chunk are written, read and deleted whole", () => {
  const count = 10_000;
  using map = makeHash(count);
  map.updateBatch(
    pack(count, (index) => index),
    pack(count, (index) => index * 3),
    count,
  );
  let read = 0;
  for (const batch of map.lookupBatches(1000)) {
    for (let index = 0; index < batch.count; index += 1) {
      assert.equal(readU32(batch.values, index), readU32(batch.keys, index) * 3);
    }
    read += batch.count;
  }
  assert.equal(read, count);
  assert.equal(
    map.deleteBatch(
      pack(9000, (index) => index),
      9000,
    ),
    9000,
  );
  assert.equal([...map.entries()].length, 1000);
  // Every other one of these keys is there.
  const keys = pack(2000, (index) => 9000 + (index % 2 === 0 ? index / 2 : count + index));
  assert.equal(map.deleteBatch(keys, 2000), 1000);
  assert.equal(map.nextKey(), undefined);
});

test("a chunk grows until the fullest bucket of a hash fits", () => {
  using map = makeHash(64);
  map.updateBatch(
    pack(64, (index) => index),
    pack(64, (index) => index),
    64,
  );
  const keys = new Set<number>();
  for (const batch of map.lookupBatches(1)) {
    for (let index = 0; index < batch.count; index += 1) keys.add(readU32(batch.keys, index));
  }
  assert.equal(keys.size, 64);
});

test("a batch that runs into the end of the map tells how far it came", () => {
  using map = makeHash(4);
  assert.throws(
    () => map.updateBatch(u32(1, 2, 3, 4, 5, 6), u32(1, 2, 3, 4, 5, 6), 6),
    (error) =>
      error instanceof BatchError &&
      error.applied === 4 &&
      error.code === "E2BIG" &&
      error.detail === "4 of 6 written, it is full with 4 entries",
  );
  assert.equal([...map.entries()].length, 4);
  using larger = makeHash(5000);
  const packed = pack(6000, (index) => index);
  assert.throws(() => larger.updateBatch(packed, packed, 6000), { applied: 5000 });
});

test("a batch that creates stops at the key that is there", () => {
  using map = makeHash(8);
  map.update(u32(2), u32(0));
  assert.throws(() => map.updateBatch(u32(1, 2, 3), u32(1, 2, 3), 3, "create"), {
    applied: 1,
    code: "EEXIST",
  });
  assert.deepEqual(map.lookup(u32(2)), u32(0));
});

test("a map type without batch operations is served one by one", () => {
  const sizes = { keySize: 4, valueSize: 4, maxEntries: 8 };
  using map = BpfMap.create({ name: "cil_devs", type: "devmap_hash", ...sizes });
  map.updateBatch(u32(10, 11, 12), u32(1, 1, 1), 3);
  assert.equal([...map.entries()].length, 3);
  assert.equal(map.deleteBatch(u32(12, 99, 10), 3), 2);
  assert.deepEqual([...map.entries()], [[u32(11), u32(1)]]);
});

test("a longest-prefix map is read in batches too", () => {
  const sizes = { keySize: 8, valueSize: 4, maxEntries: 100, flags: MapFlags.noPrealloc };
  using map = BpfMap.create({ name: "cil_lpm", type: "lpm_trie", ...sizes });
  for (let index = 0; index < 50; index += 1) map.update(u32(32, index), u32(index));
  const keys: number[] = [];
  for (const batch of map.lookupBatches(7)) {
    for (let index = 0; index < batch.count; index += 1) {
      keys.push(readU32(batch.keys, index * 2 + 1));
    }
  }
  assert.equal(new Set(keys).size, 50);
  assert.equal(keys.length, 50);
  assert.equal(map.deleteBatch(u32(32, 7, 32, 8), 2), 2);
  assert.equal([...map.entries()].length, 48);
});

test("a per-CPU map has a value for every possible CPU", () => {
  const sizes = { keySize: 4, valueSize: 4, maxEntries: 3 };
  using map = BpfMap.create({ name: "cil_percpu", type: "percpu_array", ...sizes });
  assert.equal(map.elementBytes, possibleCpus() * 8);
  const value = new Uint8Array(map.elementBytes).fill(7);
  map.update(u32(1), value);
  const entries = [...map.entries()];
  assert.equal(entries.length, 3);
  const second = entries[1]?.[1] ?? new Uint8Array();
  for (let cpu = 0; cpu < possibleCpus(); cpu += 1) {
    assert.equal(readU32(second, cpu * 2), 0x07070707);
  }
});

test("mapped memory and the map are one, twelve-byte values sixteen apart", () => {
  using map = makeArray(MapFlags.mmapable);
  using mapping = map.mmap();
  using reader = map.mmap({ readOnly: true });
  assert.equal(mapping.stride, 16);
  const words = new Uint32Array(mapping.buffer);
  Atomics.store(words, 4, 0xabcd); // the second value
  assert.equal(readU32(map.lookup(u32(1)) ?? new Uint8Array(4)), 0xabcd);
  map.update(u32(4), u32(1, 2, 3));
  assert.deepEqual([...words.subarray(16, 19)], [1, 2, 3]);
  assert.deepEqual([...new Uint32Array(reader.buffer).subarray(16, 19)], [1, 2, 3]);
});

test("views of a closed mapping are empty instead of deadly", () => {
  using map = makeArray(MapFlags.mmapable);
  const mapping = map.mmap();
  const words = new Int32Array(mapping.buffer);
  const view = new DataView(mapping.buffer);
  map.close(); // the mapping does not need it
  Atomics.store(words, 0, 5);
  mapping.close();
  mapping.close();
  assert.equal(words.length, 0);
  assert.equal(words[0], undefined);
  assert.throws(() => Atomics.load(words, 0), TypeError);
  assert.throws(() => view.getUint32(0), TypeError);
  assert.throws(() => mapping.buffer, /the mapping of map cil_array is closed/);
});

test("a map that was not made for it cannot be mapped", () => {
  using map = makeArray(0);
  assert.throws(() => map.mmap(), /create it with MapFlags.mmapable/);
});

test("a frozen map can be mapped for reading only", () => {
  using map = makeArray(MapFlags.mmapable);
  map.update(u32(0), u32(9, 9, 9));
  map.freeze();
  assert.throws(() => map.update(u32(0), u32(1, 1, 1)), { code: "EPERM" });
  assert.throws(() => map.mmap(), { detail: "it is frozen: map it read-only" });
  using mapping = map.mmap({ readOnly: true });
  assert.equal(new Uint32Array(mapping.buffer)[0], 9);
});

test("a pinned map is found again by its path and by its id", () => {
  const path = join(makePinDirectory(), "counters");
  using map = makeHash(8);
  map.update(u32(1), u32(100));
  map.pin(path);
  using pinned = BpfMap.openPinned(path);
  using same = BpfMap.openId(map.id);
  assert.equal(pinned.id, map.id);
  assert.deepEqual(same.lookup(u32(1)), u32(100));
  assert.throws(() => map.pin(path), { code: "EEXIST", detail: /pinned there already/ });
});

test("what is not there, or is no map, is not opened as one", () => {
  const directory = makePinDirectory();
  const missing = join(directory, "nothing");
  assert.throws(() => BpfMap.openPinned(missing), { code: "ENOENT", object: missing });
  assert.throws(() => BpfMap.openId(0x7fff_ffff), { code: "ENOENT" });
  using loaded = openObject(sample).load();
  const path = join(directory, "program");
  loaded.program("pass_xdp").pin(path);
  assert.throws(() => BpfMap.openPinned(path), /what is pinned there is a prog/);
  using map = makeHash(1);
  assert.throws(() => map.pin(join(directory, "absent", "x")), { detail: /directory does not/ });
  assert.throws(() => map.pin("/tmp/ciliate-not-bpffs"), { code: "EPERM", detail: /bpffs/ });
});

test("a pin is replaced in one step: whoever opens it finds the old map or the new", async () => {
  const directory = makePinDirectory();
  const path = join(directory, "services");
  using first = makeHash(1);
  first.pinByRename(path);
  const control = new SharedArrayBuffer(8);
  const words = new Int32Array(control);
  const url = new URL("./testdata/open-pin-loop.ts", import.meta.url);
  const worker = new Worker(url, { workerData: { path, control } });
  const finished = once(worker, "message") as Promise<[{ opened: number; failed: number }]>;
  await Atomics.waitAsync(words, 1, 0, 10_000).value;
  let last = first.id;
  for (let round = 0; round < 200; round += 1) {
    using map = makeHash(1);
    map.pinByRename(path);
    last = map.id;
  }
  Atomics.store(words, 0, 1);
  const [{ opened, failed }] = await finished;
  assert.equal(failed, 0);
  assert.ok(opened > 0);
  using map = BpfMap.openPinned(path);
  assert.equal(map.id, last);
  assert.deepEqual(listPins(directory), ["services"]);
});

test("a map made with BTF leads back to its types", () => {
  using object = openObject(sample);
  const { keyTypeId, valueTypeId } = object.map("counters");
  using btf = new LoadedBtf(object.btf);
  const spec = {
    name: "cil_typed",
    type: "hash",
    keySize: 4,
    valueSize: 16,
    maxEntries: 1,
  } as const;
  using map = BpfMap.create({ ...spec, btf: { fd: btf.fd, keyTypeId, valueTypeId } });
  assert.equal(map.info.btfValueTypeId, valueTypeId);
  assert.deepEqual(readBtf(map.info.btfId), object.btf);
  assert.throws(() => new LoadedBtf(new Uint8Array(64)), { code: "EINVAL", detail: /magic/ });
  assert.throws(() => readBtf(0x7fff_ffff), { code: "ENOENT" });
});

test("a map that the kernel refuses is refused with the rule that it breaks", () => {
  const create = (spec: Omit<MapSpec, "name">) => () => BpfMap.create({ name: "cil_bad", ...spec });
  const refused = (detail: RegExp) => (error: unknown) =>
    error instanceof KernelError && error.code === "EINVAL" && detail.test(error.detail);
  const ring = { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 1000 } as const;
  assert.throws(create(ring), refused(/power of two and whole pages/));
  const trie = { type: "lpm_trie", keySize: 8, valueSize: 4, maxEntries: 1 } as const;
  assert.throws(create(trie), refused(/MapFlags.noPrealloc/));
  const hash = { type: "hash", keySize: 4, valueSize: 4, maxEntries: 1 } as const;
  assert.throws(create({ ...hash, flags: MapFlags.mmapable }), refused(/only an array/));
});
