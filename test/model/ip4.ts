// SPDX-License-Identifier: Apache-2.0
// IPv4 and its ICMP.

import { checksumFor, get8, get16, get32, set8, set16, set32, sum16 } from "./bytes.ts";
import type { Family, Ip } from "./family.ts";

const HEADER = 20;
const MORE_FRAGMENTS_AND_OFFSET = 0x3fff;
const OFFSET = 0x1fff;
const DF = 0x4000;

export const IPV4: Family = {
  etherType: 0x0800,
  nobody: 0,
  addressBytes: 4,
  // 169.254.42.1
  itself: 0xa9fe2a01,
  isHost: (address) => {
    const first = Number(address) >>> 24;
    const isGroup = first >= 224 && first < 240;
    return first !== 0 && first !== 127 && !isGroup && address !== 0xffff_ffff;
  },
  headerBytes: HEADER,
  longestHeader: 60,
  fields: { length: 2, ttl: 8, source: 12, destination: 16 },
  protocols: { icmp: 1, outer: 4 },
  icmp: {
    echo: 8,
    echoReply: 0,
    errors: new Set([3, 11, 12]),
    tos: 0xc0,
    covers: false,
    tooBig: (mtu) => ({ type: 3, code: 4, rest: mtu & 0xffff }),
    portUnreachable: { type: 3, code: 3, rest: 0 },
    quoted: ({ headerLength }) => headerLength + 8,
  },
  mssLess: () => 0,
  parse: parseIpv4,
  getAddress: get32,
  setAddress: (bytes, at, address) => set32(bytes, at, Number(address)),
  setTos: (frame, at, tos) => set8(frame, at + 1, tos),
  change: (frame, { at, headerLength }, change) => {
    const before = sum16(frame, at, at + headerLength);
    change();
    writeChecksum(frame, at, before);
  },
  header: ({ tos, ttl, protocol, source, destination, carried }) => {
    const header = new Uint8Array(HEADER);
    set8(header, 0, 0x45);
    set8(header, 1, tos);
    set16(header, 2, HEADER + carried);
    set16(header, 6, DF);
    set8(header, 8, ttl);
    set8(header, 9, protocol);
    set32(header, 12, Number(source));
    set32(header, 16, Number(destination));
    writeChecksum(header, 0, 0);
    return header;
  },
  quote: (frame, at, end) => {
    if (end - at < HEADER || get8(frame, at) >>> 4 !== 4) return undefined;
    const headerLength = (get8(frame, at) & 15) * 4;
    if (headerLength < HEADER || (get16(frame, at + 6) & OFFSET) !== 0) return undefined;
    return {
      headerLength,
      totalLength: get16(frame, at + 2),
      protocol: get8(frame, at + 9),
      source: get32(frame, at + 12),
      destination: get32(frame, at + 16),
    };
  },
};

function parseIpv4(frame: Uint8Array, at: number, end: number): Ip | undefined {
  if (end - at < HEADER) return undefined;
  const headerLength = (get8(frame, at) & 15) * 4;
  const totalLength = get16(frame, at + 2);
  if (get8(frame, at) >>> 4 !== 4 || headerLength < HEADER) return undefined;
  if (headerLength > totalLength || totalLength > end - at) return undefined;
  const flags = get16(frame, at + 6);
  return {
    family: IPV4,
    at,
    headerLength,
    totalLength,
    tos: get8(frame, at + 1),
    ttl: get8(frame, at + 8),
    protocol: get8(frame, at + 9),
    source: get32(frame, at + 12),
    destination: get32(frame, at + 16),
    fragment: (flags & MORE_FRAGMENTS_AND_OFFSET) !== 0,
    later: (flags & OFFSET) !== 0,
    id: get16(frame, at + 4),
    dontFragment: (flags & DF) !== 0,
  };
}

/** `wanted` is the sum that the header had before, 0 when right. */
function writeChecksum(frame: Uint8Array, at: number, wanted: number): void {
  set16(frame, at + 10, 0);
  const sum = sum16(frame, at, at + (get8(frame, at) & 15) * 4);
  set16(frame, at + 10, checksumFor(sum, wanted));
}
