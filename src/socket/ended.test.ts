// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { SocketPeer, SocketPeerKey } from "../datapath/gen/abi.ts";
import type { Endpoint } from "../endpoint/rows.ts";
import type { EndpointSlice } from "../lb/rows.ts";
import { ip, slice } from "../lb/testing.ts";
import { type Address, formatIpv4, type Ipv4 } from "../net/address.ts";
import type { Node } from "../node/rows.ts";
import { createSyncGate } from "../state/gate.ts";
import { createTable } from "../state/table.ts";
import { type EndedOptions, followEnded } from "./ended.ts";

/** Longer than is waited for rows to come back. */
const WAITED_MS = 600;
const POD = ip(1);
const OTHER = ip(2);
const PORT = 7;

type PortRow = ReturnType<EndedOptions["ports"]["rows"]> extends Iterable<infer Row> ? Row : never;

/** A socket to each of two pods, by a service port. */
const SOCKETS = [POD, OTHER].map((backend) => ({
  key: { cookie: 1n, backend, port: 8080, protocol: 6 } as SocketPeerKey,
  peer: { netns: 1n, serviceAddress: ip(9), service: PORT, created: 0, servicePort: 80 },
}));

function setUp(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const ports = createTable<string, PortRow>({ name: "ports", key: ({ key }) => key });
  const endpoints = createTable<string, Endpoint, "address">({
    name: "endpoints",
    key: ({ key }) => key,
    indexes: { address: ({ addresses }) => addresses },
  });
  const slices = createTable<string, EndpointSlice, "address">({
    name: "slices",
    key: ({ key }) => key,
    indexes: { address: ({ endpoints: named }) => named.map(({ address }) => address) },
  });
  const nodes = createTable<string, Node>({ name: "nodes", key: ({ name }) => name });
  const complete = createSyncGate();
  const dead = new Set<Address>();
  const closings: string[][] = [];
  /** What happens while it is looked for sockets. */
  const meanwhile = { act: (): void => undefined };
  const follower = followEnded({
    closer: {
      async close(isOver) {
        meanwhile.act();
        await Promise.resolve();
        const over = SOCKETS.filter(({ key, peer }) => isOver(key, peer as SocketPeer));
        closings.push(over.map(({ key }) => formatIpv4(key.backend)));
      },
    },
    ports,
    endpoints,
    slices,
    nodes,
    lives: (address) => !dead.has(address),
    complete,
    settled: () => Promise.resolve(),
    failed: (error) => assert.fail(error),
  });
  t.after(() => follower[Symbol.dispose]());
  const putPort = (more: object = {}): void => {
    ports.set({ key: "default/web:80/tcp", id: PORT, ...more } as unknown as PortRow);
  };
  putPort();
  const putPod = (key: string, address: Ipv4): void => {
    endpoints.set({
      key,
      addresses: [address],
      node: "n1",
      attachment: undefined,
      hostPorts: undefined,
    });
  };
  putPod("default/a", POD);
  putPod("default/b", OTHER);
  slices.set(slice("web", ["1", "2"]));
  /** Lets time pass, and tells whose sockets were closed since the last call. */
  const closed = async (): Promise<string[][]> => {
    await turn();
    t.mock.timers.tick(WAITED_MS);
    await turn();
    return closings.splice(0);
  };
  return { ports, endpoints, slices, nodes, complete, dead, meanwhile, putPort, putPod, closed };
}

async function begin(t: TestContext) {
  const rows = setUp(t);
  rows.complete.complete();
  assert.deepEqual(await rows.closed(), [[]], "what an agent before may have missed");
  return rows;
}

test("nothing is closed before all sources have spoken", async (t) => {
  const { endpoints, slices, complete, dead, closed } = setUp(t);
  await turn();
  endpoints.delete("default/a");
  slices.delete("default/web");
  dead.add(POD);
  assert.deepEqual(await closed(), []);
  complete.complete();
  assert.deepEqual(await closed(), [["10.0.0.1"]]);
});

test("a pod is gone when neither its row nor a slice names it", async (t) => {
  const { endpoints, slices, putPort, closed } = await begin(t);
  endpoints.delete("default/a");
  assert.deepEqual(await closed(), [], "the slice names it");
  slices.set(slice("web", ["2"]));
  putPort({ changed: 1 });
  assert.deepEqual(await closed(), [["10.0.0.1"]]);
  assert.deepEqual(await closed(), []);
});

test("a pod that a slice has let go of and that still runs is not gone", async (t) => {
  const { slices, putPort, closed } = await begin(t);
  slices.set(slice("web", ["2"]));
  putPort({ changed: 1 });
  assert.deepEqual(await closed(), []);
});

test("a row that comes back soon has not gone", async (t) => {
  const { endpoints, slices, putPod, closed } = await begin(t);
  slices.delete("default/web");
  endpoints.delete("default/a");
  await turn();
  putPod("default/renamed", POD);
  assert.deepEqual(await closed(), [[]]);
});

test("a pod and a service that come while it is looked keep their sockets", async (t) => {
  const { ports, slices, endpoints, meanwhile, putPort, putPod, closed } = await begin(t);
  ports.delete("default/web:80/tcp");
  endpoints.delete("default/a");
  slices.set(slice("web", ["2"]));
  meanwhile.act = () => {
    putPort();
    putPod("default/new", POD);
  };
  assert.deepEqual(await closed(), [[]]);
});

test("sockets of a service port that is gone are closed", async (t) => {
  const { ports, closed } = await begin(t);
  ports.delete("default/web:80/tcp");
  assert.deepEqual(await closed(), [["10.0.0.1", "10.0.0.2"]]);
});

test("pods of a node that is gone are gone, one whose row alone has gone is not", async (t) => {
  const { endpoints, nodes, dead, closed } = await begin(t);
  endpoints.delete("default/a");
  nodes.set({ name: "n1", addresses: [], podPrefixes: [] } as unknown as Node);
  assert.deepEqual(await closed(), []);
  nodes.delete("n1");
  dead.add(OTHER);
  assert.deepEqual(await closed(), [["10.0.0.2"]]);
});
