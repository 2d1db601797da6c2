// SPDX-License-Identifier: Apache-2.0
// What generated codecs are made of. Host order is little-endian: the kernels and Nodes we run
// on (x86-64, arm64) have no other.

import type { MapType, ProgramType } from "./kinds.ts";

/** A value that only its maker may make: `Brand<number, "Identity">` takes no plain number. */
export type Brand<Base, Name extends string> = Base & { readonly __brand: Name };

/** Bytes of a fixed size, to values and back. The view must hold `size` bytes from `offset` on. */
export interface Codec<T> {
  /** The C type: "struct service", "__be16". */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  decode(view: DataView, offset: number): T;
  /** Writes all `size` bytes, padding as zeros. Numbers too large for their field are cut. */
  encode(view: DataView, offset: number, value: T): void;
}

/** How a map looks from outside, as C declares it; `maxEntries` may be changed before load. */
export interface MapShape {
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_*. */
  readonly flags: number;
}

/** A map whose keys and values have types. */
export interface TypedMapSpec<K, V> extends MapShape {
  readonly key: Codec<K>;
  readonly value: Codec<V>;
  /** A digest of the layout of key and value, for pinned maps of other builds. */
  readonly layout: string;
}

/** A constant that the loader sets before the verifier folds it. */
export interface ConfigVar<T> {
  readonly name: string;
  readonly codec: Codec<T>;
  /** What C says it is when nobody sets it. */
  readonly initial: T;
  readonly doc: string;
}

/** A program of an object; `section` is how libbpf knows its type. */
export interface ProgramSpec {
  readonly name: string;
  readonly object: string;
  readonly section: string;
  readonly type: ProgramType;
}

/** The bytes of a value, fresh. */
export function toBytes<T>(codec: Codec<T>, value: T): Uint8Array {
  const bytes = new Uint8Array(codec.size);
  codec.encode(new DataView(bytes.buffer), 0, value);
  return bytes;
}

/** The value of bytes; throws RangeError when they are fewer than the type has. */
export function fromBytes<T>(codec: Codec<T>, bytes: Uint8Array): T {
  if (bytes.length < codec.size) {
    throw new RangeError(`${codec.name}: ${bytes.length} bytes of ${codec.size}`);
  }
  return codec.decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0);
}

/** Where a field's bytes begin, for who reads one field of many values. Numbers only. */
export function fieldOffset<T>(codec: Codec<T>, field: keyof T): number {
  const zero = codec.decode(new DataView(new ArrayBuffer(codec.size)), 0);
  const ones = typeof zero[field] === "bigint" ? -1n : -1;
  return toBytes(codec, { ...zero, [field]: ones }).indexOf(0xff);
}

/** Six bytes, the first the most significant: an Ethernet address as a number. */
export function getUint48(view: DataView, offset: number): number {
  return view.getUint16(offset) * 0x1_0000_0000 + view.getUint32(offset + 2);
}

/** Stores six bytes, the first the most significant. */
export function setUint48(view: DataView, offset: number, value: number): void {
  view.setUint16(offset, value / 0x1_0000_0000);
  view.setUint32(offset + 2, value);
}

/** Sixteen bytes, the first the most significant: an IPv6 address as a number. */
export function getUint128(view: DataView, offset: number): bigint {
  return (view.getBigUint64(offset) << 64n) | view.getBigUint64(offset + 8);
}

/** Stores sixteen bytes, the first the most significant. */
export function setUint128(view: DataView, offset: number, value: bigint): void {
  view.setBigUint64(offset, value >> 64n);
  view.setBigUint64(offset + 8, value);
}

/** A copy of `length` bytes. */
export function getBytes(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
}

/**
 * Stores exactly `length` bytes; throws RangeError, naming the field, when it gets another number.
 */
export function setBytes(
  view: DataView,
  offset: number,
  length: number,
  value: Uint8Array,
  field: string,
): void {
  if (value.length !== length)
    throw new RangeError(`${field}: ${value.length} bytes for ${length}`);
  new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value);
}

/** Stores `length` zeros. */
export function setZeros(view: DataView, offset: number, length: number): void {
  new Uint8Array(view.buffer, view.byteOffset + offset, length).fill(0);
}

/** Reads `length` values that stand `codec.size` apart. */
export function getArray<T>(codec: Codec<T>, view: DataView, offset: number, length: number): T[] {
  const values = new Array<T>(length);
  for (let i = 0; i < length; i++) values[i] = codec.decode(view, offset + i * codec.size);
  return values;
}

/**
 * Stores exactly `length` values; throws RangeError, naming the field, when it gets another number.
 */
export function setArray<T>(
  codec: Codec<T>,
  view: DataView,
  offset: number,
  length: number,
  values: readonly T[],
  field: string,
): void {
  if (values.length !== length) {
    throw new RangeError(`${field}: ${values.length} values for ${length} places`);
  }
  let at = offset;
  for (const value of values) {
    codec.encode(view, at, value);
    at += codec.size;
  }
}
