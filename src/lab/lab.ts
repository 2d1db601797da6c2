// SPDX-License-Identifier: Apache-2.0
// A cluster of network namespaces on one machine: nodes with their agents and pods, a client, and
// a fabric switch between them.

import type { ChildProcess, SpawnOptions } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { dump } from "js-yaml";
import { ensureBpffs } from "../kernel/bpffs.ts";
import { namespacePath } from "../kernel/netns.ts";
import { openPacketSocket } from "../kernel/packet-socket.ts";
import {
  type AgentCommand,
  ciliateAgent,
  fetchIn,
  nodeEnvironment,
  startAgent,
  waitReady,
} from "./agent.ts";
import { type Capture, type CaptureOptions, captureIn } from "./capture.ts";
import { readCounters, resetCounters, type SwitchCounters, startCounting } from "./counters.ts";
import {
  clusterManifests,
  type Document,
  manifestPath,
  manifestText,
  nodeConfig,
  type ServiceSpec,
  serviceDocuments,
  serviceFile,
} from "./manifest.ts";
import {
  LabError,
  type LabOptions,
  type LabPlan,
  type NodePlan,
  nodeNamed,
  PIN_DIRECTORY,
  placeNamed,
  planLab,
  settle,
} from "./plan.ts";
import {
  endProcess,
  isAlive,
  type ProcessId,
  type RunOptions,
  type RunResult,
  runIn,
  spawnIn,
  startIn,
} from "./process.ts";
import {
  type LabState,
  labExists,
  newState,
  readState,
  refuseLiving,
  removeLab,
  replaceFile,
  writeState,
} from "./state.ts";
import { type LabStatus, statusOf } from "./status.ts";
import { routeVirtualIps, wireUp } from "./wiring.ts";

/** Handle on a running lab; the lab lives on when it is dropped. */
export class Lab {
  readonly plan: LabPlan;
  readonly #command: AgentCommand;

  constructor(plan: LabPlan, command: AgentCommand) {
    this.plan = plan;
    this.#command = command;
  }

  get name(): string {
    return this.plan.settings.name;
  }

  /** Runs a command in a place (client, switch, node1, pod1-2) to its end. */
  run(where: string, argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    const place = placeNamed(this.plan, where);
    return runIn(place, argv, { ...options, env: this.#environment(where, options?.env) });
  }

  /** Runs a command in a place and returns its output; throws LabError unless it exits with 0. */
  async output(where: string, argv: readonly string[], options?: RunOptions): Promise<string> {
    const { code, stdout, stderr } = await this.run(where, argv, options);
    if (code === 0) return stdout;
    const why = stderr.trim().split("\n").at(-1) ?? "";
    throw new LabError(`${argv.join(" ")} in ${where} exited with ${code}: ${why}`);
  }

  /** Starts a command in a place as a child of this process. */
  spawn(where: string, argv: readonly string[], options?: SpawnOptions): ChildProcess {
    const place = placeNamed(this.plan, where);
    return spawnIn(place, argv, { ...options, env: this.#environment(where, options?.env) });
  }

  /** Starts a command that runs until the lab's end, its output in LAB'S DIRECTORY/`log`. */
  start(where: string, argv: readonly string[], log = `${where}.log`): ProcessId {
    const logFile = join(this.plan.state, log);
    const env = this.#environment(where);
    return startIn(placeNamed(this.plan, where), argv, { logFile, env });
  }

  /** What an HTTP server on a place's loopback answers; undefined when none does. */
  fetch(where: string, port: number, path: string): ReturnType<typeof fetchIn> {
    return fetchIn(placeNamed(this.plan, where), port, path);
  }

  /** Captures packets into a pcapng file. */
  capture(where: string, file: string, options?: CaptureOptions): Promise<Capture> {
    return captureIn(placeNamed(this.plan, where), file, options);
  }

  /** Sends a frame out of a place's device, as it is. */
  sendFrame(where: string, device: string, frame: Uint8Array): void {
    const { namespace } = placeNamed(this.plan, where);
    using socket = openPacketSocket(device, namespacePath(namespace));
    socket.send(frame);
  }

  counters(): Promise<SwitchCounters> {
    return readCounters(this.plan.switch);
  }

  resetCounters(): Promise<void> {
    return resetCounters(this.plan.switch);
  }

  /** Changes which nodes, by number from 1, the switch sends the virtual IPs' packets to. */
  setBalancers(indexes: readonly number[]): void {
    routeVirtualIps(this.plan, indexes);
  }

  /** Puts a manifest of several documents in force on all nodes, or on those named. */
  writeManifest(file: string, documents: readonly Document[], nodes?: readonly string[]): void {
    const text = manifestText(documents);
    for (const node of this.#nodes(nodes)) replaceFile(manifestPath(node, file), text);
  }

  removeManifest(file: string, nodes?: readonly string[]): void {
    for (const node of this.#nodes(nodes)) rmSync(manifestPath(node, file), { force: true });
  }

  /** Publishes a service, or changes it, on all nodes or on those named. */
  publish(service: ServiceSpec, nodes?: readonly string[]): void {
    const file = serviceFile(service.name, service.namespace);
    this.writeManifest(file, serviceDocuments(this.plan, service), nodes);
  }

  withdraw(name: string, namespace?: string, nodes?: readonly string[]): void {
    this.removeManifest(serviceFile(name, namespace), nodes);
  }

  /** The process of a node's agent, running or not; undefined when none was started. */
  agent(node: string): ProcessId | undefined {
    return this.#state().agents[nodeNamed(this.plan, node).place.name];
  }

  /** Starts a node's agent and waits until it is ready; throws LabError when one runs. */
  async startAgent(name: string): Promise<ProcessId> {
    const node = nodeNamed(this.plan, name);
    const running = this.agent(name);
    if (running !== undefined && isAlive(running)) {
      throw new LabError(`the agent of ${name} runs already as process ${running.pid}`);
    }
    const agent = startAgent(this.plan, node, this.#command);
    const state = this.#state();
    writeState({ ...state, agents: { ...state.agents, [name]: agent } });
    await waitReady(node, agent);
    return agent;
  }

  /** Ends a node's agent by a signal and waits until it is gone. */
  async stopAgent(name: string, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const agent = this.agent(name);
    if (agent !== undefined) await endProcess(agent, signal);
  }

  status(): LabStatus {
    return statusOf(this.plan, this.#state());
  }

  /** Removes the lab. */
  down(): Promise<void> {
    return removeLab(this.name);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  /** In a node's place the command line finds that node's agent. */
  #environment(where: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    const node = this.plan.nodes.find(({ place }) => place.name === where);
    const own = node === undefined ? {} : nodeEnvironment(this.plan, node);
    return { ...process.env, ...own, ...more };
  }

  #nodes(names: readonly string[] | undefined): readonly NodePlan[] {
    return names === undefined ? this.plan.nodes : names.map((name) => nodeNamed(this.plan, name));
  }

  #state(): LabState {
    const state = readState(this.name);
    if (state === undefined)
      throw new LabError(`lab ${this.name} is gone: bring it up again`, "not-found");
    return state;
  }
}

function writeFiles(lab: Lab): void {
  for (const node of lab.plan.nodes) {
    mkdirSync(node.paths.manifests, { recursive: true, mode: 0o700 });
    replaceFile(node.paths.config, dump(nodeConfig(lab.plan, node)));
  }
  for (const [file, documents] of Object.entries(clusterManifests(lab.plan))) {
    lab.writeManifest(file, documents);
  }
}

/**
 * Brings a lab up, agents and all, after removing what a killed one of the same name left. Throws
 * LabError when one of that name lives, and leaves nothing behind when it fails.
 */
export async function createLab(
  options: LabOptions = {},
  command: AgentCommand = ciliateAgent,
): Promise<Lab> {
  const settings = settle(options);
  refuseLiving(settings.name);
  await removeLab(settings.name);
  const plan = planLab(settings);
  const lab = new Lab(plan, command);
  writeState(newState(settings));
  try {
    // A machine without systemd has none; it stays mounted, as other labs may use it.
    ensureBpffs(dirname(PIN_DIRECTORY));
    wireUp(plan);
    writeFiles(lab);
    await startCounting(plan.switch);
    if (settings.agents) {
      await Promise.all(plan.nodes.map(({ place }) => lab.startAgent(place.name)));
    }
    const state = readState(settings.name);
    if (state === undefined) throw new LabError(`lab ${settings.name} was removed meanwhile`);
    writeState({ ...state, phase: "up" });
    return lab;
  } catch (error) {
    await removeLab(settings.name);
    throw error;
  }
}

/** A lab that is up; throws LabError when there is none of this name. */
export function openLab(name: string, command: AgentCommand = ciliateAgent): Lab {
  const state = readState(name);
  if (state?.phase === "up") return new Lab(planLab(state.settings), command);
  const why = labExists(name) ? `lab ${name} is not whole` : `there is no lab ${name}`;
  throw new LabError(`${why}: bring it up with \`ciliate lab up --name ${name}\``, "not-found");
}
