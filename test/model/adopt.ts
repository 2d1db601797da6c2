// SPDX-License-Identifier: Apache-2.0
// *Adopt*: a new flow of a pod of this node.

import type { Address } from "./family.ts";
import { type Arrival, getsReplyKey, replyKeyOf, requestKey } from "./flow.ts";
import { bytesOf, type Node } from "./node.ts";
import { PROTOCOL, SERVICE } from "./numbers.ts";
import { isSyn } from "./packet.ts";
import type { Flow, Service, Target } from "./tables.ts";

const CANDIDATES = 8;

interface Adoption {
  readonly service: Service;
  readonly pod: Address;
  readonly target: Target;
  /** With which the entries begin. */
  readonly flags: number;
}

/** Makes a flow's two entries and gives the REQUEST entry, or says why it can't be. */
export function adopt(
  node: Node,
  arrival: Arrival,
  adoption: Adoption,
): Flow | "DROP_PORT_COLLISION" | "DROP_PORT_TAKEN" | "DROP_CONNTRACK_FULL" {
  const { ip, l4, hash } = arrival;
  const ports = [l4.sourcePort];
  const plain = goesOnPlain(arrival, adoption.service);
  const others = plain || ip.protocol === PROTOCOL.sctp ? 0 : CANDIDATES;
  for (let i = 0; i < others; i++) ports.push(32768 | ((hash.low + i * 4099) & 0x7fff));
  const flows = ports.map((aliasPort) => newFlow(arrival, adoption, aliasPort));
  const flow = flows.find((candidate) => getsReplyKey(node, candidate, ip.protocol));
  if (flow === undefined) return plain ? "DROP_PORT_TAKEN" : "DROP_PORT_COLLISION";
  const replyKey = replyKeyOf(flow, ip.protocol);
  if (!node.store(replyKey, { ...flow, packets: 0, bytes: 0 })) return "DROP_CONNTRACK_FULL";
  if (!node.store(requestKey(ip, l4), flow)) {
    node.remove(replyKey);
    return "DROP_CONNTRACK_FULL";
  }
  const connections = ip.protocol === PROTOCOL.udp ? 1 : 0;
  node.count(adoption.target.counter, { adopted: 1, connections });
  return flow;
}

/** Whether what follows this SYN, which another node sent on, won't say its service. */
function goesOnPlain({ outer, told, ip, l4 }: Arrival, { flags }: Service): boolean {
  const sentOn = outer !== undefined || told;
  const isFirst = (flags & SERVICE.encapsulateFirst) !== 0;
  return sentOn && isFirst && ip.protocol === PROTOCOL.tcp && isSyn(ip, l4);
}

function newFlow(arrival: Arrival, adoption: Adoption, aliasPort: number): Flow {
  const { input, ip, l4 } = arrival;
  const { service, pod, target, flags } = adoption;
  return {
    client: ip.source,
    serviceAddress: ip.destination,
    pod,
    clientPort: l4.sourcePort,
    servicePort: l4.destinationPort,
    podPort: target.port,
    aliasAddress: ip.source,
    aliasPort,
    service: service.id,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: target.counter,
    created: input.jiffies,
    seen: input.jiffies,
    flags,
    packets: 1,
    bytes: bytesOf(input),
  };
}
