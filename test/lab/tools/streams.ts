// SPDX-License-Identifier: Apache-2.0
// Stream servers in pods and stream clients in the lab's client, as a test talks to them.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../../src/lab/lab.ts";

export const STREAM_PORT = 7000;
const SERVER = new URL("./stream-server.ts", import.meta.url);
const CLIENT = new URL("./stream-client.ts", import.meta.url);
const ANSWER_LIMIT_MS = 90_000;
const FINISH_LIMIT_MS = 20_000;
const ROUND_LIMIT_MS = 30_000;

/** A group of connections or flows. */
export interface OpenOptions {
  readonly address: string;
  readonly port: number;
  readonly count: number;
  readonly protocol?: "tcp" | "udp";
  /** Between two records of one connection. */
  readonly intervalMs: number;
  /** Of TCP; at most 65 536. */
  readonly recordBytes: number;
  /** For a single connection from this port. */
  readonly localPort?: number;
  /** After this time without an answer it is broken; 10 s unless said otherwise. */
  readonly openLimitMs?: number;
}

export type Question =
  | { readonly ask: "open"; readonly group: string; readonly options: OpenOptions }
  | { readonly ask: "report" | "pause" | "resume" | "reset"; readonly group: string }
  | { readonly ask: "finish" | "round"; readonly group: string; readonly limitMs: number };

/** How a group is. Bytes for TCP, datagrams for UDP. */
export interface GroupReport {
  readonly open: number;
  readonly broken: number;
  /** "BACKEND: WHY" of the first few. */
  readonly brokenHow: readonly string[];
  /** Chunks that were not what they should be. */
  readonly wrong: number;
  /** UDP: how often another backend answered. */
  readonly moved: number;
  readonly sent: number;
  readonly answered: number;
  /** Since the last report: the longest wait for an answer, and how many waited over a second. */
  readonly longestStallMs: number;
  readonly stalled: number;
  /** The longest time that the client itself was late, since the last report. */
  readonly clientDelayMs: number;
  readonly byBackend: Readonly<Record<string, { readonly open: number; readonly broken: number }>>;
  /** The client's ports of the first few. */
  readonly ports: readonly number[];
}

export type Answer = GroupReport | { readonly error: string };

/** What a stream server has seen. */
export interface ServerReport {
  readonly accepted: number;
  readonly open: number;
  readonly errors: number;
  readonly wrong: number;
  readonly bytes: number;
  readonly datagrams: number;
}

interface Hearer {
  readonly resolve: (line: string) => void;
  readonly reject: (error: Error) => void;
}

/** A program in a place that answers each line by a line. */
class Speaker implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #hearers: Hearer[] = [];
  readonly #what: string;

  constructor(lab: Lab, where: string, program: URL, args: readonly string[]) {
    const file = fileURLToPath(program);
    this.#what = `${basename(file)} in ${where}`;
    const argv = [process.execPath, file, ...args];
    this.#child = lab.spawn(where, argv, { stdio: ["pipe", "pipe", "inherit"] });
    const { stdin, stdout } = this.#child;
    if (stdin === null || stdout === null) throw new Error(`${this.#what} has no pipes`);
    stdin.on("error", () => {}); // it has ended: its silence tells
    createInterface({ input: stdout })
      .on("line", (line) => this.#hearers.shift()?.resolve(line))
      .on("close", () => {
        for (const { reject } of this.#hearers) reject(new Error(`${this.#what} has ended`));
      });
  }

  /** The next line it says; throws when it says none. */
  async hear(): Promise<unknown> {
    const line = await new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${this.#what} is silent`)), ANSWER_LIMIT_MS);
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(late);
          settle(value);
        };
      this.#hearers.push({ resolve: settled(resolve), reject: settled(reject) });
    });
    return JSON.parse(line);
  }

  ask(line: string): Promise<unknown> {
    this.#child.stdin?.write(`${line}\n`);
    return this.hear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

/** A stream server in each of these pods, by the pod's name. */
export class StreamServers implements AsyncDisposable {
  readonly #servers = new Map<string, Speaker>();
  readonly #lab: Lab;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** Starts servers and returns when they listen. */
  async start(pods: readonly string[], port = STREAM_PORT): Promise<void> {
    await Promise.all(
      pods.map(async (pod) => {
        const server = new Speaker(this.#lab, pod, SERVER, [pod, `${port}`]);
        this.#servers.set(pod, server);
        await server.hear();
      }),
    );
  }

  async report(pod: string): Promise<ServerReport> {
    const server = this.#servers.get(pod);
    if (server === undefined) throw new Error(`no stream server runs in ${pod}`);
    return (await server.ask("report")) as ServerReport;
  }

  async wrong(): Promise<number> {
    const reports = await Promise.all([...this.#servers.keys()].map((pod) => this.report(pod)));
    return reports.reduce((sum, { wrong }) => sum + wrong, 0);
  }

  /** Ends one at once, as a pod that dies. */
  async kill(pod: string): Promise<void> {
    await this.#servers.get(pod)?.[Symbol.asyncDispose]();
    this.#servers.delete(pod);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#servers.keys()].map((pod) => this.kill(pod)));
  }
}

/** A process with groups of connections. */
export class StreamClient implements AsyncDisposable {
  readonly #speaker: Speaker;

  constructor(lab: Lab, where = "client") {
    this.#speaker = new Speaker(lab, where, CLIENT, []);
  }

  /** Opens connections and returns when each has heard from its backend, or has failed. */
  open(group: string, options: OpenOptions): Promise<GroupReport> {
    return this.#ask({ ask: "open", group, options });
  }

  report(group: string): Promise<GroupReport> {
    return this.#ask({ ask: "report", group });
  }

  /** Returns when everyone in a group has had an answer to what it sends from now on, or broke. */
  round(group: string, limitMs = ROUND_LIMIT_MS): Promise<GroupReport> {
    return this.#ask({ ask: "round", group, limitMs });
  }

  /** Sends nothing more for now. */
  pause(group: string): Promise<GroupReport> {
    return this.#ask({ ask: "pause", group });
  }

  resume(group: string): Promise<GroupReport> {
    return this.#ask({ ask: "resume", group });
  }

  /** Ends the connections of a group at once, as a process that dies with data unread. */
  reset(group: string): Promise<GroupReport> {
    return this.#ask({ ask: "reset", group });
  }

  /** Waits for the answers to all that was sent, and closes the connections. */
  finish(group: string, limitMs = FINISH_LIMIT_MS): Promise<GroupReport> {
    return this.#ask({ ask: "finish", group, limitMs });
  }

  async #ask(question: Question): Promise<GroupReport> {
    const answer = (await this.#speaker.ask(JSON.stringify(question))) as Answer;
    if ("error" in answer) throw new Error(answer.error);
    return answer;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#speaker[Symbol.asyncDispose]();
  }
}
