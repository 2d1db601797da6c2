// SPDX-License-Identifier: Apache-2.0
// A lab with agents, stream servers in its pods and a stream client, for the length of a test.

import type { TestContext } from "node:test";
import { createLab, type Lab } from "../../../src/lab/lab.ts";
import type { BackendSpec, ServiceSpec } from "../../../src/lab/manifest.ts";
import type { LabOptions } from "../../../src/lab/plan.ts";
import { removeLab } from "../../../src/lab/state.ts";
import type { Family } from "../../../src/net/address.ts";
import { nodesOf, podEndpoint, untilBalanced } from "./inspect.ts";
import { type OpenOptions, STREAM_PORT, StreamClient, StreamServers } from "./streams.ts";

/** The address of the one service that most tests need. */
export const VIP = "198.51.100.1";
/** Another port than the pods', on purpose. */
export const VIP_PORT = 80;
export const FRONTEND = `${VIP}:${VIP_PORT}`;
/** The same in IPv6, for tests of both families. */
export const VIP6 = "fd00:198:51:100::1";
export const VIPS: Readonly<Record<Family, string>> = { ipv4: VIP, ipv6: VIP6 };
export const FRONTENDS: Readonly<Record<Family, string>> = {
  ipv4: FRONTEND,
  ipv6: `[${VIP6}]:${VIP_PORT}`,
};

let counter = 0;

/** Names of this process's labs: its pid, by which leaks are told from neighbours, and a letter. */
export function freshName(): string {
  return `t${process.pid}${String.fromCharCode(97 + counter++)}`;
}

export interface Stage {
  readonly lab: Lab;
  readonly servers: StreamServers;
  readonly client: StreamClient;
}

/**
 * Brings up a lab with a stream server in each of these pods. Without IPv6 unless asked for: its
 * programs are most of what an agent's start costs.
 */
export async function createStage(
  t: TestContext,
  pods: readonly string[],
  options: LabOptions = {},
): Promise<Stage> {
  const name = options.name ?? freshName();
  t.after(() => removeLab(name));
  const lab = await createLab({ ipv6: false, ...options, name });
  const servers = new StreamServers(lab);
  t.after(() => servers[Symbol.asyncDispose]());
  await servers.start(pods);
  const client = new StreamClient(lab);
  t.after(() => client[Symbol.asyncDispose]());
  return { lab, servers, client };
}

/** What is usual for the one service, over these backends. */
export function serviceOf(
  backends: readonly (string | BackendSpec)[],
  more: Partial<ServiceSpec> = {},
): ServiceSpec {
  const ports = (["TCP", "UDP"] as const).map((protocol) => ({
    name: protocol.toLowerCase(),
    port: VIP_PORT,
    targetPort: STREAM_PORT,
    protocol,
  }));
  return { name: "streams", addresses: [VIP], ports, backends, ...more };
}

/** Publishes the one service over these pods and waits until nodes balance it so. */
export async function balance(
  lab: Lab,
  pods: readonly string[],
  nodes: readonly string[] = nodesOf(lab),
  families: readonly Family[] = ["ipv4"],
): Promise<void> {
  lab.publish(serviceOf(pods, { addresses: families.map((family) => VIPS[family]) }), nodes);
  for (const family of families) {
    const backends = pods.map((pod) => podEndpoint(lab, pod, STREAM_PORT, family));
    await untilBalanced(lab, FRONTENDS[family], backends, nodes);
    await untilBalanced(lab, FRONTENDS[family], backends, nodes, "udp");
  }
}

/** Connections to the one service. */
export function streamsTo(count: number, more: Partial<OpenOptions> = {}): OpenOptions {
  return { address: VIP, port: VIP_PORT, count, intervalMs: 250, recordBytes: 64, ...more };
}
