// SPDX-License-Identifier: Apache-2.0

// Usage: datagrams.ts NAME ADDRESS PORT COUNT   Sends so many datagrams, each with a number and of
// its own length, to a web-server.ts of this name, and prints how many were answered, as JSON. Some
// may be lost, or come twice; it fails when an answer belongs to no datagram.

import { createSocket } from "node:dgram";
import { setTimeout as delay } from "node:timers/promises";

const [name = "", address = "", port = "", count = ""] = process.argv.slice(2);
const STEP_BYTES = 37; // of every length, odd ones too
const MOST_BYTES = 1200;
const QUIET_MS = 1000;

function datagram(number: number): Buffer {
  const bytes = Buffer.alloc(4 + ((number * STEP_BYTES) % MOST_BYTES), `${number} `);
  bytes.writeUInt32BE(number);
  return bytes;
}

const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
const answered = new Set<number>();
let lastMs = 0;
socket.on("message", (answer) => {
  const got = Buffer.from(answer.subarray(name.length)).reverse();
  const number = got.readUInt32BE();
  const isRight = number < Number(count) && got.equals(datagram(number));
  if (!isRight || answer.toString("latin1", 0, name.length) !== name) {
    throw new Error(`an answer to no datagram: ${answer.toString("hex")}`);
  }
  answered.add(number);
  lastMs = performance.now();
});

// Connected: who else than the service answers isn't heard.
await new Promise<void>((done) => socket.connect(Number(port), address, done));
for (let number = 0; number < Number(count); number++) {
  await new Promise<void>((done, failed) => {
    socket.send(datagram(number), (error) => (error ? failed(error) : done()));
  });
  await delay(2);
}
lastMs = performance.now();
while (performance.now() - lastMs < QUIET_MS) await delay(100);
socket.close();
process.stdout.write(`${JSON.stringify({ answered: answered.size })}\n`);
