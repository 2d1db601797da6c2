// SPDX-License-Identifier: Apache-2.0
// What rows look up in the kernel's tables, and what they put there behind the agent's back.

import assert from "node:assert/strict";
import {
  type Flow,
  FlowDirection,
  FlowFlag,
  type FlowKey,
  type Frontend,
  type Identity,
  type Jiffies,
  NexthopFlag,
  type Port,
  type Service,
  type ServiceId,
} from "../../src/datapath/gen/abi.ts";
import { readJiffies } from "../../src/kernel/jiffies.ts";
import { ANY_IPV4, type Ipv4 } from "../../src/net/address.ts";
import { bucketOf, bucketOf6 } from "../model/hash.ts";
import { widen } from "../wide/address.ts";
import { CLIENT, NEAR, protocolOf, SERVICES } from "./cluster.ts";
import { CLIENT_PORT, type ServiceName } from "./frames.ts";
import type { Stage } from "./stage.ts";

const TCP = 6;
/** By which a header of IPv6 is longer than one of IPv4. */
const HEADER_MORE = 20;
/** Buckets in which a key may stand. */
const FRONTEND_PROBES = 4;
const BITS: readonly (readonly [name: string, bit: number])[] = Object.entries(FlowFlag);

/** Flags of a flow as `confirmed replied`, in the order of their bits. */
function flagText(flow: Flow): string {
  return BITS.flatMap(([name, bit]) => ((flow.flags & bit) !== 0 ? name : [])).join(" ");
}

function entries({ maps }: Stage): readonly (readonly [FlowKey, Flow])[] {
  return [...maps.conntrack.entries()];
}

/** The entries of all flows, one line each: direction, packets, flags. */
export function expectFlows(stage: Stage, ...wanted: readonly string[]): void {
  const lines = entries(stage).map(([key, flow]) => {
    const direction = key.direction === FlowDirection.request ? "request" : "reply";
    const port = flow.aliasPort === flow.clientPort ? "" : ` alias ${flow.aliasPort}`;
    return `${direction} ${flow.packets}${port} ${flagText(flow)}`.trimEnd();
  });
  assert.deepEqual(lines.sort(), wanted.toSorted());
}

/** Sums of counters since the row began: packets, bytes, connections, adopted. */
export function expectCounted(
  { family, maps }: Stage,
  ...[packets = 0, bytes = 0, ...more]: readonly number[]
): void {
  const wanted = [packets, bytes + (family === "ipv6" ? packets * HEADER_MORE : 0), ...more];
  const sums = [0, 0, 0, 0];
  for (const [, { packets, bytes, connections, adopted }] of maps.counters.entries()) {
    [packets, bytes, connections, adopted].forEach((value, field) => {
      sums[field] = (sums[field] ?? 0) + Number(value);
    });
  }
  assert.deepEqual(sums, wanted, "packets, bytes, connections, adopted");
}

/** In jiffies. A change may lie ahead of a CPU whose clock is behind the agent's. */
const AGES = { soon: -500, now: 0, "long ago": 1_000_000 } as const;

/** Lets a service's ring have changed just now, or long ago. */
export function ringChanged(name: ServiceName, when: keyof typeof AGES) {
  return (stage: Stage): undefined => {
    const { maps } = stage;
    const row = serviceRow(stage, name);
    const service = maps.services.lookup(row);
    assert.ok(service);
    const changed = ((readJiffies().now - AGES[when]) >>> 0) as Jiffies;
    maps.services.update(row, { ...service, changed });
    return undefined;
  };
}

/** The row to which a service's frontend leads. */
export function serviceRow({ maps }: Stage, name: ServiceName): number {
  const { address, port } = SERVICES[name];
  for (const [, { slot }] of maps.frontends.entries()) {
    for (const frontend of slot) {
      const same = frontend.address === address && frontend.port === port;
      if (same && frontend.protocol === protocolOf(name)) return frontend.service;
    }
  }
  throw new Error(`service ${name} has no frontend`);
}

/** All that a service may pass on or answer in this window has been. */
export function limitReached(name: ServiceName) {
  return (stage: Stage): undefined => {
    const id = stage.maps.services.lookup(serviceRow(stage, name))?.id ?? 0;
    const since = readJiffies().now as Jiffies;
    stage.maps.limits.update(id, { since, passed: 1_000_000, told: 1_000_000 });
    return undefined;
  };
}

/** A change of a service's ring is being written: its slots' former owners are there already. */
export function ringIsChanging(name: ServiceName, first: Ipv4, second: Ipv4 = ANY_IPV4) {
  return (stage: Stage): (() => void) => {
    const { formerOwners } = stage.maps;
    const id = stage.maps.services.lookup(serviceRow(stage, name))?.id;
    const before = [...formerOwners.entries()].filter(([{ service }]) => service === id);
    const owner = [first, second, ANY_IPV4] as const;
    for (const [slot] of before) formerOwners.update(slot, { owner });
    return () => {
      for (const [slot, owners] of before) formerOwners.update(slot, owners);
    };
  };
}

/** The way to a pod's node leads elsewhere than it did when flows to it were made. */
export function nexthopRaised(pod: Ipv4) {
  return ({ maps }: Stage): (() => void) => {
    const backend = [...maps.backends.entries()].find(([, { address }]) => address === pod)?.[1];
    assert.ok(backend);
    const nexthop = maps.nexthops.lookup(backend.nexthop);
    assert.ok(nexthop);
    const flags = nexthop.flags + NexthopFlag.generation;
    maps.nexthops.update(backend.nexthop, { ...nexthop, flags });
    return () => maps.nexthops.update(backend.nexthop, nexthop);
  };
}

/** Changes the row of a service. */
export function serviceChanged(name: ServiceName, change: Partial<Service>) {
  return (stage: Stage): (() => void) => {
    const row = serviceRow(stage, name);
    const service = stage.maps.services.lookup(row);
    assert.ok(service);
    stage.maps.services.update(row, { ...service, ...change });
    return () => stage.maps.services.update(row, service);
  };
}

/** Adds a frontend that no writer of ours has written. */
export function addFrontend(
  { family, maps }: Pick<Stage, "family" | "maps">,
  frontend: Omit<Frontend, "spill">,
): void {
  const { address, port, protocol, kind } = frontend;
  const mask = maps.frontends.raw.info.maxEntries - 1;
  const rest = [port, protocol, kind, mask] as const;
  const first = family === "ipv4" ? bucketOf(address, ...rest) : bucketOf6(widen(address), ...rest);
  for (let probe = 0; probe < FRONTEND_PROBES; probe++) {
    const index = (first + probe) & mask;
    const [a, b, c, d] = maps.frontends.lookup(index)?.slot ?? [];
    assert.ok(a && b && c && d);
    const slot = [a, b, c, d] as const;
    const free = slot.findIndex((one) => one.kind === 0);
    const put = (at: number): Frontend => {
      const one = slot[at] ?? a;
      return at === free
        ? { ...one, ...frontend }
        : { ...one, spill: free < 0 && at === 3 ? 1 : one.spill };
    };
    maps.frontends.update(index, { slot: [put(0), put(1), put(2), put(3)] });
    if (free >= 0) return;
  }
  assert.fail("there is no room for a frontend");
}

/** Takes a frontend away that was added. */
export function removeFrontend({ maps }: Stage, frontend: Omit<Frontend, "spill">): void {
  const is = (one: Frontend): boolean =>
    one.address === frontend.address &&
    one.port === frontend.port &&
    one.protocol === frontend.protocol &&
    one.kind === frontend.kind;
  for (const [index, { slot }] of [...maps.frontends.entries()]) {
    if (!slot.some(is)) continue;
    const empty = { address: ANY_IPV4, port: 0 as Port, protocol: 0, kind: 0, service: 0 };
    const [a, b, c, d] = slot.map((one) => (is(one) ? { ...one, ...empty } : one));
    assert.ok(a && b && c && d);
    maps.frontends.update(index, { slot: [a, b, c, d] });
  }
}

/** A service's backend on this node has the node's own address: it is no pod. */
export function backendIsNode(pod: Ipv4, node: Ipv4) {
  return ({ maps }: Stage): (() => void) => {
    const rows = [...maps.backends.entries()].filter(([, { address }]) => address === pod);
    assert.ok(rows.length > 0);
    for (const [row, backend] of rows) maps.backends.update(row, { ...backend, address: node });
    return () => {
      for (const [row, backend] of rows) maps.backends.update(row, backend);
    };
  };
}

/** A pod of this node is gone. */
export function podGone(address: Ipv4) {
  return ({ maps }: Stage): (() => void) => {
    const endpoint = maps.endpoints.lookup({ address });
    assert.ok(endpoint);
    maps.endpoints.delete({ address });
    return () => maps.endpoints.update({ address }, endpoint);
  };
}

function strangersFlow(aliasPort: number, pod = NEAR, aliasAddress = CLIENT): Flow {
  return {
    client: CLIENT,
    serviceAddress: ANY_IPV4,
    pod,
    aliasAddress,
    clientPort: CLIENT_PORT as Port,
    servicePort: 1 as Port,
    podPort: 8080 as Port,
    aliasPort: aliasPort as Port,
    service: 1 as ServiceId,
    created: 0 as Jiffies,
    seen: 0 as Jiffies,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: 0,
    clientIdentity: 0 as Identity,
    claimed: 0,
    flags: 0,
    packets: 0n,
    bytes: 0n,
  };
}

/** Other flows to a pod, the near one, use these ports of whom it sees, which is the client. */
export function portsTaken(ports: readonly number[], pod = NEAR, seenAddress = CLIENT) {
  return ({ maps }: Stage): undefined => {
    for (const port of ports) {
      const key = {
        source: pod,
        destination: seenAddress,
        sourcePort: 8080 as Port,
        destinationPort: port as Port,
        protocol: TCP,
        direction: FlowDirection.reply,
      };
      maps.conntrack.update(key, strangersFlow(port, pod, seenAddress));
    }
    return undefined;
  };
}

/** The table of flows has room for so many entries more. */
export function roomFor(entriesLeft: number) {
  return ({ maps }: Stage): undefined => {
    const { maxEntries } = maps.conntrack.raw.info;
    const there = [...maps.conntrack.entries()].length;
    const elements = Array.from({ length: maxEntries - there - entriesLeft }, (_, index) => ({
      key: {
        source: ANY_IPV4,
        destination: index as Ipv4,
        sourcePort: 0 as Port,
        destinationPort: 0 as Port,
        protocol: 0,
        direction: 0,
      },
      value: strangersFlow(0),
    }));
    assert.deepEqual(maps.conntrack.updateAll(elements), []);
    return undefined;
  };
}
