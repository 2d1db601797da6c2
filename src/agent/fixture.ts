// SPDX-License-Identifier: Apache-2.0

// An agent under test: its own process, network namespace, directories and pins.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TestContext } from "node:test";
import { type ApiClient, openApiClient } from "../api/client.ts";
import {
  createNamespace,
  deleteNamespace,
  namespacePath,
  spawnInNamespace,
} from "../kernel/netns.ts";
import { writeSysctls } from "../kernel/sysctl.ts";

export const PROGRAM = resolve(import.meta.dirname, "../../bin/ciliate");

const LIMIT_MS = 60_000; // on a busy machine an agent takes 20 s to start
const POLL_MS = 20;

/** Small tables: they are made anew for each test. */
const TABLES =
  "tables: {services: 1024, backends: 4096, ringEntries: 262144, formerOwners: 4096}\n";
const FLOWS = "conntrack: {maxEntries: 4096}\n";
/** What else runs on the machine is none of a test's. */
const SOCKETS = "socket: {enabled: false}\n";

export interface LogLine {
  readonly level: string;
  readonly subsystem: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let serial = 0;

/** Waits for a condition; fails with `what` when it takes too long. */
export async function until(what: () => string, condition: () => boolean): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > end) assert.fail(what());
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

export class Agent {
  readonly directory = mkdtempSync(join(tmpdir(), "ciliate-agent-"));
  readonly file = join(this.directory, "ciliate.yaml");
  readonly manifests = join(this.directory, "manifests");
  readonly socket = join(this.directory, "run/ciliate.sock");
  readonly namespace: string;
  readonly client: string;
  readonly pins: string;
  child: ChildProcess | undefined;
  readonly #tables: string;
  #log = "";
  #exit: Promise<number | null> = Promise.resolve(null);

  /** The node's uplink is `v0` with 10.0.0.1/24; its other end is the client's, 10.0.0.2. */
  constructor(t: TestContext, config = "", tables = TABLES) {
    this.#tables = tables;
    serial += 1;
    this.namespace = `cilag${process.pid}x${serial}`;
    this.pins = `/sys/fs/bpf/ciliate-agent-${process.pid}-${serial}`;
    mkdirSync(this.manifests);
    this.client = `${this.namespace}c`;
    createNamespace(this.namespace);
    createNamespace(this.client);
    t.after(async () => {
      this.child?.kill("SIGKILL");
      await this.#exit;
      deleteNamespace(this.namespace);
      deleteNamespace(this.client);
      rmSync(this.pins, { recursive: true, force: true });
      rmSync(this.directory, { recursive: true, force: true });
    });
    const forwarding = { "net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1 };
    writeSysctls(forwarding, namespacePath(this.namespace));
    this.ip("link set lo up");
    this.ip(`link add v0 type veth peer name v1 netns ${this.client}`);
    this.ip("addr add 10.0.0.1/24 dev v0");
    this.ip("link set v0 up");
    this.ip("addr add 10.0.0.2/24 dev v1", this.client);
    this.ip("link set v1 up", this.client);
    this.ip("route add default via 10.0.0.1", this.client);
    this.configure(config);
  }

  ip(words: string, namespace = this.namespace): void {
    const stdio = ["ignore", "ignore", "pipe"] as const;
    execFileSync("ip", ["-n", namespace, ...words.split(" ")], { stdio: [...stdio] });
  }

  /** Writes the node's file: this text after what keeps the test apart from others. */
  configure(config: string): void {
    const paths = `paths: {runtime: ${this.directory}/run, bpffs: ${this.pins}}\n`;
    const own = `manifests: [${this.manifests}]\ndevices: [v0]\nnode: {name: node1}\n`;
    const flows = /^conntrack:/m.test(config) ? "" : FLOWS;
    const sockets = /^socket:/m.test(config) ? "" : SOCKETS;
    writeFileSync(this.file, `${own}${paths}${this.#tables}${flows}${sockets}${config}`);
  }

  manifest(name: string, text: string): void {
    writeFileSync(join(this.manifests, name), text);
  }

  start(env: Readonly<Record<string, string>> = {}, before: readonly string[] = []): this {
    this.#log = "";
    const [program = "", ...words] = [...before, PROGRAM, "agent", "--config", this.file];
    const child = spawnInNamespace(namespacePath(this.namespace), program, words, {
      stdio: ["ignore", "inherit", "pipe"],
      env: { ...process.env, ...env },
    });
    child.stderr?.on("data", (piece: Buffer) => {
      this.#log += piece;
    });
    this.#exit = new Promise((done) => child.once("close", (code) => done(code)));
    this.child = child;
    return this;
  }

  async ready(): Promise<this> {
    await this.said("ready");
    return this;
  }

  get log(): LogLine[] {
    const lines = this.#log.split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line));
  }

  /** Waits for a line with this message. */
  async said(message: string): Promise<LogLine> {
    const find = (): LogLine | undefined => this.log.find((line) => line.message === message);
    await until(
      () => `the agent never said "${message}":\n${this.#log}`,
      () => find() !== undefined,
    );
    return find() ?? assert.fail();
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.child?.kill(signal);
    return await this.#exit;
  }

  get exit(): Promise<number | null> {
    return this.#exit;
  }

  /** Runs the command line against this agent and its pins. */
  ciliate(words: string): Outcome {
    const env = { ...process.env, CILIATE_SOCKET: this.socket, CILIATE_BPFFS: this.pins };
    const { status, stdout, stderr } = spawnSync(PROGRAM, words.split(" "), {
      encoding: "utf8",
      env,
    });
    return { code: status, stdout, stderr };
  }

  /** What `ciliate WORDS -o json` says. */
  json(words: string): ReturnType<typeof JSON.parse> {
    const { stdout, stderr, code } = this.ciliate(`${words} -o json`);
    assert.notEqual(stdout, "", `ciliate ${words} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout);
  }

  /** What the agent's HTTP server answers. */
  get(path: string): string {
    const net = `--net=${namespacePath(this.namespace)}`;
    const url = `http://127.0.0.1:9962${path}`;
    return execFileSync("nsenter", [net, "curl", "-s", url], { encoding: "utf8" });
  }
}

/** A service with a port, 80 to 8080. */
export function service(name: string, address: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name },
    spec: { type: "LoadBalancer", ports: [{ name: "http", port: 80, targetPort: 8080 }] },
    status: { loadBalancer: { ingress: [{ ip: address }] } },
  });
}

/** Its pods. */
export function slice(name: string, ...pods: readonly string[]): string {
  return JSON.stringify({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${name}-1`, labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080 }],
    endpoints: pods.map((pod) => ({ addresses: [pod], conditions: { ready: true } })),
  });
}

export const documents = (...texts: readonly string[]): string => texts.join("\n---\n");

/** A client of the agent's API, until the test is over. */
export async function connect(t: TestContext, agent: Agent): Promise<ApiClient> {
  const client = await openApiClient({ socket: agent.socket, timeoutMs: 10_000 });
  t.after(() => client[Symbol.dispose]());
  return client;
}

/** Waits until status has nothing to say. */
export function untilWell(agent: Agent): Promise<void> {
  return until(
    () => `still not well:\n${agent.ciliate("status").stdout}`,
    () => agent.ciliate("status").code === 0,
  );
}
