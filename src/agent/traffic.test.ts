// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServiceId } from "../datapath/gen/abi.ts";
import type { CountersReader, TrafficCount } from "../datapath/metrics.ts";
import { type Backend, type CounterId, DEFAULT_POLICY, type ServicePort } from "../lb/rows.ts";
import { parseIpv4 } from "../net/address.ts";
import { createTable } from "../state/table.ts";
import { createTraffic } from "./traffic.ts";

/** Counters in plain memory; every packet has 100 bytes. */
function setUp(restored: readonly number[] = []) {
  const packets = new Map<number, number>();
  const counters: CountersReader = {
    limit: 100,
    read: (counter): TrafficCount => {
      const count = packets.get(counter) ?? 0;
      return { packets: count, bytes: count * 100, connections: 0, adopted: 0 };
    },
    reset: (counter) => void packets.set(counter, 0),
    [Symbol.dispose]: () => {},
  };
  const ports = createTable<string, ServicePort>({ name: "ports", key: ({ key }) => key });
  const send = (counter: number, count: number): void => {
    packets.set(counter, (packets.get(counter) ?? 0) + count);
  };
  for (const counter of restored) send(counter, 1000);
  const traffic = createTraffic(ports, counters, restored);
  const put = async (
    key: string,
    backends: readonly number[],
    draining: readonly number[] = [],
  ) => {
    ports.set(portOf(key, backends, draining));
    await Promise.resolve();
  };
  return { traffic, ports, send, put };
}

function portOf(
  key: string,
  backends: readonly number[],
  draining: readonly number[],
): ServicePort {
  const backend = (counter: number): Backend => ({
    address: parseIpv4("10.0.0.1"),
    port: 80,
    weight: 100,
    node: "",
    local: false,
    counter: counter as CounterId,
    state: "ready",
  });
  return {
    key,
    id: 1 as ServiceId,
    service: "default/web",
    name: "",
    port: 80,
    protocol: "tcp",
    family: "ipv4",
    local: false,
    addresses: [],
    inside: [],
    nodePort: 0,
    insideNodePort: 0,
    atNode: false,
    policy: DEFAULT_POLICY,
    snat: false,
    random: false,
    lately: false,
    wasOther: false,
    reject: true,
    backends: backends.map(backend),
    ring: new Uint16Array(0),
    draining: draining.map(backend),
    former: undefined,
  };
}

test("a port's sum goes on when backends come, drain and go", async () => {
  const { traffic, send, put } = setUp();
  await put("a", [1, 2]);
  send(1, 10);
  send(2, 5);
  assert.equal(traffic.ofPort("a").packets, 15);
  await put("a", [1], [2]);
  send(2, 1);
  assert.equal(traffic.ofPort("a").packets, 16);
  await put("a", [1, 3]);
  send(3, 2);
  assert.deepEqual(traffic.ofPort("a"), { packets: 18, bytes: 1800, connections: 0, adopted: 0 });
});

test("a counter starts from zero with every owner, wherever it was before", async () => {
  const { traffic, ports, send, put } = setUp();
  await put("a", [1]);
  send(1, 10);
  await put("a", []);
  await put("b", [1]);
  assert.equal(traffic.ofBackend(1).packets, 0);
  send(1, 3);
  assert.deepEqual([traffic.ofPort("a").packets, traffic.ofPort("b").packets], [10, 3]);
  // From one port to another within one turn, the new owner seen first.
  ports.set(portOf("c", [1], []));
  ports.set(portOf("b", [], []));
  await Promise.resolve();
  send(1, 1);
  const packets = ["a", "b", "c"].map((key) => traffic.ofPort(key).packets);
  assert.deepEqual(packets, [10, 3, 1]);
});

test("counters of before keep what they have; the port's sum begins at zero", async () => {
  const { traffic, send, put } = setUp([7]);
  await put("a", [7]);
  send(7, 4);
  assert.equal(traffic.ofBackend(7).packets, 1004);
  assert.equal(traffic.ofPort("a").packets, 4);
  await put("a", []);
  assert.equal(traffic.ofPort("a").packets, 4);
  await put("b", [7]);
  assert.equal(traffic.ofBackend(7).packets, 0);
});

test("what isn't counted is nothing, and a port that is gone is forgotten", async () => {
  const { traffic, ports, send, put } = setUp();
  await put("a", [0, 1]);
  send(0, 5);
  assert.deepEqual([traffic.ofBackend(0).packets, traffic.ofPort("a").packets], [0, 0]);
  send(1, 2);
  ports.delete("a");
  await Promise.resolve();
  assert.equal(traffic.ofPort("a").packets, 0);
});
