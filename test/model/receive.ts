// SPDX-License-Identifier: Apache-2.0
// *IPIP received*: what another node or a load balancer sent to a pod of this node.

import { tupleOf } from "./balance.ts";
import { deliver } from "./deliver.ts";
import { flowHash } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { FINAL, TRUST } from "./numbers.ts";
import { type Ipv4, isTcpOrUdp, parseIpv4, parseL4 } from "./packet.ts";

const NOT_ECT = 0;
const ECT1 = 1;
const ECT0 = 2;
const CE = 3;

export function receive(node: Node, input: Input, outer: Ipv4): Outcome {
  const { frame } = input;
  // 1.
  if (!node.tables.endpoints.has(outer.destination)) return pass("PASS_NOT_OURS", frame);
  if (outer.fragment) return drop("DROP_OUTER_FRAGMENT", frame);
  // 2.
  const trust = node.trust(outer.source);
  if (trust === undefined) return drop("DROP_UNTRUSTED", frame);
  // 3.
  const ip = parseIpv4(frame, outer.at + outer.headerLength, outer.at + outer.totalLength);
  if (ip === undefined) return drop("DROP_INNER_INVALID", frame);
  if (!isTcpOrUdp(ip.protocol)) return drop("DROP_INNER_PROTOCOL", frame);
  if (ip.fragment) return drop("DROP_FRAGMENT", frame);
  const l4 = parseL4(frame, ip);
  if (l4 === undefined) return drop("DROP_INNER_INVALID", frame);
  // 4.
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", frame);
  const tos = (ip.tos & 0xfc) | ecn;
  // 5.
  const hop = trust === TRUST.loadBalancer ? 0 : hopOf(outer.ttl);
  // 6.
  const hash = flowHash(tupleOf(ip, l4), node.config.hashSeed);
  const arrival = { input, frame, outer, ip, l4, hash, hop, tos };
  return deliver(node, arrival, outer.destination);
}

/** RFC 6040, 4.2; undefined: the packet is dropped. */
function innerEcn(outer: number, inner: number): number | undefined {
  if (outer === CE) return inner === NOT_ECT ? undefined : CE;
  return outer === ECT1 && inner === ECT0 ? ECT1 : inner;
}

function hopOf(ttl: number): number {
  const band = [64, 112, 160, 208].findIndex((last) => ttl <= last);
  return band < 0 ? FINAL : band;
}
