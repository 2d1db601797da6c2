// SPDX-License-Identifier: Apache-2.0
// Events that change what a node knows, done to its twin.

import { replyKeyOf } from "../model/flow.ts";
import { flowHash } from "../model/hash.ts";
import { BACKEND, DIRECTION, KIND, NEXTHOP, SERVICE } from "../model/numbers.ts";
import { parseFlowKey } from "../model/tables.ts";
import type { NodeIndex, ServiceEvent, StateEvent } from "./event.ts";
import {
  CLIENTS,
  GATEWAYS,
  NODES,
  nodeMac,
  PODS,
  PODS_OF_NODE,
  PREFIXES,
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
const BACKEND_ROWS = 10;

export interface Stage {
  readonly world: World;
  readonly twin: Twin;
  readonly jiffies: number;
}

export const serviceId = (service: number): number => service + 1;
const counterOf = (service: number, pod: number): number => 1 + service * PODS.length + pod;
const isLocal = (node: NodeIndex, pod: number): boolean =>
  PODS_OF_NODE[node].some((local) => local === pod);

function keysOf(service: number) {
  const { address, port, protocol } = SERVICE_PORTS[service] ?? SERVICE_PORTS[0];
  const at = { address: SERVICES[address] ?? 0 };
  return {
    service: { ...at, port, protocol, kind: KIND.service },
    address: { ...at, port: 0, protocol: 0, kind: KIND.address },
  };
}

function removeService(twin: Twin, service: number): void {
  const id = serviceId(service);
  const { tables } = twin.model;
  twin.removeFrontend(keysOf(service).service);
  for (const key of [...tables.targets.keys(), ...tables.formerOwners.keys()]) {
    const [owner = 0, second = 0] = key.split(" ").map(Number);
    if (owner !== id) continue;
    twin.putTarget(id, second, undefined);
    twin.putFormerOwners(id, second, undefined);
  }
  const others = SERVICE_PORTS.some(
    (other, index) =>
      index !== service &&
      other.address === SERVICE_PORTS[service]?.address &&
      twin.model.findService(SERVICES[other.address] ?? 0, other.port, other.protocol) !==
        undefined,
  );
  if (!others) twin.removeFrontend(keysOf(service).address);
}

function putService({ twin, jiffies }: Stage, event: ServiceEvent): void {
  const { service, node, backends, ring, broken } = event;
  const { limits } = twin.model;
  removeService(twin, service);
  const keys = keysOf(service);
  const id = serviceId(service);
  const row = broken === "row" ? limits.services : service;
  if (!twin.model.isServiceAddress(keys.address.address)) {
    twin.putFrontend({ ...keys.address, service: 0 });
  }
  twin.putFrontend({ ...keys.service, service: row });
  const port = SERVICE_PORTS[service]?.podPort ?? 0;
  backends.forEach((pod, index) => {
    twin.putBackend(service * BACKEND_ROWS + index, {
      address: PODS[pod] ?? 0,
      port,
      nexthop: broken === "nexthop" ? limits.nexthops : pod,
      counter: counterOf(service, pod),
      flags: isLocal(node, pod) ? BACKEND.local : 0,
    });
  });
  const indexes = broken === "slots" ? ring.map((one) => one + 1) : ring;
  twin.putRing(service * RING_ROWS, indexes);
  for (const { slot, owners } of event.former) {
    const addresses = owners.map((pod) => PODS[pod] ?? 0);
    twin.putFormerOwners(id, slot, addresses);
  }
  for (const pod of event.targets) {
    const flags = backends.includes(pod) ? 1 : 0;
    twin.putTarget(id, PODS[pod] ?? 0, { port, flags, counter: counterOf(service, pod) });
  }
  if (broken === "row") return;
  twin.putService(service, {
    id,
    ring: broken === "ring" ? limits.rings - 1 : service * RING_ROWS,
    ringSize: ring.length,
    backends: broken === "backends" ? limits.backends - 1 : service * BACKEND_ROWS,
    backendCount: backends.length,
    flags:
      (event.encapsulateFirst ? SERVICE.encapsulateFirst : 0) |
      (event.former.length > 0 ? SERVICE.formerOwners : 0),
    changed: (jiffies - event.changedJiffiesAgo) >>> 0,
  });
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

function takePorts({ twin, jiffies }: Stage, event: Extract<StateEvent, { kind: "take ports" }>) {
  const { address, port, protocol, podPort } = SERVICE_PORTS[event.service] ?? SERVICE_PORTS[0];
  const client = CLIENTS[event.client] ?? 0;
  const pod = PODS[event.pod] ?? 0;
  const { clientPort } = event;
  const tuple = {
    client,
    clientPort,
    service: SERVICES[address] ?? 0,
    servicePort: port,
    protocol,
  };
  const { low } = flowHash(tuple, twin.model.config.hashSeed);
  const others = Array.from({ length: 8 }, (_, i) => 32768 | ((low + i * 4099) & 0x7fff));
  for (const aliasPort of [clientPort, ...others].slice(0, event.ports)) {
    const flow = {
      client,
      serviceAddress: STRANGER,
      pod,
      clientPort,
      servicePort: port,
      podPort,
      aliasAddress: client,
      aliasPort,
      service: serviceId(event.service),
      created: jiffies,
      seen: jiffies,
      flags: 0,
      packets: 0,
      bytes: 0,
    };
    const room = twin.model.limits.conntrack - twin.model.tables.conntrack.size;
    if (room > 0) twin.putFlow(replyKeyOf(flow, protocol), flow);
  }
}

function putNexthop(stage: Stage, event: Extract<StateEvent, { kind: "nexthop" }>): void {
  const { world, twin } = stage;
  const gateway = GATEWAYS[event.uplink];
  twin.putNexthop(event.pod, {
    ifindex: deviceOf(world, UPLINKS[event.uplink]),
    mtu: event.mtu,
    flags: event.resolved ? NEXTHOP.resolved | (event.edge ? NEXTHOP.edge : 0) : 0,
    destination: gateway.mac ?? 0,
    source: 0x020000000300 + event.uplink,
    gateway: gateway.address,
    outerSource: NODES[event.outerSource] ?? 0,
  });
}

export function applyState(stage: Stage, event: ServiceEvent | StateEvent): void {
  const { world, twin } = stage;
  switch (event.kind) {
    case "crowd":
      for (const port of event.ports) {
        twin.putFrontend({ address: STRANGER, port, protocol: 6, kind: KIND.service, service: 0 });
      }
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
        PODS[event.pod] ?? 0,
        event.there
          ? {
              ifindex: deviceOf(world, podDevice(event.pod)),
              netns: event.sockets ? SOCKETS_NETNS : -1,
              podMac: podMac(event.pod),
              nodeMac: nodeMac(event.pod),
            }
          : undefined,
      );
      return;
    case "nexthop":
      putNexthop(stage, event);
      return;
    case "trust":
      twin.putTrusted(
        event.prefixes.map(({ prefix, kind }) => {
          const { address = 0, length = 0 } = PREFIXES[prefix] ?? {};
          return { address, prefixLength: length, kind };
        }),
      );
      return;
    case "age":
      twin.age(event.jiffies);
      return;
    case "forget":
      forget(twin, event);
      return;
    case "restart":
      twin.real.restart();
      return;
  }
}
