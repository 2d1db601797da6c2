// SPDX-License-Identifier: Apache-2.0
// Host ports of pods of this node, as services with one backend each.

import type { Endpoint, HostPort } from "../endpoint/rows.ts";
import {
  type Address,
  compareAddress,
  type Family,
  familyOf,
  formatAddress,
  isIpv4,
} from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import type { Cursor, ReadTable } from "../state/table.ts";
import { DEFAULT_POLICY, type EndpointSlice, HOST_PORT_TYPE, type Service } from "./rows.ts";
import { DEFAULT_WEIGHT } from "./shape/slice.ts";
import type { LbWriter } from "./writer.ts";

export interface HostPortOptions {
  /** This node's name. */
  readonly node: string;
  readonly endpoints: ReadTable<string, Endpoint, "node">;
  readonly addresses: ReadTable<Address, NodeAddressRow>;
  readonly writer: LbWriter;
}

/** Keeps services as the host ports of this node's pods are. */
export interface HostPorts extends Disposable {
  /** Takes what has changed at once. */
  follow(): void;
}

/** What a host port comes to. */
interface HostPortRows {
  readonly service: Service;
  /** One for each address of the pod. */
  readonly slices: readonly EndpointSlice[];
}

const LOOPBACK = 127;
const LOOPBACK6 = 1n;

export function createHostPorts(options: HostPortOptions): HostPorts {
  const { endpoints, addresses, node, writer } = options;
  /** Keys of services and slices by pod. */
  const made = new Map<string, readonly string[]>();
  const settle = (key: string): void => {
    const pod = endpoints.get(key);
    const wanted = pod?.node === node ? hostPortRows(pod, [...addresses.rows()]) : [];
    const keys = wanted.flatMap(({ service, slices }) =>
      [service, ...slices].map((row) => row.key),
    );
    for (const old of made.get(key) ?? []) {
      if (keys.includes(old)) continue;
      writer.deleteService(old);
      writer.deleteSlice(old);
    }
    if (keys.length === 0) made.delete(key);
    else made.set(key, keys);
    for (const { service, slices } of wanted) {
      for (const slice of slices) writer.putSlice(slice);
      writer.putService(service);
    }
  };
  const follow = (): void => {
    const pods = new Set<string>();
    for (let change = podRows.take(); change !== undefined; change = podRows.take()) {
      const isConcerned = change.row?.hostPorts !== undefined && change.row.node === node;
      if (isConcerned || made.has(change.key)) pods.add(change.key);
    }
    let moved = false;
    while (addressRows.take() !== undefined) moved = true;
    if (moved)
      for (const { key, hostPorts } of endpoints.by("node", node)) if (hostPorts) pods.add(key);
    for (const key of pods) settle(key);
  };
  const podRows: Cursor<string, Endpoint> = endpoints.cursor(follow);
  const addressRows: Cursor<Address, NodeAddressRow> = addresses.cursor(follow);
  return {
    follow,
    [Symbol.dispose]() {
      podRows.close();
      addressRows.close();
    },
  };
}

/** A service and its slice for each address at which a pod has host ports. */
function hostPortRows(pod: Endpoint, node: readonly NodeAddressRow[]): HostPortRows[] {
  const groups = Map.groupBy(pod.hostPorts ?? [], ({ address }) => address);
  return [...groups].flatMap(([address, ports]) => {
    const families = pod.addresses.map(familyOf);
    const found = addressesOf(address, node, families);
    if (found.addresses.length + found.clusterAddresses.length === 0) return [];
    const [namespace = "", name = ""] = pod.key.split("/");
    const at = address === undefined ? "" : `@${formatAddress(address)}`;
    const key = `hostport:${pod.key}${at}`;
    const identity = { key, namespace, name, type: HOST_PORT_TYPE, families, ...found };
    const unsaid = { healthCheckPort: 0, ringSize: undefined, createdMs: undefined };
    const service = { ...identity, ports: ports.map(portOf), policy: DEFAULT_POLICY, ...unsaid };
    return [{ service, slices: slicesOf(pod, key, ports) }];
  });
}

/** Those of the node that the host ports want; loopback addresses are for the node alone. */
function addressesOf(
  wanted: Address | undefined,
  node: readonly NodeAddressRow[],
  families: readonly Family[],
): Pick<Service, "addresses" | "clusterAddresses"> {
  if (wanted !== undefined && isLoopback(wanted)) {
    return { addresses: [], clusterAddresses: families.includes(familyOf(wanted)) ? [wanted] : [] };
  }
  const addresses = node
    .filter(({ address, own, served }) =>
      wanted === undefined ? served : own && address === wanted,
    )
    .map(({ address }) => address)
    .filter((address) => families.includes(familyOf(address)));
  return { addresses: addresses.sort(compareAddress), clusterAddresses: [] };
}

function isLoopback(address: Address): boolean {
  return isIpv4(address) ? address >>> 24 === LOOPBACK : address === LOOPBACK6;
}

const nameOf = ({ port, protocol }: HostPort): string => `${port}-${protocol}`;

function portOf(hostPort: HostPort): Service["ports"][number] {
  const { port, protocol } = hostPort;
  return { name: nameOf(hostPort), port, protocol, nodePort: 0 };
}

function slicesOf(
  { addresses, node }: Endpoint,
  service: string,
  hostPorts: readonly HostPort[],
): EndpointSlice[] {
  const ports = hostPorts.map((one) => ({
    name: nameOf(one),
    port: one.podPort,
    protocol: one.protocol,
  }));
  const ready = { ready: true, serving: true, terminating: false };
  return addresses.map((address) => ({
    key: isIpv4(address) ? service : `${service}/ipv6`,
    service,
    family: familyOf(address),
    ports,
    endpoints: [{ address, ...ready, node, weight: DEFAULT_WEIGHT }],
  }));
}
