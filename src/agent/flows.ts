// SPDX-License-Identifier: Apache-2.0

// Which flows are over, by the configuration and by the rows of pods.

import {
  type Collector,
  type CollectorOptions,
  createCollector,
  SYSTEM_CLOCK,
} from "../conntrack/collector.ts";
import type { Log } from "../telemetry/log.ts";
import type { NodeDatapath } from "./datapath.ts";
import type { Services } from "./services.ts";
import type { Settings } from "./settings.ts";

/** Removes flows that are over, from now on. */
export function collectFlows(
  settings: Settings,
  log: Log,
  { datapath, ticks }: NodeDatapath,
  services: Services,
): Collector {
  const times = (): Settings["config"]["conntrack"] => settings.config.conntrack;
  return createCollector({
    maps: [datapath.maps.conntrack, ...(datapath.wide ? [datapath.wide.conntrack] : [])],
    ticks,
    timeouts: () => ({
      tcpEstablishedMs: times().tcpEstablished,
      tcpSynMs: times().tcpSyn,
      tcpClosingMs: times().tcpClosing,
      udpMs: times().udp,
    }),
    intervalMs: () => times().collectInterval,
    ...ownersOf(services),
    clock: SYSTEM_CLOCK,
    failed: (error) => log.warn("old flows were not removed", { error }),
  });
}

/**
 * Whose flows stay, by rows: all of them are there when the gate opens, while the kernel's tables
 * still follow.
 */
export function ownersOf({
  nodeName,
  complete,
  endpoints,
  lb,
}: Pick<Services, "nodeName" | "complete" | "endpoints"> & {
  readonly lb: Pick<Services["lb"], "lives">;
}): Pick<CollectorOptions, "isEndpoint" | "lives"> {
  return {
    isEndpoint: (address) => (complete.open ? endpoints.isAttached(nodeName, address) : undefined),
    lives: (address) => (complete.open ? lb.lives(address) : undefined),
  };
}
