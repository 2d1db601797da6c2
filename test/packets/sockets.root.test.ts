// SPDX-License-Identifier: Apache-2.0

// The programs of sockets, attached to this process's own cgroup and met by real system calls.
// Backends are servers on the loopback device of a namespace of their own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { attachSockets } from "../../src/datapath/attach-sockets.ts";
import { dumpMetrics, dumpSockets } from "../../src/datapath/dump.ts";
import { FrontendKind, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { type Datapath, openDatapath } from "../../src/datapath/load.ts";
import { type HotTables, openTables } from "../../src/datapath/tables/tables.ts";
import { listPins } from "../../src/kernel/bpffs.ts";
import {
  addToCgroup,
  cgroupPath,
  cgroupRoot,
  createCgroup,
  removeCgroup,
} from "../../src/kernel/cgroup.ts";
import { check } from "../../src/kernel/error.ts";
import * as sys from "../../src/kernel/ffi.ts";
import { BpfLink } from "../../src/kernel/link.ts";
import { namespaceCookie } from "../../src/kernel/netns.ts";
import { ANY_IPV6, parseIpv4 } from "../../src/net/address.ts";
import { connectTcp, connectUdp, sendUdp, serveTcp, serveUdp, withSocket } from "./calls.ts";

const CLONE_NEWNET = 0x4000_0000;
const TCP = 6;
const UDP = 17;
/** Calls enough that one of two backends is left out by chance once in a million. */
const MANY = 21;

const VIP = "198.51.100.1";
const OTHER_NODE = "10.0.2.1";
const STRANGER = "127.1.2.3";
/** The two backends of most services, and the one of those that must be told from them. */
const BACKENDS = ["127.0.0.2", "127.0.0.3"] as const;
const OTHER_BACKEND = "127.0.0.4";

const name = `ciliate-sockets-${process.pid}`;
const pins = `/sys/fs/bpf/${name}`;
const home = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "/";

interface Scene {
  readonly datapath: Datapath;
  readonly tables: HotTables;
  readonly cgroup: string;
  /** Of the servers, the same at each backend. */
  readonly ports: { readonly tcp: number; readonly udp: number };
}
const stage: { scene?: Scene } = {};
const closing: (() => void)[] = [];

function scene(): Scene {
  assert.ok(stage.scene !== undefined, "the programs were not attached");
  return stage.scene;
}

/** Services by id. Rings of two backends alternate, so that chance and hashes meet both. */
const SERVICES = [
  { id: 1, flags: 0, backends: BACKENDS },
  { id: 2, flags: 0, backends: [OTHER_BACKEND] },
  { id: 3, flags: 0, backends: [] },
  { id: 4, flags: ServiceFlag.affinity, backends: BACKENDS },
] as const;

const FRONTENDS: readonly (readonly [
  address: string,
  port: number,
  kind: FrontendKind,
  id: number,
])[] = [
  [VIP, 80, FrontendKind.service, 1],
  // Outside another service than inside.
  [VIP, 81, FrontendKind.service, 1],
  [VIP, 81, FrontendKind.internal, 2],
  [VIP, 82, FrontendKind.internal, 2],
  [VIP, 83, FrontendKind.service, 3],
  [VIP, 84, FrontendKind.service, 4],
  ["0.0.0.0", 30_000, FrontendKind.nodePort, 2],
  ["0.0.0.0", 30_080, FrontendKind.nodePort, 2],
  ["0.0.0.0", 32_767, FrontendKind.nodePort, 2],
  // A node port that leads elsewhere from outside.
  ["0.0.0.0", 30_081, FrontendKind.nodePort, 1],
  ["0.0.0.0", 30_081, FrontendKind.internal, 2],
  // Not in the range of node ports.
  ["0.0.0.0", 29_999, FrontendKind.nodePort, 2],
  ["0.0.0.0", 32_768, FrontendKind.nodePort, 2],
];

async function fill(tables: HotTables, ports: Scene["ports"]): Promise<void> {
  for (const [protocol, port, offset] of [
    [TCP, ports.tcp, 0],
    [UDP, ports.udp, 10],
  ] as const) {
    const images = SERVICES.map(({ id, flags, backends }) => ({
      key: id + offset,
      value: {
        flags,
        affinityAge: 0,
        ring: Uint16Array.from({ length: 34 }, (_, slot) => slot % Math.max(1, backends.length)),
        backends: backends.map((address, index) => ({
          address: parseIpv4(address),
          port,
          local: true,
          counter: offset + index + 1,
        })),
      },
    }));
    assert.deepEqual(await tables.images.apply(images), []);
    const frontends = FRONTENDS.map(([address, number, kind, id]) => ({
      key: { address: parseIpv4(address), port: number, protocol, kind },
      value: id + offset,
    }));
    assert.deepEqual(await tables.frontends.apply(frontends), []);
  }
  const node = { address: parseIpv4(OTHER_NODE), port: 0, protocol: 0, kind: FrontendKind.node };
  assert.deepEqual(await tables.frontends.apply([{ key: node, value: 0 }]), []);
}

function load(): Datapath {
  return openDatapath({
    objects: join(import.meta.dirname, "../../build/bpf"),
    pins,
    limits: {
      services: 64,
      backends: 256,
      ringEntries: 65_536,
      formerOwners: 1024,
      endpoints: 16,
      nodes: 16,
      sourceRanges: 16,
      affinities: 16,
      sockets: 1024,
      flows: 1024,
    },
    constants: {
      nodeAddress: parseIpv4("10.0.0.1"),
      nodeAddress6: ANY_IPV6,
      natPortMin: 32_768,
      nodePortMin: 30_000,
      nodePortMax: 32_767,
      hashSeed: 0n,
      outerPrefix: parseIpv4("0.0.0.0"),
      outerHostMask: 0,
      dispatch: 0,
      acceptOption: 0,
      clampMss: 0,
      fragmentsTrack: 0,
      fragmentsPass: 0,
      nodeClients: 0,
      socketLookup: 0,
      quietJiffies: 100,
      passLimit: 100,
      answerLimit: 100,
      limitWindow: 100,
    },
  });
}

async function setUp(): Promise<void> {
  check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
  execFileSync("ip", ["link", "set", "lo", "up"]);
  // Whoever isn't translated meets nobody there.
  for (const address of [VIP, OTHER_NODE]) {
    execFileSync("ip", ["addr", "add", `${address}/32`, "dev", "lo"]);
  }
  const datapath = load();
  closing.push(() => datapath[Symbol.dispose]());
  const tables = await openTables({
    maps: {
      frontends: datapath.maps.frontends.raw,
      services: datapath.maps.services.raw,
      rings: datapath.maps.rings.raw,
      backends: datapath.maps.backends.raw,
    },
    nexthops: { acquire: () => 0, release: () => undefined, follow: () => undefined },
    now: () => 1,
  });
  closing.push(() => tables[Symbol.dispose]());
  const [first, ...others] = [...BACKENDS, OTHER_BACKEND];
  const ports = { tcp: await serveTcp(first, 0, closing), udp: await serveUdp(first, 0, closing) };
  for (const address of others) {
    await serveTcp(address, ports.tcp, closing);
    await serveUdp(address, ports.udp, closing);
  }
  await fill(tables, ports);
  const cgroup = createCgroup(name);
  addToCgroup(cgroup, process.pid);
  assert.deepEqual(attachSockets(datapath.programs.sockets, pins, cgroup), {
    cgroup,
    reason: "",
  });
  stage.scene = { datapath, tables, cgroup, ports };
}

function tearDown(): void {
  addToCgroup(join(cgroupRoot(), home), process.pid);
  for (const close of closing.toReversed()) close();
  rmSync(pins, { recursive: true, force: true });
  removeCgroup(cgroupPath(name));
}

/** Names of errors, where a value is awaited. */
const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

async function times<T>(count: number, act: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = 0; i < count; i++) results.push(await act());
  return results;
}

function counted(): Record<string, number> {
  const rows = [...dumpMetrics(pins)].filter(({ place }) => place === "socket");
  return Object.fromEntries(rows.map(({ verdict, packets }) => [verdict, packets]));
}

async function countedBy(act: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = counted();
  await act();
  const changes = Object.entries(counted()).map(
    ([verdict, packets]) => [verdict, packets - (before[verdict] ?? 0)] as const,
  );
  return Object.fromEntries(changes.filter(([, packets]) => packets !== 0));
}

const unique = (values: readonly string[]): string[] => [...new Set(values)].sort();

async function bothByTcp(): Promise<void> {
  const all = await times(MANY, () => connectTcp(VIP, 80));
  assert.deepEqual(unique(all.map(({ backend }) => backend)), [...BACKENDS]);
  assert.deepEqual(unique(all.map(({ peer }) => peer)), [`${VIP}:80`]);
}

async function bothByUdp(): Promise<void> {
  const all = await times(MANY, () => connectUdp(VIP, 80));
  assert.deepEqual(unique(all.map(({ backend }) => backend)), [...BACKENDS]);
  assert.deepEqual(unique(all.flatMap(({ peer, from }) => [peer, from])), [`${VIP}:80`]);
}

async function unconnectedStays(): Promise<void> {
  const perSocket = await times(MANY, () =>
    withSocket(async (socket) => {
      const answers = await times(3, () => sendUdp(socket, VIP, 80));
      const other = await sendUdp(socket, VIP, 82);
      assert.deepEqual(other, { backend: OTHER_BACKEND, from: `${VIP}:82` });
      // The same backend, by another of the service's ports.
      const again = await sendUdp(socket, VIP, 81);
      assert.deepEqual(again, { backend: OTHER_BACKEND, from: `${VIP}:81` });
      assert.deepEqual(unique(answers.map(({ from }) => from)), [`${VIP}:80`]);
      const backends = unique(answers.map(({ backend }) => backend));
      assert.equal(backends.length, 1, "a socket keeps its backend");
      return backends[0] ?? "";
    }),
  );
  assert.deepEqual(unique(perSocket), [...BACKENDS]);
}

async function internalFirst(): Promise<void> {
  for (const port of [81, 82]) {
    const peer = `${VIP}:${port}`;
    assert.deepEqual(await connectTcp(VIP, port), { backend: OTHER_BACKEND, peer });
  }
}

async function nodePorts(): Promise<void> {
  for (const [address, port] of [
    [OTHER_NODE, 30_000],
    [OTHER_NODE, 32_767],
    [OTHER_NODE, 30_081],
    ["127.0.0.1", 30_080],
    [STRANGER, 30_080],
  ] as const) {
    const peer = `${address}:${port}`;
    assert.deepEqual(await connectTcp(address, port), { backend: OTHER_BACKEND, peer });
  }
  // No node has this address, and these ports are none of node ports'.
  for (const [address, port] of [
    [VIP, 30_080],
    [OTHER_NODE, 29_999],
    [OTHER_NODE, 32_768],
    ["127.0.0.1", 29_999],
  ] as const) {
    const verdicts = await countedBy(async () => {
      assert.equal(await connectTcp(address, port).catch(codeOf), "ECONNREFUSED");
    });
    assert.deepEqual(verdicts, { "pass not ours": 1 }, `${address}:${port}`);
  }
}

async function noBackend(): Promise<void> {
  const verdicts = await countedBy(async () => {
    assert.equal(await connectTcp(VIP, 83).catch(codeOf), "ECONNREFUSED");
    assert.equal(await connectUdp(VIP, 83).catch(codeOf), "ECONNREFUSED");
    const sent = withSocket((socket) => sendUdp(socket, VIP, 83));
    assert.equal(await sent.catch(codeOf), "ECONNREFUSED");
  });
  assert.deepEqual(verdicts, { "drop no backend": 3 });
}

async function untouched(): Promise<void> {
  const { ports } = scene();
  const verdicts = await countedBy(async () => {
    const peer = `${OTHER_BACKEND}:${ports.tcp}`;
    const direct = await connectTcp(OTHER_BACKEND, ports.tcp);
    assert.deepEqual(direct, { backend: OTHER_BACKEND, peer });
    const from = `${OTHER_BACKEND}:${ports.udp}`;
    const datagram = await connectUdp(OTHER_BACKEND, ports.udp);
    assert.deepEqual(datagram, { backend: OTHER_BACKEND, peer: from, from });
    // TCP's port of a service that has the same for UDP only is another one.
    assert.equal(await connectTcp(VIP, 85).catch(codeOf), "ECONNREFUSED");
  });
  assert.deepEqual(verdicts, { "pass not ours": 3 });
}

async function affinity(): Promise<void> {
  const tcp = await times(MANY, () => connectTcp(VIP, 84));
  const udp = await times(3, () => withSocket((socket) => sendUdp(socket, VIP, 84)));
  const backends = [...tcp, ...udp].map(({ backend }) => backend);
  assert.equal(unique(backends).length, 1, "a namespace is one client");
}

async function remembered(): Promise<void> {
  const { ports } = scene();
  const known = new Set([...dumpSockets(pins)].map(({ cookie }) => cookie));
  await withSocket((socket) => times(3, () => sendUdp(socket, VIP, 82)));
  const fresh = [...dumpSockets(pins)].filter(({ cookie }) => !known.has(cookie));
  const [row] = fresh;
  assert.ok(row !== undefined && fresh.length === 1);
  const { cookie: _, ageSeconds, ...rest } = row;
  assert.ok(ageSeconds < 60);
  assert.deepEqual(rest, {
    protocol: "udp",
    service: `${VIP}:82`,
    backend: `${OTHER_BACKEND}:${ports.udp}`,
    id: 12,
    netns: namespaceCookie(),
  });
}

async function connections(): Promise<void> {
  const { datapath } = scene();
  const total = (counter: number): number => {
    const { counterStride } = datapath.sizes;
    const rows = datapath.maps.counters.raw.info.maxEntries / counterStride;
    const of = (cpu: number) => datapath.maps.counters.lookup(cpu * counterStride + counter);
    return Array.from({ length: rows }, (_, cpu) => Number(of(cpu)?.connections ?? 0n)).reduce(
      (sum, one) => sum + one,
    );
  };
  const before = [total(1), total(11)];
  await times(3, () => connectTcp(VIP, 82));
  await times(2, () => connectUdp(VIP, 82));
  await withSocket((socket) => sendUdp(socket, VIP, 82));
  // A datagram of an unconnected socket begins nothing.
  assert.deepEqual([total(1) - (before[0] ?? 0), total(11) - (before[1] ?? 0)], [3, 2]);
}

async function otherFamily(): Promise<void> {
  const verdicts = await countedBy(async () => {
    assert.equal(await connectTcp(`::ffff:${VIP}`, 80).catch(codeOf), "ECONNREFUSED");
  });
  assert.deepEqual(verdicts, {});
}

/** The programs on the cgroup, by their pinned links. */
function attached(): Map<string, { readonly programId: number; readonly cgroupId: bigint }> {
  const links = listPins(pins).filter((pin) => pin.startsWith("link_"));
  return new Map(
    links.map((pin) => {
      using link = BpfLink.openPinned(join(pins, pin));
      const { programId, cgroupId } = link.info();
      return [pin, { programId, cgroupId }];
    }),
  );
}

const LINKS = ["link_connect4", "link_getpeername4", "link_recvmsg4", "link_sendmsg4"];

async function restarted(): Promise<void> {
  const { cgroup } = scene();
  const before = attached();
  assert.deepEqual([...before.keys()].sort(), LINKS);
  // As after the end of an agent, nothing but pins holds the programs.
  using next = load();
  const { connect4 } = next.programs.sockets;
  attachSockets(next.programs.sockets, pins, cgroup);
  assert.equal(attached().get("link_connect4")?.programId, connect4.id);
  assert.notEqual(before.get("link_connect4")?.programId, connect4.id);
  assert.equal((await connectTcp(VIP, 82)).backend, OTHER_BACKEND);
}

async function moved(): Promise<void> {
  const { cgroup, datapath } = scene();
  const { sockets } = datapath.programs;
  const other = createCgroup(`${name}/other`);
  assert.deepEqual(attachSockets(sockets, pins, other), { cgroup: other, reason: "" });
  assert.equal(await connectTcp(VIP, 82).catch(codeOf), "ECONNREFUSED");
  const gone = attachSockets(sockets, pins, "/sys/fs/cgroup/ciliate-nowhere");
  assert.equal(gone.cgroup, "");
  assert.match(gone.reason, /ciliate-nowhere/);
  assert.equal(attached().size, 0, "rather none than those of another cgroup");
  const plain = attachSockets(sockets, pins, "/tmp");
  assert.match(plain.reason, /no directory of a cgroup2 file system/);
  attachSockets(sockets, pins, cgroup);
  assert.equal((await connectTcp(VIP, 82)).backend, OTHER_BACKEND);
  assert.deepEqual(attachSockets(sockets, pins, undefined), { cgroup: "", reason: "" });
  assert.equal(attached().size, 0);
  assert.equal(await connectTcp(VIP, 82).catch(codeOf), "ECONNREFUSED");
  attachSockets(sockets, pins, cgroup);
}

suite("services at the socket", () => {
  before(setUp);
  after(tearDown);
  test("TCP connects to any backend, and its peer is the service", bothByTcp);
  test("connected UDP has any backend, and answers come from the service", bothByUdp);
  test("an unconnected UDP socket keeps a backend for each service", unconnectedStays);
  test("who is inside gets the service for inside, if there is one", internalFirst);
  test("node ports are at every node and at loopback, within their range", nodePorts);
  test("without backends, a call is refused at once", noBackend);
  test("what is no service is left alone", untouched);
  test("with affinity, all sockets of a namespace have one backend", affinity);
  test("a socket is remembered once for each backend", remembered);
  test("connections are counted to their backend", connections);
  test("an IPv4 address in an IPv6 socket is left alone", otherFamily);
  test("another agent's programs take the place of those that are there", restarted);
  test("the programs move to another cgroup, or none, as wanted", moved);
});
