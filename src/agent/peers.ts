// SPDX-License-Identifier: Apache-2.0

// On which node a backend is, by that node's address: where Geneve goes, and what a fabric routes
// that knows no pods.

import type { EndpointWriter } from "../endpoint/writer.ts";
import type { ServicePort } from "../lb/rows.ts";
import type { LbWriter } from "../lb/writer.ts";
import { type Address, familyOf } from "../net/address.ts";
import { prefixContains } from "../net/prefix.ts";
import type { Nexthops } from "../node/nexthops.ts";
import type { PeerRow } from "../node/rows.ts";
import type { NodeWriter } from "../node/writer.ts";
import { createTable, type ReadTable } from "../state/table.ts";

export interface PeerTables {
  readonly endpoints: EndpointWriter;
  readonly lb: Pick<LbWriter, "slices">;
  readonly nodes: NodeWriter;
}

/** By its Pod row, else by a slice, else by the nodes' pod prefixes; undefined: nobody says it. */
export function peerOf({ endpoints, lb, nodes }: PeerTables, pod: Address): Address | undefined {
  const ofFamily = (addresses: readonly Address[]): Address | undefined =>
    addresses.find((address) => familyOf(address) === familyOf(pod));
  const named =
    endpoints.endpoints.by("address", pod)[0]?.node ??
    lb.slices
      .by("address", pod)
      .flatMap((slice) => slice.endpoints)
      .find(({ address, node }) => address === pod && node !== "")?.node;
  if (named !== undefined) return ofFamily(nodes.nodes.get(named)?.addresses ?? []);
  for (const { podPrefixes, addresses } of nodes.nodes.rows()) {
    if (podPrefixes.some((prefix) => prefixContains(prefix, pod))) return ofFamily(addresses);
  }
  return undefined;
}

/** Keeps ways leading to the nodes on which backends are; gives what ends it. */
export function followPeers(tables: PeerTables, nexthops: Nexthops): () => void {
  let scheduled = false;
  const lead = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      nexthops.lead((pod) => peerOf(tables, pod));
    });
  };
  const ends = [
    follow(tables.nodes.nodes, lead),
    follow(tables.endpoints.endpoints, lead),
    follow(tables.lb.slices, lead),
  ];
  return () => ends.forEach((end) => void end());
}

interface Followed<Row> {
  cursor(wake: () => void): {
    take(): { readonly row: Row | undefined } | undefined;
    close(): void;
  };
}

/** Tells that a table has changed, and each of its rows that has; gives what ends it. */
function follow<Row>(
  table: Followed<Row>,
  changed: () => void,
  each: (row: Row) => void = () => undefined,
): () => void {
  const cursor = table.cursor(() => {
    for (let change = cursor.take(); change !== undefined; change = cursor.take()) {
      if (change.row !== undefined) each(change.row);
    }
    changed();
  });
  return () => cursor.close();
}

/** Who may be asked about a service port's flows, or knows of one. */
function podsOf({ backends, draining, former }: ServicePort): Address[] {
  const pods = [...backends, ...draining].map(({ address }) => address);
  return [...pods, ...(former?.owners ?? [])];
}

/** Which pods of other nodes a packet may go to besides by the ring, and where they are. */
export interface Peers extends Disposable {
  readonly rows: ReadTable<Address, PeerRow>;
}

export interface PeersOptions {
  readonly tables: PeerTables;
  readonly ports: ReadTable<string, ServicePort, "service" | "watched">;
  /** By which the other nodes know this one. */
  readonly own: readonly Address[];
  /** Rows from which on those of pods that nobody names any more go. */
  readonly room: number;
}

/**
 * Follows backends, draining pods and former owners. A pod that no service names any more keeps its
 * row while there is room: flows of other nodes may remember it.
 */
export function createPeers({ tables, ports, own, room }: PeersOptions): Peers {
  const peers = createTable<Address, PeerRow>({ name: "peers", key: ({ pod }) => pod });
  const settle = (pod: Address): void => {
    const at = peerOf(tables, pod);
    // A backend with its node's address is at its node whatever is written in front.
    if (at === undefined || at === pod) return;
    if (own.includes(at)) peers.delete(pod);
    else if (peers.get(pod)?.node !== at) peers.set({ pod, node: at });
  };
  const forget = (): void => {
    if (peers.size < room) return;
    for (const pod of [...peers.keys()]) {
      if (peerOf(tables, pod) === undefined) peers.delete(pod);
    }
  };
  const settleAll = (): void => {
    for (const pod of [...peers.keys()]) settle(pod);
    for (const port of ports.rows()) for (const pod of podsOf(port)) settle(pod);
    forget();
  };
  const settleKnown = (pods: Iterable<Address>): void => {
    for (const pod of pods) if (peers.has(pod)) settle(pod);
  };
  const ends = [
    follow(ports, forget, (port) => podsOf(port).forEach(settle)),
    follow(
      tables.endpoints.endpoints,
      () => undefined,
      ({ addresses }) => settleKnown(addresses),
    ),
    follow(
      tables.lb.slices,
      () => undefined,
      ({ endpoints }) => settleKnown(endpoints.map(({ address }) => address)),
    ),
    follow(tables.nodes.nodes, settleAll),
  ];
  settleAll();
  return {
    rows: peers,
    [Symbol.dispose]: () => ends.forEach((end) => void end()),
  };
}
