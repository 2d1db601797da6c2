// SPDX-License-Identifier: Apache-2.0
// Keys and entries as the kernel's tables have them, and as the model does.

import type {
  Flow as AbiFlow,
  FlowKey as AbiFlowKey,
  FragmentKey,
  Identity,
  Jiffies,
  Port,
  ServiceId,
} from "../../src/datapath/gen/abi.ts";
import type { Ipv4 } from "../../src/net/address.ts";
import type { Address } from "../model/family.ts";
import { type Flow, type FlowKey, type PieceKey, parsePairKey } from "../model/tables.ts";

/** From `pairKey(service id, client)`. */
export function affinityKey(text: string) {
  const [service, client] = parsePairKey(text);
  return { service: service as ServiceId, client: client as Ipv4 };
}

/** An id lies there as it does in a header, whose numbers have the most significant byte first. */
function rawId(id: number, source: Address): number {
  const bytes = typeof source === "bigint" ? 4 : 2;
  let raw = 0;
  for (let at = 0; at < bytes; at++) raw = raw * 256 + ((id >>> (8 * at)) & 255);
  return raw;
}

export function abiPieceKey({ source, destination, id, protocol }: PieceKey): FragmentKey {
  const ends = { source: source as Ipv4, destination: destination as Ipv4 };
  return { ...ends, id: rawId(id, source), protocol };
}

export function modelPieceKey({ source, destination, id, protocol }: FragmentKey): PieceKey {
  return { source, destination, id: rawId(id, source), protocol };
}

export function abiKey(key: FlowKey): AbiFlowKey {
  const { source, destination, sourcePort, destinationPort } = key;
  return {
    ...key,
    source: source as Ipv4,
    destination: destination as Ipv4,
    sourcePort: sourcePort as Port,
    destinationPort: destinationPort as Port,
  };
}

export function abiFlow(flow: Flow): AbiFlow {
  return {
    client: flow.client as Ipv4,
    serviceAddress: flow.serviceAddress as Ipv4,
    pod: flow.pod as Ipv4,
    aliasAddress: flow.aliasAddress as Ipv4,
    clientPort: flow.clientPort as Port,
    servicePort: flow.servicePort as Port,
    podPort: flow.podPort as Port,
    aliasPort: flow.aliasPort as Port,
    service: flow.service as ServiceId,
    created: flow.created as Jiffies,
    seen: flow.seen as Jiffies,
    nexthop: flow.nexthop,
    nexthopGeneration: flow.nexthopGeneration,
    counter: flow.counter,
    clientIdentity: 0 as Identity,
    claimed: 0,
    flags: flow.flags,
    packets: BigInt(flow.packets),
    bytes: BigInt(flow.bytes),
  };
}

/** An entry of the kernel's as the model has them. */
export function modelFlow(flow: AbiFlow): Flow {
  const { client, serviceAddress, pod, aliasAddress, clientPort, servicePort, podPort } = flow;
  const { aliasPort, service, created, seen, flags, nexthop, nexthopGeneration, counter } = flow;
  const places = { client, serviceAddress, pod, aliasAddress, clientPort, servicePort, podPort };
  const way = { nexthop, nexthopGeneration, counter };
  const rest = { aliasPort, service, created, seen, flags, ...way };
  return { ...places, ...rest, packets: Number(flow.packets), bytes: Number(flow.bytes) };
}
