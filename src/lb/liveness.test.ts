// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Endpoint } from "../endpoint/rows.ts";
import type { Node } from "../node/rows.ts";
import { createTable } from "../state/table.ts";
import { Liveness } from "./liveness.ts";
import type { EndpointSlice } from "./rows.ts";
import { ip, slice } from "./testing.ts";

const POD = ip(1);
const HOURS_2 = 2 * 3600 * 1000;

function setUp() {
  const endpoints = createTable<string, Endpoint, "address">({
    name: "endpoints",
    key: ({ key }) => key,
    indexes: { address: ({ addresses }) => addresses },
  });
  const nodes = createTable<string, Node>({ name: "nodes", key: ({ name }) => name });
  const slices = createTable<string, EndpointSlice, "address">({
    name: "slices",
    key: ({ key }) => key,
    indexes: { address: ({ endpoints }) => endpoints.map(({ address }) => address) },
  });
  const addNode = (name: string): void => nodes.set({ name, addresses: [], podPrefixes: [] });
  const addPod = (key: string, node: string): void =>
    endpoints.set({ key, addresses: [POD], node, attachment: undefined, hostPorts: undefined });
  const liveness = new Liveness({ endpoints, nodes, slices });
  return { endpoints, nodes, slices, addNode, addPod, liveness };
}

test("a pod lives while its row or a slice names it", () => {
  const { endpoints, slices, addPod, liveness } = setUp();
  assert.equal(liveness.lives(POD, 0), false);
  addPod("default/a", "n1");
  assert.equal(liveness.lives(POD, 0), true);
  assert.equal(liveness.nodeOfPod(POD), "n1");
  endpoints.delete("default/a");
  assert.equal(liveness.lives(POD, 0), false);
  assert.equal(liveness.nodeOfPod(POD), "");
  slices.set(slice("web", ["1"]));
  assert.equal(liveness.lives(POD, 0), true);
});

test("nobody lives on a node that isn't part of the cluster, once there are nodes", () => {
  const { nodes, endpoints, slices, addNode, addPod, liveness } = setUp();
  addPod("default/a", "n2");
  assert.equal(liveness.hasNode("n2"), true);
  addNode("n1");
  assert.deepEqual([liveness.hasNode("n2"), liveness.lives(POD, 0)], [false, false]);
  assert.equal(liveness.hasNode(""), true);
  endpoints.delete("default/a");
  slices.set(slice("web", ["1@n2"]));
  assert.equal(liveness.lives(POD, 0), false);
  slices.delete("default/web");
  liveness.leftSlice(POD, "n2", 0);
  assert.equal(liveness.lives(POD, 0), false);
  nodes.delete("n1");
  assert.equal(liveness.lives(POD, 0), true);
});

test("a pod whose row goes is dead after five seconds", () => {
  const { endpoints, addPod, liveness } = setUp();
  addPod("default/a", "n1");
  liveness.podGone(POD, "n1", 0);
  assert.equal(liveness.nextMs, Number.POSITIVE_INFINITY, "another row has the address");
  endpoints.delete("default/a");
  liveness.podGone(POD, "n1", 1000);
  assert.deepEqual([liveness.lives(POD, 5999), liveness.lives(POD, 6000)], [true, false]);
  assert.equal(liveness.nextMs, 6000);
  assert.deepEqual(liveness.expire(5999), []);
  assert.deepEqual(liveness.expire(6000), [POD]);
  assert.equal(liveness.nextMs, Number.POSITIVE_INFINITY);
});

test("a pod that never had a row is dead two hours after it was last named", () => {
  const { slices, liveness } = setUp();
  slices.set(slice("web", ["1"]));
  liveness.leftSlice(POD, "n1", 0);
  assert.equal(liveness.nextMs, Number.POSITIVE_INFINITY, "a slice still names it");
  slices.delete("default/web");
  liveness.leftSlice(POD, "n1", 0);
  assert.equal(liveness.lives(POD, HOURS_2 - 1), true);
  assert.equal(liveness.lives(POD, HOURS_2), false);
  assert.deepEqual(liveness.expire(HOURS_2), [POD]);
});

test("what a slice names is remembered as lost until the slice lets go of it", () => {
  const { slices, liveness } = setUp();
  slices.set(slice("web", ["1"]));
  liveness.podGone(POD, "n1", 0);
  assert.deepEqual(liveness.expire(10_000), []);
  assert.equal(liveness.lives(POD, 10_000), true);
  slices.delete("default/web");
  liveness.leftSlice(POD, "n1", 20_000);
  assert.equal(liveness.lives(POD, 20_000), false);
  assert.equal(liveness.nextMs, 25_000);
  assert.deepEqual(liveness.expire(25_000), [POD]);
});

test("a row that comes again in time makes the pod as new", () => {
  const { endpoints, addPod, liveness } = setUp();
  liveness.podGone(POD, "n1", 0);
  addPod("default/a", "n1");
  liveness.podSeen(POD);
  assert.deepEqual(liveness.expire(10_000), []);
  assert.equal(liveness.lives(POD, 10_000), true);
  endpoints.delete("default/a");
  assert.equal(liveness.lives(POD, 10_000), false);
});
