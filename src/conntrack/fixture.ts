// SPDX-License-Identifier: Apache-2.0
// Tables of flows for tests.

import assert from "node:assert/strict";
import {
  type Flow,
  FlowDirection,
  type FlowKey,
  type Identity,
  type Jiffies,
  maps,
  type Port,
  type ServiceId,
} from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import { threadCpuMs } from "../kernel/clock.ts";
import { BpfMap } from "../kernel/map.ts";
import { parseIpv4 } from "../net/address.ts";
import { type Collector, type CollectorOptions, createCollector } from "./collector.ts";
import { otherHalf } from "./flow.ts";

export const NOW_MS = 10_000_000;
export const CLIENT = parseIpv4("192.0.2.9");
export const VIP = parseIpv4("198.51.100.1");
export const POD = parseIpv4("10.244.1.2");
export const GONE = parseIpv4("10.244.1.9");
export const NODE = parseIpv4("192.0.2.1");
export const ELSEWHERE = parseIpv4("10.244.2.2");

export const TIMEOUTS = {
  tcpEstablishedMs: 8_000_000,
  tcpSynMs: 60_000,
  tcpClosingMs: 10_000,
  udpMs: 60_000,
};

export interface Wish {
  readonly port: number;
  readonly protocol?: number;
  readonly flags?: number;
  /** Seconds since the last packet of each direction. */
  readonly requestAge: number;
  readonly replyAge?: number;
  /** Seconds since its first; since the collector's first tick when left out. */
  readonly created?: number;
  readonly pod?: typeof POD;
  readonly client?: typeof POD;
  /** The client as the pod sees it; as it is when left out. */
  readonly alias?: { readonly address: typeof POD; readonly port: number };
}

export function flowOf(wish: Wish, ageSeconds: number): Flow {
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
    created: (wish.created === undefined ? 0 : NOW_MS - wish.created * 1000) as Jiffies,
    seen: (NOW_MS - ageSeconds * 1000) as Jiffies,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: 0,
    clientIdentity: 0 as Identity,
    claimed: 0,
    flags: wish.flags ?? 0,
    packets: 1n,
    bytes: 100n,
  };
}

export function requestKey(wish: Wish): FlowKey {
  return {
    source: wish.client ?? CLIENT,
    destination: VIP,
    sourcePort: wish.port as Port,
    destinationPort: 80 as Port,
    protocol: wish.protocol ?? 6,
    direction: FlowDirection.request,
  };
}

export type FlowMap = TypedMap<FlowKey, Flow>;

/** Of IPv4, as the map is. */
export function replyKey(key: FlowKey, flow: Flow): FlowKey {
  return otherHalf(key, flow) as FlowKey;
}

export function createMap(wishes: readonly Wish[], limit = 1024): InterruptedMap {
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
export class InterruptedMap extends TypedMap<FlowKey, Flow> {
  /** Called before an entry is taken; `taken` were before it. */
  interrupt: (taken: number) => void = () => undefined;
  #taken = 0;

  override take(key: FlowKey): Flow | undefined {
    this.interrupt(this.#taken++);
    return super.take(key);
  }
}

export function collectorOf(map: FlowMap, more: Partial<CollectorOptions> = {}): Collector {
  return createCollector({
    maps: [map],
    ticks: { now: () => NOW_MS, perSecond: 1000 },
    timeouts: () => TIMEOUTS,
    intervalMs: () => 3_600_000,
    isEndpoint: (address) => address === POD,
    lives: (address) => address !== GONE,
    failed: (error) => assert.fail(error),
    clock: { nowMs: () => performance.now(), cpuMs: threadCpuMs },
    ...more,
  });
}

export function portsIn(map: FlowMap, direction: number): number[] {
  return [...map.entries()]
    .filter(([key]) => key.direction === direction)
    .map(([, { clientPort }]) => clientPort)
    .sort((a, b) => a - b);
}
