// SPDX-License-Identifier: Apache-2.0

// The demo's side of streams-client.ts.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type { Lab } from "../../src/lab/lab.ts";
import type { Tick } from "./streams-client.ts";

export const TICK_MS = 100;
/** Between a stream's answer and its next request. */
const INTERVAL_MS = 100;
const START_LIMIT_TICKS = 600;

/** Connections that are held open and speak all the time. */
export class Streams implements AsyncDisposable {
  readonly ticks: Tick[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Opens streams from the client and waits until each has been answered. */
  static async open(lab: Lab, address: string, port: number, count: number): Promise<Streams> {
    const program = join(import.meta.dirname, "streams-client.ts");
    const words = [address, port, count, INTERVAL_MS].map(String);
    const child = lab.spawn("client", [process.execPath, program, ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const streams = new Streams(child);
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) =>
        streams.ticks.push(JSON.parse(line) as Tick),
      );
    }
    for (let waited = 0; waited < START_LIMIT_TICKS; waited++) {
      await delay(TICK_MS);
      if (streams.ticks.at(-1)?.answered === count) break;
    }
    return streams;
  }

  /** What was true at the end of the last tick. */
  get now(): Tick {
    const tick = this.ticks.at(-1);
    if (tick === undefined) throw new Error("the client's streams gave no sign of life");
    return tick;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "close");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

export function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, one) => total + one, 0);
}
