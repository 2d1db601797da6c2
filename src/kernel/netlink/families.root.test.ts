// SPDX-License-Identifier: Apache-2.0
// IPv6 through netlink, with `ip -6 -j` as the judge of what is read and written.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test, { type TestContext } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { type Address, formatAddress, parseAddress } from "../../net/address.ts";
import { formatMac, parseMac } from "../../net/mac.ts";
import { formatPrefix, isPrefix4, parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import { KernelError } from "../error.ts";
import { createNamespace, deleteNamespace } from "../netns.ts";
import { writeSysctls } from "../sysctl.ts";
import { addAddress, type DeviceAddress, deleteAddress, listAddresses } from "./address.ts";
import { createVeth, getLink, setLink } from "./link.ts";
import { deleteNeighbour, listNeighbours, manageNeighbour, setNeighbour } from "./neighbour.ts";
import { addRoute, deleteRoute, getRoute, listRoutes, replaceRoute } from "./route.ts";
import { addRule, deleteRule, listRules } from "./rule.ts";
import { type Netlink, openNetlink } from "./socket.ts";
import { type NetworkEvent, watchNetwork } from "./watch.ts";

interface Scratch {
  readonly path: string;
  readonly netlink: Netlink;
  readonly a: number;
  readonly b: number;
  /** What `ip -N -j` says. */
  ip<Row>(...args: string[]): readonly Row[];
}

let counter = 0;

/** A pair a-b, up, whose only addresses of IPv6 are those that tests give it. */
function scratch(t: TestContext): Scratch {
  const name = `ciliate-nl6-${process.pid}-${counter++}`;
  const path = createNamespace(name);
  t.after(() => deleteNamespace(name));
  // 1: no link-local addresses by themselves.
  writeSysctls({ "net/ipv6/conf/default/addr_gen_mode": 1 }, path);
  const netlink = openNetlink({ namespace: path });
  t.after(() => netlink.close());
  netlink.run(createVeth({ name: "a", mac: parseMac("02:00:00:00:00:0a") }, { name: "b" }));
  const a = getLink(netlink, "a").index;
  const b = getLink(netlink, "b").index;
  netlink.runAll([setLink(a, { up: true }), setLink(b, { up: true })]);
  return {
    ...{ path, netlink, a, b },
    ip: (...args) => {
      const json = execFileSync("ip", ["-n", name, "-N", "-j", ...args], { encoding: "utf8" });
      return JSON.parse(json || "[]");
    },
  };
}

const hasCode = (code: string, words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof KernelError);
  assert.equal(error.code, code);
  assert.match(error.message, words);
  return true;
};

const text = (address: Address | undefined): string | undefined =>
  address === undefined ? undefined : formatAddress(address);

interface IpLink {
  readonly ifindex: number;
  readonly addr_info: readonly {
    readonly local: string;
    readonly address?: string;
    readonly prefixlen: number;
    readonly scope: string;
    readonly tentative?: boolean;
  }[];
}

function sameAddresses({ netlink, ip }: Scratch, family: "-4" | "-6"): DeviceAddress[] {
  const ours = listAddresses(netlink).filter(
    ({ address }) => isPrefix4(address) === (family === "-4"),
  );
  const theirs = ip<IpLink>(family, "addr").flatMap(({ ifindex, addr_info }) =>
    addr_info.map((one) => ({
      device: ifindex,
      address: `${one.local}/${one.prefixlen}`,
      peer: one.address ?? one.local,
      scope: Number(one.scope),
      tentative: one.tentative ?? false,
    })),
  );
  const told = ours.map((one) => ({
    ...one,
    address: formatPrefix(one.address),
    peer: formatAddress(one.peer),
  }));
  const order = (list: readonly { readonly address: string }[]) =>
    list.toSorted((x, y) => x.address.localeCompare(y.address));
  assert.deepEqual(order(told), order(theirs));
  return ours;
}

test("addresses of IPv6 come and go beside IPv4's", (t) => {
  const all = scratch(t);
  const { netlink, a, b, ip } = all;
  const address = parseInterfaceAddress("2001:db8::1/64");
  const spec = { device: a, address, duplicateDetection: false };
  // A device that is down never gets to ask who else has the address.
  netlink.run(setLink(b, { up: false }));
  netlink.runAll([
    addAddress(spec),
    addAddress({ device: a, address: parseInterfaceAddress("10.9.0.1/24") }),
    addAddress({
      device: b,
      address: parseInterfaceAddress("2001:db8:9::1/64"),
      prefixRoute: false,
    }),
  ]);
  ip("-6", "addr", "add", "2001:db8:1::1", "peer", "2001:db8:1::2", "dev", "a", "nodad");
  const listed = sameAddresses(all, "-6");
  assert.deepEqual(
    listed.filter(({ tentative }) => tentative).map((one) => formatPrefix(one.address)),
    ["2001:db8:9::1/64"],
  );
  sameAddresses(all, "-4");
  assert.throws(() => netlink.run(addAddress(spec)), hasCode("EEXIST", /2001:db8::1\/64/));
  netlink.run(deleteAddress(spec));
  assert.equal(sameAddresses(all, "-6").length, listed.length - 1);
  netlink.run(setLink(b, { up: true }));
  assert.ok(
    !listRoutes(netlink, 254).some(
      ({ destination }) => formatPrefix(destination) === "2001:db8:9::/64",
    ),
  );
});

interface IpHop {
  readonly gateway?: string;
  readonly via?: { readonly host: string };
  readonly dev?: string;
  readonly weight?: number;
}

interface IpRoute extends IpHop {
  readonly type?: string;
  readonly dst: string;
  readonly prefsrc?: string;
  readonly table?: string;
  readonly protocol?: string;
  readonly metric?: number;
  readonly metrics?: readonly { readonly mtu?: number; readonly advmss?: number }[];
  readonly nexthops?: readonly IpHop[];
}

/** Compares every route of a family, also those that the kernel makes, which may come late. */
function sameRoutes(all: Scratch, family: "-4" | "-6"): void {
  for (;;) {
    const before = listRoutes(all.netlink);
    const { ours, theirs } = routesOf(all, family);
    if (!isDeepStrictEqual(before, listRoutes(all.netlink))) continue;
    assert.deepEqual(ours, theirs);
    return;
  }
}

function routesOf({ netlink, ip }: Scratch, family: "-4" | "-6") {
  const any = family === "-4" ? "0.0.0.0/0" : "::/0";
  const device = (name: string | undefined) =>
    name === undefined ? 0 : getLink(netlink, name).index;
  const theirs = ip<IpRoute>(family, "route", "show", "table", "all").map((one) => ({
    destination: one.dst === "default" ? any : formatPrefix(parsePrefix(one.dst)),
    type: Number(one.type ?? 1),
    gateway: one.gateway ?? one.via?.host,
    device: device(one.dev),
    hops: (one.nexthops ?? []).map((hop) => ({
      gateway: hop.gateway ?? hop.via?.host,
      device: device(hop.dev),
      weight: hop.weight,
    })),
    source: one.prefsrc,
    table: Number(one.table ?? 254),
    // Without a name `ip` leaves out what `ip` itself makes.
    protocol: Number(one.protocol ?? 3),
    priority: one.metric ?? 0,
    mtu: one.metrics?.[0]?.mtu,
    advmss: one.metrics?.[0]?.advmss,
  }));
  const types = ["", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole"];
  const ours = listRoutes(netlink)
    .filter(({ destination }) => isPrefix4(destination) === (family === "-4"))
    .map(({ scope: _, ...one }) => ({
      ...one,
      destination: formatPrefix(one.destination),
      type: types.indexOf(one.type),
      gateway: text(one.gateway),
      hops: one.hops.map((hop) => ({ ...hop, gateway: text(hop.gateway) })),
      source: text(one.source),
    }));
  const order = (list: readonly object[]) => list.map((one) => JSON.stringify(one, keys)).sort();
  return { ours: order(ours), theirs: order(theirs) };
}

/** One order of keys for both sides. */
const keys = [
  ...["destination", "type", "gateway", "device", "hops", "weight", "source", "table"],
  ...["protocol", "priority", "mtu", "advmss"],
];

test("a route of IPv6 keeps its gateway, metrics, table and hops", (t) => {
  const all = scratch(t);
  const { netlink, a, b } = all;
  const gateway = parseAddress("2001:db8::7");
  const source = parseAddress("2001:db8::1");
  netlink.run(
    addAddress({
      device: a,
      address: parseInterfaceAddress("2001:db8::1/64"),
      duplicateDetection: false,
    }),
  );
  const destination = parsePrefix("2001:db8:20::/48");
  const hops = [
    { gateway, device: a, weight: 2 },
    { gateway: parseAddress("fe80::8"), device: b, weight: 5 },
  ];
  netlink.runAll([
    addRoute({ destination, gateway, mtu: 1400, advmss: 1340, source }),
    addRoute({ destination: parsePrefix("::/0"), gateway, priority: 7 }),
    addRoute({ destination: parsePrefix("2001:db8:21::/48"), device: b }),
    addRoute({ destination: parsePrefix("2001:db8:30::/48"), hops, onLink: true }),
    addRoute({ destination: parsePrefix("2001:db8:40::/48"), type: "blackhole", table: 100 }),
    replaceRoute({ destination, gateway, advmss: 1300, table: 101 }),
    replaceRoute({ destination, gateway, advmss: 1320, table: 101 }),
  ]);
  sameRoutes(all, "-6");
  assert.deepEqual(
    listRoutes(netlink).find((route) => formatPrefix(route.destination) === "2001:db8:30::/48")
      ?.hops,
    hops,
  );
  assert.equal(listRoutes(netlink, 101)[0]?.advmss, 1320);
  assert.deepEqual(listRoutes(netlink, 4711), []);
  const found = getRoute(netlink, { destination: parseAddress("2001:db8:20::5"), source });
  assert.deepEqual([found.gateway, found.device, found.mtu], [gateway, a, 1400]);
  netlink.run(deleteRoute({ destination }));
  sameRoutes(all, "-6");
  assert.throws(
    () => netlink.run(deleteRoute({ destination })),
    hasCode("ESRCH", /delete route 2001:db8:20::\/48/),
  );
});

test("a route to IPv4 may have gateways of IPv6", (t) => {
  const all = scratch(t);
  const { netlink, a, b } = all;
  const gateway = parseAddress("fe80::7");
  const hops = [
    { gateway, device: a, weight: 1 },
    { gateway: parseAddress("10.9.0.7"), device: b, weight: 3 },
  ];
  netlink.runAll([
    addAddress({ device: b, address: parseInterfaceAddress("10.9.0.1/24") }),
    addRoute({ destination: parsePrefix("10.1.0.0/16"), gateway, device: a }),
    addRoute({ destination: parsePrefix("10.2.0.0/16"), hops, onLink: true }),
  ]);
  sameRoutes(all, "-4");
  assert.deepEqual(
    listRoutes(netlink, 254).map((route) => [text(route.gateway), route.hops]),
    [
      ["fe80::7", []],
      [undefined, hops],
      [undefined, []],
    ],
  );
});

test("rules of both families come and go", (t) => {
  const { netlink, ip } = scratch(t);
  const rule = {
    family: "ipv6" as const,
    priority: 9,
    table: 300,
    source: parsePrefix("2001:db8::/32"),
    destination: parsePrefix("2001:db8:1::/64"),
    inputDevice: "a",
    mark: { value: 0x200, mask: 0xf00 },
  };
  const bare = { family: "ipv6" as const, priority: 10, table: 301 };
  netlink.runAll([addRule(rule), addRule(bare), addRule({ ...bare, family: "ipv4", table: 302 })]);
  const told = ip<Record<string, unknown>>("-6", "rule");
  assert.deepEqual(
    told.filter(({ priority }) => priority === 9),
    [
      {
        ...{ priority: 9, src: "2001:db8::", srclen: 32, dst: "2001:db8:1::", dstlen: 64 },
        ...{ fwmark: "0x200", fwmask: "0xf00", iif: "a", table: "300" },
      },
    ],
  );
  const ours = listRules(netlink).filter(({ family }) => family === "ipv6");
  assert.deepEqual(
    ours.map(({ priority, table }) => [priority, table]),
    told.map(({ priority, table }) => [priority, Number(table)]),
  );
  assert.deepEqual(
    ours.find(({ priority }) => priority === 9),
    rule,
  );
  netlink.runAll([deleteRule(rule), deleteRule(bare)]);
  assert.deepEqual(
    listRules(netlink)
      .filter(({ table }) => table > 299 && table < 303)
      .map(({ family, table }) => [family, table]),
    [["ipv4", 302]],
  );
});

interface IpNeighbour {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
  readonly state: readonly string[];
}

test("neighbours of IPv6 are set, managed and forgotten", (t) => {
  const { netlink, a, b, ip } = scratch(t);
  const fixed = parseAddress("2001:db8::77");
  netlink.runAll([
    setNeighbour(a, fixed, parseMac("02:00:00:00:00:77")),
    setNeighbour(b, fixed, parseMac("02:00:00:00:00:78")),
    setNeighbour(a, parseAddress("10.9.0.77"), parseMac("02:00:00:00:00:79")),
    manageNeighbour(a, parseAddress("fe80::1234")),
  ]);
  const permanent = listNeighbours(netlink).filter(({ state }) => state === "permanent");
  const theirs = [...ip<IpNeighbour>("-4", "neigh"), ...ip<IpNeighbour>("-6", "neigh")]
    .filter(({ state }) => state.includes("PERMANENT"))
    .map((one) => [one.dst, getLink(netlink, one.dev).index, one.lladdr]);
  const ours = permanent.map((one) => [
    formatAddress(one.address),
    one.device,
    one.mac === undefined ? undefined : formatMac(one.mac),
  ]);
  assert.deepEqual(ours.toSorted(), theirs.toSorted());
  assert.equal(ours.length, 3);
  const managed = listNeighbours(netlink, a).filter((one) => one.managed);
  assert.deepEqual(
    managed.map(({ address }) => formatAddress(address)),
    ["fe80::1234"],
  );
  netlink.run(deleteNeighbour(a, fixed));
  assert.ok(!listNeighbours(netlink, a).some(({ address }) => address === fixed));
  assert.ok(listNeighbours(netlink, b).some(({ address }) => address === fixed));
  assert.throws(() => netlink.run(deleteNeighbour(a, fixed)), hasCode("ENOENT", /2001:db8::77/));
});

function describe(event: NetworkEvent): string {
  switch (event.kind) {
    case "address":
      return `${event.change} address ${formatPrefix(event.address.address)}`;
    case "route": {
      const { destination, table } = event.route;
      return `${event.change} route ${formatPrefix(destination)} in ${table}`;
    }
    case "neighbour":
      return `${event.change} neighbour ${formatAddress(event.neighbour.address)}`;
    default:
      return event.kind;
  }
}

test("changes of IPv6 are told as those of IPv4 are", async (t) => {
  const { path, netlink, a } = scratch(t);
  const told: string[] = [];
  let heard = () => {};
  const watch = watchNetwork(
    (event) => {
      told.push(describe(event));
      heard();
    },
    { namespace: path },
  );
  t.after(() => watch.close());
  const hear = async (...wanted: readonly string[]): Promise<void> => {
    const limit = AbortSignal.timeout(5000);
    const inOrder = () =>
      [...new Set(told)].filter((one) => wanted.includes(one)).join() === wanted.join();
    while (!inOrder()) {
      assert.ok(!limit.aborted, `not ${wanted.join("; ")} after 5 s but ${told.join("; ")}`);
      await new Promise<void>((resolve) => {
        heard = resolve;
        limit.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  };
  const spec = {
    device: a,
    address: parseInterfaceAddress("2001:db8::1/64"),
    duplicateDetection: false,
  };
  const route = { destination: parsePrefix("2001:db8:9::/48"), device: a, table: 77 };
  const neighbour = parseAddress("2001:db8::77");
  netlink.run(addAddress(spec));
  // The kernel tells of it later than it has it.
  await hear("resync", "set address 2001:db8::1/64");
  netlink.runAll([
    addRoute(route),
    setNeighbour(a, neighbour, parseMac("02:00:00:00:00:77")),
    deleteRoute(route),
    deleteAddress(spec),
  ]);
  await hear(
    "set route 2001:db8:9::/48 in 77",
    "set neighbour 2001:db8::77",
    "deleted route 2001:db8:9::/48 in 77",
    "deleted address 2001:db8::1/64",
  );
});
