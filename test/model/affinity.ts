// SPDX-License-Identifier: Apache-2.0
// The slot of a packet, and *affinity*: services that keep a client with its backend.

import type { Address, Ip } from "./family.ts";
import { type AnyTuple, type FlowHash, hashOf, slotOf } from "./hash.ts";
import { elapsed, type Input, type Node } from "./node.ts";
import { PROTOCOL, SERVICE } from "./numbers.ts";
import { isSyn, type L4 } from "./packet.ts";
import { type Backend, pairKey, type Service } from "./tables.ts";

/** The flow of a packet from a client. */
export function tupleOf(ip: Ip, l4: L4): AnyTuple {
  return {
    client: ip.source,
    clientPort: l4.sourcePort,
    service: ip.destination,
    servicePort: l4.destinationPort,
    protocol: ip.protocol,
  };
}

/** The slot of a packet whose flow hash is `hash`. */
export function slotFor(node: Node, service: Service, ip: Ip, l4: L4, hash: FlowHash): number {
  if ((service.flags & SERVICE.affinity) === 0) return slotOf(hash, service.ringSize);
  const tuple = { ...tupleOf(ip, l4), clientPort: 0, servicePort: 0 };
  return slotOf(hashOf(tuple, node.config.hashSeed), service.ringSize);
}

/** The same for a flow that gets an entry here: with SERVICE_RANDOM any slot may be its. */
export function drawSlot(
  node: Node,
  service: Service,
  { input, ip, l4 }: { readonly input: Input; readonly ip: Ip; readonly l4: L4 },
  hash: FlowHash,
): number {
  const found = slotFor(node, service, ip, l4, hash);
  if ((service.flags & SERVICE.random) === 0 || input.draw === undefined) return found;
  const slots = new Map<number | undefined, number>();
  for (let slot = 0; slot < service.ringSize; slot++) {
    slots.set(indexOfSlot(node, service, slot), slot);
  }
  return input.draw([...slots.values()]);
}

/** Which backend the ring has in a slot; undefined: a row is outside its table. */
function indexOfSlot(node: Node, service: Service, slot: number): number | undefined {
  const ringRow = service.ring + Math.floor(slot / 32);
  if (ringRow >= node.limits.rings) return undefined;
  return node.tables.rings.get(ringRow)?.[slot % 32] ?? 0;
}

function backendAt(node: Node, service: Service, index: number): Backend | undefined {
  const row = service.backends + index;
  if (index >= service.backendCount || row >= node.limits.backends) return undefined;
  const empty = { address: node.family.nobody, port: 0, nexthop: 0, counter: 0, flags: 0 };
  return node.tables.backends.get(row) ?? empty;
}

/** The present owner of a slot. */
export function backendOfSlot(node: Node, service: Service, slot: number): Backend | undefined {
  const index = indexOfSlot(node, service, slot);
  return index === undefined ? undefined : backendAt(node, service, index);
}

/** The backend that a balancer chooses for a packet of a slot. */
export function chooseBackend(
  node: Node,
  service: Service,
  { input, ip, l4 }: { readonly input: Input; readonly ip: Ip; readonly l4: L4 },
  slot: number,
): Backend | undefined {
  if ((service.flags & SERVICE.affinity) === 0) return backendOfSlot(node, service, slot);
  const { affinities } = node.tables;
  const key = pairKey(service.id, ip.source);
  const opens = ip.protocol === PROTOCOL.udp || isSyn(ip, l4);
  const known = affinities.get(key);
  if (known !== undefined) {
    // 1.
    const isOld = opens && elapsed(input.jiffies, known.seen) > service.affinityAge;
    const index = isOld ? undefined : indexOfPod(node, service, known.pod);
    if (index !== undefined) {
      known.backend = index;
      if (opens) known.seen = input.jiffies;
      return backendAt(node, service, index);
    }
    // 2.
    if (!isOld) affinities.delete(key);
  }
  // 3.
  const index = indexOfSlot(node, service, slot);
  const backend = index === undefined ? undefined : backendAt(node, service, index);
  if (index === undefined || backend === undefined || !opens) return backend;
  affinities.set(key, { pod: backend.address, backend: index, seen: input.jiffies });
  return backend;
}

function indexOfPod(node: Node, service: Service, pod: Address): number | undefined {
  for (let index = 0; index < service.backendCount; index++) {
    if (backendAt(node, service, index)?.address === pod) return index;
  }
  return undefined;
}
