// SPDX-License-Identifier: Apache-2.0

import { createSocket, type Socket } from "node:dgram";
import { setTimeout as delay } from "node:timers/promises";
import { Stall } from "./stall.ts";
import type { OpenOptions } from "./streams.ts";

const RETRY_MS = 200;
const ATTEMPTS = 25;
/** Two numbers, and room for what a note of IPv6 has in their place. */
const MESSAGE_BYTES = 16;

/** One UDP flow to a stream server: numbered datagrams, each answered by its number and a name. */
export class Flow {
  /** The server that answered last. */
  backend = "";
  broken: string | undefined;
  wrong = 0;
  /** How often another server answered than the time before. */
  moved = 0;
  sent = 0;
  answered = 0;
  /** Up to where in what was sent there has been an answer; some may have been lost. */
  heard = 0;
  readonly stall = new Stall();
  readonly opened: Promise<void>;
  readonly #socket: Socket;
  readonly #number: number;
  #connected = false;

  constructor(number: number, { address, port }: Pick<OpenOptions, "address" | "port">) {
    this.#number = number;
    this.#socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    this.#socket.on("message", (message) => this.#take(message));
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      this.broken ??= error.code ?? error.message;
    });
    this.opened = this.#open(address, port);
  }

  get localPort(): number {
    return this.#connected ? this.#socket.address().port : 0;
  }

  send(): void {
    if (this.broken !== undefined || !this.#connected) return;
    const message = Buffer.alloc(MESSAGE_BYTES);
    message.writeUInt32BE(this.#number, 0);
    message.writeUInt32BE(this.sent++, 4);
    this.stall.begin();
    this.#socket.send(message);
  }

  reset(): void {
    this.#connected = false;
    this.#socket.close();
  }

  async finish(): Promise<void> {
    await delay(RETRY_MS);
    this.reset();
  }

  /** Repeats the first datagram until there is an answer: nobody else would. */
  async #open(address: string, port: number): Promise<void> {
    await new Promise<void>((done) => this.#socket.connect(port, address, done));
    this.#connected = true;
    for (let attempt = 0; attempt < ATTEMPTS && this.backend === ""; attempt++) {
      this.send();
      await Promise.race([
        delay(RETRY_MS),
        new Promise((done) => this.#socket.once("message", done)),
      ]);
    }
    if (this.backend === "") this.broken ??= "no answer";
  }

  #take(message: Buffer): void {
    const name = message.toString("latin1", MESSAGE_BYTES);
    const right =
      message.length > MESSAGE_BYTES &&
      message.readUInt32BE(0) === this.#number &&
      message.readUInt32BE(4) < this.sent;
    if (!right) this.wrong++;
    if (this.backend !== "" && this.backend !== name) this.moved++;
    this.backend = name;
    this.answered++;
    if (right) this.heard = Math.max(this.heard, message.readUInt32BE(4) + 1);
    this.stall.end(false);
  }
}
