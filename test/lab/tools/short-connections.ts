// SPDX-License-Identifier: Apache-2.0

import { setTimeout as delay } from "node:timers/promises";
import type { Lab } from "../../../src/lab/lab.ts";
import { streamsTo } from "./stage.ts";
import { type GroupReport, StreamClient } from "./streams.ts";

const GROUP = "short";
const RECORD_BYTES = 3000;
/** After some connections, so that others get a processor. */
const REST_MS = 200;

/** Where connections go. */
export interface Goal {
  readonly address: string;
  readonly port: number;
}

/** What is wrong with connections that were opened, spoke once and were finished. */
function faultOf(report: GroupReport, count: number): string | undefined {
  if (report.broken > 0) return report.brokenHow.join(", ");
  if (report.wrong > 0) return `${report.wrong} wrong answers`;
  if (report.answered !== report.sent) return `${report.sent - report.answered} bytes unanswered`;
  return report.open === count ? undefined : `${report.open} of ${count} open`;
}

/** Connects to one service after the other, some connections at a time, until it is told to end. */
export class ShortConnections implements AsyncDisposable {
  /** "ADDRESS: WHY" of those that should have succeeded. */
  readonly failures: string[] = [];
  made = 0;
  readonly #client: StreamClient;
  readonly #goals: readonly Goal[];
  readonly #atOnce: number;
  #running: Promise<void> = Promise.resolve();
  #ended = true;

  constructor(lab: Lab, goals: readonly Goal[], atOnce: number) {
    this.#client = new StreamClient(lab);
    this.#goals = goals;
    this.#atOnce = atOnce;
  }

  start(): void {
    this.#ended = false;
    this.#running = this.#run();
  }

  /** Returns when what is under way is over. */
  async pause(): Promise<void> {
    this.#ended = true;
    await this.#running;
  }

  /** Some connections to one service. */
  async connect({ address, port }: Goal): Promise<void> {
    const count = this.#atOnce;
    const options = { address, port, intervalMs: 20, recordBytes: RECORD_BYTES };
    await this.#client.open(GROUP, streamsTo(count, options));
    await this.#client.round(GROUP);
    const fault = faultOf(await this.#client.finish(GROUP), count);
    if (fault !== undefined) this.failures.push(`${address}: ${fault}`);
    this.made += count;
  }

  async #run(): Promise<void> {
    for (let turn = 0; !this.#ended; turn++) {
      const goal = this.#goals[turn % this.#goals.length];
      if (goal === undefined) return;
      await this.connect(goal).catch((error: Error) => {
        this.failures.push(`${goal.address}: ${error.message}`);
      });
      await delay(REST_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#client[Symbol.asyncDispose]();
    await this.#running;
  }
}
