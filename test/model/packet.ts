// SPDX-License-Identifier: Apache-2.0
// What the page calls valid IPv4, fragments and L4 headers, and how headers change.

import { checksumFor, get8, get16, get32, set8, set16, set32, sum16 } from "./bytes.ts";
import { PROTOCOL, TCP } from "./numbers.ts";

export const ETHERNET = 14;
export const OUTER = 20;
const ETHERTYPE_IPV4 = 0x0800;
const MORE_FRAGMENTS_AND_OFFSET = 0x3fff;

/** An IPv4 header in a frame. */
export interface Ipv4 {
  /** Where in the frame it begins. */
  readonly at: number;
  readonly headerLength: number;
  readonly totalLength: number;
  readonly tos: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly fragment: boolean;
}

/** A whole header of TCP, UDP or SCTP. */
export interface L4 {
  readonly at: number;
  /** 8 for UDP, 12 for SCTP; TCP's with options, as its data offset says. */
  readonly headerLength: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** 0 for UDP; for SCTP those of TCP that its first chunk stands for. */
  readonly flags: number;
}

/** The valid IPv4 header at `at`, of a packet that ends before `end`. */
export function parseIpv4(frame: Uint8Array, at: number, end: number): Ipv4 | undefined {
  if (end - at < 20) return undefined;
  const headerLength = (get8(frame, at) & 15) * 4;
  const totalLength = get16(frame, at + 2);
  if (get8(frame, at) >>> 4 !== 4 || headerLength < 20) return undefined;
  if (headerLength > totalLength || totalLength > end - at) return undefined;
  return {
    at,
    headerLength,
    totalLength,
    tos: get8(frame, at + 1),
    ttl: get8(frame, at + 8),
    protocol: get8(frame, at + 9),
    source: get32(frame, at + 12),
    destination: get32(frame, at + 16),
    fragment: (get16(frame, at + 6) & MORE_FRAGMENTS_AND_OFFSET) !== 0,
  };
}

/** The valid IPv4 header of a frame. */
export function parseFrame(frame: Uint8Array): Ipv4 | undefined {
  if (frame.length < ETHERNET || get16(frame, 12) !== ETHERTYPE_IPV4) return undefined;
  return parseIpv4(frame, ETHERNET, frame.length);
}

/** Types of first chunks, and what they stand for. */
const CHUNK_FLAGS: Readonly<Record<number, number>> = {
  1: TCP.syn,
  6: TCP.rst,
  7: TCP.fin,
  8: TCP.fin,
  14: TCP.fin,
};

/** The TCP, UDP or SCTP header after an IPv4 header; undefined when it isn't whole. */
export function parseL4(frame: Uint8Array, ip: Ipv4): L4 | undefined {
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
export function isConnected({ protocol }: Ipv4): boolean {
  return protocol !== PROTOCOL.udp;
}

/** TCP with SYN set and ACK, RST and FIN not set, or SCTP's INIT. */
export function isSyn(ip: Ipv4, l4: L4): boolean {
  const { syn, ack, rst, fin } = TCP;
  return isConnected(ip) && (l4.flags & (syn | ack | rst | fin)) === syn;
}

/** The sum of what TCP's or UDP's checksum covers, checksum included. */
function coveredSum(frame: Uint8Array, ip: Ipv4, l4: L4): number {
  const length = ip.totalLength - ip.headerLength;
  const pseudo = sum16(frame, ip.at + 12, ip.at + 20) + ip.protocol + length;
  return pseudo + sum16(frame, l4.at, l4.at + length);
}

/** Writes the IPv4 header's checksum; `wanted` is the sum that it had before, 0 when right. */
export function writeIpv4Checksum(frame: Uint8Array, at: number, wanted = 0): void {
  set16(frame, at + 10, 0);
  const sum = sum16(frame, at, at + (get8(frame, at) & 15) * 4);
  set16(frame, at + 10, checksumFor(sum, wanted));
}

/** Changes fields of an IPv4 header; a checksum that was wrong stays as wrong as it was. */
export function changeIpv4(frame: Uint8Array, ip: Ipv4, change: () => void): void {
  const before = sum16(frame, ip.at, ip.at + ip.headerLength);
  change();
  writeIpv4Checksum(frame, ip.at, before);
}

/** New addresses, ports and time to live; what isn't named stays. */
export interface Translation {
  readonly source?: number;
  readonly destination?: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly ttl?: number;
  /** Of TCP's MSS option: where its two bytes stand. */
  readonly mss?: { readonly at: number; readonly value: number };
}

/** Translates a packet in place; both checksums follow, and a UDP checksum of 0 stays 0. */
export function translate(frame: Uint8Array, ip: Ipv4, l4: L4, to: Translation): void {
  const checksumAt = l4.at + (ip.protocol === PROTOCOL.tcp ? 16 : 6);
  const unchecked = ip.protocol === PROTOCOL.udp && get16(frame, checksumAt) === 0;
  const before = coveredSum(frame, ip, l4);
  changeIpv4(frame, ip, () => {
    if (to.source !== undefined) set32(frame, ip.at + 12, to.source);
    if (to.destination !== undefined) set32(frame, ip.at + 16, to.destination);
    if (to.ttl !== undefined) set8(frame, ip.at + 8, to.ttl);
  });
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

/** A frame with an outer header written in front of its IPv4 packet. */
export function encapsulate(
  frame: Uint8Array,
  inner: Ipv4,
  outer: { readonly source: number; readonly destination: number; readonly ttl: number },
): Uint8Array {
  const wrapped = new Uint8Array(frame.length + OUTER);
  wrapped.set(frame.subarray(0, ETHERNET));
  wrapped.set(frame.subarray(ETHERNET), ETHERNET + OUTER);
  set8(wrapped, ETHERNET, 0x45);
  set8(wrapped, ETHERNET + 1, inner.tos);
  set16(wrapped, ETHERNET + 2, inner.totalLength + OUTER);
  set16(wrapped, ETHERNET + 4, 0);
  set16(wrapped, ETHERNET + 6, 0x4000);
  set8(wrapped, ETHERNET + 8, outer.ttl);
  set8(wrapped, ETHERNET + 9, PROTOCOL.ipip);
  set32(wrapped, ETHERNET + 12, outer.source);
  set32(wrapped, ETHERNET + 16, outer.destination);
  writeIpv4Checksum(wrapped, ETHERNET);
  return wrapped;
}
