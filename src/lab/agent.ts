// SPDX-License-Identifier: Apache-2.0
// The agents of a lab's nodes.

import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { Socket } from "node:net";
import { dirname, join } from "node:path";
import { check } from "../kernel/error.ts";
import { socket } from "../kernel/ffi.ts";
import { inNamespace, namespacePath } from "../kernel/netns.ts";
import { LabError, type LabPlan, type NodePlan, type Place } from "./plan.ts";
import { isAlive, type ProcessId, startIn, until } from "./process.ts";

const METRICS_PORT = 9962;
const READY_LIMIT_MS = 240_000; // 2 s on a machine, a minute or more on a busy emulated one
const ANSWER_LIMIT_MS = 2000;
const LOG_TAIL_LINES = 15;
const AF_INET = 2;
const SOCK_STREAM = 1;

/** What a node's agent is started with. */
export type AgentCommand = (plan: LabPlan, node: NodePlan) => readonly string[];

function program(): string {
  // From the sources, the bundle in a checkout, or where it is installed.
  for (let directory = import.meta.dirname; directory !== "/"; directory = dirname(directory)) {
    const file = join(directory, "bin/ciliate");
    if (existsSync(file)) return file;
  }
  throw new LabError(`no bin/ciliate above ${import.meta.dirname}: run from a whole checkout`);
}

/** What commands of ours in a node's place must know to find that node's agent and pins. */
export function nodeEnvironment({ settings }: LabPlan, node: NodePlan): NodeJS.ProcessEnv {
  const file = program();
  return {
    PATH: `${dirname(file)}:${process.env["PATH"] ?? ""}`,
    CILIATE_BUNDLE: settings.bundle ? "1" : "0",
    CILIATE_CONFIG: node.paths.config,
    CILIATE_SOCKET: node.paths.socket,
    CILIATE_BPFFS: node.paths.pins,
  };
}

/** `bin/ciliate agent` with the node's configuration. */
export const ciliateAgent: AgentCommand = (_plan, node) => [
  program(),
  "agent",
  "--config",
  node.paths.config,
];

/** Starts a node's agent; it outlives this process. */
export function startAgent(plan: LabPlan, node: NodePlan, command: AgentCommand): ProcessId {
  const env = { ...process.env, ...nodeEnvironment(plan, node) };
  return startIn(node.place, command(plan, node), { logFile: node.paths.log, env });
}

/** What an HTTP server on loopback in a place answers; undefined when none does. */
export function fetchIn(
  place: Place,
  port: number,
  path: string,
): Promise<{ readonly status: number; readonly body: string } | undefined> {
  const fd = inNamespace(namespacePath(place.namespace), () =>
    check(socket(AF_INET, SOCK_STREAM, 0), "open socket in", place.namespace),
  );
  return new Promise((resolve) => {
    const createConnection = (): Socket =>
      new Socket({ fd, readable: true, writable: true }).connect(port, "127.0.0.1");
    const sent = request({ path, createConnection, timeout: ANSWER_LIMIT_MS }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("timeout", () => sent.destroy());
    sent.on("error", () => resolve(undefined));
    sent.end();
  });
}

function logTail(node: NodePlan): string {
  if (!existsSync(node.paths.log)) return "";
  const lines = readFileSync(node.paths.log, "utf8").trimEnd().split("\n");
  return lines.slice(-LOG_TAIL_LINES).join("\n");
}

/** Waits until an agent says that it is ready; throws LabError with the end of its log. */
export async function waitReady(node: NodePlan, agent: ProcessId): Promise<void> {
  const name = `agent of ${node.place.name}`;
  try {
    await until(`${name} to be ready`, READY_LIMIT_MS, async () => {
      if (!isAlive(agent)) throw new LabError(`${name} has ended`);
      return (await fetchIn(node.place, METRICS_PORT, "/readyz"))?.status === 200;
    });
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    throw new LabError(`${error.message}; its log ${node.paths.log} ends with:\n${logTail(node)}`);
  }
}
