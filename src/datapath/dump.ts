// SPDX-License-Identifier: Apache-2.0
// The pinned tables as a person asks for them: read only, with or without an agent.

import { possibleCpus } from "../kernel/bpf.ts";
import { readJiffies, secondsSince } from "../kernel/jiffies.ts";
import { formatAddress, formatAddressPort } from "../net/address.ts";
import {
  BackendFlag,
  FlowDirection,
  type Frontend,
  type Frontend6,
  flowFlagNames,
  frontendKindNames,
  maps,
  placeNames,
  type Service,
  serviceFlagNames,
  verdictNames,
} from "./gen/abi.ts";
import { type CountersReader, openCounters, openMetrics } from "./metrics.ts";
import {
  type FamilyTables,
  familiesIn,
  namesOf,
  openPinned,
  openRows,
  protocolName,
  type Rows,
} from "./pinned.ts";
import { leadsToService } from "./tables/hash.ts";

/** An address and port that packets are looked up by, and the service row it leads to. */
export interface FrontendDump {
  readonly frontend: string;
  /** Who asks for it: service (from outside), internal, or node port (at every node). */
  readonly kind: string;
  readonly protocol: string;
  readonly row: number;
  readonly id: number;
  readonly ringSize: number;
  readonly backends: number;
  readonly flags: readonly string[];
}

/** One backend of one service row, and what this node's balancer sent it. */
export interface BackendDump {
  readonly service: number;
  readonly index: number;
  readonly backend: string;
  readonly local: boolean;
  readonly device: number;
  readonly gateway: string;
  readonly packets: number;
  readonly bytes: number;
  readonly connections: number;
  readonly adopted: number;
}

/** Counter 0 is for all that found no room. */
const NOT_COUNTED = { packets: 0, bytes: 0, connections: 0, adopted: 0 };

/** How many slots of a ring a backend has. */
export interface RingDump {
  readonly service: number;
  readonly ringSize: number;
  readonly backend: string;
  readonly slots: number;
  readonly share: number;
}

/** A flow of this node's pods. */
export interface FlowDump {
  readonly protocol: string;
  readonly client: string;
  readonly service: string;
  readonly pod: string;
  readonly flags: readonly string[];
  readonly ageSeconds: number;
  readonly idleSeconds: number;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** What a socket was translated to. */
export interface SocketDump {
  readonly protocol: string;
  readonly cookie: bigint;
  readonly service: string;
  readonly backend: string;
  /** The service port's id. */
  readonly id: number;
  /** Cookie of the network namespace that the socket is in. */
  readonly netns: bigint;
  readonly ageSeconds: number;
}

/** Packets that met one end at one place. */
export interface MetricDump {
  readonly place: string;
  readonly verdict: string;
  readonly packets: number;
  readonly bytes: number;
}

/** Every frontend that leads to a service row. */
export function* dumpFrontends(directory: string): Generator<FrontendDump> {
  using services = openRows(directory, maps.services);
  const frontends = familiesIn(directory).flatMap((family) => [...eachFrontend(directory, family)]);
  for (const frontend of frontends) {
    const service = services.at(frontend.service);
    yield {
      frontend: formatAddressPort(frontend.address, frontend.port),
      kind: frontendKindNames[frontend.kind]?.replaceAll("_", " ") ?? "unknown",
      protocol: protocolName(frontend.protocol),
      row: frontend.service,
      id: service.id,
      ringSize: service.ringSize,
      backends: service.backendCount,
      flags: namesOf(service.flags, serviceFlagNames),
    };
  }
}

/** Every backend of every service that a frontend leads to. */
export function* dumpBackends(directory: string): Generator<BackendDump> {
  using counters = openPinnedCounters(directory);
  for (const family of familiesIn(directory)) {
    using backends = openRows(directory, family.backends);
    using nexthops = openRows(directory, family.nexthops);
    for (const service of eachService(directory, family)) {
      for (let index = 0; index < service.backendCount; index += 1) {
        const backend = backends.at(service.backends + index);
        const nexthop = nexthops.at(backend.nexthop);
        yield {
          service: service.id,
          index,
          backend: formatAddressPort(backend.address, backend.port),
          local: (backend.flags & BackendFlag.local) !== 0,
          device: nexthop.ifindex,
          gateway: formatAddress(nexthop.gateway),
          ...(backend.counter === 0 ? NOT_COUNTED : counters.read(backend.counter)),
        };
      }
    }
  }
}

/** For every service, the slots of each of its backends. */
export function* dumpRings(directory: string): Generator<RingDump> {
  using rings = openRows(directory, maps.rings);
  for (const family of familiesIn(directory)) {
    using backends = openRows(directory, family.backends);
    for (const service of eachService(directory, family)) {
      for (const [index, slots] of countSlots(rings, service).entries()) {
        const backend = backends.at(service.backends + index);
        yield {
          service: service.id,
          ringSize: service.ringSize,
          backend: formatAddressPort(backend.address, backend.port),
          slots,
          share: slots / service.ringSize,
        };
      }
    }
  }
}

/** Every flow, by its entry of the request's direction. */
export function* dumpFlows(directory: string): Generator<FlowDump> {
  const jiffies = readJiffies();
  for (const family of familiesIn(directory)) {
    using conntrack = openPinned(directory, family.conntrack);
    for (const [key, flow] of conntrack.entries()) {
      if (key.direction !== FlowDirection.request) continue;
      yield {
        protocol: protocolName(key.protocol),
        client: formatAddressPort(flow.client, flow.clientPort),
        service: formatAddressPort(flow.serviceAddress, flow.servicePort),
        pod: formatAddressPort(flow.pod, flow.podPort),
        flags: namesOf(flow.flags, flowFlagNames),
        ageSeconds: secondsSince(flow.created, jiffies),
        idleSeconds: secondsSince(flow.seen, jiffies),
        packets: flow.packets,
        bytes: flow.bytes,
      };
    }
  }
}

/** Every socket that was translated and is remembered; it may be closed by now. */
export function* dumpSockets(directory: string): Generator<SocketDump> {
  const jiffies = readJiffies();
  for (const family of familiesIn(directory)) {
    using peers = openPinned(directory, family.socketPeers);
    for (const [key, peer] of peers.entries()) {
      yield {
        protocol: protocolName(key.protocol),
        cookie: key.cookie,
        service: formatAddressPort(peer.serviceAddress, peer.servicePort),
        backend: formatAddressPort(key.backend, key.port),
        id: peer.service,
        netns: peer.netns,
        ageSeconds: secondsSince(peer.created, jiffies),
      };
    }
  }
}

/** Every place and verdict that a packet has met. */
export function* dumpMetrics(directory: string): Generator<MetricDump> {
  using map = openPinned(directory, maps.metrics);
  using metrics = openMetrics(map.raw);
  for (const { place, verdict, packets, bytes } of metrics.read()) {
    if (packets === 0) continue;
    const name = verdictNames[verdict]?.replaceAll("_", " ") ?? "unknown";
    yield { place: placeNames[place] ?? "unknown", verdict: name, packets, bytes };
  }
}

/** Every frontend of a family that leads to a service row. */
export function* eachFrontend(
  directory: string,
  family: FamilyTables,
): Generator<Frontend | Frontend6> {
  using buckets = openRows(directory, family.frontends);
  for (let index = 0; index < buckets.count; index += 1) {
    for (const frontend of buckets.at(index).slot) {
      if (leadsToService(frontend.kind)) yield frontend;
    }
  }
}

/** Service rows that frontends of a family lead to, each once. */
function* eachService(directory: string, family: FamilyTables): Generator<Service> {
  using services = openRows(directory, maps.services);
  const rows = new Set<number>();
  for (const { service } of eachFrontend(directory, family)) rows.add(service);
  for (const row of rows) yield services.at(row);
}

function countSlots(
  rings: Rows<{ readonly backend: ArrayLike<number> }>,
  { ring, ringSize, backendCount }: Service,
): number[] {
  const slots = new Array<number>(backendCount).fill(0);
  let left = ringSize;
  for (let row = ring; left > 0; row += 1) {
    const { backend } = rings.at(row);
    for (let slot = 0; slot < backend.length && left > 0; slot += 1, left -= 1) {
      const owner = backend[slot] ?? backendCount;
      if (owner < backendCount) slots[owner] = (slots[owner] ?? 0) + 1;
    }
  }
  return slots;
}

function openPinnedCounters(directory: string): CountersReader {
  using map = openPinned(directory, maps.counters);
  return openCounters(map.raw, Math.floor(map.raw.info.maxEntries / possibleCpus()));
}
