// SPDX-License-Identifier: Apache-2.0
import type { Address } from "../net/address.ts";
import { createTable, type ReadTable } from "../state/table.ts";
import type { Endpoint } from "./rows.ts";

/** The one writer of pods. */
export interface EndpointWriter {
  readonly endpoints: ReadTable<string, Endpoint, "address" | "node">;
  put(endpoint: Endpoint): void;
  delete(key: string): void;
  /** Whether a pod with this address is attached to this node. */
  isAttached(node: string, address: Address): boolean;
}

export function createEndpointWriter(): EndpointWriter {
  const endpoints = createTable<string, Endpoint, "address" | "node">({
    name: "endpoints",
    key: ({ key }) => key,
    indexes: {
      address: ({ addresses }) => addresses,
      node: ({ node }) => [node],
    },
  });
  return {
    endpoints,
    put: (endpoint) => endpoints.set(endpoint),
    delete: (key) => void endpoints.delete(key),
    isAttached: (thisNode, address) =>
      endpoints
        .by("address", address)
        .some(({ node, attachment }) => node === thisNode && attachment !== undefined),
  };
}
