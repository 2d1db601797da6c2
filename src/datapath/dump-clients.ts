// SPDX-License-Identifier: Apache-2.0
// What the pinned tables know of clients: who is translated, who is remembered, who may come.

import { readJiffies, secondsSince } from "../kernel/jiffies.ts";
import { namespaceCookie } from "../kernel/netns.ts";
import {
  type Address,
  compareAddress,
  formatAddress,
  formatAddressPort,
  type Ipv4,
  isIpv4,
} from "../net/address.ts";
import { comparePrefix, formatPrefix, prefixOf } from "../net/prefix.ts";
import { eachFrontend } from "./dump.ts";
import {
  FlowDirection,
  FlowFlag,
  flowFlagNames,
  maps,
  type Service,
  ServiceFlag,
} from "./gen/abi.ts";
import {
  type FamilyTables,
  familiesIn,
  namesOf,
  openPinned,
  openRows,
  protocolName,
} from "./pinned.ts";

/** A flow whose client the pod sees under an address of this node. */
export interface NatDump {
  readonly protocol: string;
  readonly client: string;
  readonly service: string;
  readonly pod: string;
  /** The client's address and port as the pod sees them. */
  readonly as: string;
  readonly flags: readonly string[];
  readonly ageSeconds: number;
  readonly idleSeconds: number;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** A client that is kept with its pod. */
export interface AffinityDump {
  /** The service port's id. */
  readonly service: number;
  /** One of its frontends, "" for a service that is gone. */
  readonly frontend: string;
  /** An address, or `netns COOKIE` for whoever connects in a namespace of this node. */
  readonly client: string;
  readonly pod: string;
  /** Since the client last began a connection. */
  readonly idleSeconds: number;
  /** How long that is remembered; 0 for a service that is gone. */
  readonly keptSeconds: number;
}

/** A prefix of clients that a service lets in, or doesn't. */
export interface SourceRangeDump {
  readonly service: number;
  readonly frontend: string;
  readonly policy: "allow" | "deny";
  readonly prefix: string;
}

/** Every flow with SNAT, by its entry of the request's direction. */
export function* dumpNat(directory: string): Generator<NatDump> {
  const jiffies = readJiffies();
  for (const family of familiesIn(directory)) {
    using conntrack = openPinned(directory, family.conntrack);
    for (const [key, flow] of conntrack.entries()) {
      if (key.direction !== FlowDirection.request || (flow.flags & FlowFlag.snat) === 0) continue;
      yield {
        protocol: protocolName(key.protocol),
        client: formatAddressPort(flow.client, flow.clientPort),
        service: formatAddressPort(flow.serviceAddress, flow.servicePort),
        pod: formatAddressPort(flow.pod, flow.podPort),
        as: formatAddressPort(flow.aliasAddress, flow.aliasPort),
        flags: namesOf(flow.flags & ~FlowFlag.snat, flowFlagNames),
        ageSeconds: secondsSince(flow.created, jiffies),
        idleSeconds: secondsSince(flow.seen, jiffies),
        packets: flow.packets,
        bytes: flow.bytes,
      };
    }
  }
}

/** Every client that is remembered, also for longer than its service wants. */
export function* dumpAffinities(directory: string): Generator<AffinityDump> {
  const jiffies = readJiffies();
  const known = namespacesIn(directory);
  for (const family of familiesIn(directory)) {
    using affinities = openPinned(directory, family.affinities);
    const services = servicesById(directory, family);
    for (const [{ service, client }, { pod, seen }] of affinities.entries()) {
      const its = services.get(service);
      yield {
        service,
        frontend: its?.frontend ?? "",
        client: clientText(client, known),
        pod: formatAddress(pod),
        idleSeconds: secondsSince(seen, jiffies),
        keptSeconds: (its?.row.affinityAge ?? 0) / jiffies.perSecond,
      };
    }
  }
}

/**
 * Namespaces by the address of IPv4 as whom affinities know them (bpf/stage/spelling.h): this one,
 * and those with sockets that are translated.
 */
function namespacesIn(directory: string): ReadonlyMap<Address, bigint> {
  const cookies = new Set([namespaceCookie()]);
  for (const family of familiesIn(directory)) {
    using peers = openPinned(directory, family.socketPeers);
    for (const [, { netns }] of peers.entries()) cookies.add(netns);
  }
  return new Map([...cookies].map((cookie) => [namespaceClient(cookie), cookie]));
}

/** 24 bits of a hash, in 0.0.0.0/8. */
export function namespaceClient(cookie: bigint): Ipv4 {
  return Number(BigInt.asUintN(64, cookie * 0x9e3779b97f4a7c15n) >> 40n) as Ipv4;
}

/** Of IPv6 the address ends in the cookie itself; of IPv4 nobody may know any more whose it is. */
export function clientText(client: Address, known: ReadonlyMap<Address, bigint>): string {
  const isNamespace = isIpv4(client) ? client >>> 24 === 0 : client >> 64n === 0n;
  if (!isNamespace) return formatAddress(client);
  const cookie = isIpv4(client) ? known.get(client) : client;
  return cookie === undefined ? `netns of ${formatAddress(client)}` : `netns ${cookie}`;
}

/** Every prefix, services and their prefixes in order. */
export function* dumpSourceRanges(directory: string): Generator<SourceRangeDump> {
  for (const family of familiesIn(directory)) {
    using ranges = openPinned(directory, family.sourceRanges);
    const services = servicesById(directory, family);
    const rows = [...ranges.entries()].map(([{ service, address, prefixLength }]) => ({
      service,
      prefix: prefixOf(address, prefixLength - SERVICE_BITS),
    }));
    rows.sort((a, b) => a.service - b.service || comparePrefix(a.prefix, b.prefix));
    for (const { service, prefix } of rows) {
      const known = services.get(service);
      const denies = ((known?.row.flags ?? 0) & ServiceFlag.sourceDeny) !== 0;
      yield {
        service,
        frontend: known?.frontend ?? "",
        policy: denies ? "deny" : "allow",
        prefix: formatPrefix(prefix),
      };
    }
  }
}

/** The part of a key of source_ranges that is no address. */
const SERVICE_BITS = 32;

interface KnownService {
  readonly frontend: string;
  readonly row: Service;
}

/** Service rows by id, each with the lowest of its frontends. */
function servicesById(directory: string, family: FamilyTables): ReadonlyMap<number, KnownService> {
  using services = openRows(directory, maps.services);
  const frontends = [...eachFrontend(directory, family)].sort(
    (a, b) => compareAddress(a.address, b.address) || a.port - b.port,
  );
  const known = new Map<number, KnownService>();
  for (const { address, port, protocol, service } of frontends) {
    const row = services.at(service);
    const frontend = `${formatAddressPort(address, port)}/${protocolName(protocol)}`;
    if (!known.has(row.id)) known.set(row.id, { frontend, row });
  }
  return known;
}
