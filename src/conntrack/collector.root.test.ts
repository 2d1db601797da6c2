// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Flow,
  FlowDirection,
  FlowFlag,
  type FlowKey,
  type Identity,
  type Jiffies,
  maps,
  type Port,
  type ServiceId,
} from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import { BpfMap } from "../kernel/map.ts";
import { parseIpv4 } from "../net/address.ts";
import { createCollector, otherHalf } from "./collector.ts";

// An emulated machine (test/kernels) is too slow for this to mean anything.
const TIMED = process.env.CILIATE_EMULATED ? { skip: "measures time, and this is emulated" } : {};

const NOW_MS = 10_000_000;
const CLIENT = parseIpv4("192.0.2.9");
const VIP = parseIpv4("198.51.100.1");
const POD = parseIpv4("10.244.1.2");
const GONE = parseIpv4("10.244.1.9");
const ELSEWHERE = parseIpv4("10.244.2.2");

const TIMEOUTS = {
  tcpEstablishedMs: 8_000_000,
  tcpSynMs: 60_000,
  tcpClosingMs: 10_000,
  udpMs: 60_000,
};

interface Wish {
  readonly port: number;
  readonly protocol?: number;
  readonly flags?: number;
  /** Seconds since the last packet of each direction. */
  readonly requestAge: number;
  readonly replyAge?: number;
  readonly pod?: typeof POD;
}

function flowOf(wish: Wish, ageSeconds: number): Flow {
  return {
    client: CLIENT,
    serviceAddress: VIP,
    pod: wish.pod ?? POD,
    clientPort: wish.port as Port,
    servicePort: 80 as Port,
    podPort: 8080 as Port,
    aliasPort: wish.port as Port,
    service: 1 as ServiceId,
    created: 0 as Jiffies,
    seen: (NOW_MS - ageSeconds * 1000) as Jiffies,
    clientIdentity: 0 as Identity,
    flags: wish.flags ?? 0,
    packets: 1n,
    bytes: 100n,
  };
}

function requestKey(wish: Wish): FlowKey {
  return {
    source: CLIENT,
    destination: VIP,
    sourcePort: wish.port as Port,
    destinationPort: 80 as Port,
    protocol: wish.protocol ?? 6,
    direction: FlowDirection.request,
  };
}

/** Collects once over these flows and gives the client ports of those whose REQUEST is left. */
async function survivors(wishes: readonly Wish[], more: { limit?: number } = {}) {
  const spec = { ...maps.conntrack, maxEntries: more.limit ?? 1024 };
  using map = new TypedMap(BpfMap.create(spec), spec);
  for (const wish of wishes) {
    const key = requestKey(wish);
    const flow = flowOf(wish, wish.requestAge);
    map.update(key, flow);
    if (wish.replyAge !== undefined) map.update(otherHalf(key, flow), flowOf(wish, wish.replyAge));
  }
  const failed = (error: Error): void => assert.fail(error);
  await using collector = createCollector({
    map,
    ticks: { msSince: (stored) => NOW_MS - stored },
    timeouts: () => TIMEOUTS,
    intervalMs: () => 3_600_000,
    isEndpoint: (address) => address === POD,
    lives: (address) => address !== GONE,
    failed,
  });
  for (let turn = 0; turn < 16; turn++) await collector.collect();
  const keys = [...map.entries()].map(([key]) => key);
  const ports = (direction: number): number[] =>
    keys
      .filter((key) => key.direction === direction)
      .map((key) => (direction === FlowDirection.request ? key.sourcePort : key.destinationPort))
      .sort((a, b) => a - b);
  return {
    requests: ports(FlowDirection.request),
    replies: ports(FlowDirection.reply),
    figures: collector.figures(),
  };
}

const { confirmed, finClient, finPod, reset, remote } = FlowFlag;

describe("the collector of flows", () => {
  test("keeps flows for as long as their state says", async () => {
    const both = (port: number, age: number, flags = 0, protocol = 6): Wish => ({
      port,
      flags,
      protocol,
      requestAge: age,
      replyAge: age,
    });
    const { requests, replies, figures } = await survivors([
      both(1, 59),
      both(2, 61),
      both(3, 7999, confirmed),
      both(4, 8001, confirmed),
      both(5, 9, confirmed | finClient | finPod),
      both(6, 11, confirmed | finClient | finPod),
      both(7, 11, confirmed | finClient),
      both(8, 11, confirmed | reset),
      both(9, 59, 0, 17),
      both(10, 61, 0, 17),
    ]);
    assert.deepEqual(requests, [1, 3, 5, 7, 9]);
    assert.deepEqual(replies, [1, 3, 5, 7, 9]);
    assert.deepEqual(figures.removed, { expired: 5, "pod-gone": 0, orphan: 0 });
    assert.equal(figures.entries, 10);
  });

  test("counts the newer packet of both directions", async () => {
    const { requests } = await survivors([
      { port: 1, requestAge: 100, replyAge: 10 },
      { port: 2, requestAge: 10, replyAge: 100 },
      { port: 3, requestAge: 100, replyAge: 70 },
    ]);
    assert.deepEqual(requests, [1, 2]);
  });

  test("keeps what is remembered of other nodes' flows, which has one entry", async () => {
    const { requests } = await survivors([
      { port: 1, flags: remote, requestAge: 299, pod: ELSEWHERE },
      { port: 2, flags: remote, requestAge: 301, pod: ELSEWHERE },
      { port: 3, flags: remote, requestAge: 59, protocol: 17 },
      { port: 4, flags: remote, requestAge: 61, protocol: 17 },
    ]);
    assert.deepEqual(requests, [1, 3]);
  });

  test("forgets owners of other nodes that are dead, however new the entries are", async () => {
    const { requests, figures } = await survivors([
      { port: 1, flags: remote, requestAge: 1, pod: ELSEWHERE },
      { port: 2, flags: remote, requestAge: 1, pod: GONE },
      { port: 3, flags: remote, requestAge: 1, pod: GONE, protocol: 17 },
    ]);
    assert.deepEqual(requests, [1]);
    assert.deepEqual(figures.removed, { expired: 0, "pod-gone": 2, orphan: 0 });
  });

  test("removes flows of pods that are gone, and halves without the other", async () => {
    const { requests, replies, figures } = await survivors([
      { port: 1, flags: confirmed, requestAge: 1, replyAge: 1, pod: GONE },
      { port: 2, flags: confirmed, requestAge: 3 },
      { port: 3, flags: confirmed, requestAge: 1 },
      { port: 4, flags: confirmed, requestAge: 3, replyAge: 3 },
    ]);
    assert.deepEqual(requests, [3, 4]);
    assert.deepEqual(replies, [4]);
    assert.deepEqual(figures.removed, { expired: 0, "pod-gone": 1, orphan: 1 });
  });

  test("holds the event loop for at most 2 ms at a time", TIMED, async () => {
    const wishes = Array.from({ length: 20_000 }, (_, index) => ({
      port: index + 1,
      requestAge: index % 2 === 0 ? 1 : 100,
      replyAge: index % 2 === 0 ? 1 : 100,
    }));
    const { requests, figures } = await survivors(wishes, { limit: 65_536 });
    assert.equal(requests.length, 10_000);
    // The first chunks find out how large a chunk may be; a busy machine adds to what is measured.
    assert(figures.longestHoldMs < 20, `${figures.longestHoldMs} ms`);
  });
});
