// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { maps, type Nexthop, NexthopFlag } from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import { openDevices } from "../device/devices.ts";
import { check } from "../kernel/error.ts";
import * as sys from "../kernel/ffi.ts";
import { BpfMap } from "../kernel/map.ts";
import { createNamespace, deleteNamespace } from "../kernel/netns.ts";
import { type Address, parseIpv4 } from "../net/address.ts";
import { checksumOf } from "../net/checksum.ts";
import { formatMac } from "../net/mac.ts";
import { createNexthops } from "./nexthops.ts";
import { outerChecksum } from "./outer.ts";

const CLONE_NEWNET = 0x4000_0000;
check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
const PEER = `ciliate-hop-${process.pid}`;
const peerPath = createNamespace(PEER);
after(() => deleteNamespace(PEER));

function ip(...words: string[]): void {
  execFileSync("ip", words);
}

function peer(...words: string[]): void {
  execFileSync("nsenter", [`--net=${peerPath}`, "ip", ...words]);
}

ip("link", "add", "cil0", "mtu", "1500", "type", "veth", "peer", "name", "cil1", "netns", PEER);
ip("addr", "add", "10.0.0.1/24", "dev", "cil0");
ip("link", "set", "cil0", "up");
peer("addr", "add", "10.0.0.2/24", "dev", "cil1");
peer("addr", "add", "10.0.0.3/24", "dev", "cil1");
peer("link", "set", "cil1", "up");
ip("route", "add", "10.244.0.0/16", "via", "10.0.0.2");

const SELF = parseIpv4("10.0.0.1");
const FAR = parseIpv4("10.244.3.4");
const FARTHER = parseIpv4("10.244.9.9");
const NEAR = parseIpv4("10.0.0.3");
const NOWHERE = parseIpv4("203.0.113.7");

async function until(condition: () => boolean, what: () => unknown): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    assert.ok(performance.now() < end, `after 5 s still not as wanted: ${JSON.stringify(what())}`);
    await delay(2);
  }
}

function open(existing?: TypedMap<number, Nexthop>, toPeers = false) {
  const spec = { ...maps.nexthops, maxEntries: 16 };
  const map = existing ?? new TypedMap(BpfMap.create(spec), spec);
  const failed = (error: Error): void => assert.fail(error);
  const devices = openDevices({ failed });
  const moved: (readonly [Address, number])[] = [];
  const edge = new Set<number>();
  const nexthops = createNexthops({
    edgeSendsBy: (ifindex) => edge.has(ifindex),
    map,
    devices,
    outerSource: SELF,
    hashedSource: false,
    mtu: undefined,
    toPeers,
    failed,
  });
  nexthops.follow((rows) => void moved.push(...rows));
  const at = (row: number): Nexthop => map.lookup(row) as Nexthop;
  return {
    map,
    devices,
    nexthops,
    edge,
    moved,
    at,
    resolved: (row: number) => (at(row).flags & NexthopFlag.resolved) !== 0,
    [Symbol.dispose]() {
      nexthops[Symbol.dispose]();
      devices[Symbol.dispose]();
    },
  };
}

function macOf(device: string, inPeer = false): string {
  const words = inPeer ? ["nsenter", `--net=${peerPath}`] : [];
  const [command = "cat", ...args] = [...words, "ip", "-j", "link", "show", device];
  return JSON.parse(execFileSync(command, args, { encoding: "utf8" }))[0].address;
}

describe("next hops", () => {
  test("the edge sends only by devices that XDP can send by, as they are now", async () => {
    using f = open();
    const row = f.nexthops.acquire(FAR);
    await until(
      () => f.resolved(row),
      () => f.nexthops.status(),
    );
    assert.equal(f.at(row).flags, NexthopFlag.resolved);
    f.edge.add(f.at(row).ifindex);
    f.nexthops.refresh();
    const both = NexthopFlag.resolved | NexthopFlag.edge;
    await until(
      () => f.at(row).flags === both,
      () => f.at(row),
    );
    f.edge.clear();
    f.nexthops.refresh();
    await until(
      () => f.at(row).flags === NexthopFlag.resolved,
      () => f.at(row),
    );
  });

  test("a route by a gateway of IPv6 is left to the kernel", async () => {
    using f = open();
    const route = ["203.0.113.0/24", "via", "inet6", "fe80::1", "dev", "cil0"];
    execFileSync("ip", ["route", "add", ...route]);
    try {
      await until(
        () => f.devices.routes.lookup(NOWHERE).some(({ gateway }) => typeof gateway === "bigint"),
        () => f.devices.routes.lookup(NOWHERE),
      );
      assert.equal(f.nexthops.acquire(NOWHERE), 0);
    } finally {
      execFileSync("ip", ["route", "del", ...route]);
    }
  });

  test("backends behind one gateway share a row, which has all that a packet needs", async () => {
    using f = open();
    const row = f.nexthops.acquire(FAR);
    assert.notEqual(row, 0);
    assert.equal(f.nexthops.acquire(FARTHER), row);
    assert.notEqual(f.nexthops.acquire(NEAR), row);
    assert.equal(f.nexthops.acquire(NOWHERE), 0);
    await until(
      () => f.resolved(row),
      () => f.nexthops.status(),
    );
    const { gateway, mtu, source, destination, outerSource, checksum } = f.at(row);
    assert.deepEqual(
      { gateway, mtu, outerSource, source: formatMac(source), destination: formatMac(destination) },
      {
        gateway: parseIpv4("10.0.0.2"),
        mtu: 1500,
        outerSource: SELF,
        source: macOf("cil0"),
        destination: macOf("cil1", true),
      },
    );
    assert.equal(checksum, outerChecksum(SELF));
    assert.equal(f.nexthops.status().find((status) => status.row === row)?.backends, 2);
  });

  test("a backend without a route is told, until it has one, and when it loses it", async () => {
    using f = open();
    for (const address of [FAR, NOWHERE, NEAR]) f.nexthops.acquire(address);
    assert.deepEqual(f.nexthops.unrouted(), [NOWHERE]);
    ip("route", "add", "203.0.113.0/24", "via", "10.0.0.2");
    await until(
      () => f.nexthops.unrouted().length === 0,
      () => f.nexthops.unrouted(),
    );
    ip("route", "replace", "unreachable", "203.0.113.0/24");
    await until(
      () => f.nexthops.unrouted().length === 1,
      () => f.nexthops.unrouted(),
    );
    ip("route", "del", "unreachable", "203.0.113.0/24");
  });

  test("a row follows the device's MTU, and loses its flag while it is rewritten", async () => {
    using f = open();
    const row = f.nexthops.acquire(FAR);
    await until(
      () => f.resolved(row),
      () => f.nexthops.status(),
    );
    ip("link", "set", "cil0", "mtu", "1400");
    await until(
      () => f.resolved(row) && f.at(row).mtu === 1400,
      () => f.at(row).mtu,
    );
    ip("link", "set", "cil0", "mtu", "1500");
    await until(
      () => f.resolved(row) && f.at(row).mtu === 1500,
      () => f.at(row).mtu,
    );
  });

  test("backends move when a better route comes, and back when it goes", async () => {
    using f = open();
    const row = f.nexthops.acquire(FAR);
    f.nexthops.acquire(FARTHER);
    ip("route", "add", "10.244.3.0/24", "via", "10.0.0.3", "mtu", "1300");
    await until(
      () => f.moved.length === 1,
      () => f.moved,
    );
    const [moved] = f.moved;
    assert.equal(moved?.[0], FAR);
    const other = moved?.[1] ?? 0;
    assert.notEqual(other, row);
    await until(
      () => f.resolved(other),
      () => f.nexthops.status(),
    );
    assert.equal(f.at(other).mtu, 1300);
    ip("route", "del", "10.244.3.0/24");
    await until(
      () => f.moved.length === 2,
      () => f.moved,
    );
    assert.deepEqual(f.moved[1], [FAR, row]);
  });

  test("backends behind one gateway have rows of their routes' MTUs", async () => {
    using f = open();
    const row = f.nexthops.acquire(FAR);
    assert.equal(f.nexthops.acquire(FARTHER), row);
    ip("route", "add", "10.244.3.0/24", "via", "10.0.0.2", "mtu", "1300");
    await until(
      () => f.moved.length === 1,
      () => f.moved,
    );
    const narrow = f.moved[0]?.[1] ?? 0;
    const mtus = (): number[] => [row, narrow].map((at) => (f.resolved(at) ? f.at(at).mtu : 0));
    await until(() => mtus().join() === "1500,1300", mtus);
    ip("route", "del", "10.244.3.0/24");
    await until(
      () => f.moved.length === 2,
      () => f.moved,
    );
    assert.deepEqual(f.moved[1], [FAR, row]);
  });

  test("a row that an address left, or that was given up, has another generation", async () => {
    using f = open();
    const generation = (at: number): number => Math.floor(f.at(at).flags / NexthopFlag.generation);
    const row = f.nexthops.acquire(FAR);
    f.nexthops.acquire(FARTHER);
    await until(
      () => f.resolved(row),
      () => f.nexthops.status(),
    );
    assert.equal(generation(row), 0);
    ip("link", "set", "cil0", "mtu", "1400");
    await until(
      () => f.resolved(row) && f.at(row).mtu === 1400,
      () => f.at(row),
    );
    assert.equal(generation(row), 0, "another MTU is the same way");
    ip("link", "set", "cil0", "mtu", "1500");
    ip("route", "add", "10.244.3.0/24", "via", "10.0.0.3");
    await until(
      () => f.moved.length === 1,
      () => f.moved,
    );
    assert.equal(generation(row), 1);
    const other = f.moved[0]?.[1] ?? 0;
    ip("route", "del", "10.244.3.0/24");
    await until(
      () => f.moved.length === 2,
      () => f.moved,
    );
    await f.nexthops.settled();
    assert.equal(f.at(other).ifindex, 0);
    assert.ok(generation(other) > 0, "what was made for it must not use who comes next");
    const before = generation(other);
    const next = f.nexthops.acquire(NEAR);
    assert.equal(next, other, "it is given out again");
    assert.equal(generation(next), before);
    await until(
      () => f.resolved(next) && f.resolved(row),
      () => f.nexthops.status(),
    );
    assert.equal(generation(next), before);
  });

  test("a row is unresolved while its device is down, and comes back with it", async () => {
    using f = open();
    const row = f.nexthops.acquire(NEAR);
    await until(
      () => f.resolved(row),
      () => f.nexthops.status(),
    );
    ip("link", "set", "cil0", "down");
    await until(
      () => !f.resolved(row),
      () => f.nexthops.status(),
    );
    ip("link", "set", "cil0", "up");
    ip("route", "replace", "10.244.0.0/16", "via", "10.0.0.2");
    const last = (): number => f.moved.findLast(([address]) => address === NEAR)?.[1] ?? row;
    await until(
      () => f.resolved(last()),
      () => [f.nexthops.status(), f.moved],
    );
  });

  test("a gateway that nobody answers for leaves its row unresolved, with the reason", async () => {
    using f = open();
    const silent = parseIpv4("10.0.0.77");
    const row = f.nexthops.acquire(silent);
    await until(
      () => f.devices.neighbour(sys.interfaceIndex("cil0"), silent) !== undefined,
      () => f.nexthops.status(),
    );
    const [status] = f.nexthops.status();
    assert.equal(f.resolved(row), false);
    assert.match(status?.reason ?? "", /10\.0\.0\.77 has no MAC on cil0 yet \(neighbour \w+\)/);
  });

  test("a restart keeps rows in their places and in force", async () => {
    const first = open();
    const row = first.nexthops.acquire(FAR);
    await until(
      () => first.resolved(row),
      () => first.nexthops.status(),
    );
    const near = first.nexthops.acquire(NEAR);
    await until(
      () => first.resolved(near),
      () => first.nexthops.status(),
    );
    await first.nexthops.settled();
    first[Symbol.dispose]();
    const generations = 7 * NexthopFlag.generation;
    for (const used of [row, near]) {
      const there = first.at(used);
      first.map.update(used, { ...there, flags: there.flags | generations });
    }
    using second = open(first.map);
    assert.equal(second.nexthops.acquire(FAR), row);
    assert.equal(second.at(row).flags, NexthopFlag.resolved | generations);
    assert.equal(second.resolved(row), true, "there is no moment without it");
    second.nexthops.prune();
    await second.nexthops.settled();
    assert.equal(second.at(near).ifindex, 0, "what nobody asked for is free");
    assert.equal(second.at(near).flags, generations + NexthopFlag.generation);
  });

  test("a row that leads nowhere any more is given out again", async () => {
    using f = open();
    const row = f.nexthops.acquire(FAR);
    await until(
      () => f.resolved(row),
      () => f.nexthops.status(),
    );
    f.nexthops.release(FAR);
    await f.nexthops.settled();
    assert.equal(f.at(row).ifindex, 0);
    assert.deepEqual(f.nexthops.status(), []);
    assert.notEqual(f.nexthops.acquire(FAR), 0);
  });
});

test("the constant words of the outer header make its checksum right", () => {
  const header = Buffer.from("4500005400004000400400000a0000010af40304", "hex");
  let sum = outerChecksum(SELF);
  for (const offset of [2, 16, 18]) sum += header.readUInt16LE(offset);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  header.writeUInt16LE(~sum & 0xffff, 10);
  assert.equal(checksumOf(header), 0);
});
