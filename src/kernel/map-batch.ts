// SPDX-License-Identifier: Apache-2.0

import { Attr, bpf, Command } from "./bpf.ts";
import { KernelError } from "./error.ts";
import type { BpfMap, UpdateMode } from "./map.ts";

/** Some elements of a map, packed one after the other. */
export interface MapBatch {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly count: number;
}

/**
 * A batch stopped half way: the elements before `applied` are in the map, the one at `applied` was
 * refused.
 */
export class BatchError extends KernelError {
  override readonly name: string = "BatchError";
  readonly applied: number;

  constructor(map: BpfMap, result: number, applied: number, count: number) {
    const why = map.explain(result);
    const detail = `${applied} of ${count} written${why === "" ? "" : `, ${why}`}`;
    super("update a batch in map", map.name, result, { detail });
    this.applied = applied;
  }
}

const ENOENT = -2;
const EINTR = -4;
const ENOSPC = -28;
const ENOTSUPP = -524; // BPF_DO_BATCH's answer for a map type without the operation
const CHUNK = 4096;
const MAX_RETRIES = 100;

function batchAttr(map: BpfMap, keys: Uint8Array, values: Uint8Array | null, count: number): Attr {
  const attr = new Attr(56).pointer(16, keys).u32(32, count).u32(36, map.fd);
  return values === null ? attr : attr.pointer(24, values);
}

/** BpfMap.lookupBatches. */
export function* readBatches(map: BpfMap, chunk: number): Generator<MapBatch> {
  const { keySize, maxEntries } = map.info;
  // A position in the kernel's iteration: a key for most types, a bucket's number for a hash.
  let at = new Uint8Array(Math.max(keySize, 4));
  let next = new Uint8Array(at.byteLength);
  let capacity = Math.min(chunk, maxEntries);
  let batch = newBatch(map, capacity);
  let started = false;
  for (let stalled = 0; stalled < MAX_RETRIES; ) {
    const attr = batchAttr(map, batch.keys, batch.values, capacity).pointer(8, next);
    if (started) attr.pointer(0, at);
    const result = bpf(Command.mapLookupBatch, attr);
    if (result === ENOTSUPP) {
      yield* readOneByOne(map);
      return;
    }
    if (result === ENOSPC && capacity < maxEntries) {
      capacity = Math.min(capacity * 2, maxEntries); // a bucket that holds more than a chunk
      batch = newBatch(map, capacity);
      continue;
    }
    // EINTR is the kernel giving up on keys that vanish under it; what it has read so far counts.
    if (result < 0 && result !== ENOENT && result !== EINTR) {
      throw map.error("read a batch of map", result);
    }
    const count = attr.getU32(32);
    if (count > 0) yield { ...batch, count };
    if (result === ENOENT) return;
    if (count === 0) {
      stalled += 1;
      continue;
    }
    stalled = 0;
    started = true;
    [at, next] = [next, at];
  }
  throw map.error("read a batch of map", EINTR);
}

/** A reading of a BucketWalk. The bytes are reused: they hold until the next one. */
export interface BucketReading extends MapBatch {
  /** How many of the map's buckets it went through. */
  readonly buckets: number;
  /** Whether it was the last one: the next begins anew. */
  readonly ended: boolean;
}

/**
 * A walk through a hash along its buckets, for who decides reading by reading how much there is to
 * be read. What comes and goes meanwhile may be met or missed; all else is met once.
 */
export class BucketWalk {
  /** Buckets that the map has, as the kernel makes them. */
  readonly buckets: number;
  readonly #map: BpfMap;
  readonly #at = new Uint8Array(new ArrayBuffer(4));
  readonly #next = new Uint8Array(new ArrayBuffer(4));
  #capacity = 0;
  #batch: Pick<MapBatch, "keys" | "values"> = { keys: new Uint8Array(), values: new Uint8Array() };

  /** `map` is of a type that hashes, preallocated or not, of whole values or per CPU. */
  constructor(map: BpfMap) {
    this.#map = map;
    this.buckets = 2 ** Math.ceil(Math.log2(map.info.maxEntries));
  }

  /** The next reading is the first one. */
  restart(): void {
    this.#at.fill(0);
  }

  /** Reads up to `count` elements, and more only when one bucket has more. Throws KernelError. */
  read(count: number): BucketReading {
    const map = this.#map;
    const from = this.#bucket(this.#at);
    for (let wanted = Math.max(1, count); ; wanted *= 2) {
      this.#reserve(wanted);
      const { keys, values } = this.#batch;
      const attr = batchAttr(map, keys, values, wanted).pointer(8, this.#next);
      // Without a place the kernel begins with the first bucket.
      if (from > 0) attr.pointer(0, this.#at);
      const result = bpf(Command.mapLookupBatch, attr);
      if (result === ENOSPC) continue;
      if (result < 0 && result !== ENOENT) throw map.error("read a batch of map", result);
      const ended = result === ENOENT;
      const to = ended ? this.buckets : this.#bucket(this.#next);
      if (ended) this.restart();
      else this.#at.set(this.#next);
      return { keys, values, count: attr.getU32(32), buckets: to - from, ended };
    }
  }

  #bucket(bytes: Uint8Array): number {
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  #reserve(count: number): void {
    if (count <= this.#capacity) return;
    this.#capacity = count;
    this.#batch = newBatch(this.#map, count);
  }
}

function newBatch(map: BpfMap, capacity: number): { keys: Uint8Array; values: Uint8Array } {
  return {
    keys: new Uint8Array(capacity * map.info.keySize),
    values: new Uint8Array(capacity * map.elementBytes),
  };
}

function* readOneByOne(map: BpfMap): Generator<MapBatch> {
  // A type that restarts from the front when a key vanishes could go on for ever.
  let left = map.info.maxEntries * 2;
  for (let key = map.nextKey(); key !== undefined && left > 0; key = map.nextKey(key)) {
    const value = map.lookup(key);
    if (value !== undefined) yield { keys: key, values: value, count: 1 };
    left -= 1;
  }
}

/** BpfMap.updateBatch. */
export function updateBatch(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array,
  count: number,
  mode: UpdateMode,
): void {
  const { keySize } = map.info;
  // The kernel takes no create or replace for a batch.
  let batched = mode === "any";
  let done = 0;
  while (batched && done < count) {
    const chunk = Math.min(CHUNK, count - done);
    const chunkKeys = keys.subarray(done * keySize, (done + chunk) * keySize);
    const chunkValues = values.subarray(done * map.elementBytes, (done + chunk) * map.elementBytes);
    const attr = batchAttr(map, chunkKeys, chunkValues, chunk);
    const result = bpf(Command.mapUpdateBatch, attr);
    if (result === ENOTSUPP) batched = false;
    else if (result < 0) throw new BatchError(map, result, done + progress(attr, chunk), count);
    else done += chunk;
  }
  for (; done < count; done += 1) updateOne(map, keys, values, done, count, mode);
}

/**
 * How many elements a failed batch got through; kernels before 6.8 leave the count alone when none
 * was tried.
 */
function progress(attr: Attr, chunk: number): number {
  const count = attr.getU32(32);
  return count < chunk ? count : 0;
}

function updateOne(
  map: BpfMap,
  keys: Uint8Array,
  values: Uint8Array,
  index: number,
  count: number,
  mode: UpdateMode,
): void {
  const { keySize } = map.info;
  const key = keys.subarray(index * keySize, (index + 1) * keySize);
  const value = values.subarray(index * map.elementBytes, (index + 1) * map.elementBytes);
  try {
    map.update(key, value, mode);
  } catch (error) {
    if (error instanceof KernelError) throw new BatchError(map, error.errno, index, count);
    throw error;
  }
}

/** BpfMap.deleteBatch. */
export function deleteBatch(map: BpfMap, keys: Uint8Array, count: number): number {
  const { keySize } = map.info;
  let deleted = 0;
  let done = 0;
  while (done < count) {
    const chunk = Math.min(CHUNK, count - done);
    const attr = batchAttr(map, keys.subarray(done * keySize), null, chunk);
    const result = bpf(Command.mapDeleteBatch, attr);
    if (result === ENOTSUPP) {
      if (map.delete(keys.subarray(done * keySize, (done + 1) * keySize))) deleted += 1;
      done += 1;
      continue;
    }
    if (result < 0 && result !== ENOENT) throw map.error("delete a batch from map", result);
    const gone = result < 0 ? progress(attr, chunk) : chunk;
    deleted += gone;
    done += result < 0 ? gone + 1 : gone; // the batch stopped at a key that was not there
  }
  return deleted;
}
