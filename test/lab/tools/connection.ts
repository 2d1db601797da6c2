// SPDX-License-Identifier: Apache-2.0

import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { bytesAt, isRight, keysOf } from "./pattern.ts";
import { Stall } from "./stall.ts";
import type { OpenOptions } from "./streams.ts";

const POLL_MS = 10;
const OPEN_LIMIT_MS = 10_000;

type ConnectionOptions = Pick<OpenOptions, "address" | "port" | "localPort" | "openLimitMs">;

/** One TCP connection to a stream server: every byte sent is answered by one, every one checked. */
export class Connection {
  /** The server's name, "" until it has told. */
  backend = "";
  /** Why it is of no use any more. */
  broken: string | undefined;
  wrong = 0;
  readonly moved = 0;
  sent = 0;
  answered = 0;
  readonly stall = new Stall();
  /** Settles when the server has told its name, or when it broke. */
  readonly opened: Promise<void>;
  readonly #socket: Socket;
  readonly #keys: ReturnType<typeof keysOf>;
  #head = Buffer.alloc(0);
  readonly #late: NodeJS.Timeout;
  #settle: () => void = () => {};
  #finished = false;

  constructor(number: number, options: ConnectionOptions) {
    const { address, port, localPort, openLimitMs = OPEN_LIMIT_MS } = options;
    this.#keys = keysOf(number);
    this.opened = new Promise((settle) => {
      this.#settle = settle;
    });
    const from = localPort === undefined ? {} : { localPort };
    this.#socket = connect({ host: address, port, noDelay: true, ...from });
    const head = Buffer.alloc(4);
    head.writeUInt32BE(number);
    this.stall.begin();
    this.#socket.write(head);
    this.#socket.on("data", (chunk) => this.#take(chunk));
    this.#socket.on("error", (error: NodeJS.ErrnoException) =>
      this.#break(error.code ?? error.message),
    );
    this.#socket.on("end", () => this.#break("closed by the server"));
    this.#socket.on("close", () => this.#break("closed"));
    this.#late = setTimeout(() => {
      this.#break("no answer");
      this.#socket.destroy();
    }, openLimitMs);
  }

  /** Up to where in what was sent there has been an answer. */
  get heard(): number {
    return this.answered;
  }

  get localPort(): number {
    return this.#socket.localPort ?? 0;
  }

  send(bytes: number): void {
    if (this.broken !== undefined || this.#finished) return;
    this.stall.begin();
    this.#socket.write(bytesAt(this.#keys.up, this.sent, bytes));
    this.sent += bytes;
  }

  reset(): void {
    this.#finished = true;
    this.#socket.resetAndDestroy();
  }

  /** Waits for the answers to all that was sent, and closes. */
  async finish(limitMs: number): Promise<void> {
    const end = performance.now() + limitMs;
    while (this.broken === undefined && this.answered < this.sent && performance.now() < end) {
      await delay(POLL_MS);
    }
    this.#finished = true;
    this.#socket.end();
  }

  #take(chunk: Buffer): void {
    if (this.backend !== "") {
      this.#check(chunk);
      return;
    }
    this.#head = Buffer.concat([this.#head, chunk]);
    const length = this.#head[0] ?? 0;
    if (this.#head.length <= length) return;
    this.backend = this.#head.toString("latin1", 1, 1 + length);
    this.stall.end(false);
    clearTimeout(this.#late);
    this.#settle();
    const rest = this.#head.subarray(1 + length);
    if (rest.length > 0) this.#check(rest);
  }

  #check(chunk: Buffer): void {
    if (!isRight(this.#keys.down, this.answered, chunk)) this.wrong++;
    this.answered += chunk.length;
    if (this.answered > this.sent) this.wrong++;
    this.stall.end(this.answered < this.sent);
  }

  #break(why: string): void {
    clearTimeout(this.#late);
    if (!this.#finished) this.broken ??= why;
    this.stall.end(false);
    this.#settle();
  }
}
