// SPDX-License-Identifier: Apache-2.0
// What it costs to remember flows: a table of a million idle entries that the agent walks through
// as it does all the time, and half-open flows that it has to remove in haste.

import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { giveMemoryBack } from "../src/agent/memory.ts";
import {
  type Collector,
  type CollectorOptions,
  createCollector,
} from "../src/conntrack/collector.ts";
import { otherHalf } from "../src/conntrack/flow.ts";
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
} from "../src/datapath/gen/abi.ts";
import { TypedMap } from "../src/datapath/maps.ts";
import { threadCpuMs } from "../src/kernel/clock.ts";
import { BpfMap } from "../src/kernel/map.ts";
import type { Ipv4 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { printTable, type Results } from "./results.ts";

const FLOWS = 500_000;
/** Half full: more would be pressure. */
const LIMIT = 2 ** 21;
const HALF_OPEN = 100_000;
const FIRST_CLIENT = 0x0a00_0000;
const VIP = 0xc633_6401 as Ipv4;
const POD = 0x0af4_0102 as Ipv4;
const TICKS_PER_SECOND = 1000;
const NOW = 1_000_000;
/** For how long the walk is watched: a whole sweep of the full budget takes about so long. */
const WATCH_MS = { full: 90_000, quick: 8000 };

const TIMEOUTS = {
  tcpEstablishedMs: 8_000_000,
  tcpSynMs: 60_000,
  tcpClosingMs: 10_000,
  udpMs: 60_000,
};

type FlowMap = TypedMap<FlowKey, Flow>;

/** Measures the walk through idle flows, and the removal of half-open ones. */
export async function benchCollector(results: Results, { rounds }: Budget): Promise<void> {
  const rows = [["", "figure"]];
  const add = (name: string, what: string, unit: string, value: number): void => {
    rows.push([what, `${value.toPrecision(3)} ${unit}`]);
    results.add(`control.collector.${name}`, unit, { value, min: value, max: value });
  };
  // As in the agent: see bin/ciliate.
  setFlagsFromString("--no-parallel-scavenge");
  const watchMs = rounds < 10 ? WATCH_MS.quick : WATCH_MS.full;
  const idle = await watchIdle(watchMs);
  add("idle_million.core_share", "a million idle entries, of a core", "%", idle.share);
  add("idle_million.longest_hold", "longest hold of the event loop", "ms", idle.longestHoldMs);
  add("idle_million.sweep_cpu", "a whole walk without pauses", "ms", idle.sweepMs);
  const removal = await removeHalfOpen();
  add("half_open.removed", "half-open flows removed, a second of a core", "k/s", removal.perMs);
  add("half_open.longest_hold", "longest hold of the event loop then", "ms", removal.holdMs);
  printTable("Flows: what it takes to remember them", rows);
}

async function watchIdle(watchMs: number) {
  using map = createMap(FLOWS, FlowFlag.confirmed, 100);
  // What made the flows left garbage, which is none of the walk's.
  await giveMemoryBack();
  await using collector = collectorOf(map);
  // The first sweep finds out how large readings may be.
  const beforeMs = threadCpuMs();
  await collector.collect();
  const sweepMs = threadCpuMs() - beforeMs;
  const beganMs = performance.now();
  const beganCpuMs = threadCpuMs();
  await sleep(watchMs);
  const tookMs = performance.now() - beganMs;
  const share = (100 * (threadCpuMs() - beganCpuMs)) / tookMs;
  return { share, sweepMs, longestHoldMs: collector.figures().longestHoldMs };
}

async function removeHalfOpen() {
  using map = createMap(HALF_OPEN, 0, 100);
  // What made the flows left garbage, which is none of the walk's.
  await giveMemoryBack();
  await using collector = collectorOf(map);
  const beforeMs = threadCpuMs();
  await collector.collect();
  const perMs = HALF_OPEN / (threadCpuMs() - beforeMs);
  return { perMs, holdMs: collector.figures().longestHoldMs };
}

function collectorOf(map: FlowMap): Collector {
  const options: CollectorOptions = {
    maps: [map],
    ticks: { now: () => NOW, perSecond: TICKS_PER_SECOND },
    timeouts: () => TIMEOUTS,
    intervalMs: () => 10_000,
    isEndpoint: () => true,
    lives: () => true,
    failed: (error) => {
      throw error;
    },
    clock: { nowMs: () => performance.now(), cpuMs: threadCpuMs },
  };
  return createCollector(options);
}

function createMap(flows: number, flags: number, ageSeconds: number): FlowMap {
  const spec = { ...maps.conntrack, maxEntries: LIMIT };
  const map = new TypedMap(BpfMap.create(spec), spec);
  const seen = (NOW - ageSeconds * TICKS_PER_SECOND) as Jiffies;
  let elements: { key: FlowKey; value: Flow }[] = [];
  for (let index = 0; index < flows; index++) {
    const client = (FIRST_CLIENT + index) as Ipv4;
    const key = keyOf(client);
    const value = flowOf(client, flags, seen);
    elements.push({ key, value }, { key: otherHalf(key, value) as FlowKey, value });
    if (elements.length < 8192 && index + 1 < flows) continue;
    map.updateAll(elements);
    elements = [];
  }
  return map;
}

function keyOf(client: Ipv4): FlowKey {
  return {
    source: client,
    destination: VIP,
    sourcePort: 40_000 as Port,
    destinationPort: 80 as Port,
    protocol: 6,
    direction: FlowDirection.request,
  };
}

function flowOf(client: Ipv4, flags: number, seen: Jiffies): Flow {
  return {
    client,
    serviceAddress: VIP,
    pod: POD,
    aliasAddress: client,
    clientPort: 40_000 as Port,
    servicePort: 80 as Port,
    podPort: 8080 as Port,
    aliasPort: 40_000 as Port,
    service: 1 as ServiceId,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: 0,
    seen,
    flags,
    clientIdentity: 0 as Identity,
    claimed: 0,
    packets: 1n,
    bytes: 100n,
    created: seen,
  };
}
