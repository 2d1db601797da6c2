// SPDX-License-Identifier: Apache-2.0
// The outer header's part that is the same for every packet: docs/packet-path.md, step 9.

import type { Ipv4 } from "../net/address.ts";

/**
 * The sum of the header's constant 16-bit words, each as a little-endian machine reads it: version,
 * header length and a TOS of 0; ID 0; DF; TTL 64 and protocol 4; and the source, unless it differs
 * from flow to flow. TOS, total length and destination are each packet's own.
 */
export function outerChecksum(source: Ipv4 | undefined): number {
  const words = [0x4500, 0x4000, 0x4004];
  if (source !== undefined) words.push(source >>> 16, source & 0xffff);
  return words.reduce((sum, word) => sum + swapped(word), 0);
}

function swapped(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
