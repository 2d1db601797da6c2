// SPDX-License-Identifier: Apache-2.0
// Events that change what a node knows, done to its twin.

import { ANY_IPV4 } from "../../src/net/address.ts";
import type { Address } from "../model/family.ts";
import { replyKeyOf } from "../model/flow.ts";
import { hashOf } from "../model/hash.ts";
import {
  BACKEND,
  DIRECTION,
  FLOW,
  GENERATION_SHIFT,
  KIND,
  NEXTHOP,
  PROTOCOL,
  SERVICE,
} from "../model/numbers.ts";
import { type Endpoint, type Frontend, parseFlowKey, parsePairKey } from "../model/tables.ts";
import type { NodeIndex, ServiceEvent, StateEvent } from "./event.ts";
import {
  AT_NODES,
  CLIENTS,
  GATEWAYS,
  NODES,
  nodeMac,
  PODS,
  PODS_OF_NODE,
  PREFIXES,
  PREFIXES_OF_CLIENTS,
  podDevice,
  podMac,
  SERVICE_PORTS,
  SERVICES,
  SOCKETS_NETNS,
  STRANGER,
  UPLINKS,
} from "./places.ts";
import type { Twin } from "./twin.ts";
import { deviceOf, type World } from "./world.ts";

/** Where the rows of one service port begin. */
const RING_ROWS = 8;
/** Between two of the steps by which everything becomes older. */
const AFFINITY_JIFFIES = 31_000;
const BACKEND_ROWS = 10;

export interface Stage {
  readonly world: World;
  readonly twin: Twin;
  readonly jiffies: number;
}

type TakePorts = Extract<StateEvent, { kind: "take ports" }>;

export const serviceId = (service: number): number => service + 1;
const counterOf = (service: number, pod: number): number => 1 + service * PODS.length + pod;
const isLocal = (node: NodeIndex, pod: number): boolean =>
  PODS_OF_NODE[node].some((local) => local === pod);

function keysOf(twin: Twin, service: number) {
  const { address, port, protocol } = SERVICE_PORTS[service] ?? SERVICE_PORTS[0];
  if (address === AT_NODES) {
    return {
      service: { address: twin.nobody, port, protocol, kind: KIND.nodePort },
      internal: { address: twin.nobody, port, protocol, kind: KIND.internal },
      address: undefined,
    };
  }
  const at = { address: twin.address(SERVICES[address] ?? ANY_IPV4) };
  return {
    service: { ...at, port, protocol, kind: KIND.service },
    internal: { ...at, port, protocol, kind: KIND.internal },
    address: { ...at, port: 0, protocol: 0, kind: KIND.address },
  };
}

function isThere(
  twin: Twin,
  { address, port, protocol, kind }: Omit<Frontend, "spill" | "service">,
): boolean {
  return twin.model.frontend(address, port, protocol, kind) !== undefined;
}

function removeService(twin: Twin, service: number): void {
  const id = serviceId(service);
  const { tables } = twin.model;
  twin.removeFrontend(keysOf(twin, service).service);
  twin.removeFrontend(keysOf(twin, service).internal);
  for (const key of [...tables.targets.keys()]) {
    const [owner, pod] = parsePairKey(key);
    if (owner === id) twin.putTarget(id, pod, undefined);
  }
  for (const key of [...tables.formerOwners.keys()]) {
    const [owner, slot] = parsePairKey(key);
    if (owner === id) twin.putFormerOwners(id, Number(slot), undefined);
  }
  twin.putSourceRanges(id, []);
  const others = SERVICE_PORTS.some(
    (other, index) =>
      index !== service &&
      other.address === SERVICE_PORTS[service]?.address &&
      isThere(twin, keysOf(twin, index).service),
  );
  const { address } = keysOf(twin, service);
  if (!others && address !== undefined) twin.removeFrontend(address);
}

function putService({ twin, jiffies }: Stage, event: ServiceEvent): void {
  const { service, node, backends, ring, broken } = event;
  const { limits } = twin.model;
  removeService(twin, service);
  const keys = keysOf(twin, service);
  const id = serviceId(service);
  const row = broken === "row" ? limits.services : service;
  if (keys.address !== undefined && !isThere(twin, keys.address)) {
    twin.putFrontend({ ...keys.address, service: 0 });
  }
  twin.putFrontend({ ...keys.service, service: row });
  if (event.internal !== undefined) {
    twin.putFrontend({ ...keys.internal, service: event.internal });
  }
  const port = SERVICE_PORTS[service]?.podPort ?? 0;
  backends.forEach((pod, index) => {
    twin.putBackend(service * BACKEND_ROWS + index, {
      address: twin.address(PODS[pod] ?? ANY_IPV4),
      port,
      nexthop: broken === "nexthop" ? limits.nexthops : pod,
      counter: counterOf(service, pod),
      flags: isLocal(node, pod) ? BACKEND.local : 0,
    });
  });
  const indexes = broken === "slots" ? ring.map((one) => one + 1) : ring;
  twin.putRing(service * RING_ROWS, indexes);
  for (const { slot, owners } of event.former) {
    const addresses = owners.map((pod) => twin.address(PODS[pod] ?? ANY_IPV4));
    twin.putFormerOwners(id, slot, addresses);
  }
  for (const pod of event.targets) {
    const flags = backends.includes(pod) ? 1 : 0;
    twin.putTarget(id, twin.address(PODS[pod] ?? ANY_IPV4), {
      port,
      flags,
      counter: counterOf(service, pod),
    });
  }
  const listed = (event.sources?.listed ?? []).flatMap((one) => PREFIXES_OF_CLIENTS[one] ?? []);
  twin.putSourceRanges(
    id,
    listed.map((one) => twin.prefix(one)),
  );
  if (broken === "row") return;
  twin.putService(service, {
    id,
    ring: broken === "ring" ? limits.rings - 1 : service * RING_ROWS,
    ringSize: ring.length,
    backends: broken === "backends" ? limits.backends - 1 : service * BACKEND_ROWS,
    backendCount: backends.length,
    flags:
      (event.encapsulateFirst ? SERVICE.encapsulateFirst : 0) |
      (event.snat ? SERVICE.snat : 0) |
      (event.wasOther ? (event.snat ? SERVICE.wasDsr : SERVICE.wasSnat) : 0) |
      (event.affinity ? SERVICE.affinity : 0) |
      (event.random ? SERVICE.random : 0) |
      (event.lately ? SERVICE.lately : 0) |
      (event.reject ? SERVICE.reject : 0) |
      sourceFlags(event) |
      (event.former.length > 0 ? SERVICE.formerOwners : 0),
    changed: (jiffies - event.changedJiffiesAgo) >>> 0,
    affinityAge: AFFINITY_JIFFIES,
  });
}

function sourceFlags({ sources }: ServiceEvent): number {
  if (sources === undefined) return 0;
  return SERVICE.sourceRanges | (sources.deny ? SERVICE.sourceDeny : 0);
}

function putNodeAddress(twin: Twin, event: Extract<StateEvent, { kind: "node address" }>): void {
  const { of, index, whose } = event;
  const address = twin.address((of === "nodes" ? NODES : SERVICES)[index] ?? ANY_IPV4);
  const key = { address, port: 0, protocol: 0, kind: KIND.node };
  twin.removeFrontend(key);
  if (whose !== 0) twin.putFrontend({ ...key, service: whose });
}

function forget(twin: Twin, event: Extract<StateEvent, { kind: "forget" }>): void {
  const keys = [...twin.model.tables.conntrack.keys()].sort();
  const text = keys[event.pick % Math.max(1, keys.length)];
  const flow = text === undefined ? undefined : twin.model.tables.conntrack.get(text);
  if (text === undefined || flow === undefined) return;
  const { protocol } = parseFlowKey(text);
  if (event.half !== "reply") {
    twin.putFlow(
      {
        source: flow.client,
        destination: flow.serviceAddress,
        sourcePort: flow.clientPort,
        destinationPort: flow.servicePort,
        protocol,
        direction: DIRECTION.request,
      },
      undefined,
    );
  }
  if (event.half !== "request") {
    twin.putFlow(
      {
        source: flow.pod,
        destination: flow.aliasAddress,
        sourcePort: flow.podPort,
        destinationPort: flow.aliasPort,
        protocol,
        direction: DIRECTION.reply,
      },
      undefined,
    );
  }
}

function clientOf(twin: Twin, { client, inside }: TakePorts): Address {
  return twin.address((inside ? PODS : CLIENTS)[client] ?? ANY_IPV4);
}

/** Ports that a flow could have, in the order in which they are tried. */
function candidates(twin: Twin, event: TakePorts): number[] {
  const { address, port, protocol } = SERVICE_PORTS[event.service] ?? SERVICE_PORTS[0];
  const { clientPort } = event;
  if (protocol === PROTOCOL.sctp) return [clientPort];
  const tuple = {
    client: clientOf(twin, event),
    clientPort,
    service: twin.address(
      (address === AT_NODES ? NODES[event.node] : SERVICES[address]) ?? ANY_IPV4,
    ),
    servicePort: port,
    protocol,
  };
  const { hashSeed, natPortMin } = twin.model.config;
  const { low } = hashOf(tuple, hashSeed);
  if (!event.snat) {
    const others = Array.from({ length: 8 }, (_, i) => 32768 | ((low + i * 4099) & 0x7fff));
    return [clientPort, ...others];
  }
  const others = Array.from({ length: 32 }, (_, i) => {
    const spread = (low + i * 4099) & 0xffff;
    return natPortMin + Math.floor((spread * (65536 - natPortMin)) / 65536);
  });
  return clientPort < natPortMin ? others : [clientPort, ...others];
}

function takePorts({ twin, jiffies }: Stage, event: TakePorts): void {
  const { port, protocol, podPort } = SERVICE_PORTS[event.service] ?? SERVICE_PORTS[0];
  const client = clientOf(twin, event);
  const pod = twin.address(PODS[event.pod] ?? ANY_IPV4);
  const { clientPort } = event;
  for (const aliasPort of candidates(twin, event).slice(0, event.ports)) {
    const flow = {
      client,
      serviceAddress: twin.address(STRANGER),
      pod,
      clientPort,
      servicePort: port,
      podPort,
      aliasAddress: event.snat ? twin.model.config.nodeAddress : client,
      aliasPort,
      service: serviceId(event.service),
      nexthop: 0,
      nexthopGeneration: 0,
      counter: 0,
      created: jiffies,
      seen: jiffies,
      flags: event.flags | (event.snat ? FLOW.snat : 0),
      packets: 0,
      bytes: 0,
    };
    const room = twin.model.limits.conntrack - twin.model.tables.conntrack.size;
    if (room > 0) twin.putFlow(replyKeyOf(flow, protocol), flow);
  }
}

/** A pod, or an address that stands for the node's own. */
function endpointOf(
  world: World,
  { pod, itself, sockets }: Extract<StateEvent, { kind: "endpoint" }>,
): Endpoint {
  if (itself) return { ifindex: 0, netns: -1, podMac: 0, nodeMac: 0 };
  return {
    ifindex: deviceOf(world, podDevice(pod)),
    netns: sockets ? SOCKETS_NETNS : -1,
    podMac: podMac(pod),
    nodeMac: nodeMac(pod),
  };
}

function putNexthop(stage: Stage, event: Extract<StateEvent, { kind: "nexthop" }>): void {
  const { world, twin } = stage;
  const gateway = GATEWAYS[event.uplink];
  twin.putNexthop(event.pod, {
    ifindex: deviceOf(world, UPLINKS[event.uplink]),
    mtu: event.mtu,
    flags:
      (event.resolved ? NEXTHOP.resolved | (event.edge ? NEXTHOP.edge : 0) : 0) |
      (event.generation << GENERATION_SHIFT),
    destination: gateway.mac ?? 0,
    source: 0x020000000300 + event.uplink,
    gateway: twin.address(gateway.address),
    outerSource: twin.address(NODES[event.outerSource] ?? ANY_IPV4),
    peer: twin.address(NODES[event.peer] ?? ANY_IPV4),
  });
  const peer = NODES[event.peer];
  twin.putPeer(
    twin.address(PODS[event.pod] ?? ANY_IPV4),
    peer === undefined ? undefined : twin.address(peer),
  );
}

export function applyState(stage: Stage, event: ServiceEvent | StateEvent): void {
  const { world, twin } = stage;
  switch (event.kind) {
    case "crowd":
      for (const port of event.ports) {
        const address = twin.address(STRANGER);
        twin.putFrontend({ address, port, protocol: 6, kind: KIND.service, service: 0 });
      }
      for (const port of event.own) {
        const address = twin.model.config.nodeAddress;
        twin.putFrontend({ address, port, protocol: 6, kind: KIND.service, service: 0 });
      }
      return;
    case "node address":
      putNodeAddress(twin, event);
      return;
    case "service":
      putService(stage, event);
      return;
    case "take ports":
      takePorts(stage, event);
      return;
    case "no service":
      removeService(twin, event.service);
      return;
    case "endpoint":
      twin.putEndpoint(
        twin.address(PODS[event.pod] ?? ANY_IPV4),
        event.there ? endpointOf(world, event) : undefined,
      );
      return;
    case "nexthop":
      putNexthop(stage, event);
      return;
    case "trust":
      twin.putTrusted(
        event.prefixes.map(({ prefix, kind }) => {
          const { address = ANY_IPV4, length = 0 } = PREFIXES[prefix] ?? {};
          return { ...twin.prefix({ address, length }), kind };
        }),
      );
      return;
    case "age":
      twin.age(event.jiffies);
      return;
    case "forget":
      forget(twin, event);
      return;
    case "flood":
      twin.forgetPieces();
      return;
    case "restart":
      twin.real.restart();
      return;
  }
}
