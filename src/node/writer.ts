// SPDX-License-Identifier: Apache-2.0
import { isIpv4 } from "../net/address.ts";
import { formatPrefix, hostPrefix, type Prefix } from "../net/prefix.ts";
import { createTable, type ReadTable } from "../state/table.ts";
import type { Node, TrustedSource } from "./rows.ts";

/** The one writer of nodes, and of who is trusted to send encapsulated packets. */
export interface NodeWriter {
  readonly nodes: ReadTable<string, Node, "address">;
  readonly trusted: ReadTable<string, TrustedSource>;
  put(node: Node): void;
  delete(name: string): void;
  /** Replaces the prefixes that the configuration trusts besides the nodes. */
  trustPrefixes(prefixes: readonly Prefix[]): void;
}

export function createNodeWriter(): NodeWriter {
  const nodes = createTable<string, Node, "address">({
    name: "nodes",
    key: ({ name }) => name,
    indexes: { address: ({ addresses }) => addresses },
  });
  const trusted = createTable<string, TrustedSource>({ name: "trusted", key: ({ key }) => key });
  let configured: ReadonlyMap<string, Prefix> = new Map();

  /** A node's address is trusted as a node's, whatever the configuration says of it. */
  const settle = (prefix: Prefix): void => {
    const key = formatPrefix(prefix);
    const isWhole = prefix.length === (isIpv4(prefix.address) ? 32 : 128);
    const isNode = isWhole && nodes.hasBy("address", prefix.address);
    if (!isNode && !configured.has(key)) {
      trusted.delete(key);
      return;
    }
    const trust = isNode ? "node" : "load-balancer";
    if (trusted.get(key)?.trust !== trust) trusted.set({ key, prefix, trust });
  };
  const settleNode = (node: Node | undefined): void => {
    for (const address of node?.addresses ?? []) settle(hostPrefix(address));
  };
  return {
    nodes,
    trusted,
    put(node) {
      const before = nodes.get(node.name);
      nodes.set(node);
      settleNode(before);
      settleNode(node);
    },
    delete(name) {
      const before = nodes.get(name);
      nodes.delete(name);
      settleNode(before);
    },
    trustPrefixes(prefixes) {
      const before = configured;
      configured = new Map(prefixes.map((prefix) => [formatPrefix(prefix), prefix]));
      for (const prefix of [...configured.values(), ...before.values()]) settle(prefix);
    },
  };
}
