// SPDX-License-Identifier: Apache-2.0
// *Dispatch*: how a packet to a pod of another node says its service.

import type { Balanced } from "./balance.ts";
import { concat, get8, get16, set8, set16, set32, sum16 } from "./bytes.ts";
import { drop, type Node, type Outcome, pass } from "./node.ts";
import { DISPATCH, HOP_TTL } from "./numbers.ts";
import {
  changeIpv4,
  ETHERNET,
  encapsulate,
  type Ipv4,
  OUTER,
  translate,
  writeIpv4Checksum,
} from "./packet.ts";
import type { Backend, Nexthop } from "./tables.ts";

export const GENEVE_PORT = 6081;
/** UDP, Geneve and our option. */
export const GENEVE_HEADERS = 8 + 8 + 12;
/** All that is in front of the client's packet, and wasn't there. */
export const GENEVE_BYTES = OUTER + GENEVE_HEADERS + ETHERNET;
export const OPTION_BYTES = 8;
const OPTION = 0x9a08;
const LONGEST_HEADER = 60;
const UDP = 17;

export function dispatchBytes(node: Node): number {
  const { dispatch } = node.config;
  if (dispatch === DISPATCH.geneve) return GENEVE_BYTES;
  return dispatch === DISPATCH.option ? OPTION_BYTES : OUTER;
}

/** What the next hop has to lead to. */
export function dispatchTarget(node: Node, backend: Backend, nexthop: Nexthop | undefined): number {
  const peer = nexthop?.peer ?? 0;
  return node.config.dispatch === DISPATCH.geneve && peer !== 0 ? peer : backend.address;
}

/** 9: the packet as it leaves but for its MACs, or what else becomes of it. */
export function dispatchPacket(
  node: Node,
  packet: Balanced,
  to: { readonly source: number; readonly target: number; readonly refuses: boolean },
): Uint8Array | Outcome {
  const { frame } = packet.input;
  const { dispatch } = node.config;
  if (dispatch === DISPATCH.option) return withOption(node, packet, to.refuses);
  if (to.refuses) return drop("DROP_REWRITE", frame);
  if (dispatch === DISPATCH.geneve) return inGeneve(packet, to);
  const { source } = to;
  return encapsulate(frame, packet.ip, {
    source,
    destination: packet.backend.address,
    ttl: HOP_TTL[0],
  });
}

function inGeneve(
  { input, ip, l4, hash, backend }: Balanced,
  { source, target }: { readonly source: number; readonly target: number },
): Uint8Array {
  const inner = input.frame.slice();
  translate(inner, ip, l4, { destination: backend.address, destinationPort: backend.port });
  const header = encapsulate(input.frame, ip, { source, destination: target, ttl: HOP_TTL[0] });
  const outer = header.slice(0, ETHERNET + OUTER);
  set16(outer, ETHERNET + 2, ip.totalLength + GENEVE_BYTES);
  set8(outer, ETHERNET + 9, UDP);
  writeIpv4Checksum(outer, ETHERNET);
  const geneve = new Uint8Array(GENEVE_HEADERS);
  set16(geneve, 0, 0x8000 | (hash.high & 0x7fff));
  set16(geneve, 2, GENEVE_PORT);
  set16(geneve, 4, ip.totalLength + GENEVE_BYTES - OUTER);
  // Version 0, three words of options, C; Ethernet; the network of the world.
  set16(geneve, 8, 0x0340);
  set16(geneve, 10, 0x6558);
  set32(geneve, 12, 2 * 256);
  set32(geneve, 16, 0x014b8102);
  set32(geneve, 20, ip.destination);
  set16(geneve, 24, l4.destinationPort);
  return concat(outer, geneve, inner);
}

function withOption(node: Node, packet: Balanced, refuses: boolean): Uint8Array | Outcome {
  const { input, ip, l4, backend } = packet;
  const { frame } = input;
  if (ip.ttl <= 1) return pass("PASS_TTL", frame);
  if (ip.headerLength + OPTION_BYTES > LONGEST_HEADER) return drop("DROP_OPTION_ROOM", frame);
  if (refuses) return drop("DROP_REWRITE", frame);
  const sent = frame.slice();
  eraseOption(node, sent, ip);
  translate(sent, ip, l4, {
    destination: backend.address,
    destinationPort: backend.port,
    ttl: ip.ttl - 1,
  });
  const option = new Uint8Array(OPTION_BYTES);
  set16(option, 0, OPTION);
  option.set(swapped(l4.destinationPort, 2), 2);
  option.set(swapped(ip.destination, 4), 4);
  const at = ip.at + 20;
  const grown = concat(sent.subarray(0, at), option, sent.subarray(at));
  return resize(sent, ip, grown, OPTION_BYTES);
}

/** A number's bytes, the least significant first. */
function swapped(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => (value >>> (8 * index)) & 255);
}

/** A packet with other options, of a header that has so many bytes more; its checksum follows. */
function resize(frame: Uint8Array, ip: Ipv4, resized: Uint8Array, bytes: number): Uint8Array {
  const before = sum16(frame, ip.at, ip.at + ip.headerLength);
  set8(resized, ip.at, 0x40 | ((ip.headerLength + bytes) / 4));
  set16(resized, ip.at + 2, ip.totalLength + bytes);
  writeIpv4Checksum(resized, ip.at, before);
  return resized;
}

/** A service as an option says it. */
export interface Said {
  readonly address: number;
  readonly port: number;
}

/** What the option of a packet says; undefined: it has none. */
export function optionOf(frame: Uint8Array, ip: Ipv4): Said | undefined {
  const at = ip.at + 20;
  if (ip.headerLength < 20 + OPTION_BYTES || get16(frame, at) !== OPTION) return undefined;
  const byte = (offset: number): number => get8(frame, at + offset);
  const address = ((byte(7) << 24) | (byte(6) << 16) | (byte(5) << 8) | byte(4)) >>> 0;
  return { address, port: byte(3) * 256 + byte(2) };
}

/** A frame without the option of its packet. */
export function withoutOption(frame: Uint8Array, ip: Ipv4): Uint8Array {
  const at = ip.at + 20;
  const shrunk = concat(frame.subarray(0, at), frame.subarray(at + OPTION_BYTES));
  return resize(frame, ip, shrunk, -OPTION_BYTES);
}

/** *Erased*: a client's own option says nothing any more. */
export function eraseOption(node: Node, frame: Uint8Array, ip: Ipv4): void {
  if (!node.config.acceptOption || optionOf(frame, ip) === undefined) return;
  changeIpv4(frame, ip, () => frame.fill(1, ip.at + 20, ip.at + 20 + OPTION_BYTES));
}
