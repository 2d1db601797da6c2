// SPDX-License-Identifier: Apache-2.0

// Services as the API shows them.

import {
  type Backend as ApiBackend,
  type Frontend as ApiFrontend,
  type ServicePort as ApiPort,
  type Service as ApiService,
  type Traffic as ApiTraffic,
  type Condition,
  type ServiceBackend,
  type Sync,
  SyncState,
} from "../api/gen/ciliate.ts";
import type { AgentHandlers } from "../api/server.ts";
import type { TrafficCount } from "../datapath/metrics.ts";
import {
  type Backend,
  objectOf,
  type ScopedFrontend,
  type Service,
  type ServicePort,
  type ServicePortSpec,
  scopedFrontends,
  servicePortKey,
} from "../lb/rows.ts";
import { type Address, FAMILIES, formatAddress, isAny } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import { routelessOf, whyRouteless } from "./routeless.ts";
import type { Services } from "./services.ts";

/** Answers the calls that read services. */
export function createServiceHandlers(
  services: Services,
): Pick<AgentHandlers, "listServices" | "listBackends"> {
  return {
    *listServices({ namespace, name, backends }) {
      const refused = new Map([...services.lb.refusals()].map(({ id, text }) => [id, text]));
      const unrouted = services.unrouted();
      for (const service of selectServices(services, namespace, name)) {
        const sync = syncOf(services, service, refused);
        const conditions = conditionsOf(services, service, sync, unrouted);
        yield { ...describeService(services, service, backends), sync, conditions };
      }
    },
    *listBackends({ namespace, service: name }) {
      for (const service of selectServices(services, namespace, name)) {
        yield* describeBackends(services, service);
      }
    },
  };
}

function* selectServices({ lb }: Services, namespace: string, name: string): Generator<Service> {
  for (const service of lb.services.rows()) {
    if (namespace !== "" && service.namespace !== namespace) continue;
    if (name !== "" && service.name !== name) continue;
    yield service;
  }
}

function describeService(
  services: Services,
  service: Service,
  backends: boolean,
): Omit<ApiService, "sync" | "conditions"> {
  const { manifests } = services;
  const { namespace, name, type, addresses, clusterAddresses, policy, healthCheckPort } = service;
  const { affinityMs, sourceRanges } = policy;
  const origin = manifests.origin(objectOf(service));
  return {
    namespace,
    name,
    type,
    addresses: addresses.map(formatAddress),
    clusterAddresses: clusterAddresses.map(formatAddress),
    externalTrafficPolicy: policy.externalLocal ? "Local" : "Cluster",
    internalTrafficPolicy: policy.internalLocal ? "Local" : "Cluster",
    affinitySeconds: affinityMs / 1000,
    sourceRanges: (sourceRanges ?? []).map(formatPrefix),
    sourceRangesPolicy: sourceRanges === undefined ? "" : policy.sourceDeny ? "deny" : "allow",
    healthCheckNodePort: healthCheckPort,
    ports: service.ports.flatMap((spec) => describeRows(services, service, spec, backends)),
    source: origin === undefined ? "api" : `${origin.file}:${origin.line}`,
  };
}

/** What is well with a service, and what isn't. */
function conditionsOf(
  { lb, healthChecks, dispatch }: Services,
  service: Service,
  sync: Sync,
  unrouted: ReadonlySet<Address>,
): Condition[] {
  const conditions = [condition("Programmed", sync.problem)];
  const rows = lb.ports.by("service", service.key);
  const bare = rows.filter(({ backends }) => backends.length === 0).map(({ key }) => key);
  conditions.push(
    condition("Backends", bare.length === 0 ? "" : `no backend has ${bare.join(", ")}`),
  );
  conditions.push(condition("Routes", whyRouteless(routelessOf(rows, unrouted), dispatch)));
  if (service.healthCheckPort > 0) {
    conditions.push(condition("HealthCheck", healthChecks.problem(service.key) ?? ""));
  }
  return conditions;
}

function condition(name: string, text: string): Condition {
  return { name, ok: text === "", text };
}

/** A port's rows in force, those for clients outside first; the port itself when it has none. */
function describeRows(
  services: Services,
  { key }: Service,
  spec: ServicePortSpec,
  withBackends: boolean,
): ApiPort[] {
  const rows = FAMILIES.flatMap((family) => [
    servicePortKey(key, spec.port, spec.protocol, family, false),
    servicePortKey(key, spec.port, spec.protocol, family, true),
  ])
    .map((row) => services.lb.ports.get(row))
    .filter((row) => row !== undefined)
    .sort((a, b) => Number(isForOutside(b)) - Number(isForOutside(a)));
  if (rows.length === 0) return [describePort(services, spec, undefined, withBackends)];
  return rows.map((row) => describePort(services, spec, row, withBackends));
}

function isForOutside({ addresses, nodePort }: ServicePort): boolean {
  return addresses.length > 0 || nodePort > 0;
}

const FAMILY_WORDS = { ipv4: "IPv4", ipv6: "IPv6" } as const;

function describePort(
  { traffic }: Services,
  spec: ServicePortSpec,
  row: ServicePort | undefined,
  withBackends: boolean,
): ApiPort {
  const active = row?.backends ?? [];
  const all = row === undefined ? [] : [...row.backends, ...row.draining];
  const counted = all.map(({ counter }) => traffic.ofBackend(counter));
  return {
    name: spec.name,
    protocol: spec.protocol.toUpperCase(),
    port: spec.port,
    id: row?.id ?? 0,
    ringSize: row?.ring.length ?? 0,
    backendCount: all.length,
    activeBackends: active.length,
    backends: withBackends && row !== undefined ? describePortBackends(row, counted) : [],
    traffic: describeTraffic(counted),
    frontends: row === undefined ? [] : scopedFrontends(row).map(describeFrontend),
    local: row?.local ?? false,
    mode: row === undefined ? "" : row.snat ? "snat" : "dsr",
    algorithm: row === undefined ? "" : row.random ? "random" : "maglev",
    nodePort: spec.nodePort,
    family: row === undefined ? "" : FAMILY_WORDS[row.family],
  };
}

function describeFrontend({ address, port, inside }: ScopedFrontend): ApiFrontend {
  const scope = inside ? "inside" : "outside";
  return { address: isAny(address) ? "" : formatAddress(address), port, scope };
}

function describePortBackends(row: ServicePort, counted: readonly TrafficCount[]): ApiBackend[] {
  const slots = countSlots(row);
  return [...row.backends, ...row.draining].map((backend, index) => {
    const share = row.ring.length === 0 ? 0 : (slots[index] ?? 0) / row.ring.length;
    return describeBackend(backend, share, counted.slice(index, index + 1));
  });
}

function* describeBackends({ lb, traffic }: Services, service: Service): Generator<ServiceBackend> {
  for (const row of lb.ports.by("service", service.key)) {
    const counted = [...row.backends, ...row.draining].map(({ counter }) =>
      traffic.ofBackend(counter),
    );
    for (const backend of describePortBackends(row, counted)) {
      yield {
        namespace: service.namespace,
        service: service.name,
        portName: row.name,
        protocol: row.protocol.toUpperCase(),
        servicePort: row.port,
        backend,
        local: row.local,
      };
    }
  }
}

function describeBackend(
  { address, port, node, state, local, weight }: Backend,
  share: number,
  counted: readonly TrafficCount[],
): ApiBackend {
  const traffic = describeTraffic(counted);
  return {
    address: formatAddress(address),
    port,
    node,
    condition: state,
    local,
    weight,
    share,
    traffic,
  };
}

function describeTraffic(counted: readonly TrafficCount[]): ApiTraffic {
  const sum = (pick: (count: TrafficCount) => number): bigint =>
    BigInt(counted.reduce((total, count) => total + pick(count), 0));
  return {
    packets: sum(({ packets }) => packets),
    bytes: sum(({ bytes }) => bytes),
    connections: sum(({ connections }) => connections),
  };
}

/** Index of a backend in the ring → slots that it has. */
function countSlots({ ring, backends }: ServicePort): number[] {
  const slots = new Array<number>(backends.length).fill(0);
  for (const index of ring) slots[index] = (slots[index] ?? 0) + 1;
  return slots;
}

/** The worst of a service's ports. */
function syncOf(
  { lb, reconciler }: Services,
  service: Service,
  refused: ReadonlyMap<string, string>,
): Sync {
  const { key } = service;
  const refusal = refused.get(objectOf(service));
  if (refusal !== undefined) return { state: SyncState.FAILED, problem: refusal };
  let pending = false;
  for (const row of lb.ports.by("service", key)) {
    const status = reconciler.status(lb.ports.name, row.key);
    if (status.state === "failed") {
      return { state: SyncState.FAILED, problem: status.failure.error.message };
    }
    pending ||= status.state === "pending";
  }
  return { state: pending ? SyncState.PENDING : SyncState.APPLIED, problem: "" };
}
