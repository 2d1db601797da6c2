// SPDX-License-Identifier: Apache-2.0
// Each IPv4 address of the test worlds has an IPv6 one, by which the same is said of IPv6.

import {
  ANY_IPV4,
  ANY_IPV6,
  BROADCAST_IPV4,
  type Ipv4,
  type Ipv6,
  parseIpv4,
  parseIpv6,
} from "../../src/net/address.ts";
import { type Prefix4, type Prefix6, prefixOf } from "../../src/net/prefix.ts";

/** What is written into programs, and so the same in no rule. */
const ODD: readonly (readonly [Ipv4, Ipv6])[] = [
  [ANY_IPV4, ANY_IPV6],
  // Who a pod is that talks to itself.
  [parseIpv4("169.254.42.1"), parseIpv6("fd00:c111:a7e::1")],
];
const TO_WIDE = new Map(ODD);
const TO_NARROW = new Map(ODD.map(([narrow, wide]) => [wide, narrow]));

/** In front of the first 16 bits. */
const FIRST = 0xfd00n;
/** Bits in front of the last 16. */
const LAST = 112;

/**
 * fd00, the first half of the IPv4 address, ten bytes that follow from it, and its second half:
 * prefixes stay prefixes, and both halves of the IPv6 address differ from one network to the next.
 */
export function widen(address: Ipv4): Ipv6 {
  const odd = TO_WIDE.get(address);
  if (odd !== undefined) return odd;
  const network = BigInt(address >>> 16);
  const middle = BigInt.asUintN(80, (network + 1n) * 0x9e3779b97f4a7c15f39dn);
  return ((FIRST << 112n) | (network << 96n) | (middle << 16n) | BigInt(address & 0xffff)) as Ipv6;
}

/** Back again; 255.255.255.255 for what no IPv4 address stands for. */
export function narrow(address: Ipv6): Ipv4 {
  const odd = TO_NARROW.get(address);
  if (odd !== undefined) return odd;
  const network = Number(BigInt.asUintN(16, address >> 96n));
  const found = ((network << 16) | Number(BigInt.asUintN(16, address))) >>> 0;
  return widen(found as Ipv4) === address ? (found as Ipv4) : BROADCAST_IPV4;
}

/** How many of the bits of IPv6 say the same as the first `length` bits of IPv4. */
export function widenLength(length: number): number {
  if (length === 0) return 0;
  return length > 16 ? LAST - 16 + length : 16 + length;
}

export function narrowLength(length: number): number {
  if (length === 0) return 0;
  return length > LAST ? length - LAST + 16 : length - 16;
}

export function widenPrefix({ address, length }: Prefix4): Prefix6 {
  return prefixOf(widen(address), widenLength(length));
}
