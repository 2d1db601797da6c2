// SPDX-License-Identifier: Apache-2.0
// *ICMP errors*: what routers have to say of replies, relayed to the pods that sent them.

import { backendOfSlot, slotFor, tupleOf } from "./affinity.ts";
import { serviceRow, wayOf } from "./balance.ts";
import { checksumFor, concat, get8, get16, get32, set16, set32, sum16 } from "./bytes.ts";
import { requestKey } from "./flow.ts";
import { flowHash } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, FLOW, HOP_TTL, KNOWN, LAST_HOP, PROTOCOL } from "./numbers.ts";
import {
  changeIpv4,
  ETHERNET,
  encapsulate,
  type Ipv4,
  isTcpOrUdp,
  type L4,
  OUTER,
  writeMacs,
} from "./packet.ts";
import { redirect } from "./pass.ts";
import { type Flow, pairKey, type Service } from "./tables.ts";

const ERRORS = new Set([3, 11, 12]);
const ICMP_HEADER = 8;
const QUOTED_L4 = 8;
const OFFSET = 0x1fff;

/** An ICMP packet that came. */
export interface Told {
  readonly input: Input;
  /** The header that has to be stripped. */
  readonly outer: Ipv4 | undefined;
  readonly icmp: Ipv4;
  readonly hop: number;
}

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

interface Relayed extends Told {
  readonly quote: Quote;
}

export function relay(node: Node, told: Told): Outcome {
  const { input, outer, hop } = told;
  const { frame } = input;
  // 1.
  const quote = quoteOf(frame, told.icmp);
  if (quote === undefined) {
    return outer === undefined ? pass("PASS_NOT_OURS", frame) : drop("DROP_INNER_PROTOCOL", frame);
  }
  const relayed = { ...told, quote };
  // 2.
  const flow = node.flow(requestKey(quote.ip, quote.l4));
  const has = (flag: number): boolean => flow !== undefined && (flow.flags & flag) !== 0;
  if (has(FLOW.snat)) {
    return outer === undefined ? pass("PASS_NOT_OURS", frame) : drop("DROP_UNKNOWN_FLOW", frame);
  }
  if (flow !== undefined && has(FLOW.remote)) {
    if (hop > LAST_HOP) return drop("DROP_UNKNOWN_FLOW", frame);
    return toOwner(node, relayed, { service: flow.service, owner: flow.pod, hop: KNOWN });
  }
  if (flow !== undefined && !has(FLOW.reset)) return toPod(node, relayed, flow);
  const asked = flow === undefined ? requestOf(node, relayed) : undefined;
  if (asked !== undefined) return toAsker(node, relayed, asked);
  return byService(node, relayed);
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
  if (!isTcpOrUdp(protocol) || get32(frame, at + 12) !== icmp.destination) return undefined;
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

/** 2: the flow of a pod of this node that sent what is quoted to a backend. */
function requestOf(node: Node, { outer, quote }: Relayed): Flow | undefined {
  if (outer !== undefined) return undefined;
  const flow = node.flow({ ...requestKey(quote.ip, quote.l4), direction: DIRECTION.reply });
  return flow !== undefined && (flow.flags & FLOW.outbound) !== 0 ? flow : undefined;
}

/** 2: into the pod that sent the request which an error is about. */
function toAsker(node: Node, { input, icmp, quote }: Relayed, flow: Flow): Outcome {
  const endpoint = node.tables.endpoints.get(flow.client);
  if (endpoint === undefined) return drop("DROP_ENDPOINT_GONE", input.frame);
  if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", input.frame);
  const frame = input.frame.slice();
  translateQuote(frame, icmp, quote, asSent(flow));
  changeIpv4(frame, icmp, () => {
    if (icmp.source === flow.pod) set32(frame, icmp.at + 12, flow.serviceAddress);
    set32(frame, icmp.at + 16, flow.client);
  });
  writeMacs(frame, endpoint.podMac, endpoint.nodeMac);
  return { verdict: "SENT_RELAYED", way: { to: "pod", ifindex: endpoint.ifindex }, frame };
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

/** 3: to the owners of the flow's slot. */
function byService(node: Node, relayed: Relayed): Outcome {
  const { input, outer, hop, quote } = relayed;
  const { frame } = input;
  const row = node.findService(quote.ip, quote.l4, { inner: outer !== undefined });
  if (row === undefined) {
    return outer === undefined ? pass("PASS_NOT_OURS", frame) : drop("DROP_NO_SERVICE", frame);
  }
  const service = serviceRow(node, row);
  if (service.backendCount === 0) return drop("DROP_NO_BACKEND", frame);
  const hash = flowHash(tupleOf(quote.ip, quote.l4), node.config.hashSeed);
  const slot = slotFor(node, service, quote.ip, quote.l4, hash);
  const present = backendOfSlot(node, service, slot)?.address;
  if (present === undefined) return drop("DROP_TABLE", frame);
  if (outer === undefined && !node.tables.endpoints.has(present)) {
    return toOwner(node, relayed, { service: service.id, owner: present, hop: 0 });
  }
  if (hop >= LAST_HOP) return drop("DROP_UNKNOWN_FLOW", frame);
  const pod = outer?.destination ?? present;
  const owners = [present, ...formerOwners(node, service, slot)];
  const next = owners
    .slice(owners.indexOf(pod) + 1)
    .find((owner) => owner !== 0 && owner !== pod && !node.tables.endpoints.has(owner));
  if (next === undefined) return drop("DROP_UNKNOWN_FLOW", frame);
  return toOwner(node, relayed, { service: service.id, owner: next, hop: hop + 1 });
}

function formerOwners(node: Node, service: Service, slot: number): number[] {
  const entry = node.tables.formerOwners.get(pairKey(service.id, slot)) ?? [];
  const end = entry.indexOf(0);
  return end < 0 ? entry : entry.slice(0, end);
}

export function isOverLimit(node: Node, input: Input, service: number): boolean {
  const window = node.limitWindow(service, input.jiffies);
  window.told += 1;
  return window.told > node.config.answerLimit;
}

/** 4. */
function toOwner(
  node: Node,
  { input, outer, icmp }: Relayed,
  to: { readonly service: number; readonly owner: number; readonly hop: number },
): Outcome {
  const came = input.frame;
  if (isOverLimit(node, input, to.service)) return drop("DROP_ANSWER_LIMIT", came);
  const source = node.config.nodeAddress;
  const bytes = icmp.totalLength + OUTER;
  const route = node.route(input, source, to.owner, bytes);
  if (route === undefined) return drop("DROP_NO_ROUTE", came);
  if (bytes > route.mtu) return drop("DROP_TOO_BIG", came);
  const header = { source, destination: to.owner, ttl: HOP_TTL[to.hop] ?? 0 };
  if (outer === undefined && node.around.refusesRoom(input)) return drop("DROP_REWRITE", came);
  const frame = outer === undefined ? encapsulate(came, icmp, header) : came.slice();
  if (outer !== undefined) redirect(frame, outer, header);
  if (route.macs !== undefined) writeMacs(frame, route.macs.destination, route.macs.source);
  return { verdict: "SENT_RELAYED", way: wayOf(route), frame };
}

/** 5. */
function toPod(node: Node, { input, outer, icmp, quote }: Relayed, flow: Flow): Outcome {
  const endpoint = node.tables.endpoints.get(flow.pod);
  if (endpoint === undefined) return drop("DROP_ENDPOINT_GONE", input.frame);
  if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", input.frame);
  if (outer !== undefined && node.around.refusesRoom(input)) {
    return drop("DROP_REWRITE", input.frame);
  }
  const frame = input.frame.slice();
  translateQuote(frame, icmp, quote, {
    source: flow.pod,
    sourcePort: flow.podPort,
    destination: flow.aliasAddress,
    destinationPort: flow.aliasPort,
  });
  changeIpv4(frame, icmp, () => set32(frame, icmp.at + 16, flow.pod));
  writeMacs(frame, endpoint.podMac, endpoint.nodeMac);
  const sent =
    outer === undefined ? frame : concat(frame.subarray(0, ETHERNET), frame.subarray(icmp.at));
  return { verdict: "SENT_RELAYED", way: { to: "pod", ifindex: endpoint.ifindex }, frame: sent };
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
  if (checksumAt + 2 <= end && !(isUdp && get16(frame, checksumAt) === 0)) {
    const checksum = checksumFor(tuple(), tupleBefore + get16(frame, checksumAt));
    set16(frame, checksumAt, checksum === 0 && isUdp ? 0xffff : checksum);
  }
  set16(frame, start + 2, 0);
  set16(frame, start + 2, checksumFor(sum(), messageBefore));
}
