// SPDX-License-Identifier: Apache-2.0
import { type Address, addressToBytes } from "./address.ts";

/**
 * Adds the 16-bit words of `bytes` (network order, an odd last byte padded with zero) to `sum`;
 * fold the result with `finishChecksum`. Exact for any packet: the sum stays below 2^53.
 */
export function sumWords(bytes: Uint8Array, sum = 0): number {
  let total = sum;
  const even = bytes.length & ~1;
  for (let index = 0; index < even; index += 2) {
    total += ((bytes[index] ?? 0) << 8) | (bytes[index + 1] ?? 0);
  }
  if (even !== bytes.length) total += (bytes[even] ?? 0) << 8;
  return total;
}

/** Folds a sum to 16 bits and complements it: the Internet checksum (RFC 1071). */
export function finishChecksum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return ~folded & 0xffff;
}

/** The Internet checksum of `bytes`; 0 when they hold their own right checksum. */
export function checksumOf(bytes: Uint8Array): number {
  return finishChecksum(sumWords(bytes));
}

/**
 * The sum of the pseudo-header that TCP, UDP and ICMPv6 cover: addresses of one family, of which
 * `target` is the packet's last; `length` in bytes, the transport's header included.
 */
export function pseudoSum(
  source: Address,
  target: Address,
  protocol: number,
  length: number,
): number {
  return sumWords(addressToBytes(source)) + sumWords(addressToBytes(target)) + protocol + length;
}
