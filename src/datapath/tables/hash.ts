// SPDX-License-Identifier: Apache-2.0
// The frontends' keys and where they may stand: docs/packet-path.md, "Frontend lookup".

import { type Address, type Ipv4, isIpv4 } from "../../net/address.ts";
import { FrontendKind } from "../gen/abi.ts";

/** What clients send to; port and protocol are 0 for the kinds of addresses. */
export interface FrontendKey {
  readonly address: Address;
  readonly port: number;
  /** As in the IP header. */
  readonly protocol: number;
  readonly kind: FrontendKind;
}

const TCP = 6;
const UDP = 17;
const SCTP = 132;
const CODES: readonly number[] = [0, TCP, UDP, SCTP];
/** What three bits hold. */
const MAX_KIND = 7;
const MULTIPLIER = { low: 0x7f4a7c15, high: 0x9e3779b9 } as const;

/** The key as a number (or, for what we never write, a text) that is different for each. */
export function frontendId(key: FrontendKey): number | string {
  const { address, port, protocol, kind } = key;
  const code = CODES.indexOf(protocol);
  const isOdd = code < 0 || kind > MAX_KIND;
  if (isOdd || !isIpv4(address)) return `${address.toString(36)}:${port}/${protocol}/${kind}`;
  return address * 2 ** 21 + port * 32 + code * 8 + kind;
}

/** Whether keys of a kind lead to services; else they say what an address is. */
export function leadsToService(kind: number): boolean {
  return (
    kind === FrontendKind.service ||
    kind === FrontendKind.internal ||
    kind === FrontendKind.nodePort
  );
}

/** The key's first four bytes as they lie in memory, read as a little-endian number. */
export function lowWord(key: FrontendKey): number {
  const address = Number(key.address);
  const swapped = ((address & 0xff00ff) << 8) | ((address >>> 8) & 0xff00ff);
  return ((swapped << 16) | (swapped >>> 16)) >>> 0;
}

/** The same of the next four. */
export function highWord({ port, protocol, kind }: FrontendKey): number {
  return (((port & 0xff) << 8) | (port >>> 8) | (protocol << 16) | (kind << 24)) >>> 0;
}

/** The key of eight bytes in memory. */
export function keyOfWords(low: number, high: number): FrontendKey {
  return {
    address: ((((low & 0xff) << 24) |
      ((low & 0xff00) << 8) |
      ((low >>> 8) & 0xff00) |
      (low >>> 24)) >>>
      0) as Ipv4,
    port: ((high & 0xff) << 8) | ((high >>> 8) & 0xff),
    protocol: (high >>> 16) & 0xff,
    kind: (high >>> 24) as FrontendKind,
  };
}

/** The bucket that a key belongs to; `mask` is the number of buckets, a power of two, minus one. */
export function bucketOf(low: number, high: number, mask: number): number {
  // Bits 32 to 63 of the 64-bit product.
  const middle =
    highProduct(low, MULTIPLIER.low) +
    Math.imul(low, MULTIPLIER.high) +
    Math.imul(high, MULTIPLIER.low);
  return (middle & mask) >>> 0;
}

const MULTIPLIER_64 = 0x9e3779b97f4a7c15n;
const halves = new DataView(new ArrayBuffer(16));

/** The same of a key of IPv6. */
export function bucketOf6(key: FrontendKey, mask: number): number {
  const address = BigInt(key.address);
  halves.setBigUint64(0, address >> 64n);
  halves.setBigUint64(8, BigInt.asUintN(64, address));
  const mixed = BigInt.asUintN(
    64,
    (halves.getBigUint64(0, true) ^ BigInt(highWord(key))) * MULTIPLIER_64,
  );
  const x = mixed ^ (mixed >> 32n) ^ halves.getBigUint64(8, true);
  const folded = x ^ (x >> 31n);
  return (Number((BigInt.asUintN(64, folded * MULTIPLIER_64) >> 32n) & 0xffffffffn) & mask) >>> 0;
}

/** The upper half of the product of two 32-bit numbers. */
function highProduct(a: number, b: number): number {
  const [aLow, aHigh] = [a & 0xffff, a >>> 16];
  const [bLow, bHigh] = [b & 0xffff, b >>> 16];
  const lowest = aLow * bLow;
  const one = aHigh * bLow + (lowest >>> 16);
  const other = aLow * bHigh + (one & 0xffff);
  return (aHigh * bHigh + Math.floor(one / 0x1_0000) + Math.floor(other / 0x1_0000)) >>> 0;
}
