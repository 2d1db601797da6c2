// SPDX-License-Identifier: Apache-2.0
// Netlink's bytes (RFC 3549, include/uapi/linux/netlink.h): messages and attributes as values.
// Numbers are in the machine's order, which is little-endian on all that Ciliate runs on.

import { type Address, addressFromBytes } from "../../net/address.ts";
import { type Mac, macToBytes, readMac } from "../../net/mac.ts";

/** An attribute to send. */
export interface Attribute {
  readonly type: number;
  readonly value: Uint8Array;
}

/** A message to send: `body` is the family's fixed header and the attributes. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly body: Uint8Array;
}

/** A message as received. */
export interface Received extends Message {
  readonly sequence: number;
}

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
export const MESSAGE_HEADER_BYTES = 16;

const align = (length: number): number => (length + 3) & ~3;

/** The bytes as a DataView. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function attribute(type: number, value: Uint8Array): Attribute {
  return { type, value };
}

/** An attribute that says something by being there. */
export function flag(type: number): Attribute {
  return { type, value: new Uint8Array() };
}

export function u8(type: number, value: number): Attribute {
  return { type, value: Uint8Array.of(value) };
}

export function u16(type: number, value: number): Attribute {
  return { type, value: new Uint8Array(Uint16Array.of(value).buffer) };
}

export function u32(type: number, value: number): Attribute {
  return { type, value: new Uint8Array(Uint32Array.of(value).buffer) };
}

/** A string with its terminating NUL. */
export function text(type: number, value: string): Attribute {
  return { type, value: new TextEncoder().encode(`${value}\0`) };
}

export function macAttribute(type: number, mac: Mac): Attribute {
  return { type, value: macToBytes(mac) };
}

/** Attributes inside an attribute. */
export function nested(type: number, attributes: readonly Attribute[]): Attribute {
  return { type: type | NLA_F_NESTED, value: encodeAttributes(attributes) };
}

/** The attributes one after another, each padded to four bytes. */
export function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  let length = 0;
  for (const { value } of attributes) length += 4 + align(value.length);
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  let at = 0;
  for (const { type, value } of attributes) {
    view.setUint16(at, 4 + value.length, true);
    view.setUint16(at + 2, type, true);
    bytes.set(value, at + 4);
    at += 4 + align(value.length);
  }
  return bytes;
}

/** A message's body: the family's header, padded, then the attributes. */
export function encodeBody(header: Uint8Array, attributes: readonly Attribute[]): Uint8Array {
  const encoded = encodeAttributes(attributes);
  const bytes = new Uint8Array(align(header.length) + encoded.length);
  bytes.set(header);
  bytes.set(encoded, align(header.length));
  return bytes;
}

/** The message's bytes with its sequence number. */
export function encodeMessage(message: Message, sequence: number): Uint8Array {
  const length = MESSAGE_HEADER_BYTES + message.body.length;
  const bytes = new Uint8Array(align(length));
  const view = viewOf(bytes);
  view.setUint32(0, length, true);
  view.setUint16(4, message.type, true);
  view.setUint16(6, message.flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(message.body, MESSAGE_HEADER_BYTES);
  return bytes;
}

/** The messages of one datagram; a cut-off last one is left out. Bodies share its memory. */
export function* decodeMessages(datagram: Uint8Array): Generator<Received> {
  const view = viewOf(datagram);
  let at = 0;
  while (at + MESSAGE_HEADER_BYTES <= datagram.length) {
    const length = view.getUint32(at, true);
    if (length < MESSAGE_HEADER_BYTES || at + length > datagram.length) return;
    yield {
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: datagram.subarray(at + MESSAGE_HEADER_BYTES, at + length),
    };
    at += align(length);
  }
}

/** Received attributes by number; a reader gives undefined where one is absent or too short. */
export class Attributes {
  readonly #values: ReadonlyMap<number, Uint8Array>;

  constructor(values: ReadonlyMap<number, Uint8Array>) {
    this.#values = values;
  }

  has(type: number): boolean {
    return this.#values.has(type);
  }

  bytes(type: number): Uint8Array | undefined {
    return this.#values.get(type);
  }

  u8(type: number): number | undefined {
    return this.#values.get(type)?.[0];
  }

  u16(type: number): number | undefined {
    return this.#view(type, 2)?.getUint16(0, true);
  }

  u32(type: number): number | undefined {
    return this.#view(type, 4)?.getUint32(0, true);
  }

  s32(type: number): number | undefined {
    return this.#view(type, 4)?.getInt32(0, true);
  }

  /** A 64-bit number, exact to 2^53. */
  u64(type: number): number | undefined {
    const value = this.#view(type, 8)?.getBigUint64(0, true);
    return value === undefined ? undefined : Number(value);
  }

  text(type: number): string | undefined {
    const bytes = this.#values.get(type);
    if (bytes === undefined) return undefined;
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
  }

  /** An address of the family that its length says. */
  address(type: number): Address | undefined {
    const bytes = this.#values.get(type);
    return bytes === undefined ? undefined : addressFromBytes(bytes);
  }

  mac(type: number): Mac | undefined {
    const bytes = this.#values.get(type);
    return bytes?.length === 6 ? readMac(bytes) : undefined;
  }

  nested(type: number): Attributes | undefined {
    const bytes = this.#values.get(type);
    return bytes === undefined ? undefined : decodeAttributes(bytes);
  }

  #view(type: number, length: number): DataView | undefined {
    const bytes = this.#values.get(type);
    return bytes === undefined || bytes.length < length ? undefined : viewOf(bytes);
  }
}

/** Every attribute in order, for lists in which a number comes more than once. */
export function* listAttributes(bytes: Uint8Array): Generator<Attribute> {
  const view = viewOf(bytes);
  let at = 0;
  while (at + 4 <= bytes.length) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) return;
    const type = view.getUint16(at + 2, true) & NLA_TYPE_MASK;
    yield { type, value: bytes.subarray(at + 4, at + length) };
    at += align(length);
  }
}

/** The attributes from byte `offset` on; of a repeated number the last one counts. */
export function decodeAttributes(bytes: Uint8Array, offset = 0): Attributes {
  const values = new Map<number, Uint8Array>();
  for (const { type, value } of listAttributes(bytes.subarray(align(offset)))) {
    values.set(type, value);
  }
  return new Attributes(values);
}
