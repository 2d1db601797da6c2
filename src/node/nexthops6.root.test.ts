// SPDX-License-Identifier: Apache-2.0

// Next hops of IPv6: their neighbours are found by NDP.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { maps, type Nexthop6, NexthopFlag } from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import { openDevices } from "../device/devices.ts";
import { check } from "../kernel/error.ts";
import * as sys from "../kernel/ffi.ts";
import { BpfMap } from "../kernel/map.ts";
import { createNamespace, deleteNamespace } from "../kernel/netns.ts";
import { type Address, ANY_IPV6, formatAddress, parseIpv6 } from "../net/address.ts";
import { parseMac } from "../net/mac.ts";
import { createNexthops } from "./nexthops.ts";

const CLONE_NEWNET = 0x4000_0000;
const PEER_MAC = "02:00:00:00:00:02";
const OWN_MAC = "02:00:00:00:00:01";
check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
const PEER = `ciliate-hop6-${process.pid}`;
const peerPath = createNamespace(PEER);
after(() => deleteNamespace(PEER));

const ip = (text: string): void => void execFileSync("ip", text.split(" "));
const peer = (text: string): void =>
  void execFileSync("nsenter", [`--net=${peerPath}`, "ip", ...text.split(" ")]);

ip(`link add cil0 address ${OWN_MAC} type veth peer name cil1 netns ${PEER}`);
peer(`link set cil1 address ${PEER_MAC}`);
ip("addr add fd00::1/64 dev cil0 nodad");
ip("link set cil0 up");
peer("addr add fd00::2/64 dev cil1 nodad");
peer("addr add fe80::2/64 dev cil1 nodad");
peer("link set cil1 up");
ip("route add fd00:244::/32 via fd00::2");

const SELF = parseIpv6("fd00::1");
const FAR = parseIpv6("fd00:244::4");
const NEAR = parseIpv6("fd00::2");

async function until(condition: () => boolean, what: () => unknown): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    assert.ok(performance.now() < end, `after 5 s still not as wanted: ${what()}`);
    await delay(2);
  }
}

function open(t: TestContext, existing?: TypedMap<number, Nexthop6>, toPeers = false) {
  const spec = { ...maps.nexthops6, maxEntries: 16 };
  const map = existing ?? new TypedMap(BpfMap.create(spec), spec);
  const failed = (error: Error): void => assert.fail(error);
  const devices = openDevices({ failed });
  const moved: (readonly [Address, number])[] = [];
  const nexthops = createNexthops({
    edgeSendsBy: () => true,
    map,
    devices,
    outerSource: SELF,
    hashedSource: false,
    mtu: undefined,
    toPeers,
    failed,
  });
  nexthops.follow((rows) => void moved.push(...rows));
  const at = (row: number): Nexthop6 => map.lookup(row) ?? assert.fail();
  const close = (): void => {
    nexthops[Symbol.dispose]();
    devices[Symbol.dispose]();
  };
  t.after(close);
  return {
    map,
    nexthops,
    moved,
    at,
    close,
    resolved: (row: number) =>
      until(
        () => (at(row).flags & NexthopFlag.resolved) !== 0,
        () => nexthops.status().map(({ reason }) => reason),
      ),
  };
}

test("a row of IPv6 has all that a packet needs, by the neighbour that NDP found", async (t) => {
  const f = open(t);
  const row = f.nexthops.acquire(FAR);
  assert.equal(f.nexthops.acquire(NEAR), row, "the gateway is on the same way");
  await f.resolved(row);
  const { ifindex, ...rest } = f.at(row);
  assert.equal(ifindex, sys.interfaceIndex("cil0"));
  assert.deepEqual(rest, {
    mtu: 1500,
    flags: NexthopFlag.resolved | NexthopFlag.edge,
    destination: parseMac(PEER_MAC),
    source: parseMac(OWN_MAC),
    gateway: NEAR,
    outerSource: SELF,
    checksum: 0,
    peer: ANY_IPV6,
  });
  assert.deepEqual(
    f.nexthops.status().map(({ gateway, backends }) => [formatAddress(gateway), backends]),
    [["fd00::2", 2]],
  );
  assert.equal(f.nexthops.acquire(parseIpv6("2001:db8::9")), 0, "no route leads there");
});

test("a better route by a gateway of the link moves a backend, and back", async (t) => {
  const f = open(t);
  const row = f.nexthops.acquire(FAR);
  await f.resolved(row);
  ip("route add fd00:244::4/128 via fe80::2 dev cil0 mtu 1400");
  await until(
    () => f.moved.length === 1,
    () => f.moved,
  );
  const [address, other = 0] = f.moved[0] ?? [];
  assert.equal(address, FAR);
  assert.notEqual(other, row);
  await f.resolved(other);
  assert.deepEqual([f.at(other).gateway, f.at(other).mtu], [parseIpv6("fe80::2"), 1400]);
  ip("route del fd00:244::4/128 via fe80::2 dev cil0");
  await until(
    () => f.moved.length === 2,
    () => f.moved,
  );
  assert.deepEqual(f.moved[1], [FAR, row]);
});

test("a restart keeps rows of IPv6 in their places and in force", async (t) => {
  const first = open(t);
  const row = first.nexthops.acquire(FAR);
  await first.resolved(row);
  await first.nexthops.settled();
  const before = first.at(row);
  first.close();
  const second = open(t, first.map);
  assert.equal(second.nexthops.acquire(FAR), row);
  assert.deepEqual(second.at(row), before, "there is no moment without it");
  second.nexthops.prune();
  await second.nexthops.settled();
  assert.deepEqual(second.at(row), before);
});

test("where ways lead to nodes, the backend's node is routed to and told", async (t) => {
  const f = open(t, undefined, true);
  f.nexthops.lead(() => NEAR);
  const row = f.nexthops.acquire(parseIpv6("2001:db8::9"));
  assert.notEqual(row, 0);
  await f.resolved(row);
  assert.deepEqual([f.at(row).gateway, f.at(row).peer], [NEAR, NEAR]);
});
