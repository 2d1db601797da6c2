// SPDX-License-Identifier: Apache-2.0
// Frames are plain bytes, network order; numbers are unsigned. Nothing here is shared with src/.

export function get8(bytes: Uint8Array, at: number): number {
  const value = bytes[at];
  if (value === undefined) throw new RangeError(`byte ${at} of ${bytes.length} was read`);
  return value;
}

export function get16(bytes: Uint8Array, at: number): number {
  return get8(bytes, at) * 256 + get8(bytes, at + 1);
}

export function get32(bytes: Uint8Array, at: number): number {
  return get16(bytes, at) * 65536 + get16(bytes, at + 2);
}

export function set8(bytes: Uint8Array, at: number, value: number): void {
  if (at >= bytes.length) throw new RangeError(`byte ${at} of ${bytes.length} was written`);
  bytes[at] = value;
}

export function set16(bytes: Uint8Array, at: number, value: number): void {
  set8(bytes, at, value >>> 8);
  set8(bytes, at + 1, value & 255);
}

export function set32(bytes: Uint8Array, at: number, value: number): void {
  set16(bytes, at, value >>> 16);
  set16(bytes, at + 2, value & 0xffff);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The sum of 16-bit words; an odd last byte is the high half of a word. */
export function sum16(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  let at = from;
  for (; at + 1 < to; at += 2) sum += get16(bytes, at);
  if (at < to) sum += get8(bytes, at) * 256;
  return sum;
}

/**
 * The 16-bit word that brings a one's complement sum to `wanted`, which is 0 for a right checksum;
 * 0…65534, as 0 and 65535 are the same.
 */
export function checksumFor(sum: number, wanted = 0): number {
  const difference = (wanted - sum) % 65535;
  return difference < 0 ? difference + 65535 : difference;
}
