// SPDX-License-Identifier: Apache-2.0
// The pinned tables as a person asks for them: read only, with or without an agent.

import { join } from "node:path";
import { possibleCpus } from "../kernel/bpf.ts";
import { readBtf } from "../kernel/btf-load.ts";
import type { TypedMapSpec } from "../kernel/codec.ts";
import { readJiffies, secondsSince } from "../kernel/jiffies.ts";
import { BpfMap } from "../kernel/map.ts";
import { formatIpv4, type Ipv4 } from "../net/address.ts";
import { checkMap } from "./check.ts";
import {
  BackendFlag,
  FlowDirection,
  type Frontend,
  flowFlagNames,
  frontendKindNames,
  maps,
  placeNames,
  type Service,
  serviceFlagNames,
  verdictNames,
} from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";
import { type CountersReader, openCounters, openMetrics } from "./metrics.ts";
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

/** The rows of a mapped array, decoded one by one as they are asked for. */
interface Rows<V> extends Disposable {
  readonly count: number;
  at(index: number): V;
}

function openPinned<K, V>(directory: string, spec: TypedMapSpec<K, V>): TypedMap<K, V> {
  const raw = BpfMap.openPinned(join(directory, spec.name));
  try {
    const { info } = raw;
    const found = checkMap(spec, info, info.btfId === 0 ? undefined : readBtf(info.btfId));
    if (found.kind === "refuse") throw new Error(found.reason);
    if (found.kind === "migrate") {
      throw new Error(`map ${spec.name} is of another version: read it with the program of then`);
    }
    return new TypedMap(raw, spec);
  } catch (error) {
    raw.close();
    throw error;
  }
}

function openRows<V>(directory: string, spec: TypedMapSpec<number, V>): Rows<V> {
  using map = openPinned(directory, spec);
  const mapping = map.raw.mmap({ readOnly: true });
  const view = new DataView(mapping.buffer);
  const count = map.raw.info.maxEntries;
  return {
    count,
    at(index) {
      if (index < count) return spec.value.decode(view, index * mapping.stride);
      throw new Error(`table ${spec.name} has no row ${index}: it has ${count}`);
    },
    [Symbol.dispose]: () => mapping.close(),
  };
}

/** Every frontend that leads to a service row. */
export function* dumpFrontends(directory: string): Generator<FrontendDump> {
  using services = openRows(directory, maps.services);
  for (const frontend of eachFrontend(directory)) {
    const service = services.at(frontend.service);
    yield {
      frontend: endpoint(frontend.address, frontend.port),
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
  using backends = openRows(directory, maps.backends);
  using nexthops = openRows(directory, maps.nexthops);
  using counters = openPinnedCounters(directory);
  for (const service of eachService(directory)) {
    for (let index = 0; index < service.backendCount; index += 1) {
      const backend = backends.at(service.backends + index);
      const nexthop = nexthops.at(backend.nexthop);
      yield {
        service: service.id,
        index,
        backend: endpoint(backend.address, backend.port),
        local: (backend.flags & BackendFlag.local) !== 0,
        device: nexthop.ifindex,
        gateway: formatIpv4(nexthop.gateway),
        ...(backend.counter === 0 ? NOT_COUNTED : counters.read(backend.counter)),
      };
    }
  }
}

/** For every service, the slots of each of its backends. */
export function* dumpRings(directory: string): Generator<RingDump> {
  using backends = openRows(directory, maps.backends);
  using rings = openRows(directory, maps.rings);
  for (const service of eachService(directory)) {
    for (const [index, slots] of countSlots(rings, service).entries()) {
      const backend = backends.at(service.backends + index);
      yield {
        service: service.id,
        ringSize: service.ringSize,
        backend: endpoint(backend.address, backend.port),
        slots,
        share: slots / service.ringSize,
      };
    }
  }
}

/** Every flow, by its entry of the request's direction. */
export function* dumpFlows(directory: string): Generator<FlowDump> {
  using conntrack = openPinned(directory, maps.conntrack);
  const jiffies = readJiffies();
  for (const [key, flow] of conntrack.entries()) {
    if (key.direction !== FlowDirection.request) continue;
    yield {
      protocol: protocolName(key.protocol),
      client: endpoint(flow.client, flow.clientPort),
      service: endpoint(flow.serviceAddress, flow.servicePort),
      pod: endpoint(flow.pod, flow.podPort),
      flags: namesOf(flow.flags, flowFlagNames),
      ageSeconds: secondsSince(flow.created, jiffies),
      idleSeconds: secondsSince(flow.seen, jiffies),
      packets: flow.packets,
      bytes: flow.bytes,
    };
  }
}

/** Every socket that was translated and is remembered; it may be closed by now. */
export function* dumpSockets(directory: string): Generator<SocketDump> {
  using peers = openPinned(directory, maps.socketPeers);
  const jiffies = readJiffies();
  for (const [key, peer] of peers.entries()) {
    yield {
      protocol: protocolName(key.protocol),
      cookie: key.cookie,
      service: endpoint(peer.serviceAddress, peer.servicePort),
      backend: endpoint(key.backend, key.port),
      id: peer.service,
      netns: peer.netns,
      ageSeconds: secondsSince(peer.created, jiffies),
    };
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

function* eachFrontend(directory: string): Generator<Frontend> {
  using buckets = openRows(directory, maps.frontends);
  for (let index = 0; index < buckets.count; index += 1) {
    for (const frontend of buckets.at(index).slot) {
      if (leadsToService(frontend.kind)) yield frontend;
    }
  }
}

/** Service rows that frontends lead to, each once. */
function* eachService(directory: string): Generator<Service> {
  using services = openRows(directory, maps.services);
  const rows = new Set<number>();
  for (const { service } of eachFrontend(directory)) rows.add(service);
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

function endpoint(address: Ipv4, port: number): string {
  return `${formatIpv4(address)}:${port}`;
}

function protocolName(protocol: number): string {
  if (protocol === 6) return "tcp";
  return protocol === 17 ? "udp" : String(protocol);
}

function namesOf(flags: number, names: { readonly [value: number]: string }): string[] {
  return Object.entries(names)
    .filter(([value]) => (flags & Number(value)) !== 0)
    .map(([, name]) => name);
}
