// SPDX-License-Identifier: Apache-2.0
// The options by which a packet's own header says its service: of IPv4, and a destination option
// of IPv6 in an extension header of its own.

import { checksumFor, concat, get8, get16, set8, set16, sum16 } from "./bytes.ts";
import type { Address, Family, Ip } from "./family.ts";
import type { Node } from "./node.ts";
import { changeHeader } from "./packet.ts";

/** A service as an option says it. */
export interface Said {
  readonly address: Address;
  readonly port: number;
}

interface Format {
  readonly bytes: number;
  write(frame: Uint8Array, ip: Ip, said: Said): Uint8Array;
  read(frame: Uint8Array, ip: Ip): Said | undefined;
  /** Writes the header of a packet that has so many bytes of options more. */
  resize(resized: Uint8Array, frame: Uint8Array, ip: Ip, bytes: number): void;
  erase(frame: Uint8Array, at: number): void;
}

/** A number's bytes, the least significant first. */
function swapped(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => (value >>> (8 * index)) & 255);
}

const KIND4 = 0x9a08;
const OPTION4: Format = {
  bytes: 8,
  write: (_frame, _ip, { address, port }) => {
    const option = new Uint8Array(8);
    set16(option, 0, KIND4);
    option.set(swapped(port, 2), 2);
    option.set(swapped(Number(address), 4), 4);
    return option;
  },
  read: (frame, ip) => {
    const at = ip.at + 20;
    if (ip.headerLength < 28 || get16(frame, at) !== KIND4) return undefined;
    const byte = (offset: number): number => get8(frame, at + offset);
    const address = ((byte(7) << 24) | (byte(6) << 16) | (byte(5) << 8) | byte(4)) >>> 0;
    return { address, port: byte(3) * 256 + byte(2) };
  },
  resize: (resized, frame, ip, bytes) => {
    const { at, headerLength, totalLength } = ip;
    set8(resized, at, 0x40 | ((headerLength + bytes) / 4));
    set16(resized, at + 2, totalLength + bytes);
    set16(resized, at + 10, 0);
    const before = sum16(frame, at, at + headerLength);
    set16(resized, at + 10, checksumFor(sum16(resized, at, at + headerLength + bytes), before));
  },
  erase: (frame, at) => frame.fill(1, at, at + 8),
};

const DESTINATION_OPTIONS = 60;
const NEXT_HEADER = 6;
const KIND6 = 0x1b14;
const SKIPPED = 0x1e;
const OPTION6: Format = {
  bytes: 24,
  write: (frame, ip, { address, port }) => {
    const option = new Uint8Array(24);
    set8(option, 0, get8(frame, ip.at + NEXT_HEADER));
    set8(option, 1, 2);
    set16(option, 2, KIND6);
    ip.family.setAddress(option, 4, address);
    set16(option, 20, port);
    return option;
  },
  read: (frame, ip) => {
    const at = ip.at + 40;
    if (get8(frame, ip.at + NEXT_HEADER) !== DESTINATION_OPTIONS || frame.length < at + 24) {
      return undefined;
    }
    if (get8(frame, at + 1) !== 2 || get16(frame, at + 2) !== KIND6) return undefined;
    return { address: ip.family.getAddress(frame, at + 4), port: get16(frame, at + 20) };
  },
  resize: (resized, frame, ip, bytes) => {
    set16(resized, ip.at + 4, get16(frame, ip.at + 4) + bytes);
    const next = bytes > 0 ? DESTINATION_OPTIONS : get8(frame, ip.at + 40);
    set8(resized, ip.at + NEXT_HEADER, next);
  },
  erase: (frame, at) => set8(frame, at + 2, SKIPPED),
};

function formatOf({ addressBytes }: Family): Format {
  return addressBytes === 4 ? OPTION4 : OPTION6;
}

export function optionBytes(family: Family): number {
  return formatOf(family).bytes;
}

/** A frame whose packet says a service, in front of its other options. */
export function addOption(frame: Uint8Array, ip: Ip, said: Said): Uint8Array {
  const format = formatOf(ip.family);
  const at = ip.at + ip.family.headerBytes;
  const option = format.write(frame, ip, said);
  const grown = concat(frame.subarray(0, at), option, frame.subarray(at));
  format.resize(grown, frame, ip, format.bytes);
  return grown;
}

/** What the option of a packet says; undefined: it has none. */
export function optionOf(frame: Uint8Array, ip: Ip): Said | undefined {
  return formatOf(ip.family).read(frame, ip);
}

/** A frame without the option of its packet. */
export function withoutOption(frame: Uint8Array, ip: Ip): Uint8Array {
  const format = formatOf(ip.family);
  const at = ip.at + ip.family.headerBytes;
  const shrunk = concat(frame.subarray(0, at), frame.subarray(at + format.bytes));
  format.resize(shrunk, frame, ip, -format.bytes);
  return shrunk;
}

/** *Erased*: a client's own option says nothing any more. */
export function eraseOption(node: Node, frame: Uint8Array, ip: Ip): void {
  if (!node.config.acceptOption || optionOf(frame, ip) === undefined) return;
  const at = ip.at + ip.family.headerBytes;
  changeHeader(frame, ip, () => formatOf(ip.family).erase(frame, at));
}
