// SPDX-License-Identifier: Apache-2.0
// *IPIP received*: what another node or a load balancer sent to a pod of this node.

import { tupleOf } from "./affinity.ts";
import { serviceRow } from "./balance.ts";
import { takeByNode } from "./by-node.ts";
import { deliver } from "./deliver.ts";
import { isItself } from "./endpoint.ts";
import type { Ip } from "./family.ts";
import { requestKey } from "./flow.ts";
import { isForeignTarget, takeForeign } from "./foreign.ts";
import { parsePiece, teach } from "./fragment.ts";
import { hashOf } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { FLOW, HOP_TTL, TRUST } from "./numbers.ts";
import { hasPorts, type L4, parseL4 } from "./packet.ts";
import { relay } from "./relay.ts";

const NOT_ECT = 0;
const ECT1 = 1;
const ECT0 = 2;
const CE = 3;

export function receive(node: Node, input: Input, outer: Ip): Outcome {
  const { frame } = input;
  const isNote = node.trust(outer.source) === TRUST.node && isNoteTo(node, outer);
  if (isNote || !isItself(node, outer.destination)) return unwrap(node, input, outer);
  // What other nodes send to this one: a tunnel that is none of ours carries what it likes.
  if (node.trust(outer.source) === TRUST.node && !isOurs(node, input, outer)) {
    return takeByNode(node, input, outer, (left, to) => receive(node, left, to));
  }
  const outcome = unwrap(node, input, outer);
  const { verdict } = outcome;
  const isIcmp = innerOf(node, input, outer)?.protocol === node.family.protocols.icmp;
  return isIcmp && (verdict === "DROP_INNER_PROTOCOL" || verdict === "DROP_NO_SERVICE")
    ? pass("PASS_NOT_OURS", frame)
    : outcome;
}

function isNoteTo({ config }: Node, { destination, ttl }: Ip): boolean {
  return destination === config.nodeAddress && ttl > 224;
}

function innerOf(node: Node, { frame }: Input, outer: Ip): Ip | undefined {
  return node.family.parse(frame, outer.at + outer.headerLength, outer.at + outer.totalLength);
}

/** Whether what another node sent to this one may be for a service. */
function isOurs(node: Node, input: Input, outer: Ip): boolean {
  const ip = outer.fragment ? undefined : innerOf(node, input, outer);
  if (ip === undefined) return false;
  if (ip.protocol === ip.family.protocols.icmp) return true;
  if (!hasPorts(ip.protocol) || (ip.fragment && !node.config.fragmentsTrack)) return false;
  const l4 = ip.fragment ? parsePiece(node, input, ip) : parseL4(input.frame, ip);
  if (l4 === undefined) return false;
  const isKnown = node.flow(requestKey(ip, l4)) !== undefined;
  return isKnown || node.findService(ip, l4, { inner: true }) !== undefined;
}

function unwrap(node: Node, input: Input, outer: Ip): Outcome {
  const { frame } = input;
  // 0.
  const trust = node.trust(outer.source);
  const isNote = trust === TRUST.node && isNoteTo(node, outer);
  // 1.
  const isForNode = isItself(node, outer.destination) && trust !== TRUST.node;
  if (!isNote && (isForNode || !node.tables.endpoints.has(outer.destination))) {
    const isForeign = trust === TRUST.loadBalancer && isForeignTarget(node, outer.destination);
    if (trust === TRUST.node && outer.destination === node.config.nodeAddress) {
      return takeByNode(node, input, outer, (left, to) => receive(node, left, to));
    }
    if (!isForeign) return pass("PASS_NOT_OURS", frame);
    return takeForeign(node, input, outer, (led, to) => receive(node, led, to));
  }
  if (outer.fragment) return drop("DROP_OUTER_FRAGMENT", frame);
  // 2.
  if (trust === undefined) return drop("DROP_UNTRUSTED", frame);
  // 3.
  const ip = node.family.parse(frame, outer.at + outer.headerLength, outer.at + outer.totalLength);
  if (ip === undefined) return drop("DROP_INNER_INVALID", frame);
  const hop = trust === TRUST.loadBalancer ? 0 : hopOf(outer.ttl);
  if (ip.protocol === ip.family.protocols.icmp && !isNote)
    return relay(node, { input, outer, icmp: ip, hop });
  if (!hasPorts(ip.protocol)) return drop("DROP_INNER_PROTOCOL", frame);
  if (ip.fragment && (isNote || !node.config.fragmentsTrack)) return drop("DROP_FRAGMENT", frame);
  const l4 = ip.fragment ? parsePiece(node, input, ip) : parseL4(frame, ip);
  if (l4 === undefined) return drop(ip.fragment ? "DROP_FRAGMENT" : "DROP_INNER_INVALID", frame);
  teach(node, input, ip, l4);
  if (isNote) return takeNote(node, input, ip, l4);
  // 4.
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", frame);
  const tos = (ip.tos & 0xfc) | ecn;
  // 5, 6.
  const hash = hashOf(tupleOf(ip, l4), node.config.hashSeed);
  const arrival = { input, frame, outer, ip, l4, hash, hop, told: false, tos };
  return deliver(node, arrival, outer.destination);
}

/** RFC 6040, 4.2; undefined: the packet is dropped. */
export function innerEcn(outer: number, inner: number): number | undefined {
  if (outer === CE) return inner === NOT_ECT ? undefined : CE;
  return outer === ECT1 && inner === ECT0 ? ECT1 : inner;
}

function hopOf(ttl: number): number {
  const band = HOP_TTL.findIndex((last) => ttl <= last);
  return band < 0 ? 0 : band;
}

/** 0: another node says who has a flow. */
function takeNote(node: Node, input: Input, ip: Ip, l4: L4): Outcome {
  const { frame, jiffies } = input;
  const row = node.findService(ip, l4, { inner: true });
  if (row === undefined) return drop("DROP_NO_SERVICE", frame);
  const { getAddress, addressBytes } = ip.family;
  if (l4.at + 4 + addressBytes > frame.length) return drop("DROP_INNER_INVALID", frame);
  const owner = getAddress(frame, l4.at + 4);
  const key = requestKey(ip, l4);
  const known = node.flow(key);
  const isRemote = known === undefined || (known.flags & FLOW.remote) !== 0;
  if (isRemote && !node.tables.endpoints.has(owner)) {
    node.store(key, {
      client: ip.source,
      serviceAddress: ip.destination,
      pod: owner,
      clientPort: l4.sourcePort,
      servicePort: l4.destinationPort,
      podPort: 0,
      aliasAddress: ip.source,
      aliasPort: 0,
      service: serviceRow(node, row).id,
      nexthop: 0,
      nexthopGeneration: 0,
      counter: 0,
      created: jiffies,
      seen: jiffies,
      flags: FLOW.remote,
      packets: 0,
      bytes: 0,
    });
  }
  return { verdict: "SENT_NOTED", way: { to: "nowhere" }, frame };
}
