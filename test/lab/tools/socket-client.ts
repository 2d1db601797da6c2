// SPDX-License-Identifier: Apache-2.0

// Usage: socket-client.ts tcp|udp|datagrams ADDRESS PORT   One socket that asks once and then
// waits. Each line on standard output says in JSON what has happened to it (sockets.ts has the
// type). It ends when its socket is closed under its hands, or with the lab.

import { createSocket } from "node:dgram";
import { connect } from "node:net";
import type { SocketNews } from "./sockets.ts";

const ASK = "GET /name HTTP/1.1\r\nHost: lab\r\n\r\n";
const [kind, address = "", portText] = process.argv.slice(2);
const port = Number(portText);

function tell(news: SocketNews): void {
  process.stdout.write(`${JSON.stringify(news)}\n`);
}

function failed(error: NodeJS.ErrnoException): void {
  tell({ ended: error.code ?? error.message });
  process.exit();
}

function byTcp(): void {
  const socket = connect({ host: address, port });
  socket.on("error", failed);
  socket.on("close", () => tell({ ended: "closed" }));
  socket.on("connect", () => socket.write(ASK));
  socket.on("data", (data) => {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    tell({ peer, from: peer, answer: data.toString().split("\r\n\r\n")[1] ?? "" });
  });
}

function byUdp(connected: boolean): void {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.on("error", failed);
  socket.on("message", (data, from) => {
    const remote = connected ? socket.remoteAddress() : { address, port };
    const peer = `${remote.address}:${remote.port}`;
    tell({ peer, from: `${from.address}:${from.port}`, answer: data.toString() });
  });
  socket.on("connect", () => socket.send("hello"));
  if (connected) socket.connect(port, address);
  else socket.send("hello", port, address, (error) => error && failed(error));
}

if (kind === "tcp") byTcp();
else byUdp(kind === "udp");
