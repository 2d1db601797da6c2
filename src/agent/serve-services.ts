// SPDX-License-Identifier: Apache-2.0

// Services as the API shows them.

import {
  type Backend as ApiBackend,
  type ServicePort as ApiPort,
  type Service as ApiService,
  type Traffic as ApiTraffic,
  type ServiceBackend,
  type Sync,
  SyncState,
} from "../api/gen/ciliate.ts";
import type { AgentHandlers } from "../api/server.ts";
import type { TrafficCount } from "../datapath/metrics.ts";
import {
  type Backend,
  objectKey,
  type Service,
  type ServicePort,
  type ServicePortSpec,
  servicePortKey,
} from "../lb/rows.ts";
import { formatIpv4 } from "../net/address.ts";
import type { Services } from "./services.ts";

/** Answers the calls that read services. */
export function createServiceHandlers(
  services: Services,
): Pick<AgentHandlers, "listServices" | "listBackends"> {
  return {
    *listServices({ namespace, name, backends }) {
      const refused = new Map([...services.lb.refusals()].map(({ id, text }) => [id, text]));
      for (const service of selectServices(services, namespace, name)) {
        const sync = syncOf(services, service, refused);
        yield { ...describeService(services, service, backends), sync };
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
  if (namespace !== "" && name !== "") {
    const service = lb.services.get(objectKey(namespace, name));
    if (service !== undefined) yield service;
    return;
  }
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
): Omit<ApiService, "sync"> {
  const { manifests } = services;
  const origin = manifests.origin(`Service ${service.key}`);
  return {
    namespace: service.namespace,
    name: service.name,
    type: "LoadBalancer",
    addresses: service.addresses.map(formatIpv4),
    ports: service.ports.map((spec) => describePort(services, service, spec, backends)),
    source: origin === undefined ? "api" : `${origin.file}:${origin.line}`,
  };
}

function describePort(
  { lb, traffic }: Services,
  { key }: Service,
  spec: ServicePortSpec,
  withBackends: boolean,
): ApiPort {
  const row = lb.ports.get(servicePortKey(key, spec.port, spec.protocol));
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
  };
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
    address: formatIpv4(address),
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
  { key }: Service,
  refused: ReadonlyMap<string, string>,
): Sync {
  const refusal = refused.get(`Service ${key}`);
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
