// SPDX-License-Identifier: Apache-2.0

/**
 * An IPv4 address as an unsigned 32-bit integer in host order: 10.0.0.1 is 0x0a000001, so
 * addresses compare and add as numbers. Bytes in network order come from `writeIpv4`.
 */
export type Ipv4 = number & { readonly __brand: "Ipv4" };

/**
 * An IPv6 address as an unsigned 128-bit integer: ::1 is 1n. Bytes in network order come from
 * `writeIpv6`. One that stands for an IPv4 address (::ffff:a.b.c.d) comes only from bytes that
 * somebody else wrote: text of that form is read as IPv4.
 */
export type Ipv6 = bigint & { readonly __brand: "Ipv6" };

/** An address of either family: `typeof` a number is IPv4, of a bigint IPv6. */
export type Address = Ipv4 | Ipv6;

export type Family = "ipv4" | "ipv6";

export const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];

/** Text that is not what it was taken for: an address, a prefix or a MAC. */
export class AddressError extends Error {
  override readonly name = "AddressError";
}

/** 0.0.0.0: no address, or any address, as the place says. */
export const ANY_IPV4 = 0 as Ipv4;

/** ::, as ANY_IPV4. */
export const ANY_IPV6 = 0n as Ipv6;

/** 255.255.255.255. */
export const BROADCAST_IPV4 = 0xffffffff as Ipv4;

/** The address whose host-order integer is `value`; throws AddressError outside 0…2^32-1. */
export function ipv4FromNumber(value: number): Ipv4 {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new AddressError(`${value} is not an IPv4 address: expected an integer below 2^32`);
  }
  return value as Ipv4;
}

/** The address whose integer is `value`; throws AddressError outside 0…2^128-1. */
export function ipv6FromBigInt(value: bigint): Ipv6 {
  if (BigInt.asUintN(128, value) !== value) {
    throw new AddressError(`${value} is not an IPv6 address: expected an integer below 2^128`);
  }
  return value as Ipv6;
}

export function isIpv4(address: Address): address is Ipv4 {
  return typeof address === "number";
}

export function familyOf(address: Address): Family {
  return isIpv4(address) ? "ipv4" : "ipv6";
}

/** 0.0.0.0 or ::. */
export function anyOf(family: Family): Address {
  return family === "ipv4" ? ANY_IPV4 : ANY_IPV6;
}

export function isAny(address: Address): boolean {
  return address === ANY_IPV4 || address === ANY_IPV6;
}

/** Those of one family, in their order. */
export function ofFamily(addresses: readonly Address[], family: Family): readonly Address[] {
  if (addresses.every((address) => familyOf(address) === family)) return addresses;
  return addresses.filter((address) => familyOf(address) === family);
}

/**
 * Reads dotted decimal, or gives undefined. Leading zeros are refused because some programs
 * read them as octal.
 */
export function tryParseIpv4(text: string): Ipv4 | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (const part of match.slice(1)) {
    if (part.length > 1 && part.startsWith("0")) return undefined;
    const byte = Number(part);
    if (byte > 255) return undefined;
    value = value * 256 + byte;
  }
  return value as Ipv4;
}

/** Reads dotted decimal; throws AddressError that quotes the text. */
export function parseIpv4(text: string): Ipv4 {
  const address = tryParseIpv4(text);
  if (address === undefined) {
    throw new AddressError(
      `${JSON.stringify(text)} is not an IPv4 address: expected four decimal numbers up to 255 ` +
        "without leading zeros, like 10.0.0.1",
    );
  }
  return address;
}

/** The 16-bit groups of text like `2001:db8:0`, lower case; undefined when it has others. */
function groupsOf(text: string): string[] | undefined {
  if (text === "") return [];
  const groups = text.toLowerCase().split(":");
  return groups.every((group) => /^[0-9a-f]{1,4}$/.test(group)) ? groups : undefined;
}

/** `::192.0.2.1` as `::c000:201`; undefined when the dotted part is none. */
function withoutDots(text: string): string | undefined {
  if (!text.includes(".")) return text;
  const start = text.lastIndexOf(":") + 1;
  const low = tryParseIpv4(text.slice(start));
  if (low === undefined) return undefined;
  return `${text.slice(0, start)}${(low >>> 16).toString(16)}:${(low & 0xffff).toString(16)}`;
}

/** Reads any of RFC 4291's spellings of IPv6, also a mapped one, or gives undefined. */
function readIpv6Text(text: string): Ipv6 | undefined {
  const [left, right, ...more] = withoutDots(text)?.split("::") ?? [];
  if (left === undefined || more.length > 0) return undefined;
  const before = groupsOf(left);
  const after = groupsOf(right ?? "");
  if (before === undefined || after === undefined) return undefined;
  const missing = 8 - before.length - after.length;
  if (right === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...before, ...Array<string>(missing).fill("0"), ...after];
  return BigInt(`0x${groups.map((group) => group.padStart(4, "0")).join("")}`) as Ipv6;
}

/** Whether an IPv6 address stands for an IPv4 one: ::ffff:0:0/96. */
export function isMapped(address: Ipv6): boolean {
  return address >> 32n === 0xffffn;
}

/** Reads an address of either family, a mapped one as IPv4, or gives undefined. */
export function tryParseAddress(text: string): Address | undefined {
  const wide = text.includes(":") ? readIpv6Text(text) : undefined;
  if (wide === undefined) return tryParseIpv4(text);
  return isMapped(wide) ? (Number(wide & 0xffffffffn) as Ipv4) : wide;
}

/** Reads an address of either family; throws AddressError that quotes the text. */
export function parseAddress(text: string): Address {
  const address = tryParseAddress(text);
  if (address !== undefined) return address;
  const way = text.includes("%")
    ? "leave out the zone from % on"
    : "expected IPv4 like 10.0.0.1 or IPv6 like 2001:db8::1";
  throw new AddressError(`${JSON.stringify(text)} is not an IP address: ${way}`);
}

/** Reads an IPv6 address; throws AddressError that quotes the text, also of a mapped one. */
export function parseIpv6(text: string): Ipv6 {
  const address = parseAddress(text);
  if (isIpv4(address)) {
    throw new AddressError(
      `${JSON.stringify(text)} is not an IPv6 address: it stands for IPv4's ${formatIpv4(address)}`,
    );
  }
  return address;
}

/** Dotted decimal. */
export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Where the longest run of two or more zero groups begins and ends, the first of equal ones. */
function longestZeros(groups: readonly string[]): { readonly start: number; readonly end: number } {
  let best = { start: 0, end: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== "0") start = index + 1;
    else if (index - start >= Math.max(1, best.end - best.start)) best = { start, end: index + 1 };
  }
  return best;
}

/** As RFC 5952 has it; a mapped one in mixed notation. */
export function formatIpv6(address: Ipv6): string {
  if (isMapped(address)) return `::ffff:${formatIpv4(Number(address & 0xffffffffn) as Ipv4)}`;
  const hex = address.toString(16).padStart(32, "0");
  const groups = (hex.match(/.{4}/g) ?? []).map((group) => group.replace(/^0{1,3}/, ""));
  const { start, end } = longestZeros(groups);
  if (end === 0) return groups.join(":");
  return `${groups.slice(0, start).join(":")}::${groups.slice(end).join(":")}`;
}

/** The one right spelling of an address of either family. */
export function formatAddress(address: Address): string {
  return isIpv4(address) ? formatIpv4(address) : formatIpv6(address);
}

/** `10.0.0.1:80`, `[2001:db8::1]:80`. */
export function formatAddressPort(address: Address, port: number): string {
  return isIpv4(address) ? `${formatIpv4(address)}:${port}` : `[${formatIpv6(address)}]:${port}`;
}

/** The address in the four bytes at `offset`, network order. */
export function readIpv4(bytes: Uint8Array, offset = 0): Ipv4 {
  const [a, b, c, d] = bytes.subarray(offset, offset + 4);
  if (a === undefined || b === undefined || c === undefined || d === undefined) {
    throw new AddressError(`no IPv4 address at byte ${offset} of ${bytes.length}`);
  }
  return (((a << 24) | (b << 16) | (c << 8) | d) >>> 0) as Ipv4;
}

/** Stores the address into the four bytes at `offset`, network order. */
export function writeIpv4(bytes: Uint8Array, offset: number, address: Ipv4): void {
  if (offset < 0 || offset + 4 > bytes.length) {
    throw new AddressError(`no room for an IPv4 address at byte ${offset} of ${bytes.length}`);
  }
  bytes[offset] = address >>> 24;
  bytes[offset + 1] = address >>> 16;
  bytes[offset + 2] = address >>> 8;
  bytes[offset + 3] = address;
}

/** The address in the 16 bytes at `offset`, network order, as it is: a mapped one stays so. */
export function readIpv6(bytes: Uint8Array, offset = 0): Ipv6 {
  if (offset < 0 || offset + 16 > bytes.length) {
    throw new AddressError(`no IPv6 address at byte ${offset} of ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return ((view.getBigUint64(offset) << 64n) | view.getBigUint64(offset + 8)) as Ipv6;
}

/** Stores the address into the 16 bytes at `offset`, network order. */
export function writeIpv6(bytes: Uint8Array, offset: number, address: Ipv6): void {
  if (offset < 0 || offset + 16 > bytes.length) {
    throw new AddressError(`no room for an IPv6 address at byte ${offset} of ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setBigUint64(offset, address >> 64n);
  view.setBigUint64(offset + 8, BigInt.asUintN(64, address));
}

/** The four bytes of the address, network order. */
export function ipv4ToBytes(address: Ipv4): Uint8Array {
  const bytes = new Uint8Array(4);
  writeIpv4(bytes, 0, address);
  return bytes;
}

/** The 4 or 16 bytes of the address, network order. */
export function addressToBytes(address: Address): Uint8Array {
  if (isIpv4(address)) return ipv4ToBytes(address);
  const bytes = new Uint8Array(16);
  writeIpv6(bytes, 0, address);
  return bytes;
}

/** The address that 4 or 16 bytes are, as they are; undefined for any other number of bytes. */
export function addressFromBytes(bytes: Uint8Array): Address | undefined {
  if (bytes.length === 4) return readIpv4(bytes);
  return bytes.length === 16 ? readIpv6(bytes) : undefined;
}

/** Orders addresses as numbers, IPv4 before IPv6, for sort(). */
export function compareAddress(a: Address, b: Address): number {
  if (isIpv4(a)) return isIpv4(b) ? a - b : -1;
  if (isIpv4(b)) return 1;
  return a === b ? 0 : a < b ? -1 : 1;
}
