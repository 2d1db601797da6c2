// SPDX-License-Identifier: Apache-2.0

import { Attr, bpf, Command, objectInfo, openId, openPin, possibleCpus } from "./bpf.ts";
import { KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import { MAP_TYPES, type MapType, mapTypeName } from "./kinds.ts";
import { BucketWalk, deleteBatch, type MapBatch, readBatches, updateBatch } from "./map-batch.ts";
import { type MapMapping, type MappingOptions, mapMemory } from "./map-memory.ts";
import { pin, pinByRename } from "./pin.ts";
import { explainMap } from "./probe.ts";

/** What a map is made of. Sizes in bytes. */
export interface MapSpec {
  /** The kernel keeps 15 bytes of it. */
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** MapFlags, ORed. */
  readonly flags?: number;
  /** Types of key and value in a BTF that the kernel has loaded. */
  readonly btf?: { readonly fd: number; readonly keyTypeId: number; readonly valueTypeId: number };
  /** The shape of the maps that a map of maps holds. */
  readonly inner?: BpfMap;
}

/** What the kernel knows of a map. */
export interface MapInfo {
  readonly id: number;
  readonly name: string;
  readonly type: MapType | "unspec";
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** 0 where the map has no BTF. */
  readonly btfId: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
}

/** "any" writes whatever is there, "create" only a new key, "replace" only one that exists. */
export type UpdateMode = "any" | "create" | "replace";

/** The kernel's flag for an UpdateMode. */
export const UPDATE_FLAGS = { any: 0n, create: 1n, replace: 2n } as const;

const PER_CPU = new Set([
  "percpu_hash",
  "percpu_array",
  "lru_percpu_hash",
  "percpu_cgroup_storage",
]);

const ENOENT = -2;
const E2BIG = -7;
const EEXIST = -17;
const ENOSPC = -28;

// One attr, key and value per map, with their addresses written once: a single update then
// allocates nothing.
interface Scratch {
  readonly attr: Attr;
  /** The same attr up to its key: BPF_MAP_DELETE_ELEM wants nothing after it. */
  readonly attrOfKey: Uint8Array;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * A map in the kernel, held by a file descriptor. Keys and values are raw bytes, in the layout of
 * the C structs. An element of a per-CPU map is as many values, each rounded up to 8 bytes, as the
 * machine has possible CPUs.
 */
export class BpfMap implements Disposable {
  readonly info: MapInfo;
  /** Bytes that one element's value takes in every call: the value, or all the CPUs' values. */
  readonly elementBytes: number;
  #fd: number;
  #scratch: Scratch | undefined;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#fd = fd;
    this.info = readInfo(fd);
    const { type, valueSize } = this.info;
    this.elementBytes = PER_CPU.has(type) ? roundUp8(valueSize) * possibleCpus() : valueSize;
  }

  /** Makes a map that lives until the last descriptor, pin or program that uses it is gone. */
  static create(spec: MapSpec): BpfMap {
    const attr = new Attr(72)
      .u32(0, MAP_TYPES[spec.type])
      .u32(4, spec.keySize)
      .u32(8, spec.valueSize)
      .u32(12, spec.maxEntries)
      .u32(16, spec.flags ?? 0)
      .u32(20, spec.inner?.fd ?? 0)
      .name(28, 16, spec.name);
    if (spec.btf !== undefined) {
      attr.u32(48, spec.btf.fd).u32(52, spec.btf.keyTypeId).u32(56, spec.btf.valueTypeId);
    }
    const fd = bpf(Command.mapCreate, attr);
    if (fd >= 0) return new BpfMap(fd);
    throw new KernelError("create map", spec.name, fd, { detail: explainMap(spec, fd) });
  }

  /** Opens the map that is pinned at `path`. */
  static openPinned(path: string): BpfMap {
    return new BpfMap(openPin(path, "map"));
  }

  /** Opens the map with this id, whoever made it. */
  static openId(id: number): BpfMap {
    return new BpfMap(openId(Command.mapFdById, "map", id));
  }

  /** The descriptor; it stays this object's. Throws after close. */
  get fd(): number {
    if (this.#fd < 0) throw new Error(`map ${this.info.name} is closed`);
    return this.#fd;
  }

  get id(): number {
    return this.info.id;
  }

  get name(): string {
    return this.info.name;
  }

  /** Bytes from one value to the next in mapped memory, or from one CPU's value to the next. */
  get valueStride(): number {
    return roundUp8(this.info.valueSize);
  }

  /** The value at `key`, in `into` or in fresh bytes; undefined when there is none. */
  lookup(key: Uint8Array, into?: Uint8Array): Uint8Array | undefined {
    return this.#read(Command.mapLookup, "look up a key in map", key, into);
  }

  /**
   * Removes a key of a hash and gives the value that it had at that very moment; undefined when it
   * was not there.
   */
  take(key: Uint8Array, into?: Uint8Array): Uint8Array | undefined {
    return this.#read(Command.mapTake, "take a key from map", key, into);
  }

  /** Writes one element; for a hash, readers meet the old value or the new. */
  update(key: Uint8Array, value: Uint8Array, mode: UpdateMode = "any"): void {
    const scratch = this.#prepare(key);
    this.#expect("value", value, this.elementBytes);
    scratch.value.set(value);
    scratch.attr.u64(24, UPDATE_FLAGS[mode]);
    const result = bpf(Command.mapUpdate, scratch.attr);
    if (result < 0) throw this.error("update map", result);
  }

  /** Removes a key; false when it was not there. */
  delete(key: Uint8Array): boolean {
    const scratch = this.#prepare(key);
    const result = bpf(Command.mapDelete, scratch.attr, scratch.attrOfKey);
    if (result === ENOENT) return false;
    if (result < 0) throw this.error("delete from map", result);
    return true;
  }

  /**
   * The key after `key`, or the first; undefined at the end. A hash restarts from its first key
   * when `key` has gone in the meantime: prefer entries(), which does not.
   */
  nextKey(key?: Uint8Array): Uint8Array | undefined {
    const next = new Uint8Array(this.info.keySize);
    const attr = new Attr(32).u32(0, this.fd).pointer(16, next);
    if (key !== undefined) {
      this.#expect("key", key, this.info.keySize);
      attr.pointer(8, key);
    }
    const result = bpf(Command.mapNextKey, attr);
    if (result === ENOENT) return undefined;
    if (result < 0) throw this.error("read the next key of map", result);
    return next;
  }

  /** Every element, as fresh bytes. Elements that come and go meanwhile may be met or missed. */
  *entries(): Generator<readonly [key: Uint8Array, value: Uint8Array]> {
    const { keySize } = this.info;
    for (const batch of this.lookupBatches()) {
      for (let index = 0; index < batch.count; index += 1) {
        yield [
          batch.keys.slice(index * keySize, (index + 1) * keySize),
          batch.values.slice(index * this.elementBytes, (index + 1) * this.elementBytes),
        ];
      }
    }
  }

  /**
   * Every element, about `chunk` at a time, packed one after the other. The bytes are reused: they
   * hold until the next step. Map types without batch operations are read one by one.
   */
  lookupBatches(chunk = 4096): Generator<MapBatch> {
    return readBatches(this, chunk);
  }

  /** A walk through a hash, reading by reading. */
  bucketWalk(): BucketWalk {
    return new BucketWalk(this);
  }

  /**
   * Writes `count` elements, packed one after the other, in their order and in chunks. Throws a
   * BatchError, which says how many were written, at the first that the kernel refuses. 100 000
   * elements block for about 50 ms.
   */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number, mode: UpdateMode = "any"): void {
    this.#expect("keys", keys, count * this.info.keySize);
    this.#expect("values", values, count * this.elementBytes);
    updateBatch(this, keys, values, count, mode);
  }

  /** Removes `count` packed keys, in chunks, and returns how many were there. */
  deleteBatch(keys: Uint8Array, count: number): number {
    this.#expect("keys", keys, count * this.info.keySize);
    return deleteBatch(this, keys, count);
  }

  /** Maps the values of a BPF_F_MMAPABLE array into memory, `valueStride` bytes apart. */
  mmap(options: MappingOptions = {}): MapMapping {
    return mapMemory(this, options);
  }

  /** No program and no bpf(2) call can write it any more (mmap'd memory stays read-only too). */
  freeze(): void {
    const result = bpf(Command.mapFreeze, new Attr(4).u32(0, this.fd));
    if (result < 0) throw this.error("freeze map", result);
  }

  /** Pins the map at a free `path`. */
  pin(path: string): void {
    pin(this.fd, `map ${this.name}`, path);
  }

  /** Pins the map at `path` in the place of what is there. */
  pinByRename(path: string): void {
    pinByRename(this.fd, `map ${this.name}`, path);
  }

  /** Gives the descriptor back; the map lives on while a pin, a program or a mapping holds it. */
  close(): void {
    if (this.#fd >= 0) sys.close(this.#fd);
    this.#fd = -1;
    this.#scratch = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A KernelError about this map that says what its errno means here. */
  error(operation: string, result: number): KernelError {
    return new KernelError(operation, this.name, result, { detail: this.explain(result) });
  }

  /** What an errno of a map operation means for this map. */
  explain(result: number): string {
    const { type, maxEntries } = this.info;
    if (result === E2BIG && type.endsWith("array")) return `its last index is ${maxEntries - 1}`;
    if (result === E2BIG || (result === ENOSPC && type === "lpm_trie")) {
      return `it is full with ${maxEntries} entries`;
    }
    if (result === EEXIST) return "the key is there already";
    if (result === ENOENT) return "the key is not there";
    return "";
  }

  #read(
    command: number,
    operation: string,
    key: Uint8Array,
    into: Uint8Array | undefined,
  ): Uint8Array | undefined {
    const scratch = this.#prepare(key);
    scratch.attr.u64(24, 0n);
    const result = bpf(command, scratch.attr);
    if (result === ENOENT) return undefined;
    if (result < 0) throw this.error(operation, result);
    if (into === undefined) return scratch.value.slice();
    into.set(scratch.value);
    return into;
  }

  #prepare(key: Uint8Array): Scratch {
    const scratch = this.#scratch ?? this.#makeScratch();
    this.#expect("key", key, this.info.keySize);
    scratch.key.set(key);
    return scratch;
  }

  #makeScratch(): Scratch {
    const key = new Uint8Array(new ArrayBuffer(this.info.keySize));
    const value = new Uint8Array(new ArrayBuffer(this.elementBytes));
    const attr = new Attr(32).u32(0, this.fd).pointer(8, key).pointer(16, value);
    const scratch = { attr, attrOfKey: attr.bytes.subarray(0, 16), key, value };
    this.#scratch = scratch;
    return scratch;
  }

  #expect(what: string, bytes: Uint8Array, size: number): void {
    if (bytes.byteLength === size) return;
    throw new RangeError(
      `the ${what} given to map ${this.name} must have ${size} bytes, not ${bytes.byteLength}`,
    );
  }
}

function roundUp8(bytes: number): number {
  return (bytes + 7) & ~7;
}

function readInfo(fd: number): MapInfo {
  const info = objectInfo(fd, "a map", new Attr(88));
  return {
    type: mapTypeName(info.getU32(0)),
    id: info.getU32(4),
    keySize: info.getU32(8),
    valueSize: info.getU32(12),
    maxEntries: info.getU32(16),
    flags: info.getU32(20),
    name: info.getName(24, 16),
    btfId: info.getU32(64),
    btfKeyTypeId: info.getU32(68),
    btfValueTypeId: info.getU32(72),
  };
}
