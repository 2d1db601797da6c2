// SPDX-License-Identifier: Apache-2.0
import { createTable, type ReadTable } from "../state/table.ts";
import type { Endpoint } from "./rows.ts";

/** The one writer of pods. */
export interface EndpointWriter {
  readonly endpoints: ReadTable<string, Endpoint, "address" | "node">;
  put(endpoint: Endpoint): void;
  delete(key: string): void;
}

export function createEndpointWriter(): EndpointWriter {
  const endpoints = createTable<string, Endpoint, "address" | "node">({
    name: "endpoints",
    key: ({ key }) => key,
    indexes: {
      address: ({ address }) => [address],
      node: ({ node }) => [node],
    },
  });
  return {
    endpoints,
    put: (endpoint) => endpoints.set(endpoint),
    delete: (key) => void endpoints.delete(key),
  };
}
