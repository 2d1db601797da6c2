// SPDX-License-Identifier: Apache-2.0

// Usage: stream-client.ts   Thousands of connections to stream servers, in groups. Each line on
// standard input is a question (streams.ts has their types), each line on standard output the
// answer to one, in order. The end of standard input is the client's.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { Connection } from "./connection.ts";
import { Flow } from "./flow.ts";
import type { Answer, GroupReport, OpenOptions, Question } from "./streams.ts";

const TICK_MS = 10;
const OPEN_AT_ONCE = 100;
const BROKEN_SHOWN = 10;
const NS_PER_MS = 1e6;

type Member = Connection | Flow;

const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();

class Group {
  readonly members: Member[] = [];
  readonly #options: OpenOptions;
  #next = 0;
  #due = 0;
  #lastTick = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: OpenOptions) {
    this.#options = options;
  }

  async open(firstNumber: number): Promise<void> {
    const { count, protocol } = this.#options;
    const make = (number: number): Member =>
      protocol === "udp" ? new Flow(number, this.#options) : new Connection(number, this.#options);
    for (let from = 0; from < count; from += OPEN_AT_ONCE) {
      const some = Array.from({ length: Math.min(OPEN_AT_ONCE, count - from) }, (_, index) =>
        make(firstNumber + from + index),
      );
      this.members.push(...some);
      await Promise.all(some.map((member) => member.opened));
    }
    this.resume();
  }

  /** Sends on as many members as are due, one after the other, so that load is even. */
  #tick(): void {
    const { intervalMs, recordBytes } = this.#options;
    const now = performance.now();
    const rounds = Math.min(1, (now - this.#lastTick) / intervalMs);
    this.#due += this.members.length * rounds;
    this.#lastTick = now;
    for (; this.#due >= 1; this.#due--) {
      this.members[this.#next]?.send(recordBytes);
      this.#next = (this.#next + 1) % this.members.length;
    }
  }

  pause(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  resume(): void {
    this.#lastTick = performance.now();
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  reset(): void {
    this.pause();
    for (const member of this.members) member.reset();
  }

  async round(limitMs: number): Promise<void> {
    const end = performance.now() + limitMs;
    const goals = this.members.map((member) => ({ member, past: member.sent }));
    const waits = ({ member, past }: (typeof goals)[number]): boolean =>
      member.broken === undefined && member.heard <= past;
    while (goals.some(waits)) {
      if (performance.now() > end) {
        const silent = goals.filter(waits).length;
        throw new Error(`${silent} of ${goals.length} have had no answer for ${limitMs} ms`);
      }
      await wait(TICK_MS);
    }
  }

  async finish(limitMs: number): Promise<void> {
    this.pause();
    await Promise.all(this.members.map((member) => member.finish(limitMs)));
  }

  report(): GroupReport {
    const broken = this.members.filter(({ broken }) => broken !== undefined);
    const byBackend: Record<string, { open: number; broken: number }> = {};
    for (const { backend, broken } of this.members) {
      byBackend[backend] ??= { open: 0, broken: 0 };
      byBackend[backend][broken === undefined ? "open" : "broken"]++;
    }
    const sum = (value: (member: Member) => number): number =>
      this.members.reduce((total, member) => total + value(member), 0);
    const report = {
      open: this.members.length - broken.length,
      broken: broken.length,
      brokenHow: broken.slice(0, BROKEN_SHOWN).map((m) => `${m.backend}: ${m.broken}`),
      wrong: sum(({ wrong }) => wrong),
      moved: sum(({ moved }) => moved),
      sent: sum(({ sent }) => sent),
      answered: sum(({ answered }) => answered),
      stalled: this.members.filter((member) => member.stall.isOver(1000)).length,
      longestStallMs: Math.max(0, ...this.members.map(({ stall }) => stall.longestMs())),
      clientDelayMs: delay.max / NS_PER_MS,
      byBackend,
      ports: this.members.slice(0, BROKEN_SHOWN).map(({ localPort }) => localPort),
    };
    for (const { stall } of this.members) stall.forget();
    delay.reset();
    return report;
  }
}

const groups = new Map<string, Group>();
let opened = 0;

function groupOf(name: string): Group {
  const group = groups.get(name);
  if (group === undefined) throw new Error(`there is no group ${name}`);
  return group;
}

async function answer(question: Question): Promise<Answer> {
  const { group: name } = question;
  switch (question.ask) {
    case "open": {
      const group = new Group(question.options);
      groups.set(name, group);
      const first = opened;
      opened += question.options.count;
      await group.open(first);
      return group.report();
    }
    case "report":
      return groupOf(name).report();
    case "pause":
      groupOf(name).pause();
      return groupOf(name).report();
    case "resume":
      groupOf(name).resume();
      return groupOf(name).report();
    case "reset":
      groupOf(name).reset();
      return groupOf(name).report();
    case "round":
      await groupOf(name).round(question.limitMs);
      return groupOf(name).report();
    case "finish":
      await groupOf(name).finish(question.limitMs);
      return groupOf(name).report();
  }
}

let queue = Promise.resolve();
createInterface({ input: process.stdin })
  .on("line", (line) => {
    queue = queue.then(async () => {
      const reply = await answer(JSON.parse(line) as Question).catch((error: Error) => ({
        error: error.message,
      }));
      process.stdout.write(`${JSON.stringify(reply)}\n`);
    });
  })
  .on("close", () => process.exit(0));
