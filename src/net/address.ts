// SPDX-License-Identifier: Apache-2.0

/**
 * An IPv4 address as an unsigned 32-bit integer in host order: 10.0.0.1 is 0x0a000001, so
 * addresses compare and add as numbers. Bytes in network order come from `writeIpv4`.
 */
export type Ipv4 = number & { readonly __brand: "Ipv4" };

/** Text that is not what it was taken for: an address, a prefix or a MAC. */
export class AddressError extends Error {
  override readonly name = "AddressError";
}

/** 0.0.0.0: no address, or any address, as the place says. */
export const ANY_IPV4 = 0 as Ipv4;

/** 255.255.255.255. */
export const BROADCAST_IPV4 = 0xffffffff as Ipv4;

/** The address whose host-order integer is `value`; throws AddressError outside 0…2^32-1. */
export function ipv4FromNumber(value: number): Ipv4 {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new AddressError(`${value} is not an IPv4 address: expected an integer below 2^32`);
  }
  return value as Ipv4;
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

/** Dotted decimal. */
export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
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

/** The four bytes of the address, network order. */
export function ipv4ToBytes(address: Ipv4): Uint8Array {
  const bytes = new Uint8Array(4);
  writeIpv4(bytes, 0, address);
  return bytes;
}

/** Orders addresses as numbers, for sort(). */
export function compareIpv4(a: Ipv4, b: Ipv4): number {
  return a - b;
}
