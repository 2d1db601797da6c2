// SPDX-License-Identifier: Apache-2.0
// Programs with one socket each in a lab's places, and what they say of it.

import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../../src/lab/lab.ts";
import { until } from "../../../src/lab/process.ts";

export interface SocketAnswer {
  /** getpeername(2), for a socket that is connected. */
  readonly peer: string;
  /** Who answered, by recvmsg(2). */
  readonly from: string;
  readonly answer: string;
}

export type SocketNews = SocketAnswer | { readonly ended: string };

/** `datagrams`: UDP that names its peer with each datagram. */
export type SocketKind = "tcp" | "udp" | "datagrams";

const CLIENT = new URL("./socket-client.ts", import.meta.url);
const LIMIT_MS = 15_000;

/** A program that asked once over its socket, of AF_INET6 if its peer is spelled so. */
export class SocketProgram {
  readonly #what: string;
  readonly #child: ChildProcess;
  readonly #news: SocketNews[] = [];

  constructor(t: TestContext, lab: Lab, where: string, kind: SocketKind, to: string) {
    const colon = to.lastIndexOf(":");
    const [address, port] = [to.slice(0, colon), to.slice(colon + 1)];
    this.#what = `${kind} from ${where} to ${to}`;
    const argv = [process.execPath, fileURLToPath(CLIENT), kind, address, port];
    this.#child = lab.spawn(where, argv, { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => this.#child.kill("SIGKILL"));
    const { stdout } = this.#child;
    if (stdout !== null) {
      createInterface({ input: stdout }).on("line", (line) => this.#news.push(JSON.parse(line)));
    }
  }

  /** The answer that it got; fails if none came. */
  async answer(): Promise<SocketAnswer> {
    await until(`${this.#what}: an answer`, LIMIT_MS, () => this.#news.length > 0);
    const [first] = this.#news;
    if (first !== undefined && "answer" in first) return first;
    throw new Error(`${this.#what}: ${first?.ended}`);
  }

  /** How its socket ended; fails if it hasn't in time. */
  async end(limitMs = LIMIT_MS): Promise<string> {
    await until(`${this.#what}: an end`, limitMs, () => this.ended !== undefined);
    return this.ended ?? "";
  }

  get ended(): string | undefined {
    return this.#news.flatMap((news) => ("ended" in news ? [news.ended] : []))[0];
  }
}
