// SPDX-License-Identifier: Apache-2.0
// What a node's pinned tables say, read from outside: no agent has a part in it.

import {
  type BackendDump,
  dumpBackends,
  dumpFlows,
  dumpFrontends,
  dumpMetrics,
  dumpRings,
  type FlowDump,
} from "../../../src/datapath/dump.ts";
import { TypedMap } from "../../../src/datapath/maps.ts";
import type { TypedMapSpec } from "../../../src/kernel/codec.ts";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../../src/lab/plan.ts";
import { until } from "../../../src/lab/process.ts";
import { type Family, formatAddressPort } from "../../../src/net/address.ts";

const METRICS_PORT = 9962;
const IN_FORCE_LIMIT_MS = 60_000;

/** Where a node's tables are pinned. */
export function pinsOf(lab: Lab, node: string): string {
  return nodeNamed(lab.plan, node).paths.pins;
}

/** Names of all the lab's nodes. */
export function nodesOf(lab: Lab): string[] {
  return lab.plan.nodes.map(({ place }) => place.name);
}

/** Packets by "place verdict", such as "host sent passed", of one node. */
export function verdictsAt(lab: Lab, node: string): ReadonlyMap<string, number> {
  const counts = [...dumpMetrics(pinsOf(lab, node))];
  return new Map(
    counts.map(({ place, verdict, packets }) => [`${place} ${verdict}`, Number(packets)]),
  );
}

/** The same, of all nodes together. */
export function verdicts(lab: Lab): ReadonlyMap<string, number> {
  const sum = new Map<string, number>();
  for (const node of nodesOf(lab)) {
    for (const [what, packets] of verdictsAt(lab, node)) {
      sum.set(what, (sum.get(what) ?? 0) + packets);
    }
  }
  return sum;
}

/** What has been counted since an earlier reading, without zeros. */
export function since(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Record<string, number> {
  return Object.fromEntries(
    [...after]
      .map(([what, packets]) => [what, packets - (before.get(what) ?? 0)] as const)
      .filter(([, packets]) => packets !== 0),
  );
}

/** What all agents together say of a metric, whatever its labels. */
export async function metric(lab: Lab, name: string): Promise<number> {
  const answers = await Promise.all(
    nodesOf(lab).map((node) => lab.fetch(node, METRICS_PORT, "/metrics")),
  );
  const lines = answers.flatMap((answer) => answer?.body.split("\n") ?? []);
  return lines
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/** The id that a node gave to a frontend like "198.51.100.1:80", undefined if it has none. */
export function serviceId(
  lab: Lab,
  node: string,
  frontend: string,
  protocol = "tcp",
): number | undefined {
  const rows = [...dumpFrontends(pinsOf(lab, node))];
  return rows.find((row) => row.frontend === frontend && row.protocol === protocol)?.id;
}

/** Ids by frontend and protocol. */
export function serviceIds(lab: Lab, node: string): Record<string, number> {
  const rows = [...dumpFrontends(pinsOf(lab, node))];
  return Object.fromEntries(rows.map((row) => [`${row.frontend}/${row.protocol}`, row.id]));
}

/** Slots by "address:port" of each backend in a frontend's ring at a node. */
export function ringOf(lab: Lab, node: string, frontend: string, protocol = "tcp") {
  const id = serviceId(lab, node, frontend, protocol);
  const rows = [...dumpRings(pinsOf(lab, node))].filter(({ service }) => service === id);
  return new Map(rows.map(({ backend, slots }) => [backend, slots]));
}

export function backendsOf(lab: Lab, node: string): BackendDump[] {
  return [...dumpBackends(pinsOf(lab, node))];
}

export function flowsAt(lab: Lab, node: string): FlowDump[] {
  return [...dumpFlows(pinsOf(lab, node))];
}

/** One of a node's tables, through its type. */
export function openTable<K, V>(lab: Lab, node: string, spec: TypedMapSpec<K, V>): TypedMap<K, V> {
  return TypedMap.openPinned(pinsOf(lab, node), spec);
}

/** Every entry of one of a node's tables. */
export function entriesOf<K, V>(lab: Lab, node: string, spec: TypedMapSpec<K, V>) {
  using table = openTable(lab, node, spec);
  return [...table.entries()];
}

/** "ADDRESS:PORT" of a pod. */
export function podEndpoint(lab: Lab, pod: string, port: number, family: Family = "ipv4"): string {
  const node = lab.plan.nodes.find(({ place }) => place.name === pod);
  if (node !== undefined) {
    const { address } = family === "ipv4" ? node.address : node.address6;
    return formatAddressPort(address, port);
  }
  const { address, address6 } = podNamed(lab.plan, pod);
  return formatAddressPort(family === "ipv4" ? address : address6, port);
}

/** Waits until nodes balance a frontend over exactly these "address:port" backends. */
export async function untilBalanced(
  lab: Lab,
  frontend: string,
  backends: readonly string[],
  nodes: readonly string[] = nodesOf(lab),
  protocol = "tcp",
): Promise<void> {
  const wanted = [...backends].sort().join();
  for (const node of nodes) {
    const what = `${frontend} on ${node} to lead to ${backends.length} backends`;
    await until(what, IN_FORCE_LIMIT_MS, () => {
      if (serviceId(lab, node, frontend, protocol) === undefined) return false;
      return [...ringOf(lab, node, frontend, protocol).keys()].sort().join() === wanted;
    });
  }
}

/** Waits until a node has no such frontend. */
export async function untilGone(lab: Lab, frontend: string, protocol = "tcp"): Promise<void> {
  for (const node of nodesOf(lab)) {
    await until(`${frontend} to go from ${node}`, IN_FORCE_LIMIT_MS, () => {
      return serviceId(lab, node, frontend, protocol) === undefined;
    });
  }
}
