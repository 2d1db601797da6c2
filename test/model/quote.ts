// SPDX-License-Identifier: Apache-2.0
// What ICMP errors quote.

import { checksumFor, get8, get16, get32, set16, set32, sum16 } from "./bytes.ts";
import type { Input, Node } from "./node.ts";
import { PROTOCOL } from "./numbers.ts";
import { changeIpv4, hasPorts, type Ipv4, type L4 } from "./packet.ts";
import type { Flow } from "./tables.ts";

const ERRORS = new Set([3, 11, 12]);
const ICMP_HEADER = 8;
const QUOTED_L4 = 8;
const OFFSET = 0x1fff;

/** A reply that an error quotes. */
export interface Quote {
  /** Where its IPv4 header begins in the frame, and what is behind it. */
  readonly at: number;
  readonly l4At: number;
  /** Where it ends, by the ICMP packet's length. */
  readonly end: number;
  /** Headers of the flow's packets, as far as its keys need them. */
  readonly ip: Ipv4;
  readonly l4: L4;
}

/** 1: the reply that an ICMP packet is an error about. */
export function quoteOf(frame: Uint8Array, icmp: Ipv4): Quote | undefined {
  const start = icmp.at + icmp.headerLength;
  const end = icmp.at + icmp.totalLength;
  const at = start + ICMP_HEADER;
  if (icmp.fragment || end - at < 20) return undefined;
  const headerLength = (get8(frame, at) & 15) * 4;
  const totalLength = get16(frame, at + 2);
  const l4At = at + headerLength;
  const protocol = get8(frame, at + 9);
  if (!ERRORS.has(get8(frame, start)) || get8(frame, at) >>> 4 !== 4) return undefined;
  if (headerLength < 20 || totalLength < headerLength + QUOTED_L4) return undefined;
  if (end - l4At < QUOTED_L4 || (get16(frame, at + 6) & OFFSET) !== 0) return undefined;
  if (!hasPorts(protocol) || get32(frame, at + 12) !== icmp.destination) return undefined;
  return {
    at,
    l4At,
    end,
    ip: { ...icmp, source: get32(frame, at + 16), protocol },
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
  readonly source: number;
  readonly sourcePort: number;
  readonly destination: number;
  readonly destinationPort: number;
}

/** Rewrites the quoted packet, and the checksums of all that change. */
export function translateQuote(frame: Uint8Array, icmp: Ipv4, quote: Quote, to: Quoted): void {
  const { at, l4At, end, ip } = quote;
  const start = icmp.at + icmp.headerLength;
  const sum = (): number => sum16(frame, start, end);
  const tuple = (): number => sum16(frame, at + 12, at + 20) + sum16(frame, l4At, l4At + 4);
  const [messageBefore, tupleBefore] = [sum(), tuple()];
  const header = { ...ip, at, headerLength: (get8(frame, at) & 15) * 4 };
  changeIpv4(frame, header, () => {
    set32(frame, at + 12, to.source);
    set32(frame, at + 16, to.destination);
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
  set16(frame, start + 2, 0);
  set16(frame, start + 2, checksumFor(sum(), messageBefore));
}
