// SPDX-License-Identifier: Apache-2.0
// What the pinned tables know of clients: who is translated, who is remembered, who may come.

import { readJiffies, secondsSince } from "../kernel/jiffies.ts";
import { compareAddress, formatAddress, formatAddressPort } from "../net/address.ts";
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
  for (const family of familiesIn(directory)) {
    using affinities = openPinned(directory, family.affinities);
    const services = servicesById(directory, family);
    for (const [{ service, client }, { pod, seen }] of affinities.entries()) {
      const known = services.get(service);
      yield {
        service,
        frontend: known?.frontend ?? "",
        client: formatAddress(client),
        pod: formatAddress(pod),
        idleSeconds: secondsSince(seen, jiffies),
        keptSeconds: (known?.row.affinityAge ?? 0) / jiffies.perSecond,
      };
    }
  }
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
