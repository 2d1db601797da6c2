// SPDX-License-Identifier: Apache-2.0
import { AddressError } from "./address.ts";

/** An Ethernet address as a 48-bit integer, its first byte on the wire the most significant. */
export type Mac = number & { readonly __brand: "Mac" };

/** 00:00:00:00:00:00: no address. */
export const ZERO_MAC = 0 as Mac;

/** ff:ff:ff:ff:ff:ff. */
export const BROADCAST_MAC = 0xffffffffffff as Mac;

/** The address whose integer is `value`; throws AddressError outside 0…2^48-1. */
export function macFromNumber(value: number): Mac {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffffffff) {
    throw new AddressError(`${value} is not a MAC address: expected an integer below 2^48`);
  }
  return value as Mac;
}

/** Reads six two-digit hex numbers between colons, or gives undefined. */
export function tryParseMac(text: string): Mac | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return Number.parseInt(text.replaceAll(":", ""), 16) as Mac;
}

/** Reads six two-digit hex numbers between colons; throws AddressError that quotes the text. */
export function parseMac(text: string): Mac {
  const mac = tryParseMac(text);
  if (mac === undefined) {
    throw new AddressError(
      `${JSON.stringify(text)} is not a MAC address: expected six hex bytes, like 02:00:00:00:00:01`,
    );
  }
  return mac;
}

/** Lower-case hex bytes between colons. */
export function formatMac(mac: Mac): string {
  return mac
    .toString(16)
    .padStart(12, "0")
    .replace(/(..)(?=.)/g, "$1:");
}

/** The address in the six bytes at `offset`. */
export function readMac(bytes: Uint8Array, offset = 0): Mac {
  if (offset < 0 || offset + 6 > bytes.length) {
    throw new AddressError(`no MAC address at byte ${offset} of ${bytes.length}`);
  }
  let value = 0;
  for (let index = 0; index < 6; index++) value = value * 256 + (bytes[offset + index] ?? 0);
  return value as Mac;
}

/** Stores the address into the six bytes at `offset`. */
export function writeMac(bytes: Uint8Array, offset: number, mac: Mac): void {
  if (offset < 0 || offset + 6 > bytes.length) {
    throw new AddressError(`no room for a MAC address at byte ${offset} of ${bytes.length}`);
  }
  let rest: number = mac;
  for (let index = 5; index >= 0; index--) {
    bytes[offset + index] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}

/** The six bytes of the address. */
export function macToBytes(mac: Mac): Uint8Array {
  const bytes = new Uint8Array(6);
  writeMac(bytes, 0, mac);
  return bytes;
}
