// SPDX-License-Identifier: Apache-2.0

// The programs of sockets, attached to this process's own cgroup and met by real system calls.
// Backends are servers on the loopback device of a namespace of their own, at addresses of both
// families; the tables of IPv6 say what IPv4's say, with other addresses.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { attachSockets, type SocketStatus } from "../../src/datapath/attach-sockets.ts";
import { dumpMetrics } from "../../src/datapath/dump.ts";
import { FrontendKind, NodeAddress, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { type Datapath, openDatapath } from "../../src/datapath/load.ts";
import { openTables } from "../../src/datapath/tables/tables.ts";
import {
  addToCgroup,
  cgroupPath,
  cgroupRoot,
  createCgroup,
  removeCgroup,
} from "../../src/kernel/cgroup.ts";
import { check } from "../../src/kernel/error.ts";
import * as sys from "../../src/kernel/ffi.ts";
import { namespaceCookie } from "../../src/kernel/netns.ts";
import { formatIpv6, parseIpv4, parseIpv6 } from "../../src/net/address.ts";
import { widen } from "../wide/address.ts";
import { narrowed } from "../wide/tables.ts";
import { serveTcp, serveUdp } from "./calls.ts";
import { addFrontend } from "./tables.ts";

const CLONE_NEWNET = 0x4000_0000;
const TCP = 6;
const UDP = 17;

export const VIP = "198.51.100.1";
export const OWN_NODE = "10.0.1.1";
export const OTHER_NODE = "10.0.2.1";
/** What every namespace has for itself. */
export const LOOPBACK = "127.0.0.1";
/** The two backends of most services, and the one of those that must be told from them. */
export const BACKENDS = ["127.0.0.2", "127.0.0.3"] as const;
export const OTHER_BACKEND = "127.0.0.4";
/** A node port that TCP has and UDP hasn't. */
export const TCP_NODE_PORT = 30_090;

export const name = `ciliate-sockets-${process.pid}`;
export const pins = `/sys/fs/bpf/${name}`;
const home = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "/";

/** How a program writes addresses; `mapped` is IPv4 of a socket of AF_INET6. */
export type Spelling = "ipv4" | "mapped" | "ipv6";

/** One of the stage's addresses, as a program writes it. */
export function spell(spelling: Spelling, address: string): string {
  if (spelling === "ipv4") return address;
  if (spelling === "mapped") return `::ffff:${address}`;
  if (address === "0.0.0.0") return "::";
  return address === LOOPBACK ? "::1" : formatIpv6(widen(parseIpv4(address)));
}

export interface Scene {
  readonly datapath: Datapath;
  readonly cgroup: string;
  /** Of the servers, the same at each backend. */
  readonly ports: { readonly tcp: number; readonly udp: number };
}
const stage: { scene?: Scene } = {};
const closing: (() => void)[] = [];

export function scene(): Scene {
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

type Tables = Awaited<ReturnType<typeof openTables>>;

async function fill(tables: Tables, ports: Scene["ports"]): Promise<void> {
  const add = async (address: string, port: number, protocol: number, kind: number, to: number) => {
    const key = { address: parseIpv4(address), port, protocol, kind: kind as FrontendKind };
    assert.deepEqual(await tables.frontends.apply([{ key, value: to }]), []);
  };
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
    for (const [address, number, kind, id] of FRONTENDS) {
      await add(address, number, protocol, kind, id + offset);
    }
  }
  await add("0.0.0.0", TCP_NODE_PORT, TCP, FrontendKind.nodePort, 2);
  await add(OTHER_NODE, 0, 0, FrontendKind.node, NodeAddress.other);
  await add(OWN_NODE, 0, 0, FrontendKind.node, NodeAddress.own);
}

/** The tables of IPv6 say the same of IPv6. */
function fillWide({ maps, wide }: Datapath): void {
  assert.ok(wide !== undefined, "the packet path has no tables of IPv6");
  const same = new Map<number, number>();
  const seen = narrowed(maps, wide, { widen: same, narrow: same });
  for (const [row, backend] of maps.backends.entries()) seen.backends.update(row, backend);
  for (const [, { slot }] of maps.frontends.entries()) {
    for (const frontend of slot) {
      if (frontend.kind !== 0) addFrontend({ family: "ipv6", maps: seen }, frontend);
    }
  }
}

export function load(): Datapath {
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
      nodeAddress: parseIpv4(OWN_NODE),
      nodeAddress6: parseIpv6(spell("ipv6", OWN_NODE)),
      natPortMin: 32_768,
      nodePortMin: 30_000,
      nodePortMax: 32_767,
      nodeNetns: namespaceCookie(),
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

function addAddress(address: string): void {
  const [length, more] = address.includes(":") ? [128, ["nodad"]] : [32, []];
  execFileSync("ip", ["addr", "add", `${address}/${length}`, "dev", "lo", ...more]);
}

/** The same ports at each of the addresses, where servers say their IPv4 address. */
async function serve(): Promise<Scene["ports"]> {
  let ports = { tcp: 0, udp: 0 };
  for (const address of [...BACKENDS, OTHER_BACKEND]) {
    const wide = spell("ipv6", address);
    addAddress(wide);
    for (const at of [address, wide]) {
      ports = {
        tcp: await serveTcp(at, ports.tcp, closing, address),
        udp: await serveUdp(at, ports.udp, closing, address),
      };
    }
  }
  return ports;
}

/** Puts the programs on a cgroup, or takes them off. */
export function attach(
  { programs }: Datapath,
  cgroup: string | undefined,
  guardsNodePorts = true,
): SocketStatus {
  return attachSockets({ programs: programs.sockets, pins, cgroup, guardsNodePorts });
}

export async function setUp(): Promise<void> {
  check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
  execFileSync("ip", ["link", "set", "lo", "up"]);
  // Whoever isn't translated meets nobody there.
  for (const address of [VIP, OWN_NODE, OTHER_NODE]) {
    addAddress(address);
    addAddress(spell("ipv6", address));
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
  const ports = await serve();
  await fill(tables, ports);
  fillWide(datapath);
  const cgroup = createCgroup(name);
  addToCgroup(cgroup, process.pid);
  assert.deepEqual(attach(datapath, cgroup), { cgroup, reason: "" });
  stage.scene = { datapath, cgroup, ports };
}

export function tearDown(): void {
  addToCgroup(join(cgroupRoot(), home), process.pid);
  for (const close of closing.toReversed()) close();
  rmSync(pins, { recursive: true, force: true });
  removeCgroup(cgroupPath(name));
}

/** Names of errors, where a value is awaited. */
export const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

export async function times<T>(count: number, act: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = 0; i < count; i++) results.push(await act());
  return results;
}

function counted(): Record<string, number> {
  const rows = [...dumpMetrics(pins)].filter(({ place }) => place === "socket");
  return Object.fromEntries(rows.map(({ verdict, packets }) => [verdict, packets]));
}

/** Which verdicts calls ended in, and how often. */
export async function countedBy(act: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = counted();
  await act();
  const changes = Object.entries(counted()).map(
    ([verdict, packets]) => [verdict, packets - (before[verdict] ?? 0)] as const,
  );
  return Object.fromEntries(changes.filter(([, packets]) => packets !== 0));
}

/** The row of a service with an id, and its number. */
function rowOf({ services }: Datapath["maps"], id: number) {
  const found = [...services.entries()].find(([, service]) => service.id === id);
  assert.ok(found !== undefined, `there is no service ${id}`);
  return found;
}

/** From now on a service remembers its clients for long; what it gives takes that back. */
export function affinityLasts(maps: Datapath["maps"], id: number): () => void {
  const [row, service] = rowOf(maps, id);
  maps.services.update(row, { ...service, affinityAge: 1_000_000 });
  return () => maps.services.update(row, service);
}

/** Gives every slot of a ring of two the other backend; what it gives turns it back. */
export function turnRing({ services, rings }: Datapath["maps"], id: number): () => void {
  const [, { ring, ringSize }] = rowOf({ services } as Datapath["maps"], id);
  const turn = (): void => {
    for (let row = ring; row < ring + Math.ceil(ringSize / 32); row++) {
      const { backend } = rings.lookup(row) ?? assert.fail();
      rings.update(row, { backend: backend.map((slot) => 1 - slot) as never });
    }
  };
  turn();
  return turn;
}
