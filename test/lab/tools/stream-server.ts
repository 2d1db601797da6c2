// SPDX-License-Identifier: Apache-2.0

// Usage: stream-server.ts NAME PORT
// A backend that checks every byte it gets and answers each by one of its own. TCP: a connection
// begins with its number in 4 bytes, the answer with the server's name behind its length. UDP: each
// datagram (flow, number) comes back with the name behind it. Standard input asks, by a line
// `report` each, for a line of JSON; its end is the server's.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { bytesAt, isRight, keysOf } from "./pattern.ts";

const BACKLOG = 4096;
const NUMBER_BYTES = 4;

const [name = "", portText = ""] = process.argv.slice(2);
const port = Number(portText);
const state = { accepted: 0, open: 0, errors: 0, wrong: 0, bytes: 0, datagrams: 0 };

class Stream {
  readonly #socket: Socket;
  #head = Buffer.alloc(0);
  #keys: ReturnType<typeof keysOf> | undefined;
  #position = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  take(chunk: Buffer): void {
    if (this.#keys !== undefined) {
      this.#answer(this.#keys, chunk);
      return;
    }
    this.#head = Buffer.concat([this.#head, chunk]);
    if (this.#head.length < NUMBER_BYTES) return;
    this.#keys = keysOf(this.#head.readUInt32BE(0));
    this.#socket.write(Buffer.concat([Buffer.of(name.length), Buffer.from(name)]));
    const rest = this.#head.subarray(NUMBER_BYTES);
    if (rest.length > 0) this.#answer(this.#keys, rest);
  }

  #answer(keys: ReturnType<typeof keysOf>, chunk: Buffer): void {
    if (!isRight(keys.up, this.#position, chunk)) {
      state.wrong++;
      this.#socket.resetAndDestroy();
      return;
    }
    this.#socket.write(bytesAt(keys.down, this.#position, chunk.length));
    this.#position += chunk.length;
    state.bytes += chunk.length;
  }
}

function serve(socket: Socket): void {
  const stream = new Stream(socket);
  state.accepted++;
  state.open++;
  socket.on("data", (chunk) => stream.take(chunk));
  socket.on("error", () => {
    state.errors++;
  });
  socket.on("close", () => {
    state.open--;
  });
}

/** A socket of each family, as a server that knows only one has. */
async function listen(family: "udp4" | "udp6"): Promise<void> {
  const [host, ipv6Only] = family === "udp4" ? ["0.0.0.0", false] : ["::", true];
  const datagrams = createSocket({ type: family, ipv6Only }, (message, { address, port: from }) => {
    state.datagrams++;
    datagrams.send([message, name], from, address);
  });
  const server = createServer({ noDelay: true }, serve);
  server.listen({ port, host, ipv6Only, backlog: BACKLOG });
  datagrams.bind(port);
  await Promise.all([once(server, "listening"), once(datagrams, "listening")]);
}

createInterface({ input: process.stdin })
  .on("line", () => process.stdout.write(`${JSON.stringify(state)}\n`))
  .on("close", () => process.exit(0));

await Promise.all([listen("udp4"), listen("udp6")]);
process.stdout.write(`${JSON.stringify(state)}\n`);
