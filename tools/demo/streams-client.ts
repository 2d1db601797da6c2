// SPDX-License-Identifier: Apache-2.0

// Usage: streams-client.ts ADDRESS PORT STREAMS INTERVAL_MS   Runs in the lab's client. Holds so
// many connections to a service, each of which sends a numbered request at that interval and
// checks that the answer bears its number and comes from the pod that answered first; opens ten
// new connections a second besides. Writes what happened in each tenth of a second as a JSON line.

import { connect, type Socket } from "node:net";

const TICK_MS = 100;
const FRESH_TIMEOUT_MS = 10_000;

const [address = "", port = "", streams = "", interval = ""] = process.argv.slice(2);
const intervalMs = Number(interval);

/** What happened in one tick, and the state at its end. */
export interface Tick {
  /** Streams that are open. */
  readonly open: number;
  /** Streams that have had an answer. */
  readonly answered: number;
  /** Open streams by the pod that answers them. */
  readonly streams: Readonly<Record<string, number>>;
  /** Pods whose streams were reset or closed, with how many, since the start. */
  readonly lost: Readonly<Record<string, number>>;
  /** Answers that bore a wrong number or came from another pod, since the start. */
  readonly wrong: number;
  /** Answers in this tick by pod. */
  readonly answers: Readonly<Record<string, number>>;
  /** New connections of this tick that were answered, by pod, and how many were not. */
  readonly fresh: Readonly<Record<string, number>>;
  readonly freshFailed: number;
  /** The longest that a stream that still lives has waited for an answer since the start. */
  readonly stallMs: number;
}

let answers: Record<string, number> = {};
let fresh: Record<string, number> = {};
let freshFailed = 0;
let wrong = 0;
let stallMs = 0;
let answered = 0;
const lost: Record<string, number> = {};
const living = new Set<Stream>();

function count(into: Record<string, number>, pod: string): void {
  into[pod] = (into[pod] ?? 0) + 1;
}

/** One connection with one request on its way at a time. */
class Stream {
  readonly #number: number;
  readonly #socket: Socket;
  #pod = "";
  #sent = 0;
  /** When the request that waits for its answer was sent. */
  #waitsSince: number | undefined;
  #received = "";

  constructor(number: number) {
    this.#number = number;
    this.#socket = connect(Number(port), address);
    this.#socket.setNoDelay(true);
    this.#socket.setEncoding("latin1");
    this.#socket.on("connect", () => setTimeout(() => this.#send(), (number * 7) % intervalMs));
    this.#socket.on("data", (text) => this.#receive(String(text)));
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      if (!living.delete(this)) return;
      count(lost, this.#pod || "nobody");
    });
  }

  get pod(): string {
    return this.#pod;
  }

  /** How long it waits by now, in ms. */
  get waitsMs(): number {
    return this.#waitsSince === undefined ? 0 : performance.now() - this.#waitsSince;
  }

  #send(): void {
    this.#sent++;
    this.#waitsSince = performance.now();
    this.#socket.write(`GET /stream/${this.#number}/${this.#sent} HTTP/1.1\r\nHost: demo\r\n\r\n`);
  }

  #receive(text: string): void {
    this.#received += text;
    const answer = /\r\n\r\n(\S+) (\S+)\n$/.exec(this.#received);
    if (answer === null) return;
    const [, pod = "", uri] = answer;
    stallMs = Math.max(stallMs, this.waitsMs);
    this.#waitsSince = undefined;
    this.#received = "";
    if (this.#pod === "") {
      this.#pod = pod;
      answered++;
    }
    if (this.#pod !== pod || uri !== `/stream/${this.#number}/${this.#sent}`) wrong++;
    count(answers, pod);
    setTimeout(() => this.#send(), intervalMs);
  }
}

/** Opens one new connection and asks once. */
function ask(): void {
  let received = "";
  let done = false;
  const socket = connect(Number(port), address);
  socket.setEncoding("latin1");
  socket.setTimeout(FRESH_TIMEOUT_MS, () => socket.destroy());
  socket.on("connect", () =>
    socket.write("GET /stream/new/1 HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"),
  );
  socket.on("data", (text) => {
    received += text;
    const pod = /\r\n\r\n(\S+) \S+\n$/.exec(received)?.[1];
    if (pod === undefined) return;
    done = true;
    count(fresh, pod);
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    if (!done) freshFailed++;
  });
}

for (let number = 0; number < Number(streams); number++) living.add(new Stream(number));

setInterval(() => {
  const streamsOf: Record<string, number> = {};
  for (const { waitsMs, pod } of living) {
    stallMs = Math.max(stallMs, waitsMs);
    count(streamsOf, pod);
  }
  const tick: Tick = {
    open: living.size,
    answered,
    streams: streamsOf,
    lost,
    wrong,
    answers,
    fresh,
    freshFailed,
    stallMs: Math.round(stallMs),
  };
  process.stdout.write(`${JSON.stringify(tick)}\n`);
  answers = {};
  fresh = {};
  freshFailed = 0;
  ask();
}, TICK_MS);
process.stdout.on("error", () => process.exit(0));
