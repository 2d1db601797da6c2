// SPDX-License-Identifier: Apache-2.0
// Servers that say who they are, and calls that ask them. In the namespace of the thread.

import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

const LIMIT_MS = 3000;

/** A TCP server that says who it is, by default its address, to who connects; port 0 for any. */
export async function serveTcp(
  address: string,
  port: number,
  closing: (() => void)[],
  name = address,
): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.write(name);
  });
  closing.push(() => server.close());
  server.listen(port, address);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** A UDP server that answers who it is, by default its address. */
export async function serveUdp(
  address: string,
  port: number,
  closing: (() => void)[],
  name = address,
): Promise<number> {
  const server = createSocket(udpOf(address));
  closing.push(() => server.close());
  server.on("message", (_, from) => server.send(name, from.port, from.address));
  server.bind(port, address);
  await once(server, "listening");
  return server.address().port;
}

export interface Connected {
  /** What the server said. */
  readonly backend: string;
  /** getpeername(2). */
  readonly peer: string;
}

/** Connects, waits for the server's words and ends. */
export async function connectTcp(address: string, port: number): Promise<Connected> {
  const socket: Socket = connect({ host: address, port });
  try {
    const signal = AbortSignal.timeout(LIMIT_MS);
    const [data] = (await once(socket, "data", { signal })) as [Buffer];
    return { backend: data.toString(), peer: `${socket.remoteAddress}:${socket.remotePort}` };
  } finally {
    socket.destroy();
  }
}

export interface Answered extends Connected {
  /** Who sent the answer, by recvmsg(2). */
  readonly from: string;
}

/** The kind of sockets by which a program asks at an address as it is written. */
export function udpOf(address: string): "udp4" | "udp6" {
  return address.includes(":") ? "udp6" : "udp4";
}

/** A UDP socket for as long as `use` takes. */
export async function withSocket<T>(
  kind: "udp4" | "udp6",
  use: (socket: UdpSocket) => Promise<T>,
): Promise<T> {
  const socket = createSocket(kind);
  try {
    return await use(socket);
  } finally {
    socket.close();
  }
}

type Sent = (error: Error | null) => void;

async function exchange(
  socket: UdpSocket,
  send: (sent: Sent) => void,
): Promise<Omit<Answered, "peer">> {
  const answer = once(socket, "message", { signal: AbortSignal.timeout(LIMIT_MS) });
  // Only this way does dgram tell that a datagram could not be sent.
  const refusal = new Promise<never>((_, reject) => send((error) => error && reject(error)));
  const [data, from] = (await Promise.race([answer, refusal])) as [Buffer, RemoteInfo];
  return { backend: data.toString(), from: `${from.address}:${from.port}` };
}

/** Connects a UDP socket, asks by it and closes it. */
export function connectUdp(address: string, port: number): Promise<Answered> {
  return withSocket(udpOf(address), async (socket) => {
    const connected = once(socket, "connect", { signal: AbortSignal.timeout(LIMIT_MS) });
    socket.connect(port, address);
    await connected;
    const remote = socket.remoteAddress();
    const answer = await exchange(socket, (sent) => socket.send("hello", sent));
    return { ...answer, peer: `${remote.address}:${remote.port}` };
  });
}

/** Asks by a socket that names its peer with each datagram. */
export async function sendUdp(socket: UdpSocket, address: string, port: number) {
  return await exchange(socket, (sent) => socket.send("hello", port, address, sent));
}

/** Binds a TCP socket, and gives what the system call said: "bound", or an error's name. */
export function bindTcp(host: string, port: number): Promise<string> {
  const server = createServer();
  return bound(server, () => server.listen({ host, port }));
}

/** The same of UDP. */
export function bindUdp(address: string, port: number): Promise<string> {
  const socket = createSocket(udpOf(address));
  return bound(socket, () => socket.bind(port, address));
}

async function bound(socket: UdpSocket | Server, bind: () => unknown): Promise<string> {
  const said = once(socket, "listening", { signal: AbortSignal.timeout(LIMIT_MS) });
  bind();
  try {
    await said;
    return "bound";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  } finally {
    socket.close();
  }
}
