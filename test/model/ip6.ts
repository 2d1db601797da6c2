// SPDX-License-Identifier: Apache-2.0
// IPv6 with its extension headers, and ICMPv6.

import { get8, get16, get32, set8, set16, set32 } from "./bytes.ts";
import type { Family, Ip } from "./family.ts";
import { DISPATCH } from "./numbers.ts";

const HEADER = 40;
const LONGEST = 256;
const EXTENSIONS = 4;
const NEXT = { hopByHop: 0, routing: 43, fragment: 44, options: 60 } as const;
const NUMBERS: ReadonlySet<number> = new Set(Object.values(NEXT));
const MORE_FRAGMENTS_AND_OFFSET = 0xfff9;
const OFFSET = 0xfff8;
const LONGEST_QUOTE = 96;
const SMALLEST_MTU = 1280;

export const IPV6: Family = {
  etherType: 0x86dd,
  nobody: 0n,
  addressBytes: 16,
  // fd00:c111:a7e::1
  itself: 0xfd00_c111_0a7e_0000_0000_0000_0000_0001n,
  isHost: (address) => BigInt(address) > 1n && BigInt(address) >> 120n !== 0xffn,
  headerBytes: HEADER,
  longestHeader: LONGEST,
  fields: { length: 4, ttl: 7, source: 8, destination: 24 },
  protocols: { icmp: 58, outer: 41 },
  icmp: {
    echo: 128,
    echoReply: 129,
    errors: new Set([1, 2, 3, 4]),
    tos: 0,
    covers: true,
    tooBig: (mtu) => ({ type: 2, code: 0, rest: Math.max(mtu, SMALLEST_MTU) }),
    portUnreachable: { type: 1, code: 4, rest: 0 },
    quoted: ({ headerLength }) => Math.min(headerLength + 8, LONGEST_QUOTE),
  },
  mssLess: (dispatch) => {
    if (dispatch === DISPATCH.geneve) return 52;
    return dispatch === DISPATCH.option ? 36 : 40;
  },
  parse: parseIpv6,
  getAddress: (bytes, at) =>
    [0, 4, 8, 12].reduce((all, offset) => (all << 32n) | BigInt(get32(bytes, at + offset)), 0n),
  setAddress: (bytes, at, address) => {
    for (const offset of [0, 4, 8, 12]) {
      const word = (BigInt(address) >> BigInt(8 * (12 - offset))) & 0xffff_ffffn;
      set32(bytes, at + offset, Number(word));
    }
  },
  setTos: (frame, at, tos) => {
    set8(frame, at, 0x60 | (tos >>> 4));
    set8(frame, at + 1, ((tos & 15) << 4) | (get8(frame, at + 1) & 15));
  },
  // It has no checksum.
  change: (_frame, _ip, change) => change(),
  header: ({ tos, ttl, protocol, source, destination, carried, spread }) => {
    const header = new Uint8Array(HEADER);
    set32(header, 0, 0x6000_0000 + (tos << 20) + (spread & 0xfffff));
    set16(header, 4, carried);
    set8(header, 6, protocol);
    set8(header, 7, ttl);
    IPV6.setAddress(header, 8, source);
    IPV6.setAddress(header, 24, destination);
    return header;
  },
  quote: (frame, at, end) => {
    if (end - at < HEADER || get8(frame, at) >>> 4 !== 6) return undefined;
    return {
      headerLength: HEADER,
      totalLength: get16(frame, at + 4) + HEADER,
      protocol: get8(frame, at + 6),
      source: IPV6.getAddress(frame, at + 8),
      destination: IPV6.getAddress(frame, at + 24),
    };
  },
};

function parseIpv6(frame: Uint8Array, at: number, end: number): Ip | undefined {
  if (end - at < HEADER || get8(frame, at) >>> 4 !== 6) return undefined;
  const totalLength = get16(frame, at + 4) + HEADER;
  if (totalLength > end - at || totalLength > 0xffff) return undefined;
  const walked = walk(frame, at);
  if (walked === undefined || walked.headerLength > totalLength) return undefined;
  return {
    family: IPV6,
    at,
    ...walked,
    totalLength,
    tos: (get16(frame, at) >>> 4) & 0xff,
    ttl: get8(frame, at + 7),
    source: IPV6.getAddress(frame, at + 8),
    destination: IPV6.getAddress(frame, at + 24),
    dontFragment: true,
  };
}

/** Over extension headers, which are read as far as the frame goes. */
function walk(
  frame: Uint8Array,
  at: number,
): Pick<Ip, "headerLength" | "protocol" | "fragment" | "later" | "id"> | undefined {
  let headerLength = HEADER;
  let protocol = get8(frame, at + 6);
  for (let count = 0; count < EXTENSIONS && NUMBERS.has(protocol); count++) {
    const extension = at + headerLength;
    if (extension + 8 > frame.length) return undefined;
    if (protocol === NEXT.routing && get8(frame, extension + 3) !== 0) return undefined;
    const isFragmentHeader = protocol === NEXT.fragment;
    headerLength += isFragmentHeader ? 8 : 8 + 8 * get8(frame, extension + 1);
    protocol = get8(frame, extension);
    if (headerLength > LONGEST) return undefined;
    const flags = isFragmentHeader ? get16(frame, extension + 2) : 0;
    if ((flags & MORE_FRAGMENTS_AND_OFFSET) !== 0) {
      const [later, id] = [(flags & OFFSET) !== 0, get32(frame, extension + 4)];
      return { headerLength, protocol, fragment: true, later, id };
    }
  }
  return { headerLength, protocol, fragment: false, later: false, id: 0 };
}
