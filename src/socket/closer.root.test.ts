// SPDX-License-Identifier: Apache-2.0
// Sockets of both families, in this namespace and in a pod's, whose backend is gone.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import test, { type TestContext } from "node:test";
import { maps as specs } from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import type { TypedMapSpec } from "../kernel/codec.ts";
import { check } from "../kernel/error.ts";
import * as sys from "../kernel/ffi.ts";
import { BpfMap } from "../kernel/map.ts";
import { listSocketsTo, openSocketDiag } from "../kernel/netlink/sock-diag.ts";
import {
  createNamespace,
  deleteNamespace,
  namespaceCookie,
  spawnInNamespace,
} from "../kernel/netns.ts";
import { until } from "../lab/process.ts";
import { type Address, parseAddress } from "../net/address.ts";
import { type AnyPeer, type AnyPeerKey, createSocketCloser } from "./closer.ts";

const CLONE_NEWNET = 0x4000_0000;
const LIMIT_MS = 10_000;
const SERVICE = 7;

check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
execFileSync("ip", ["link", "set", "lo", "up"]);

/** Peers as they are spelled, and as our tables have them. */
const PEERS = [
  ["127.0.0.2", "127.0.0.2"],
  ["::ffff:127.0.0.2", "127.0.0.2"],
  ["::1", "::1"],
] as const;

function openTables(t: TestContext) {
  const open = <K, V>(spec: TypedMapSpec<K, V>): TypedMap<K, V> => {
    const map = new TypedMap(BpfMap.create({ ...spec, maxEntries: 64 }), spec);
    t.after(() => map.close());
    return map;
  };
  return { ipv4: open(specs.socketPeers), ipv6: open(specs.socketPeers6) };
}

/** Serves at a port of all addresses, of this namespace; gives the port. */
async function serve(t: TestContext): Promise<number> {
  const server = createServer((socket) => socket.on("error", () => undefined));
  t.after(() => server.close());
  server.listen(0, "::");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** How a socket ended; undefined while it hasn't. */
interface Watched {
  code?: string | undefined;
}

/** Opens a connected socket here. */
async function open(t: TestContext, kind: "tcp" | "udp", to: string, port: number) {
  const watched: Watched = {};
  const failed = (error: NodeJS.ErrnoException): void => {
    watched.code = error.code;
  };
  const signal = AbortSignal.timeout(LIMIT_MS);
  if (kind === "tcp") {
    const socket = connect({ host: to, port }).on("error", failed);
    t.after(() => socket.destroy());
    await once(socket, "connect", { signal });
  } else {
    const socket = createSocket(to.includes(":") ? "udp6" : "udp4").on("error", failed);
    t.after(() => socket.close());
    socket.connect(port, to);
    await once(socket, "connect", { signal });
  }
  return watched;
}

/** Remembers every socket to this peer as one that was translated; gives their cookies. */
function remember(
  map: TypedMap<AnyPeerKey, AnyPeer>,
  { protocol, address, port }: { protocol: "tcp" | "udp"; address: Address; port: number },
  namespace?: string,
): void {
  using netlink = openSocketDiag(namespace);
  const sockets = listSocketsTo(netlink, { protocol, address, port });
  assert.ok(sockets.length > 0, `no ${protocol} socket`);
  for (const { cookie } of sockets) {
    const key = { cookie, backend: address, port, protocol: protocol === "tcp" ? 6 : 17 };
    const netns = namespaceCookie(namespace);
    const peer = { netns, serviceAddress: address, service: SERVICE, created: 0, servicePort: 80 };
    map.update(key as AnyPeerKey, peer as AnyPeer);
  }
}

/** A program of a pod with a connection to itself; says how it ends. */
const POD = `
const net = require("node:net");
const server = net.createServer((socket) => socket.on("error", () => undefined));
server.listen(5000, "::", () => {
  const socket = net.connect(5000, "::1", () => console.log("open"));
  socket.on("error", ({ code }) => { console.log(code); process.exit(); });
});
`;

test("sockets of both families whose peer is over are closed and forgotten", async (t) => {
  const { ipv4, ipv6 } = openTables(t);
  const port = await serve(t);
  const other = await serve(t);
  const closer = createSocketCloser({
    maps: [ipv4, ipv6],
    namespaces: () => [],
    failed: (error) => assert.fail(error),
  });
  const gone: Watched[] = [];
  const stays: Watched[] = [];
  for (const [spelled, text] of PEERS) {
    const address = parseAddress(text);
    const map = text.includes(":") ? ipv6 : ipv4;
    for (const protocol of ["tcp", "udp"] as const) {
      gone.push(await open(t, protocol, spelled, port));
      stays.push(await open(t, protocol, spelled, other));
      remember(map, { protocol, address, port });
      remember(map, { protocol, address, port: other });
    }
  }
  await closer.close((key) => key.port === port);
  await until("all ends", LIMIT_MS, () => gone.every(({ code }) => code !== undefined));
  assert.deepEqual(new Set(gone.map(({ code }) => code)), new Set(["ECONNABORTED"]));
  assert.deepEqual(closer.closed(), { tcp: 3, udp: 3 });
  assert.deepEqual(stays, Array(6).fill({}));
  const left = [...ipv4.entries(), ...ipv6.entries()].map(([key]) => key.port);
  assert.deepEqual(left, Array<number>(6).fill(other));
});

test("a socket of IPv6 in a pod's namespace is closed there", async (t) => {
  const { ipv4, ipv6 } = openTables(t);
  const name = `ciliate-closer-${process.pid}`;
  t.after(() => deleteNamespace(name));
  const path = createNamespace(name);
  execFileSync("ip", ["-n", name, "link", "set", "lo", "up"]);
  const child = spawnInNamespace(path, process.execPath, ["-e", POD], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const { stdout } = child;
  const said = async (): Promise<string> => {
    const signal = AbortSignal.timeout(LIMIT_MS);
    const [piece] = await once(stdout ?? assert.fail(), "data", { signal });
    return String(piece).trim();
  };
  assert.equal(await said(), "open");
  remember(ipv6, { protocol: "tcp", address: parseAddress("::1"), port: 5000 }, path);
  const options = { maps: [ipv4, ipv6], failed: (error: Error) => assert.fail(error) };
  const away = createSocketCloser({ ...options, namespaces: () => [] });
  await away.close(() => false);
  const failures: Error[] = [];
  const closer = createSocketCloser({
    ...options,
    // The second is no namespace that one can be in, as if it had vanished on the way there.
    namespaces: () => ["/nonexistent", "/proc/self/ns/uts", path],
    failed: (error) => failures.push(error),
  });
  const end = said();
  await closer.close(() => true);
  assert.equal(await end, "ECONNABORTED");
  assert.equal(failures.length, 1);
  assert.deepEqual(closer.closed(), { tcp: 1, udp: 0 });
  assert.deepEqual([...ipv6.entries()], []);
});
