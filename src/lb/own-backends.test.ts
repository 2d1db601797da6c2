// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Address, formatAddress } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import { createTable } from "../state/table.ts";
import { createOwnBackends } from "./own-backends.ts";
import { createBench, ip, service, slice } from "./testing.ts";

/** This node has 10.0.0.1 and 10.0.0.2, another one 10.0.0.3. */
function createScene() {
  const bench = createBench();
  const addresses = createTable<Address, NodeAddressRow>({
    name: "addresses",
    key: ({ address }) => address,
  });
  for (const last of [1, 2, 3]) addresses.set({ address: ip(last), own: last < 3, served: true });
  const { backends } = createOwnBackends({ lb: bench.writer, addresses });
  return {
    ...bench,
    addresses,
    async own(): Promise<string> {
      await bench.settled();
      return [...backends.keys()].map(formatAddress).sort().join();
    },
  };
}

test("this node's addresses count while services for clients outside have them", async () => {
  const { writer, own, addresses } = createScene();
  writer.putSlice(slice("web", ["10.1.0.9", "1@n1", "3@n3"]));
  assert.equal(await own(), "", "a slice without a service");
  writer.putService(service("web"));
  assert.equal(await own(), "10.0.0.1");
  writer.putSlice(slice("web", ["1@n1", "2@n1"]));
  assert.equal(await own(), "10.0.0.1,10.0.0.2");
  addresses.delete(ip(2));
  assert.equal(await own(), "10.0.0.1", "it has the other one no more");
  writer.deleteService("default/web");
  assert.equal(await own(), "");
});

test("who is inside connects to the backend itself", async () => {
  const { writer, own } = createScene();
  const inside = { addresses: [], clusterAddresses: [ip("10.96.0.1")] };
  writer.putSlice(slice("web", ["1@n1"]));
  writer.putService(service("web", inside));
  assert.equal(await own(), "");
  const ports = [{ name: "", port: 80, protocol: "tcp", nodePort: 30_080 }] as const;
  writer.putService(service("web", { ...inside, ports }));
  assert.equal(await own(), "10.0.0.1");
});

test("one that no slice names any more has its connections still", async () => {
  const { writer, own, port } = createScene();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1@n1", "10.1.0.9"]));
  assert.equal(await own(), "10.0.0.1");
  writer.putSlice(slice("web", ["10.1.0.9"]));
  assert.equal(await own(), "10.0.0.1");
  assert.deepEqual(
    port()?.draining.map(({ state, local }) => [state, local]),
    [["left", true]],
  );
});
