// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIpv4 } from "../net/address.ts";
import { parsePrefix4 } from "../net/prefix.ts";
import { trustedEntries } from "./entries.ts";
import type { Node } from "./rows.ts";
import { createNodeWriter } from "./writer.ts";

function node(name: string, ...addresses: string[]): Node {
  return { name, addresses: addresses.map(parseIpv4), podPrefixes: [] };
}

function trusted(writer: ReturnType<typeof createNodeWriter>): string[] {
  return [...writer.trusted.rows()].map(({ key, trust }) => `${key} ${trust}`).sort();
}

test("a node's addresses are trusted while it has them", () => {
  const writer = createNodeWriter();
  writer.put(node("n1", "172.16.0.1", "172.16.1.1"));
  writer.put(node("n2", "172.16.0.2"));
  assert.deepEqual(trusted(writer), [
    "172.16.0.1/32 node",
    "172.16.0.2/32 node",
    "172.16.1.1/32 node",
  ]);
  writer.put(node("n1", "172.16.0.3"));
  writer.delete("n2");
  assert.deepEqual(trusted(writer), ["172.16.0.3/32 node"]);
});

test("an address that two nodes claim is trusted until the last of them goes", () => {
  const writer = createNodeWriter();
  writer.put(node("n1", "172.16.0.1"));
  writer.put(node("n2", "172.16.0.1"));
  writer.delete("n1");
  assert.deepEqual(trusted(writer), ["172.16.0.1/32 node"]);
  writer.delete("n2");
  assert.deepEqual(trusted(writer), []);
});

test("configured prefixes are balancers', but a node's address stays a node's", () => {
  const writer = createNodeWriter();
  writer.put(node("n1", "172.16.0.1"));
  writer.trustPrefixes(["172.16.0.1/32", "198.51.100.0/24"].map(parsePrefix4));
  assert.deepEqual(trusted(writer), ["172.16.0.1/32 node", "198.51.100.0/24 load-balancer"]);
  writer.delete("n1");
  assert.deepEqual(trusted(writer), [
    "172.16.0.1/32 load-balancer",
    "198.51.100.0/24 load-balancer",
  ]);
  writer.trustPrefixes([]);
  assert.deepEqual(trusted(writer), []);
});

test("a trusted source is one entry by its prefix", () => {
  const prefix = parsePrefix4("198.51.100.0/24");
  assert.deepEqual(trustedEntries({ key: "", prefix, trust: "load-balancer" }), [
    {
      target: "trusted",
      key: { prefixLength: 24, address: parseIpv4("198.51.100.0") },
      value: { kind: 2 },
    },
  ]);
});
