// SPDX-License-Identifier: Apache-2.0

// An agent that knows a fixed cluster, for tests that start the program itself.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { ApiError } from "../api/error.ts";
import {
  AgentState,
  GetConfigResponse,
  GetStatusResponse,
  GetVersionResponse,
  PacketEvent,
  ReloadConfigResponse,
  Service,
  ServiceBackend,
  SyncState,
} from "../api/gen/ciliate.ts";
import { type AgentHandlers, openApiServer } from "../api/server.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** What a run of the program left behind. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Sees every piece of standard output as it comes. */
  readonly onOutput?: (piece: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs `bin/ciliate` with these words. */
export async function ciliate(
  words: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  const { NO_COLOR: _, ...inherited } = process.env;
  const child = spawn(join(ROOT, "bin/ciliate"), words, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...inherited, ...options.env },
  });
  child.stdout.on("data", (piece: Buffer) =>
    options.onOutput?.(piece.toString(), (signal) => child.kill(signal)),
  );
  const exit = new Promise<number | null>((done) => child.once("exit", (code) => done(code)));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exit]);
  return { code, stdout, stderr };
}

/** Starts an API server with the fixed cluster, some answers replaced; gives its socket. */
export async function fixedAgent(
  t: TestContext,
  handlers: Partial<AgentHandlers> = {},
): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-cli-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "agent.sock");
  const onFault = (call: string, error: unknown): never => {
    throw new Error(call, { cause: error });
  };
  const server = await openApiServer({ socket, handlers: { ...FIXED, ...handlers }, onFault });
  t.after(() => server.close(0));
  return socket;
}

export const STATUS = GetStatusResponse.fromPartial({
  state: AgentState.READY,
  version: "0.1.0",
  nodeName: "lb-1",
  nodeAddress: "10.0.0.1",
  nodeAddress6: "2001:db8::1",
  pid: 4711,
  configFile: "/etc/ciliate/ciliate.yaml",
  checks: [{ name: "sources" }, { name: "datapath" }],
  devices: [
    { name: "eth0", ifindex: 2, program: "edge", mode: "xdp native" },
    { name: "eth1", ifindex: 3, program: "host", mode: "tcx ingress", reason: "no native XDP" },
  ],
  sources: [{ name: "/etc/ciliate/manifests", synced: true, objects: 12 }],
  tables: [
    { name: "services", used: 3n, limit: 65_536n },
    { name: "backends", used: 250_000n, limit: 262_144n },
  ],
  reconcilers: [{ name: "lb", pending: 0n, failed: 0n, lagSeconds: 0.0041 }],
  memory: { own: 100_000_000n, tables: 83_886_080n },
});

const SERVICES = [
  Service.fromPartial({
    namespace: "default",
    name: "web",
    type: "LoadBalancer",
    addresses: ["192.0.2.10", "192.0.2.11"],
    source: "/etc/ciliate/manifests/web.yaml:1",
    sync: { state: SyncState.APPLIED },
    clusterAddresses: ["10.96.0.1"],
    externalTrafficPolicy: "Local",
    internalTrafficPolicy: "Cluster",
    affinitySeconds: 10_800,
    sourceRanges: ["198.51.100.0/24", "203.0.113.0/24"],
    sourceRangesPolicy: "allow",
    healthCheckNodePort: 32_000,
    conditions: [
      { name: "Programmed", ok: true },
      { name: "HealthCheck", text: "port 32000 is Service apps/other's" },
    ],
    ports: [
      {
        name: "http",
        protocol: "TCP",
        port: 80,
        nodePort: 30_080,
        id: 2,
        ringSize: 1021,
        local: true,
        mode: "dsr",
        algorithm: "maglev",
        family: "IPv4",
        frontends: [
          { address: "192.0.2.10", port: 80, scope: "outside" },
          { address: "192.0.2.11", port: 80, scope: "outside" },
          { port: 30_080, scope: "outside" },
        ],
        traffic: { packets: 0n, bytes: 0n, connections: 0n },
      },
      {
        name: "http",
        protocol: "TCP",
        port: 80,
        nodePort: 30_080,
        mode: "dsr",
        algorithm: "maglev",
        family: "IPv4",
        frontends: [{ address: "10.96.0.1", port: 80, scope: "inside" }],
        id: 1,
        ringSize: 1021,
        backendCount: 2,
        activeBackends: 1,
        traffic: { packets: 1234n, bytes: 1_500_000n, connections: 99n },
        backends: [
          {
            address: "10.1.0.10",
            port: 8080,
            node: "node-1",
            condition: "ready",
            local: true,
            weight: 1,
            share: 1,
            traffic: { packets: 1234n, bytes: 1_500_000n, connections: 99n },
          },
          { address: "10.2.0.10", port: 8080, condition: "terminating", weight: 1 },
        ],
      },
      {
        name: "http",
        protocol: "TCP",
        port: 80,
        mode: "snat",
        algorithm: "random",
        family: "IPv6",
        nodePort: 30_080,
        frontends: [
          { address: "2001:db8::10", port: 80, scope: "outside" },
          { port: 30_080, scope: "outside" },
        ],
        id: 3,
        ringSize: 1021,
        backendCount: 1,
        activeBackends: 1,
        backends: [{ address: "2001:db8:1::10", port: 8080, condition: "ready", weight: 1 }],
      },
    ],
  }),
  Service.fromPartial({
    namespace: "apps",
    name: "dns",
    type: "LoadBalancer",
    addresses: ["192.0.2.53"],
    source: "api",
    sync: { state: SyncState.FAILED, problem: "table rings is full: 65536 rows" },
    ports: [{ protocol: "UDP", port: 53 }],
  }),
];

const EVENT = PacketEvent.fromPartial({
  timeUnixNs: 1_767_355_200_123_456_789n,
  verdict: "drop untrusted",
  place: "host",
  ifindex: 2,
  device: "eth0",
  length: 94,
  protocol: "tcp",
  source: "198.51.100.7",
  sourcePort: 40_000,
  destination: "192.0.2.10",
  destinationPort: 80,
  tcpFlags: "S",
  outerSource: "203.0.113.9",
  outerDestination: "10.1.0.10",
  service: "default/web:http",
});

const FIXED: AgentHandlers = {
  getVersion: () =>
    GetVersionResponse.fromPartial({
      version: "0.1.0",
      nodeVersion: "24.0.0",
      kernel: "6.1.0",
      architecture: "x64",
    }),
  getStatus: () => ({ ...STATUS, startedUnixMs: BigInt(Date.now() - 7_265_000) }),
  listServices: ({ namespace, name }) =>
    SERVICES.filter(
      (service) =>
        (namespace === "" || service.namespace === namespace) &&
        (name === "" || service.name === name),
    ),
  listBackends: ({ namespace, service }) =>
    SERVICES.filter(
      (row) => service === "" || (row.namespace === namespace && row.name === service),
    ).flatMap((row) =>
      row.ports.flatMap((port) =>
        port.backends.map((backend) =>
          ServiceBackend.fromPartial({
            namespace: row.namespace,
            service: row.name,
            portName: port.name,
            protocol: port.protocol,
            servicePort: port.port,
            backend,
          }),
        ),
      ),
    ),
  getConfig: () =>
    GetConfigResponse.fromPartial({
      file: "/etc/ciliate/ciliate.yaml",
      values: [
        { path: "node.name", value: '"lb-1"', line: 2 },
        { path: "devices", value: '["eth0","eth1"]', line: 3 },
        { path: "conntrack.udp", value: '"1m"', live: true },
        { path: "conntrack.maxEntries", value: "524288", pending: "1024" },
      ],
    }),
  reloadConfig: () =>
    ReloadConfigResponse.fromPartial({
      file: "/etc/ciliate/ciliate.yaml",
      changes: [
        { path: "conntrack.udp", from: '"1m"', to: '"30s"', applied: true },
        { path: "devices", from: '"auto"', to: '["eth0"]' },
      ],
    }),
  apply: () => {
    throw new ApiError("refused", "the fixed cluster doesn't change");
  },
  delete: () => {
    throw new ApiError("refused", "the fixed cluster doesn't change");
  },
  monitor: (_, sink) => {
    sink.push(EVENT);
    const wide = { source: "2001:db8::7", destination: "2001:db8::10", backend: "2001:db8:1::10" };
    const plain = { outerSource: "", outerDestination: "", service: "", device: "" };
    sink.push({ ...EVENT, ...wide, ...plain, verdict: "sent pod" });
    sink.overwritten(7);
    return () => {};
  },
};
