// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Flow6,
  FlowDirection,
  FlowFlag,
  type FlowKey6,
  maps,
  type ServiceId,
} from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import { BpfMap } from "../kernel/map.ts";
import { parseIpv6 } from "../net/address.ts";
import {
  CLIENT,
  collectorOf,
  createMap,
  ELSEWHERE,
  flowOf,
  GONE,
  NODE,
  NOW_MS,
  POD,
  portsIn,
  replyKey,
  requestKey,
  type Wish,
} from "./fixture.ts";
import { otherHalf } from "./flow.ts";

/** Collects over these flows and gives the client ports of those that are left. */
async function survivors(wishes: readonly Wish[]) {
  using map = createMap(wishes);
  await using collector = collectorOf(map);
  for (let turn = 0; turn < 32; turn++) await collector.collect();
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
    assert.deepEqual(figures.removed, { expired: 5, "pod-gone": 0, orphan: 0, "half-open": 0 });
    assert.equal(figures.tables[0]?.entries, 10);
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
    assert.deepEqual(figures.removed, { expired: 0, "pod-gone": 2, orphan: 0, "half-open": 0 });
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
    assert.deepEqual(figures.removed, { expired: 2, "pod-gone": 1, orphan: 0, "half-open": 0 });
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
    assert.deepEqual(figures.removed, { expired: 2, "pod-gone": 2, orphan: 0, "half-open": 0 });
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
    assert.deepEqual(figures.removed, { expired: 0, "pod-gone": 1, orphan: 1, "half-open": 0 });
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

  test("lets the event loop have a turn after every millisecond", async () => {
    const count = 5000;
    const wishes = Array.from({ length: count }, (_, index) => {
      const age = index % 2 === 0 ? 1 : 100;
      return { port: index + 1, requestAge: age, replyAge: age };
    });
    using map = createMap(wishes, 4 * count);
    // Every entry that is taken takes 1/8 ms of this clock, and nothing else does.
    let takes = 0;
    let most = 0;
    let sum = 0;
    map.interrupt = () => {
      takes++;
    };
    await using collector = collectorOf(map, {
      clock: { nowMs: () => (sum + takes) / 8, cpuMs: () => 0 },
    });
    let walking = true;
    const turn = (): void => {
      most = Math.max(most, takes);
      sum += takes;
      takes = 0;
      if (walking) setImmediate(turn);
    };
    setImmediate(turn);
    await collector.collect();
    walking = false;
    assert.equal(portsIn(map, FlowDirection.request).length, count / 2);
    assert.equal(sum + takes, count);
    // Eight of them, and those of the flow that was being removed.
    assert(most <= 8 + 2, `${most} entries taken in one turn`);
    assert(collector.figures().longestHoldMs <= 10 / 8);
  });

  test("collects flows of both families", async () => {
    using narrow = createMap([{ port: 1, requestAge: 61, replyAge: 61 }]);
    using wide = createWideMap([
      { port: 1, flags: 0, age: 59 },
      { port: 2, flags: 0, age: 61 },
      { port: 3, flags: confirmed, age: 61 },
    ]);
    await using collector = collectorOf(narrow, {
      maps: [narrow, wide],
      isEndpoint: (address) => address === POD || address === POD6,
    });
    await collector.collect();
    assert.deepEqual(portsIn(narrow, FlowDirection.request), []);
    const left = [...wide.entries()].map(([key, flow]) => [flow.clientPort, key.direction]);
    const { request, reply } = FlowDirection;
    assert.deepEqual(left.sort(), [
      [1, request],
      [1, reply],
      [3, request],
      [3, reply],
    ]);
    assert.deepEqual(
      collector.figures().tables.map(({ table, limit }) => [table, limit]),
      [
        ["conntrack", 1024],
        ["conntrack6", 1024],
      ],
    );
    await collector.collect();
    const figures = collector.figures();
    assert.deepEqual(
      figures.tables.map(({ entries }) => entries),
      [0, 4],
    );
    assert.equal(figures.removed.expired, 2);
  });

  test("counts the ports that flows of SNAT have for each backend", async () => {
    const ports = (first: number, count: number, more: Partial<Wish>): Wish[] =>
      Array.from({ length: count }, (_, index) => ({
        port: first + index,
        flags: snat | confirmed,
        requestAge: 1,
        replyAge: 1,
        alias: { address: NODE, port: 40_000 + first + index },
        pod: ELSEWHERE,
        ...more,
      }));
    using map = createMap([
      ...ports(1, 300, {}),
      ...ports(1001, 20, { protocol: 17 }),
      ...ports(3001, 30, { flags: snat | reset }),
      ...ports(4001, 40, { flags: confirmed, pod: POD }),
    ]);
    const seen: ServiceId[][] = [];
    await using collector = collectorOf(map, {
      swept: (_, { snatServices }) => seen.push([...snatServices]),
    });
    await collector.collect();
    assert.deepEqual(collector.figures().snatPorts, [
      { pod: ELSEWHERE, port: 8080, protocol: 6, used: 300 },
      { pod: ELSEWHERE, port: 8080, protocol: 17, used: 20 },
    ]);
    assert.deepEqual(seen, [[1]]);
  });
});

const CLIENT6 = parseIpv6("2001:db8::9");
const VIP6 = parseIpv6("2001:db8:1::1");
const POD6 = parseIpv6("fd00:1::2");

function createWideMap(
  wishes: readonly { readonly port: number; readonly flags: number; readonly age: number }[],
): TypedMap<FlowKey6, Flow6> {
  const spec = { ...maps.conntrack6, maxEntries: 1024 };
  const map = new TypedMap(BpfMap.create(spec), spec);
  for (const { port, flags, age } of wishes) {
    const flow: Flow6 = {
      ...flowOf({ port, flags, requestAge: age }, age),
      client: CLIENT6,
      serviceAddress: VIP6,
      pod: POD6,
      aliasAddress: CLIENT6,
    };
    const key = {
      ...requestKey({ port, requestAge: age }),
      source: CLIENT6,
      destination: VIP6,
    };
    map.update(key, flow);
    map.update(otherHalf(key, flow) as FlowKey6, flow);
  }
  return map;
}
