// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { formatAddressPort, parseAddress, parseIpv4 } from "../../net/address.ts";
import { check } from "../error.ts";
import * as sys from "../ffi.ts";
import { createNamespace, deleteNamespace } from "../netns.ts";
import {
  type DiagSocket,
  destroySocket,
  listBoundSockets,
  listSocketsTo,
  openSocketDiag,
} from "./sock-diag.ts";

const CLONE_NEWNET = 0x4000_0000;
const LIMIT_MS = 3000;
const FIRST = "127.0.0.2";
const SECOND = "127.0.0.3";

check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
execFileSync("ip", ["link", "set", "lo", "up"]);

const seen = (emitter: Socket | UdpSocket, event: string): Promise<unknown[]> =>
  once(emitter, event, { signal: AbortSignal.timeout(LIMIT_MS) });

async function serve(t: TestContext): Promise<number> {
  const server = createServer((socket) => socket.on("error", () => undefined));
  t.after(() => server.close());
  server.listen(0, "0.0.0.0");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function connectTcp(t: TestContext, to: string, port: number) {
  const socket = connect({ host: to, port });
  t.after(() => socket.destroy());
  await seen(socket, "connect");
  return socket;
}

async function connectUdp(t: TestContext, to: string, port: number) {
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  socket.connect(port, to);
  await seen(socket, "connect");
  return socket;
}

const onlyOne = (sockets: readonly DiagSocket[]): DiagSocket => {
  const [socket] = sockets;
  assert.ok(socket !== undefined && sockets.length === 1, `${sockets.length} sockets`);
  return socket;
};

test("TCP sockets are found by their peer and closed, and no others", async (t) => {
  const port = await serve(t);
  const one = await connectTcp(t, FIRST, port);
  const other = await connectTcp(t, SECOND, port);
  using netlink = openSocketDiag();
  const find = (address: string, to = port) =>
    listSocketsTo(netlink, { protocol: "tcp", address: parseIpv4(address), port: to });
  const found = onlyOne(find(FIRST));
  assert.notEqual(found.cookie, onlyOne(find(SECOND)).cookie);
  assert.deepEqual(find(FIRST, port - 1), []);
  const name = `ciliate-diag-${process.pid}`;
  t.after(() => deleteNamespace(name));
  using elsewhere = openSocketDiag(createNamespace(name));
  assert.equal(destroySocket(elsewhere, found), false, "in another namespace there is none");
  const failure = seen(one, "error");
  assert.equal(destroySocket(netlink, found), true);
  const [error] = (await failure) as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNABORTED");
  assert.equal(destroySocket(netlink, found), false, "it is gone");
  assert.deepEqual(find(FIRST), []);
  assert.ok(!other.destroyed);
  other.write("still there");
  onlyOne(find(SECOND));
});

test("a connected UDP socket is closed, one without a peer is never found", async (t) => {
  const port = 5300;
  const one = await connectUdp(t, FIRST, port);
  const other = await connectUdp(t, SECOND, port);
  const unconnected = createSocket("udp4");
  t.after(() => unconnected.close());
  unconnected.bind(port, FIRST);
  await seen(unconnected, "listening");
  using netlink = openSocketDiag();
  const find = (address: string) =>
    listSocketsTo(netlink, { protocol: "udp", address: parseIpv4(address), port });
  const found = onlyOne(find(FIRST));
  const failure = seen(one, "error");
  assert.equal(destroySocket(netlink, found), true);
  const [error] = (await failure) as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNABORTED");
  assert.deepEqual(find(FIRST), []);
  onlyOne(find(SECOND));
  assert.equal(other.remoteAddress().address, SECOND);
});

/** Addresses as a socket of AF_INET6 says them, and as they are looked for. */
for (const [spelled, address] of [
  [`::ffff:${FIRST}`, FIRST],
  ["::1", "::1"],
] as const) {
  test(`sockets of AF_INET6 with the peer ${spelled} are found and closed`, async (t) => {
    const server = createServer((socket) => socket.on("error", () => undefined));
    t.after(() => server.close());
    server.listen(0, "::");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const tcp = await connectTcp(t, spelled, port);
    const udp = createSocket("udp6");
    t.after(() => udp.close());
    udp.connect(port, spelled);
    await seen(udp, "connect");
    using netlink = openSocketDiag();
    for (const [protocol, socket] of [
      ["tcp", tcp],
      ["udp", udp],
    ] as const) {
      const find = (of: string) =>
        listSocketsTo(netlink, { protocol, address: parseAddress(of), port });
      const found = onlyOne(find(address));
      assert.deepEqual(find(SECOND), []);
      assert.deepEqual(find("::2"), []);
      const failure = seen(socket, "error");
      assert.equal(destroySocket(netlink, found), true);
      const [error] = (await failure) as [NodeJS.ErrnoException];
      assert.equal(error.code, "ECONNABORTED");
      assert.deepEqual(find(address), []);
    }
  });
}

test("a socket's cookie tells it from one that took its place", async (t) => {
  const port = await serve(t);
  const socket = await connectTcp(t, FIRST, port);
  using netlink = openSocketDiag();
  const found = onlyOne(
    listSocketsTo(netlink, { protocol: "tcp", address: parseIpv4(FIRST), port }),
  );
  const id = found.id.slice();
  new DataView(id.buffer).setBigUint64(40, found.cookie + 1n, true);
  assert.equal(destroySocket(netlink, { ...found, id, cookie: found.cookie + 1n }), false);
  assert.ok(!socket.destroyed);
});

test("sockets that wait for whoever comes are listed with what they are bound to", async (t) => {
  const port = 6100;
  for (const [host, ipv6Only] of [
    [FIRST, false],
    ["::1", true],
    [`::ffff:${SECOND}`, false],
  ] as const) {
    const server = createServer();
    t.after(() => server.close());
    server.listen({ port, host, ipv6Only });
    await once(server, "listening");
  }
  const udp = createSocket({ type: "udp6", ipv6Only: true });
  t.after(() => udp.close());
  udp.bind(port, "::");
  await seen(udp, "listening");
  await connectTcp(t, FIRST, port);
  await connectUdp(t, FIRST, port);
  using netlink = openSocketDiag();
  const list = (protocol: "tcp" | "udp"): string[] =>
    listBoundSockets(netlink, protocol)
      .filter((socket) => socket.port === port)
      .map(({ family, address }) => `${family} ${formatAddressPort(address, port)}`)
      .sort();
  assert.deepEqual(list("tcp"), ["10 127.0.0.3:6100", "10 [::1]:6100", "2 127.0.0.2:6100"]);
  assert.deepEqual(list("udp"), ["10 [::]:6100"]);
});
