// SPDX-License-Identifier: Apache-2.0
import {
  type Address,
  AddressError,
  compareAddress,
  formatAddress,
  type Ipv4,
  type Ipv6,
  isIpv4,
  parseAddress,
  parseIpv4,
} from "./address.ts";

/** An IPv4 prefix: `address` has no bit set beyond `length` (0…32). */
export interface Prefix4 {
  readonly address: Ipv4;
  readonly length: number;
}

/** An IPv6 prefix: `address` has no bit set beyond `length` (0…128). */
export interface Prefix6 {
  readonly address: Ipv6;
  readonly length: number;
}

export type Prefix = Prefix4 | Prefix6;

export function isPrefix4(prefix: Prefix): prefix is Prefix4 {
  return isIpv4(prefix.address);
}

/** How many bits the prefix's addresses have. */
function bitsOf(address: Address): 32 | 128 {
  return isIpv4(address) ? 32 : 128;
}

/** The IPv4 netmask of a length of 0…32 bits, host order. */
export function maskOf(length: number): Ipv4 {
  return (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0) as Ipv4;
}

function cut4(address: Ipv4, length: number): Ipv4 {
  return ((address & maskOf(length)) >>> 0) as Ipv4;
}

function cut6(address: Ipv6, length: number): Ipv6 {
  const beyond = BigInt(128 - length);
  return ((address >> beyond) << beyond) as Ipv6;
}

/** The prefix of `length` bits that holds `address`; throws AddressError for other lengths. */
export function prefixOf(address: Ipv4, length: number): Prefix4;
export function prefixOf(address: Ipv6, length: number): Prefix6;
export function prefixOf(address: Address, length: number): Prefix;
export function prefixOf(address: Address, length: number): Prefix {
  const bits = bitsOf(address);
  if (!Number.isInteger(length) || length < 0 || length > bits) {
    const family = isIpv4(address) ? "IPv4" : "IPv6";
    throw new AddressError(`${length} is not an ${family} prefix length: expected 0 to ${bits}`);
  }
  return isIpv4(address)
    ? { address: cut4(address, length), length }
    : { address: cut6(address, length), length };
}

/** The single-address prefix. */
export function hostPrefix(address: Ipv4): Prefix4;
export function hostPrefix(address: Ipv6): Prefix6;
export function hostPrefix(address: Address): Prefix;
export function hostPrefix(address: Address): Prefix {
  return prefixOf(address, bitsOf(address));
}

/** An address with a length after a slash, or alone for all its bits. */
interface Written<A extends Address> {
  readonly address: A;
  readonly length: number;
}

/** The length of a mapped address (::ffff:10.0.0.1/104) is given as IPv4's. */
function readWith<A extends Address>(text: string, parse: (text: string) => A): Written<A> {
  const slash = text.indexOf("/");
  const address = parse(slash === -1 ? text : text.slice(0, slash));
  const bits = bitsOf(address);
  if (slash === -1) return { address, length: bits };
  const digits = text.slice(slash + 1);
  const least = bits === 32 && text.includes(":") ? 96 : 0;
  const length = /^(0|[1-9]\d{0,2})$/.test(digits) ? Number(digits) - least : -1;
  if (length >= 0 && length <= bits) return { address, length };
  throw new AddressError(
    `${JSON.stringify(text)} is not an ${isIpv4(address) ? "IPv4" : "IPv6"} prefix: expected a ` +
      `length of ${least} to ${least + bits} after the slash`,
  );
}

/** Host bits are nearly always a slip. */
function withoutHostBits<P extends Prefix>(text: string, prefix: P, written: Address): P {
  if (prefix.address === written) return prefix;
  throw new AddressError(
    `${JSON.stringify(text)} has bits beyond its length: write ${formatPrefix(prefix)}`,
  );
}

/**
 * Reads `10.0.0.0/8` or `2001:db8::/32`; a bare address is the prefix of itself alone. Throws
 * AddressError, also when bits are set beyond the length (10.0.0.1/8).
 */
export function parsePrefix(text: string): Prefix {
  const { address, length } = readWith(text, parseAddress);
  return withoutHostBits(text, prefixOf(address, length), address);
}

/** Reads an IPv4 prefix as `parsePrefix` does; throws AddressError for anything else. */
export function parsePrefix4(text: string): Prefix4 {
  const { address, length } = readWith(text, parseIpv4);
  return withoutHostBits(text, prefixOf(address, length), address);
}

/** Reads `10.0.0.1/8` as a device's address with its length: host bits may be set. */
export function parseInterfaceAddress(text: string): Prefix {
  const { address, length } = readWith(text, parseAddress);
  return isIpv4(address) ? { address, length } : { address, length };
}

/** `10.0.0.0/8`, `2001:db8::/32`. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** Whether `address` lies in `prefix`, which one of the other family never does. */
export function prefixContains(prefix: Prefix, address: Address): boolean {
  const { length } = prefix;
  return (isIpv4(address) ? cut4(address, length) : cut6(address, length)) === prefix.address;
}

/** Whether the two prefixes share an address. */
export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? prefixContains(a, b.address) : prefixContains(b, a.address);
}

/** The address at `index` in the prefix (0 is its first); throws AddressError beyond its end. */
export function addressAt(prefix: Prefix4, index: number): Ipv4;
export function addressAt(prefix: Prefix6, index: number): Ipv6;
export function addressAt(prefix: Prefix, index: number): Address {
  const size = 2 ** (bitsOf(prefix.address) - prefix.length);
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) {
    throw new AddressError(`${formatPrefix(prefix)} has no address ${index}: it holds ${size}`);
  }
  if (isPrefix4(prefix)) return (prefix.address + index) as Ipv4;
  return (prefix.address + BigInt(index)) as Ipv6;
}

/** The prefix at `index` when `prefix` is cut into pieces of `length` bits. */
export function subnetAt(prefix: Prefix4, length: number, index: number): Prefix4;
export function subnetAt(prefix: Prefix6, length: number, index: number): Prefix6;
export function subnetAt(prefix: Prefix, length: number, index: number): Prefix {
  const bits = bitsOf(prefix.address);
  const count = 2 ** (length - prefix.length);
  if (length > bits || !Number.isSafeInteger(index) || index < 0 || index >= count) {
    throw new AddressError(`${formatPrefix(prefix)} has no /${length} at ${index}`);
  }
  if (isPrefix4(prefix)) {
    return { address: (prefix.address + index * 2 ** (32 - length)) as Ipv4, length };
  }
  return { address: (prefix.address + (BigInt(index) << BigInt(128 - length))) as Ipv6, length };
}

/** Orders prefixes by address, IPv4 before IPv6, shorter first, for sort(). */
export function comparePrefix(a: Prefix, b: Prefix): number {
  return compareAddress(a.address, b.address) || a.length - b.length;
}
