// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type NextHop, ROUTE_TABLE, type Route } from "../kernel/netlink/route.ts";
import { formatAddress, ipv4FromNumber, parseAddress, parseIpv4 } from "../net/address.ts";
import { formatPrefix, parsePrefix, parsePrefix4 } from "../net/prefix.ts";
import { RouteTable } from "./routes.ts";

const ANY = (_device: number): boolean => true;

function route(destination: string, device: number, more: Partial<Route> = {}): Route {
  return {
    destination: parsePrefix4(destination),
    type: "unicast",
    gateway: undefined,
    device,
    hops: [],
    source: undefined,
    table: ROUTE_TABLE.main,
    protocol: 4,
    scope: 0,
    priority: 0,
    mtu: undefined,
    advmss: undefined,
    ...more,
  };
}

function tableOf(...routes: readonly Route[]): RouteTable {
  const table = new RouteTable();
  table.reset(routes);
  return table;
}

/** `10.0.0.1 by 3`: the gateway and the device. */
function way(table: RouteTable, address: string, usable = ANY): string | undefined {
  const found = table.wayTo(parseAddress(address), usable);
  return found && `${formatAddress(found.gateway)} by ${found.device}`;
}

const via = (gateway: string): Partial<Route> => ({ gateway: parseIpv4(gateway) });

test("the longest prefix that holds an address counts, whatever came first", () => {
  const table = tableOf(
    route("10.1.2.0/24", 3),
    route("0.0.0.0/0", 1, via("10.0.0.1")),
    route("10.1.2.3/32", 4, via("10.9.9.9")),
    route("10.1.0.0/16", 2),
    route("192.0.0.0/2", 5),
  );
  assert.equal(way(table, "10.1.2.3"), "10.9.9.9 by 4");
  assert.equal(way(table, "10.1.2.4"), "10.1.2.4 by 3");
  assert.equal(way(table, "10.1.3.4"), "10.1.3.4 by 2");
  assert.equal(way(table, "10.2.0.1"), "10.0.0.1 by 1");
  // With the sign bit set.
  assert.equal(way(table, "203.0.113.7"), "203.0.113.7 by 5");
  assert.equal(way(tableOf(route("10.0.0.0/8", 1)), "11.0.0.1"), undefined);
});

test("of one prefix the smallest priority counts, then the next one whose device is usable", () => {
  const table = tableOf(
    route("10.0.0.0/8", 2, { priority: 200 }),
    route("10.0.0.0/8", 1, { priority: 100, mtu: 1400 }),
    route("0.0.0.0/0", 3),
  );
  assert.deepEqual(table.wayTo(parseIpv4("10.0.0.1"), ANY), {
    device: 1,
    gateway: parseIpv4("10.0.0.1"),
    mtu: 1400,
  });
  assert.equal(
    way(table, "10.0.0.1", (device) => device !== 1),
    "10.0.0.1 by 2",
  );
  // The kernel goes no shorter either when a longer prefix is there.
  assert.equal(
    way(table, "10.0.0.1", (device) => device === 3),
    undefined,
  );
});

test("a route of the same prefix and priority replaces the other; a deleted one is gone", () => {
  const table = tableOf(route("10.0.0.0/8", 1), route("0.0.0.0/0", 9));
  const changed = table.set(route("10.0.0.0/8", 2));
  assert.equal(changed && formatPrefix(changed), "10.0.0.0/8");
  assert.equal(table.lookup(parseIpv4("10.0.0.1")).length, 1);
  assert.equal(way(table, "10.0.0.1"), "10.0.0.1 by 2");
  table.delete(route("10.0.0.0/8", 2));
  assert.equal(way(table, "10.0.0.1"), "10.0.0.1 by 9");
  table.reset([]);
  assert.equal(way(table, "10.0.0.1"), undefined);
});

test("routes to nowhere are no way, and other tables aren't looked at", () => {
  const table = tableOf(route("0.0.0.0/0", 1), route("10.0.0.0/8", 0, { type: "blackhole" }));
  assert.equal(way(table, "10.0.0.1"), undefined);
  assert.equal(table.set(route("10.0.0.0/24", 2, { table: 100 })), undefined);
  assert.equal(table.delete(route("0.0.0.0/0", 1, { table: 100 })), undefined);
  assert.equal(way(table, "11.0.0.1"), "11.0.0.1 by 1");
});

test("several hops share addresses by weight, each address keeps its own", () => {
  const hop = (gateway: string, device: number, weight: number): NextHop => ({
    gateway: parseIpv4(gateway),
    device,
    weight,
  });
  const hops = [hop("10.0.1.1", 1, 1), hop("10.0.2.1", 2, 3)];
  const table = tableOf(route("0.0.0.0/0", 0, { hops }));
  const first = parseIpv4("192.0.2.0");
  const addresses = Array.from({ length: 1000 }, (_, index) => ipv4FromNumber(first + index));
  const devices = addresses.map((address) => table.wayTo(address, ANY)?.device);
  const share = devices.filter((device) => device === 2).length;
  assert(share > 700 && share < 800, `${share} of 1000 by the hop with 3 of 4`);
  assert.deepEqual(
    addresses.map((address) => table.wayTo(address, ANY)?.device),
    devices,
  );
  for (const address of addresses.slice(0, 50)) {
    const usable = (device: number): boolean => device === 1;
    assert.equal(table.wayTo(address, usable)?.gateway, parseIpv4("10.0.1.1"));
  }
  assert.equal(
    way(table, "192.0.2.1", () => false),
    undefined,
  );
});

test("families have ways of their own, and a gateway of the other one is no way", () => {
  const table = tableOf(route("10.0.0.0/8", 3));
  const to = (text: string) => ({ ...route("0.0.0.0/0", 4), destination: parsePrefix(text) });
  table.set({ ...to("::/0"), gateway: parseAddress("fe80::1") });
  table.set(to("2001:db8::/64"));
  assert.deepEqual(table.lookup(parseIpv4("192.0.2.1")), []);
  assert.equal(way(table, "2001:db8::5"), "2001:db8::5 by 4");
  assert.equal(way(table, "2001:db8:1::5"), "fe80::1 by 4");
  table.set({ ...to("2001:db8::/64"), device: 5 });
  table.delete(to("2001:db8::/64"));
  assert.equal(way(table, "2001:db8::5"), "2001:db8::5 by 5");
  assert.equal(way(table, "10.1.1.1"), "10.1.1.1 by 3");
  table.set(route("10.1.0.0/16", 3, { gateway: parseAddress("fe80::1") }));
  assert.equal(way(table, "10.1.1.1"), undefined);
});
