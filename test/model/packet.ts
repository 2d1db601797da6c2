// SPDX-License-Identifier: Apache-2.0
// What the page calls valid packets, fragments and L4 headers, and how headers change.

import { checksumFor, concat, get8, get16, set8, set16, set32, sum16 } from "./bytes.ts";
import type { Address, Family, Ip } from "./family.ts";
import { PROTOCOL, TCP } from "./numbers.ts";

export const ETHERNET = 14;
/** A whole header of TCP, UDP or SCTP, or what is known of it. */
export interface L4 {
  readonly at: number;
  /** 8 for UDP, 12 for SCTP; TCP's with options, as its data offset says; 0 of a later piece. */
  readonly headerLength: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** 0 for UDP; for SCTP those of TCP that its first chunk stands for. */
  readonly flags: number;
}

/** The valid IP header of a frame. */
export function parseFrame(frame: Uint8Array, family: Family): Ip | undefined {
  if (frame.length < ETHERNET || get16(frame, 12) !== family.etherType) return undefined;
  return family.parse(frame, ETHERNET, frame.length);
}

/** Types of first chunks, and what they stand for. */
const CHUNK_FLAGS: Readonly<Record<number, number>> = {
  1: TCP.syn,
  6: TCP.rst,
  7: TCP.fin,
  8: TCP.fin,
  14: TCP.fin,
};

/** The TCP, UDP or SCTP header after an IP header; undefined when it isn't whole. */
export function parseL4(frame: Uint8Array, ip: Ip): L4 | undefined {
  const at = ip.at + ip.headerLength;
  const room = ip.totalLength - ip.headerLength;
  const isTcp = ip.protocol === PROTOCOL.tcp;
  if (ip.protocol === PROTOCOL.sctp) {
    if (room < 16) return undefined;
    const ports = { sourcePort: get16(frame, at), destinationPort: get16(frame, at + 2) };
    return { at, headerLength: 12, ...ports, flags: CHUNK_FLAGS[get8(frame, at + 12)] ?? 0 };
  }
  if (room < (isTcp ? 20 : 8)) return undefined;
  return {
    at,
    headerLength: isTcp ? (get8(frame, at + 12) >>> 4) * 4 : 8,
    sourcePort: get16(frame, at),
    destinationPort: get16(frame, at + 2),
    flags: isTcp ? get8(frame, at + 13) : 0,
  };
}

/** TCP, UDP or SCTP. */
export function hasPorts(protocol: number): boolean {
  return [PROTOCOL.tcp, PROTOCOL.udp, PROTOCOL.sctp].some((one) => one === protocol);
}

/** TCP or SCTP, whose connections begin and end by packets that say so. */
export function isConnected({ protocol }: Ip): boolean {
  return protocol !== PROTOCOL.udp;
}

/** TCP with SYN set and ACK, RST and FIN not set, or SCTP's INIT. */
export function isSyn(ip: Ip, l4: L4): boolean {
  const { syn, ack, rst, fin } = TCP;
  return isConnected(ip) && (l4.flags & (syn | ack | rst | fin)) === syn;
}

/** FIN, RST, and TCP with neither SYN nor ACK: no flow that nobody knows begins by it. */
export function beginsNothing({ protocol }: Ip, { flags }: L4): boolean {
  if (protocol === PROTOCOL.udp) return false;
  if ((flags & (TCP.rst | TCP.fin)) !== 0) return true;
  return protocol === PROTOCOL.tcp && (flags & (TCP.syn | TCP.ack)) === 0;
}

/** The sum of both addresses, which stand side by side. */
export function addressSum(frame: Uint8Array, { family, at }: Pick<Ip, "family" | "at">): number {
  const from = at + family.fields.source;
  return sum16(frame, from, from + 2 * family.addressBytes);
}

/** The sum of what TCP's or UDP's checksum covers, checksum included. */
function coveredSum(frame: Uint8Array, ip: Ip, l4: L4): number {
  const length = ip.totalLength - ip.headerLength;
  const pseudo = addressSum(frame, ip) + ip.protocol + length;
  return pseudo + sum16(frame, l4.at, l4.at + length);
}

/** Changes fields of a header; a checksum that was wrong stays as wrong as it was. */
export function changeHeader(frame: Uint8Array, ip: Ip, change: () => void): void {
  ip.family.change(frame, ip, change);
}

/** New addresses, ports and time to live; what isn't named stays. */
export interface Translation {
  readonly source?: Address;
  readonly destination?: Address;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly ttl?: number;
  /** Of TCP's MSS option: where its two bytes stand. */
  readonly mss?: { readonly at: number; readonly value: number };
}

/**
 * Translates a packet in place; both checksums follow, and a UDP checksum of 0 stays 0;
 * a later piece has neither ports nor a checksum.
 */
export function translate(frame: Uint8Array, ip: Ip, l4: L4, to: Translation): void {
  const checksumAt = l4.at + (ip.protocol === PROTOCOL.tcp ? 16 : 6);
  const unchecked = ip.protocol === PROTOCOL.udp && !ip.later && get16(frame, checksumAt) === 0;
  const before = coveredSum(frame, ip, l4);
  changeHeader(frame, ip, () => {
    if (to.source !== undefined) writeAddress(frame, ip, "source", to.source);
    if (to.destination !== undefined) writeAddress(frame, ip, "destination", to.destination);
    if (to.ttl !== undefined) set8(frame, ip.at + ip.family.fields.ttl, to.ttl);
  });
  if (ip.later) return;
  if (to.sourcePort !== undefined) set16(frame, l4.at, to.sourcePort);
  if (to.destinationPort !== undefined) set16(frame, l4.at + 2, to.destinationPort);
  if (to.mss !== undefined) set16(frame, to.mss.at, to.mss.value);
  if (unchecked || ip.protocol === PROTOCOL.sctp) return;
  set16(frame, checksumAt, 0);
  const checksum = checksumFor(coveredSum(frame, ip, l4), before);
  // RFC 768: 0 says that there is no checksum, so a computed 0 is sent as all ones.
  set16(frame, checksumAt, checksum === 0 && ip.protocol === PROTOCOL.udp ? 0xffff : checksum);
}

/** Writes both MACs of a frame, each a number below 2^48. */
export function writeMacs(frame: Uint8Array, destination: number, source: number): void {
  for (const [at, mac] of [
    [0, destination],
    [6, source],
  ] as const) {
    set16(frame, at, Math.floor(mac / 2 ** 32));
    set32(frame, at + 2, mac % 2 ** 32);
  }
}

/** Writes a header's address: that of its sender, or of its receiver. */
export function writeAddress(
  frame: Uint8Array,
  { family, at }: Pick<Ip, "family" | "at">,
  field: "source" | "destination",
  address: Address,
): void {
  family.setAddress(frame, at + family.fields[field], address);
}

/** An outer header: who it is from and to, and g of the flow that it carries. */
export interface Outer {
  readonly source: Address;
  readonly destination: Address;
  readonly ttl: number;
  readonly spread: number;
}

/** A frame with an outer header written in front of its packet. */
export function encapsulate(frame: Uint8Array, inner: Ip, outer: Outer): Uint8Array {
  const { family, tos, totalLength } = inner;
  const protocol = family.protocols.outer;
  const header = family.header({ ...outer, tos, protocol, carried: totalLength });
  return concat(frame.subarray(0, ETHERNET), header, frame.subarray(ETHERNET));
}
