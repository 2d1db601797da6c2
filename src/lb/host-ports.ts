// SPDX-License-Identifier: Apache-2.0
// Host ports of pods of this node, as services with one backend each.

import type { Endpoint, HostPort } from "../endpoint/rows.ts";
import { formatIpv4, type Ipv4 } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import type { Cursor, ReadTable } from "../state/table.ts";
import { DEFAULT_POLICY, type EndpointSlice, HOST_PORT_TYPE, type Service } from "./rows.ts";
import { DEFAULT_WEIGHT } from "./shape/slice.ts";
import type { LbWriter } from "./writer.ts";

export interface HostPortOptions {
  /** This node's name. */
  readonly node: string;
  readonly endpoints: ReadTable<string, Endpoint, "node">;
  readonly addresses: ReadTable<number, NodeAddressRow>;
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
  readonly slice: EndpointSlice;
}

const LOOPBACK = 127;

export function createHostPorts(options: HostPortOptions): HostPorts {
  const { endpoints, addresses, node, writer } = options;
  /** Keys of services by pod. */
  const made = new Map<string, readonly string[]>();
  const settle = (key: string): void => {
    const pod = endpoints.get(key);
    const wanted = pod?.node === node ? hostPortRows(pod, [...addresses.rows()]) : [];
    const keys = wanted.map(({ service }) => service.key);
    for (const old of made.get(key) ?? []) {
      if (keys.includes(old)) continue;
      writer.deleteService(old);
      writer.deleteSlice(old);
    }
    if (keys.length === 0) made.delete(key);
    else made.set(key, keys);
    for (const { service, slice } of wanted) {
      writer.putSlice(slice);
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
  const addressRows: Cursor<number, NodeAddressRow> = addresses.cursor(follow);
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
    const found = addressesOf(address, node);
    if (found.addresses.length + found.clusterAddresses.length === 0) return [];
    const [namespace = "", name = ""] = pod.key.split("/");
    const at = address === undefined ? "" : `@${formatIpv4(address)}`;
    const key = `hostport:${pod.key}${at}`;
    const identity = { key, namespace, name, type: HOST_PORT_TYPE, ...found };
    const unsaid = { healthCheckPort: 0, ringSize: undefined, createdMs: undefined };
    const service = { ...identity, ports: ports.map(portOf), policy: DEFAULT_POLICY, ...unsaid };
    return [{ service, slice: sliceOf(pod, key, ports) }];
  });
}

/** Those of the node that the host ports want; loopback addresses are for the node alone. */
function addressesOf(
  wanted: Ipv4 | undefined,
  node: readonly NodeAddressRow[],
): Pick<Service, "addresses" | "clusterAddresses"> {
  if (wanted !== undefined && wanted >>> 24 === LOOPBACK) {
    return { addresses: [], clusterAddresses: [wanted] };
  }
  const addresses = node
    .filter(({ address, own, served }) =>
      wanted === undefined ? served : own && address === wanted,
    )
    .map(({ address }) => address);
  return { addresses: addresses.sort((a, b) => a - b), clusterAddresses: [] };
}

const nameOf = ({ port, protocol }: HostPort): string => `${port}-${protocol}`;

function portOf(hostPort: HostPort): Service["ports"][number] {
  const { port, protocol } = hostPort;
  return { name: nameOf(hostPort), port, protocol, nodePort: 0 };
}

function sliceOf(
  { address, node }: Endpoint,
  key: string,
  hostPorts: readonly HostPort[],
): EndpointSlice {
  const ports = hostPorts.map((one) => ({
    name: nameOf(one),
    port: one.podPort,
    protocol: one.protocol,
  }));
  const ready = { ready: true, serving: true, terminating: false };
  return {
    key,
    service: key,
    ports,
    endpoints: [{ address, ...ready, node, weight: DEFAULT_WEIGHT }],
  };
}
