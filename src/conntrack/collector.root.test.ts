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
import { type Collector, type CollectorOptions, createCollector, otherHalf } from "./collector.ts";

const NOW_MS = 10_000_000;
const CLIENT = parseIpv4("192.0.2.9");
const VIP = parseIpv4("198.51.100.1");
const POD = parseIpv4("10.244.1.2");
const GONE = parseIpv4("10.244.1.9");
const NODE = parseIpv4("192.0.2.1");
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
  readonly client?: typeof POD;
  /** The client as the pod sees it; as it is when left out. */
  readonly alias?: { readonly address: typeof POD; readonly port: number };
}

/** Of IPv4, as the map is. */
function replyKey(key: FlowKey, flow: Flow): FlowKey {
  return otherHalf(key, flow) as FlowKey;
}

function flowOf(wish: Wish, ageSeconds: number): Flow {
  return {
    client: wish.client ?? CLIENT,
    serviceAddress: VIP,
    pod: wish.pod ?? POD,
    aliasAddress: wish.alias?.address ?? CLIENT,
    clientPort: wish.port as Port,
    servicePort: 80 as Port,
    podPort: 8080 as Port,
    aliasPort: (wish.alias?.port ?? wish.port) as Port,
    service: 1 as ServiceId,
    created: 0 as Jiffies,
    seen: (NOW_MS - ageSeconds * 1000) as Jiffies,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: 0,
    clientIdentity: 0 as Identity,
    flags: wish.flags ?? 0,
    packets: 1n,
    bytes: 100n,
  };
}

function requestKey(wish: Wish): FlowKey {
  return {
    source: wish.client ?? CLIENT,
    destination: VIP,
    sourcePort: wish.port as Port,
    destinationPort: 80 as Port,
    protocol: wish.protocol ?? 6,
    direction: FlowDirection.request,
  };
}

type FlowMap = TypedMap<FlowKey, Flow>;

function createMap(wishes: readonly Wish[], limit = 1024): InterruptedMap {
  const spec = { ...maps.conntrack, maxEntries: limit };
  const map = new InterruptedMap(BpfMap.create(spec), spec);
  for (const wish of wishes) {
    const key = requestKey(wish);
    const flow = flowOf(wish, wish.requestAge);
    map.update(key, flow);
    if (wish.replyAge !== undefined) map.update(replyKey(key, flow), flowOf(wish, wish.replyAge));
  }
  return map;
}

/** A map to which packets come while the collector takes entries out of it. */
class InterruptedMap extends TypedMap<FlowKey, Flow> {
  /** Called before an entry is taken; `taken` were before it. */
  interrupt: (taken: number) => void = () => undefined;
  #taken = 0;

  override take(key: FlowKey): Flow | undefined {
    this.interrupt(this.#taken++);
    return super.take(key);
  }
}

function collectorOf(map: FlowMap, more: Partial<CollectorOptions> = {}): Collector {
  return createCollector({
    map,
    ticks: { msSince: (stored) => NOW_MS - stored },
    timeouts: () => TIMEOUTS,
    intervalMs: () => 3_600_000,
    isEndpoint: (address) => address === POD,
    lives: (address) => address !== GONE,
    failed: (error) => assert.fail(error),
    ...more,
  });
}

function portsIn(map: FlowMap, direction: number): number[] {
  return [...map.entries()]
    .filter(([key]) => key.direction === direction)
    .map(([, { clientPort }]) => clientPort)
    .sort((a, b) => a - b);
}

/** Collects over these flows and gives the client ports of those that are left. */
async function survivors(wishes: readonly Wish[]) {
  using map = createMap(wishes);
  await using collector = collectorOf(map);
  for (let turn = 0; turn < 16; turn++) await collector.collect();
  return {
    requests: portsIn(map, FlowDirection.request),
    replies: portsIn(map, FlowDirection.reply),
    figures: collector.figures(),
  };
}

const { confirmed, finClient, finPod, reset, remote, snat, outbound, node } = FlowFlag;

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

  test("keeps flows of SNAT as long as others, until the pod elsewhere dies", async () => {
    const both = (port: number, age: number, more: Partial<Wish> = {}): Wish => ({
      port,
      flags: snat,
      pod: ELSEWHERE,
      requestAge: age,
      replyAge: age,
      alias: { address: NODE, port: 50_000 + port },
      ...more,
    });
    const { requests, replies, figures } = await survivors([
      both(1, 59),
      both(2, 61),
      both(3, 7999, { flags: snat | confirmed }),
      both(4, 1, { pod: GONE }),
      both(5, 61, { protocol: 17 }),
      both(6, 100, { replyAge: 3 }),
    ]);
    assert.deepEqual(requests, [1, 3, 6]);
    assert.deepEqual(replies, [1, 3, 6]);
    assert.deepEqual(figures.removed, { expired: 2, "pod-gone": 1, orphan: 0 });
  });

  test("keeps flows of pods as clients until one of both ends dies", async () => {
    const both = (port: number, age: number, more: Partial<Wish> = {}): Wish => ({
      port,
      flags: outbound,
      client: POD,
      pod: ELSEWHERE,
      requestAge: age,
      replyAge: age,
      alias: { address: POD, port },
      ...more,
    });
    const { requests, replies, figures } = await survivors([
      both(1, 59),
      both(2, 61),
      both(3, 7999, { flags: outbound | confirmed }),
      both(4, 1, { pod: GONE }),
      both(5, 1, { client: CLIENT }),
      both(6, 1, { pod: POD, alias: { address: NODE, port: 50_006 } }),
      both(7, 61, { protocol: 17 }),
      both(8, 1, { client: NODE, flags: outbound | node, alias: { address: NODE, port: 8 } }),
    ]);
    assert.deepEqual(requests, [1, 3, 6, 8]);
    assert.deepEqual(replies, [1, 3, 6, 8]);
    assert.deepEqual(figures.removed, { expired: 2, "pod-gone": 2, orphan: 0 });
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

  for (const { what, before, comes, left } of [
    { what: "a packet of the client", before: 0, comes: ["request"], left: [0, 9000] },
    { what: "a packet of the pod", before: 0, comes: ["reply"], left: [9000, 0] },
    { what: "a late packet of the pod", before: 1, comes: ["reply"], left: [9000, 0] },
    { what: "the next flow by its ports", before: 1, comes: ["reply", "request"], left: [0, 0] },
  ]) {
    test(`keeps a flow to which ${what} comes while it is removed`, async () => {
      const wish = { port: 1, flags: confirmed, requestAge: 9000, replyAge: 9000 };
      using map = createMap([wish]);
      const fresh = flowOf(wish, 0);
      const request = requestKey(wish);
      const reply = replyKey(request, fresh);
      map.interrupt = (taken) => {
        if (taken !== before) return;
        for (const half of comes) map.update(half === "request" ? request : reply, fresh);
      };
      await using collector = collectorOf(map);
      await collector.collect();
      const ages = [request, reply].map((key) => {
        const flow = map.lookup(key);
        return flow === undefined ? undefined : (NOW_MS - flow.seen) / 1000;
      });
      assert.deepEqual(ages, left);
      assert.equal(collector.figures().removed.expired, 0);
    });
  }

  test("removes what is remembered of a dead owner also while packets come", async () => {
    const wish = { port: 1, flags: remote, requestAge: 1, pod: GONE };
    using map = createMap([wish]);
    map.interrupt = () => map.update(requestKey(wish), flowOf(wish, 0));
    await using collector = collectorOf(map);
    await collector.collect();
    assert.equal(map.lookup(requestKey(wish)), undefined);
    assert.equal(collector.figures().removed["pod-gone"], 1);
  });

  test("lets the event loop have a turn after every 1.5 ms", async () => {
    const count = 5000;
    const wishes = Array.from({ length: count }, (_, index) => {
      const age = index % 2 === 0 ? 1 : 100;
      return { port: index + 1, requestAge: age, replyAge: age };
    });
    using map = createMap(wishes, 4 * count);
    // Every look at an age takes 1/8 ms of this clock, and nothing else does.
    let looks = 0;
    let most = 0;
    let sum = 0;
    await using collector = collectorOf(map, {
      nowMs: () => (sum + looks) / 8,
      ticks: {
        msSince(stored) {
          looks++;
          return NOW_MS - stored;
        },
      },
    });
    let walking = true;
    const turn = (): void => {
      most = Math.max(most, looks);
      sum += looks;
      looks = 0;
      if (walking) setImmediate(turn);
    };
    setImmediate(turn);
    await collector.collect();
    walking = false;
    assert.equal(portsIn(map, FlowDirection.request).length, count / 2);
    assert(sum + looks > count);
    // An entry that is removed is looked at three times.
    assert(most <= 11 + 3, `${most} looks in one turn`);
    assert(collector.figures().longestHoldMs <= 14 / 8);
  });
});
