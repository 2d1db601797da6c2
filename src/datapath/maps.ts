// SPDX-License-Identifier: Apache-2.0
// A kernel map whose keys and values are values of ours.

import { join } from "node:path";
import { type Codec, fieldOffset, type TypedMapSpec } from "../kernel/codec.ts";
import { KernelError } from "../kernel/error.ts";
import { BpfMap, type UpdateMode } from "../kernel/map.ts";
import { BatchError } from "../kernel/map-batch.ts";

/** An element of a batch that the kernel refused, by its place in the batch. */
export interface MapRefusal {
  readonly index: number;
  readonly error: Error;
}

/** Elements encoded at a time; a batch of so many blocks for about 2 ms. */
const CHUNK = 4096;
const NO_PLACE = new Set(["EEXIST", "E2BIG"]);

/** Bytes for some values of one type, one after the other, made once and used again. */
class Packed<T> {
  readonly codec: Codec<T>;
  #bytes: Uint8Array;
  #view: DataView;

  constructor(codec: Codec<T>, count: number) {
    this.codec = codec;
    this.#bytes = new Uint8Array(codec.size * count);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Encodes a value at place `index`, making room up to there. */
  put(index: number, value: T): void {
    const { size } = this.codec;
    const end = (index + 1) * size;
    if (end > this.#bytes.length) {
      const longer = new Uint8Array(end * 2);
      longer.set(this.#bytes);
      this.#bytes = longer;
      this.#view = new DataView(longer.buffer);
    }
    this.codec.encode(this.#view, index * size, value);
  }

  /** The bytes of the values from `start` to before `end`; they hold until the next put. */
  take(start: number, end: number): Uint8Array {
    return this.#bytes.subarray(start * this.codec.size, end * this.codec.size);
  }
}

/**
 * A map through the types of its spec. Not for per-CPU maps. Errors are BpfMap's: KernelError with
 * the map's name; full maps are E2BIG.
 */
export class TypedMap<K, V> implements Disposable {
  readonly spec: TypedMapSpec<K, V>;
  /** The same map as bytes; closed with this one. */
  readonly raw: BpfMap;
  readonly #key: Packed<K>;
  readonly #value: Packed<V>;
  /** Where lookup reads into. */
  readonly #found: Uint8Array;
  readonly #foundView: DataView;

  /**
   * Takes over `raw`. Only sizes are compared here: whether a pinned map has our layout is for
   * checkMap to say.
   */
  constructor(raw: BpfMap, spec: TypedMapSpec<K, V>) {
    const { keySize } = raw.info;
    if (keySize !== spec.keySize || raw.elementBytes !== spec.valueSize) {
      throw new Error(
        `map ${spec.name}: its elements have ${keySize} + ${raw.elementBytes} bytes, ` +
          `this build's ${spec.keySize} + ${spec.valueSize}; remove its pin to start anew`,
      );
    }
    this.spec = spec;
    this.raw = raw;
    this.#key = new Packed(spec.key, 1);
    this.#value = new Packed(spec.value, 1);
    this.#found = new Uint8Array(spec.valueSize);
    this.#foundView = new DataView(this.#found.buffer);
  }

  /** Opens the map from the directory of pins that an agent keeps, where it has its own name. */
  static openPinned<K, V>(directory: string, spec: TypedMapSpec<K, V>): TypedMap<K, V> {
    const raw = BpfMap.openPinned(join(directory, spec.name));
    try {
      return new TypedMap(raw, spec);
    } catch (error) {
      raw.close();
      throw error;
    }
  }

  /** The value at `key`; undefined when there is none. Arrays have one at every index. */
  lookup(key: K): V | undefined {
    const found = this.raw.lookup(this.#encode(key), this.#found);
    return found === undefined ? undefined : this.spec.value.decode(this.#foundView, 0);
  }

  /** Removes a key and gives the value that it had at that moment; undefined without the key. */
  take(key: K): V | undefined {
    const taken = this.raw.take(this.#encode(key), this.#found);
    return taken === undefined ? undefined : this.spec.value.decode(this.#foundView, 0);
  }

  /** Writes one element. */
  update(key: K, value: V, mode: UpdateMode = "any"): void {
    this.#value.put(0, value);
    this.raw.update(this.#encode(key), this.#value.take(0, 1), mode);
  }

  /** Writes one element whose key isn't there; false when it is, or when there is no room. */
  add(key: K, value: V): boolean {
    try {
      this.update(key, value, "create");
      return true;
    } catch (error) {
      if (error instanceof KernelError && NO_PLACE.has(error.code)) return false;
      throw error;
    }
  }

  /** Removes a key; false when it was not there. */
  delete(key: K): boolean {
    return this.raw.delete(this.#encode(key));
  }

  /** Where a field of a key begins, a number, for who reads one of many. */
  keyOffset(field: keyof K): number {
    return fieldOffset(this.spec.key, field);
  }

  /** The same of a value's. */
  valueOffset(field: keyof V): number {
    return fieldOffset(this.spec.value, field);
  }

  /** Every element. Elements that come and go meanwhile may be met or missed. */
  *entries(): Generator<readonly [key: K, value: V]> {
    const { key, value } = this.spec;
    for (const { keys, values, count } of this.raw.lookupBatches(CHUNK)) {
      const keyView = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
      const valueView = new DataView(values.buffer, values.byteOffset, values.byteLength);
      for (let index = 0; index < count; index++) {
        yield [key.decode(keyView, index * key.size), value.decode(valueView, index * value.size)];
      }
    }
  }

  /**
   * Writes elements in their order, going on after each that the kernel refuses. An element has
   * been read when the next one is asked for.
   */
  updateAll(elements: Iterable<{ readonly key: K; readonly value: V }>): readonly MapRefusal[] {
    const refused: MapRefusal[] = [];
    let [start, count] = [0, 0];
    const write = (): void => {
      for (const { index, error } of this.#writePacked(count)) {
        refused.push({ index: start + index, error });
      }
      start += count;
      count = 0;
    };
    for (const { key, value } of elements) {
      this.#key.put(count, key);
      this.#value.put(count, value);
      count++;
      if (count === CHUNK) write();
    }
    if (count > 0) write();
    return refused;
  }

  /** Removes keys and returns how many were there. A key is read as an element by `updateAll`. */
  deleteAll(keys: Iterable<K>): number {
    let [deleted, count] = [0, 0];
    const remove = (): void => {
      deleted += this.raw.deleteBatch(this.#key.take(0, count), count);
      count = 0;
    };
    for (const key of keys) {
      this.#key.put(count, key);
      count++;
      if (count === CHUNK) remove();
    }
    if (count > 0) remove();
    return deleted;
  }

  close(): void {
    this.raw.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #encode(key: K): Uint8Array {
    this.#key.put(0, key);
    return this.#key.take(0, 1);
  }

  /** Writes the first `count` packed elements. */
  *#writePacked(count: number): Generator<MapRefusal> {
    for (let done = 0; done < count; ) {
      try {
        const keys = this.#key.take(done, count);
        this.raw.updateBatch(keys, this.#value.take(done, count), count - done);
        return;
      } catch (error) {
        if (!(error instanceof BatchError)) throw error;
        yield { index: done + error.applied, error };
        done += error.applied + 1;
      }
    }
  }
}
