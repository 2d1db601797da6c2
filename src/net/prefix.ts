// SPDX-License-Identifier: Apache-2.0
import { AddressError, formatIpv4, type Ipv4, parseIpv4 } from "./address.ts";

/** An IPv4 prefix: `address` has no bit set beyond `length` (0…32). */
export interface Prefix4 {
  readonly address: Ipv4;
  readonly length: number;
}

/** The netmask of a length of 0…32 bits, host order. */
export function maskOf(length: number): Ipv4 {
  return (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0) as Ipv4;
}

/** The prefix of `length` bits that holds `address`; throws AddressError unless 0…32. */
export function prefixOf(address: Ipv4, length: number): Prefix4 {
  if (!Number.isInteger(length) || length < 0 || length > 32) {
    throw new AddressError(`${length} is not an IPv4 prefix length: expected 0 to 32`);
  }
  return { address: ((address & maskOf(length)) >>> 0) as Ipv4, length };
}

/** The single-address prefix. */
export function hostPrefix(address: Ipv4): Prefix4 {
  return { address, length: 32 };
}

/**
 * Reads `10.0.0.0/8`; a bare address is its /32. Throws AddressError, also when bits are set
 * beyond the length (10.0.0.1/8), as that is nearly always a slip.
 */
export function parsePrefix(text: string): Prefix4 {
  const { address, length } = parseInterfaceAddress(text);
  const prefix = prefixOf(address, length);
  if (prefix.address !== address) {
    throw new AddressError(
      `${JSON.stringify(text)} has bits beyond its length: write ${formatPrefix(prefix)}`,
    );
  }
  return prefix;
}

/** Reads `10.0.0.1/8` as a device's address with its length: host bits may be set. */
export function parseInterfaceAddress(text: string): Prefix4 {
  const slash = text.indexOf("/");
  if (slash === -1) return hostPrefix(parseIpv4(text));
  const digits = text.slice(slash + 1);
  if (!/^(\d|[12]\d|3[0-2])$/.test(digits)) {
    throw new AddressError(
      `${JSON.stringify(text)} is not an IPv4 prefix: expected a length of 0 to 32 after the slash`,
    );
  }
  return { address: parseIpv4(text.slice(0, slash)), length: Number(digits) };
}

/** `10.0.0.0/8`. */
export function formatPrefix(prefix: Prefix4): string {
  return `${formatIpv4(prefix.address)}/${prefix.length}`;
}

/** Whether `address` lies in `prefix`. */
export function prefixContains(prefix: Prefix4, address: Ipv4): boolean {
  return (address & maskOf(prefix.length)) >>> 0 === prefix.address;
}

/** Whether the two prefixes share an address. */
export function prefixesOverlap(a: Prefix4, b: Prefix4): boolean {
  return a.length <= b.length ? prefixContains(a, b.address) : prefixContains(b, a.address);
}

/** The address at `index` in the prefix (0 is its first); throws AddressError beyond its end. */
export function addressAt(prefix: Prefix4, index: number): Ipv4 {
  const size = 2 ** (32 - prefix.length);
  if (!Number.isInteger(index) || index < 0 || index >= size) {
    throw new AddressError(`${formatPrefix(prefix)} has no address ${index}: it holds ${size}`);
  }
  return (prefix.address + index) as Ipv4;
}

/** The prefix at `index` when `prefix` is cut into pieces of `length` bits. */
export function subnetAt(prefix: Prefix4, length: number, index: number): Prefix4 {
  const count = 2 ** (length - prefix.length);
  if (length > 32 || !Number.isInteger(index) || index < 0 || index >= count) {
    throw new AddressError(`${formatPrefix(prefix)} has no /${length} at ${index}`);
  }
  return { address: (prefix.address + index * 2 ** (32 - length)) as Ipv4, length };
}

/** Orders prefixes by address, shorter first, for sort(). */
export function comparePrefix(a: Prefix4, b: Prefix4): number {
  return a.address - b.address || a.length - b.length;
}
