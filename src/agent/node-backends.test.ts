// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_POLICY, type ForwardingMode, type Service } from "../lb/rows.ts";
import { createBench, ip, service, slice } from "../lb/testing.ts";
import type { Address } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import { createTable } from "../state/table.ts";
import { nodeBackends } from "./node-backends.ts";

/** This node has 10.0.0.1, others 10.0.0.2 and 10.0.0.3. */
async function told(more: Partial<Service>, ...pods: readonly string[]) {
  const bench = createBench();
  bench.nodes.set({ name: "n1", addresses: [ip(1)], podPrefixes: [] });
  bench.writer.putService(service("web", more));
  bench.writer.putService(service("pods", { addresses: [ip("192.0.2.11")] }));
  bench.writer.putSlice(slice("web", pods));
  bench.writer.putSlice(slice("pods", ["10.1.0.9"], { service: "pods" }));
  await bench.settled();
  const addresses = createTable<Address, NodeAddressRow>({
    name: "addresses",
    key: ({ address }) => address,
  });
  for (const last of [1, 2, 3]) addresses.set({ address: ip(last), own: last === 1, served: true });
  return [...nodeBackends({ lb: bench.writer, addresses })].map(
    ({ id, field, text }) => `${id}: ${field}: ${text}`,
  );
}

const mode = (word: ForwardingMode) => ({ policy: { ...DEFAULT_POLICY, mode: word } });
const says = (who: string, why: string): string =>
  `Service default/web: spec.ports[0]: backend ${who} has the address of a node, and clients ` +
  `outside get no answer from it: ${why}, or run its pod without hostNetwork`;
const others = (who: string): string =>
  says(
    who,
    "a node takes packets of DSR for its pods alone: set " + '"ciliate.io/forwarding-mode: snat"',
  );
const own = (who: string): string =>
  says(who, "in no mode does a node balance to its own address: let another node balance");
const ALL = ["10.1.0.9", "1", "2", "3"];

test("a backend with a node's address is told where DSR would lead to it", async () => {
  const both = [
    others("10.0.0.2:8080 and 1 more of default/web:80/tcp"),
    own("10.0.0.1:8080 of default/web:80/tcp"),
  ];
  assert.deepEqual(await told({}, ...ALL), both);
  assert.deepEqual(await told(mode("hybrid"), ...ALL), both, "hybrid is DSR for TCP");
  assert.deepEqual(await told({}, "10.1.0.9"), []);
});

test("by SNAT, only this node's own address is out of reach", async () => {
  assert.deepEqual(await told(mode("snat"), ...ALL), [own("10.0.0.1:8080 of default/web:80/tcp")]);
  assert.deepEqual(await told(mode("snat"), "2", "3"), []);
});

test("a service for pods and nodes only is none of it, as sockets connect to pods", async () => {
  const inside = { addresses: [], clusterAddresses: [ip("10.96.0.1")] };
  assert.deepEqual(await told(inside, ...ALL), []);
  const [port] = service("web").ports;
  const ports = [{ name: "", port: 80, protocol: "tcp", ...port, nodePort: 30_080 }] as const;
  assert.equal((await told({ ...inside, ports }, ...ALL)).length, 2);
});
