// SPDX-License-Identifier: Apache-2.0
// What ICMP errors quote.

import { checksumFor, get8, get16, set8, set16, sum16 } from "./bytes.ts";
import type { Address, Ip } from "./family.ts";
import type { Input, Node } from "./node.ts";
import { PROTOCOL } from "./numbers.ts";
import { addressSum, changeHeader, hasPorts, type L4, writeAddress } from "./packet.ts";
import type { Flow } from "./tables.ts";

const ICMP_HEADER = 8;
const QUOTED_L4 = 8;

/** A reply that an error quotes. */
export interface Quote {
  /** Where its IP header begins in the frame, and what is behind it. */
  readonly at: number;
  readonly l4At: number;
  readonly headerLength: number;
  /** Where it ends, by the ICMP packet's length. */
  readonly end: number;
  /** Headers of the flow's packets, as far as its keys need them. */
  readonly ip: Ip;
  readonly l4: L4;
}

/** 1: the reply that an ICMP packet is an error about. */
export function quoteOf(frame: Uint8Array, icmp: Ip): Quote | undefined {
  const start = icmp.at + icmp.headerLength;
  const end = icmp.at + icmp.totalLength;
  const at = start + ICMP_HEADER;
  const { icmp: kinds } = icmp.family;
  if (icmp.fragment || end - start < ICMP_HEADER || !kinds.errors.has(get8(frame, start))) {
    return undefined;
  }
  const header = icmp.family.quote(frame, at, end);
  if (header === undefined) return undefined;
  const { headerLength, totalLength, protocol } = header;
  const l4At = at + headerLength;
  if (totalLength < headerLength + QUOTED_L4 || end - l4At < QUOTED_L4) return undefined;
  if (!hasPorts(protocol) || header.source !== icmp.destination) return undefined;
  return {
    at,
    l4At,
    end,
    headerLength,
    ip: { ...icmp, source: header.destination, protocol },
    l4: {
      at: l4At,
      headerLength: QUOTED_L4,
      sourcePort: get16(frame, l4At + 2),
      destinationPort: get16(frame, l4At),
      flags: 0,
    },
  };
}

/** A quoted request as its client sent it. */
export function asSent(flow: Flow): Quoted {
  return {
    source: flow.client,
    sourcePort: flow.clientPort,
    destination: flow.serviceAddress,
    destinationPort: flow.servicePort,
  };
}

/** A quoted reply as the pod sent it. */
export function asAnswered(flow: Flow): Quoted {
  return {
    source: flow.pod,
    sourcePort: flow.podPort,
    destination: flow.aliasAddress,
    destinationPort: flow.aliasPort,
  };
}

export function isOverLimit(node: Node, input: Input, service: number): boolean {
  const window = node.limitWindow(service, input.jiffies);
  window.told += 1;
  return window.told > node.config.answerLimit;
}

/** Who a quoted packet is from, and to whom. */
export interface Quoted {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

/** New addresses and time to live of an error itself. */
export interface Ends {
  readonly source?: Address;
  readonly destination?: Address;
  readonly ttl?: number;
}

/** Rewrites the quoted packet and the error's own header, and the checksums of all that change. */
export function translateError(
  frame: Uint8Array,
  icmp: Ip,
  quote: Quote,
  to: { readonly quoted: Quoted; readonly ends: Ends },
): void {
  const { family } = icmp;
  const start = icmp.at + icmp.headerLength;
  const sum = (): number =>
    sum16(frame, start, quote.end) + (family.icmp.covers ? addressSum(frame, icmp) : 0);
  const before = sum();
  translateQuote(frame, quote, to.quoted);
  const { source, destination, ttl } = to.ends;
  changeHeader(frame, icmp, () => {
    if (source !== undefined) writeAddress(frame, icmp, "source", source);
    if (destination !== undefined) writeAddress(frame, icmp, "destination", destination);
    if (ttl !== undefined) set8(frame, icmp.at + family.fields.ttl, ttl);
  });
  set16(frame, start + 2, 0);
  set16(frame, start + 2, checksumFor(sum(), before));
}

function translateQuote(frame: Uint8Array, quote: Quote, to: Quoted): void {
  const { at, l4At, end, headerLength, ip } = quote;
  const header = { ...ip, at, headerLength };
  const tuple = (): number => addressSum(frame, header) + sum16(frame, l4At, l4At + 4);
  const tupleBefore = tuple();
  changeHeader(frame, header, () => {
    writeAddress(frame, header, "source", to.source);
    writeAddress(frame, header, "destination", to.destination);
  });
  set16(frame, l4At, to.sourcePort);
  set16(frame, l4At + 2, to.destinationPort);
  const isUdp = ip.protocol === PROTOCOL.udp;
  const checksumAt = l4At + (isUdp ? 6 : 16);
  const isCovered = ip.protocol !== PROTOCOL.sctp;
  if (isCovered && checksumAt + 2 <= end && !(isUdp && get16(frame, checksumAt) === 0)) {
    const checksum = checksumFor(tuple(), tupleBefore + get16(frame, checksumAt));
    set16(frame, checksumAt, checksum === 0 && isUdp ? 0xffff : checksum);
  }
}
