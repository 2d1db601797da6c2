// SPDX-License-Identifier: Apache-2.0

// On which node a backend is, by that node's address: where Geneve goes.

import type { EndpointWriter } from "../endpoint/writer.ts";
import type { LbWriter } from "../lb/writer.ts";
import { type Address, familyOf } from "../net/address.ts";
import { prefixContains } from "../net/prefix.ts";
import type { Nexthops } from "../node/nexthops.ts";
import type { NodeWriter } from "../node/writer.ts";

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
  const follow = (table: {
    cursor(wake: () => void): { take(): unknown; close(): void };
  }): (() => void) => {
    const cursor = table.cursor(() => {
      while (cursor.take() !== undefined);
      lead();
    });
    return () => cursor.close();
  };
  const ends = [
    follow(tables.nodes.nodes),
    follow(tables.endpoints.endpoints),
    follow(tables.lb.slices),
  ];
  return () => ends.forEach((end) => void end());
}
