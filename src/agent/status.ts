// SPDX-License-Identifier: Apache-2.0
import {
  AgentState,
  type Device,
  type GetStatusResponse,
  type Reconciler,
  type Source,
  type Table,
} from "../api/gen/ciliate.ts";
import { VERSION } from "../config/version.ts";
import type { Health } from "../telemetry/health.ts";
import { residentMemory } from "../telemetry/process.ts";

/** What the parts of the agent say of themselves when somebody asks. */
export interface StatusParts {
  readonly devices: () => readonly Device[];
  readonly sources: () => readonly Source[];
  readonly tables: () => readonly Table[];
  readonly reconcilers: () => readonly Reconciler[];
}

/** How far the agent has come. */
export type Phase = "starting" | "running" | "stopping";

export interface StatusOptions {
  readonly nodeName: string;
  readonly nodeAddress: string;
  /** Empty where IPv6 is off, and then `ipv6Off` says why. */
  readonly nodeAddress6: string;
  readonly ipv6Off: string;
  readonly configFile: string;
  readonly health: Health;
  readonly phase: () => Phase;
  readonly parts: StatusParts;
}

const startedUnixMs = BigInt(Math.round(performance.timeOrigin));

/** Everything that `ciliate status` shows. */
export function collectStatus(options: StatusOptions): GetStatusResponse {
  const { health, parts, phase } = options;
  const checks = health.checks().map(({ name, problem }) => ({ name, problem: problem ?? "" }));
  const sources = parts.sources();
  const reconcilers = parts.reconcilers();
  const tables = parts.tables();
  const whole =
    checks.every(({ problem }) => problem === "") &&
    sources.every(({ problems }) => problems.length === 0) &&
    tables.every(({ problem }) => problem === "") &&
    reconcilers.every(({ failed, problems }) => failed === 0n && problems.length === 0);
  const memory = residentMemory();
  return {
    state: stateOf(phase(), whole),
    version: VERSION,
    nodeName: options.nodeName,
    nodeAddress: options.nodeAddress,
    nodeAddress6: options.nodeAddress6,
    ipv6Off: options.ipv6Off,
    pid: process.pid,
    startedUnixMs,
    configFile: options.configFile,
    checks,
    devices: parts.devices(),
    sources,
    tables,
    reconcilers,
    memory: { own: BigInt(memory.own), tables: BigInt(memory.tables) },
  };
}

function stateOf(phase: Phase, whole: boolean): AgentState {
  if (phase === "starting") return AgentState.STARTING;
  if (phase === "stopping") return AgentState.STOPPING;
  return whole ? AgentState.READY : AgentState.DEGRADED;
}
