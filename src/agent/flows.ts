// SPDX-License-Identifier: Apache-2.0

// Which flows are over, by the configuration and by the rows of pods.

import { type Collector, type CollectorOptions, createCollector } from "../conntrack/collector.ts";
import { Verdict } from "../datapath/gen/abi.ts";
import type { MetricsReader } from "../datapath/metrics.ts";
import { threadCpuMs } from "../kernel/clock.ts";
import type { Address } from "../net/address.ts";
import type { Log } from "../telemetry/log.ts";
import type { NodeDatapath } from "./datapath.ts";
import { createFormerModes } from "./former-modes.ts";
import type { Services } from "./services.ts";
import type { Settings } from "./settings.ts";
import { createSnatPorts, type SnatPortsWatch } from "./snat-ports.ts";

/** After a pod's row has gone: its grace, and sweeps enough. */
const HASTE_MS = 15_000;
const HASTY_SWEEP_MS = 2000;

/** Who removes flows, and what he knows of them. */
export interface Flows extends AsyncDisposable {
  readonly conntrack: Collector;
  readonly snatPorts: SnatPortsWatch;
}

/** Removes flows that are over, from now on. */
export function collectFlows(
  settings: Settings,
  log: Log,
  { datapath, ticks, metrics }: NodeDatapath,
  services: Services,
): Flows {
  const { lb, reconciler } = services;
  const formerModes = createFormerModes({
    ports: () => lb.ports.rows(),
    settled: () => services.complete.open && reconciler.figures().pendingRows === 0,
    forget: (key) => lb.forgetFormerMode(key),
  });
  const times = (): Settings["config"]["conntrack"] => settings.config.conntrack;
  const conntrack: Collector = createCollector({
    maps: [datapath.maps.conntrack, ...(datapath.wide ? [datapath.wide.conntrack] : [])],
    ticks,
    timeouts: () => ({
      tcpEstablishedMs: times().tcpEstablished,
      tcpSynMs: times().tcpSyn,
      tcpClosingMs: times().tcpClosing,
      udpMs: times().udp,
    }),
    intervalMs: () => Math.min(times().collectInterval, hasteMs(lb.sincePodGoneMs)),
    ...ownersOf(services),
    swept(table, sweep) {
      formerModes(table, sweep);
      snatPorts.look();
    },
    clock: { nowMs: () => performance.now(), cpuMs: threadCpuMs },
    failed: (error) => log.warn("old flows were not removed", { error }),
  });
  const { first, last } = settings.config.snat.ports;
  const snatPorts = createSnatPorts({
    ports: last - first + 1,
    most: () => conntrack.figures().snatPorts,
    refused: () => refusedPorts(metrics),
    nowMs: () => performance.now(),
  });
  return { conntrack, snatPorts, [Symbol.asyncDispose]: () => conntrack[Symbol.asyncDispose]() };
}

/**
 * How long a sweep may take: clients of a pod that has just died are to hear of it soon, and don't
 * before its flows are gone.
 */
function hasteMs(sincePodGoneMs: number): number {
  return sincePodGoneMs < HASTE_MS ? HASTY_SWEEP_MS : Number.POSITIVE_INFINITY;
}

/** New flows that found no port, wherever they came in. */
function refusedPorts(metrics: MetricsReader): number {
  const drops = metrics.read().filter(({ verdict }) => verdict === Verdict.dropNatExhausted);
  return drops.reduce((sum, { packets }) => sum + packets, 0);
}

/**
 * Whose flows stay, by rows: all of them are there when the gate opens, while the kernel's tables
 * still follow.
 */
export function ownersOf({
  nodeName,
  complete,
  endpoints,
  ownBackends,
  lb,
}: Pick<Services, "nodeName" | "complete" | "endpoints" | "ownBackends"> & {
  readonly lb: Pick<Services["lb"], "lives">;
}): Pick<CollectorOptions, "isEndpoint" | "lives"> {
  const isHere = (address: Address): boolean =>
    endpoints.isAttached(nodeName, address) || ownBackends.has(address);
  return {
    isEndpoint: (address) => (complete.open ? isHere(address) : undefined),
    lives: (address) => (complete.open ? lb.lives(address) : undefined),
  };
}
