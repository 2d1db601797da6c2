// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test, { type TestContext } from "node:test";
import { formatAddress, parseIpv4 } from "../../net/address.ts";
import { formatMac, parseMac } from "../../net/mac.ts";
import { formatPrefix, parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import { KernelError } from "../error.ts";
import { createNamespace, deleteNamespace, namespaceInode } from "../netns.ts";
import { writeSysctls } from "../sysctl.ts";
import { addAddress, deleteAddress, listAddresses } from "./address.ts";
import { GRO, openEthtool, TX_CHECKSUMS } from "./ethtool.ts";
import {
  createLink,
  createVeth,
  deleteLink,
  findLink,
  getLink,
  listLinks,
  setLink,
  withNamespaces,
} from "./link.ts";
import { addNamespaceId, getNamespaceId } from "./namespace-id.ts";
import {
  deleteNeighbour,
  listNeighbours,
  manageNeighbour,
  resolveNeighbour,
  setNeighbour,
} from "./neighbour.ts";
import { addRoute, deleteRoute, getRoute, listRoutes, replaceRoute } from "./route.ts";
import { addRule, deleteRule, listRules } from "./rule.ts";
import { type Netlink, openNetlink } from "./socket.ts";

let counter = 0;

function scratch(t: TestContext): { name: string; path: string; netlink: Netlink } {
  const name = `ciliate-nl-${process.pid}-${counter++}`;
  const path = createNamespace(name);
  t.after(() => deleteNamespace(name));
  // Without it, devices have no addresses but the ones that a test gives them.
  writeSysctls({ "net/ipv6/conf/default/disable_ipv6": 1 }, path);
  const netlink = openNetlink({ namespace: path });
  t.after(() => netlink.close());
  return { name, path, netlink };
}

const ip = (name: string, ...args: string[]): string =>
  execFileSync("ip", ["-n", name, ...args], { encoding: "utf8" });

const hasCode = (code: string, words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof KernelError);
  assert.equal(error.code, code);
  assert.match(error.message, words);
  return true;
};

/** A pair a-b in one namespace, up, with 10.9.0.1/24 on a. */
function pair(netlink: Netlink): { a: number; b: number } {
  netlink.run(createVeth({ name: "a", mac: parseMac("02:00:00:00:00:0a") }, { name: "b" }));
  const a = getLink(netlink, "a").index;
  const b = getLink(netlink, "b").index;
  netlink.runAll([
    setLink(a, { up: true }),
    setLink(b, { up: true }),
    addAddress({ device: a, address: parseInterfaceAddress("10.9.0.1/24") }),
  ]);
  return { a, b };
}

test("a veth is born with its ends in two namespaces", (t) => {
  const left = scratch(t);
  const right = scratch(t);
  withNamespaces([left.path, right.path], ([leftFd = -1, rightFd = -1]) => {
    using host = openNetlink();
    host.run(
      createVeth(
        {
          name: "left",
          namespaceFd: leftFd,
          mac: parseMac("02:00:00:00:01:01"),
          mtu: 1400,
          up: true,
        },
        { name: "right", namespaceFd: rightFd, mac: parseMac("02:00:00:00:01:02"), mtu: 1400 },
      ),
    );
  });
  const link = getLink(left.netlink, "left");
  const peer = getLink(right.netlink, "right");
  assert.equal(link.kind, "veth");
  assert.equal(link.peer, peer.index);
  assert.equal(formatMac(peer.mac ?? parseMac("00:00:00:00:00:00")), "02:00:00:00:01:02");
  assert.equal(peer.mtu, 1400);
  assert.ok(link.up);
  assert.ok(!peer.up);
  right.netlink.run(setLink(peer.index, { up: true, mtu: 1300, alias: "of a test" }));
  const changed = getLink(right.netlink, "right");
  assert.deepEqual([changed.up, changed.mtu, changed.alias], [true, 1300, "of a test"]);
  assert.match(ip(right.name, "link", "show", "right"), /,UP.* mtu 1300.*alias of a test/s);
  left.netlink.run(deleteLink(link.index));
  assert.equal(findLink(right.netlink, "right"), undefined);
});

test("a device becomes a bridge's port, moves to another namespace and gets a new name", (t) => {
  const { netlink } = scratch(t);
  const other = scratch(t);
  netlink.run(createLink("bridge", { name: "br0", up: true }));
  netlink.run(createVeth({ name: "a" }, { name: "b" }));
  const bridge = getLink(netlink, "br0").index;
  const a = getLink(netlink, "a").index;
  netlink.run(setLink(a, { master: bridge }));
  assert.equal(getLink(netlink, "a").master, bridge);
  netlink.run(setLink(a, { master: 0, name: "port7" }));
  assert.equal(getLink(netlink, a).name, "port7");
  withNamespaces([other.path], ([fd = -1]) => netlink.run(setLink(a, { namespaceFd: fd })));
  assert.equal(findLink(netlink, "port7"), undefined);
  assert.equal(getLink(other.netlink, "port7").kind, "veth");
  assert.deepEqual(
    listLinks(netlink).map(({ name }) => name),
    ["lo", "br0", "b"].sort((x, y) => getLink(netlink, x).index - getLink(netlink, y).index),
  );
});

test("a refusal names the object and carries the kernel's own words", (t) => {
  const { netlink } = scratch(t);
  const { a } = pair(netlink);
  assert.throws(
    () =>
      netlink.run(
        addRoute({ destination: parsePrefix("10.8.0.0/16"), gateway: parseIpv4("172.16.0.1") }),
      ),
    hasCode(
      "ENETUNREACH",
      /cannot add route 10\.8\.0\.0\/16 via 172\.16\.0\.1: .*Nexthop has invalid gateway/,
    ),
  );
  assert.throws(
    () => netlink.run(setLink(a, { mtu: 1 })),
    hasCode("EINVAL", /cannot set mtu of device number \d+: .*mtu less than device minimum/),
  );
  assert.throws(
    () => netlink.run(createLink("nonsense", { name: "x" })),
    hasCode("EOPNOTSUPP", /nonsense/),
  );
  assert.throws(() => createLink("bridge", { name: "sixteen-letters!" }), /up to 15 characters/);
  assert.throws(() => getLink(netlink, "missing"), hasCode("ENODEV", /cannot find device missing/));
});

test("a batch that fails halfway takes back what was done, also beyond one send", (t) => {
  const { netlink } = scratch(t);
  const { a } = pair(netlink);
  const before = [listAddresses(netlink), listRoutes(netlink)];
  const many = Array.from({ length: 150 }, (_, index) =>
    addAddress({ device: a, address: parseInterfaceAddress(`10.7.${index}.1/32`) }),
  );
  const bad = addRoute({
    destination: parsePrefix("10.6.0.0/16"),
    gateway: parseIpv4("172.16.0.1"),
  });
  const after = addRoute({ destination: parsePrefix("10.5.0.0/16"), device: a });
  assert.throws(
    () => netlink.runAll([...many, bad, after]),
    hasCode("ENETUNREACH", /10\.6\.0\.0\/16/),
  );
  assert.deepEqual([listAddresses(netlink), listRoutes(netlink)], before);
  netlink.runAll(many);
  assert.equal(listAddresses(netlink).length, before[0]?.length === undefined ? 0 : 151);
});

test("addresses come and go", (t) => {
  const { netlink } = scratch(t);
  const { a } = pair(netlink);
  const spec = { device: a, address: parseInterfaceAddress("10.3.4.5/16"), prefixRoute: false };
  netlink.run(addAddress(spec));
  assert.deepEqual(
    listAddresses(netlink).map(({ device, address }) => [device, formatPrefix(address)]),
    [
      [a, "10.9.0.1/24"],
      [a, "10.3.4.5/16"],
    ],
  );
  assert.ok(
    !listRoutes(netlink, 254).some(
      ({ destination }) => destination.address === parseIpv4("10.3.0.0"),
    ),
  );
  assert.throws(() => netlink.run(addAddress(spec)), hasCode("EEXIST", /10\.3\.4\.5\/16/));
  netlink.run(deleteAddress(spec));
  assert.equal(listAddresses(netlink).length, 1);
});

test("a route keeps its gateway, metrics, table and hops", (t) => {
  const { name, netlink } = scratch(t);
  const { a, b } = pair(netlink);
  const destination = parsePrefix("10.20.0.0/16");
  const gateway = parseIpv4("10.9.0.7");
  netlink.run(
    addRoute({ destination, gateway, mtu: 1400, advmss: 1360, source: parseIpv4("10.9.0.1") }),
  );
  assert.match(
    ip(name, "route", "show", "10.20.0.0/16"),
    /10\.20\.0\.0\/16 via 10\.9\.0\.7 dev a src 10\.9\.0\.1 mtu 1400 advmss 1360/,
  );
  const found = getRoute(netlink, { destination: parseIpv4("10.20.1.1") });
  assert.deepEqual(
    [found.gateway, found.device, found.source],
    [gateway, a, parseIpv4("10.9.0.1")],
  );
  netlink.run(replaceRoute({ destination, gateway, advmss: 1440, table: 100 }));
  netlink.run(replaceRoute({ destination, gateway, advmss: 1420, table: 100 }));
  const [only, ...none] = listRoutes(netlink, 100);
  assert.deepEqual(
    [only?.advmss, only?.mtu, only?.gateway, none.length],
    [1420, undefined, gateway, 0],
  );
  assert.deepEqual(listRoutes(netlink, 4711), []);

  const hops = [
    { gateway, device: a, weight: 2 },
    { gateway: parseIpv4("10.9.0.8"), device: b, weight: 5 },
  ];
  netlink.run(addRoute({ destination: parsePrefix("10.30.0.0/16"), hops, onLink: true }));
  const several = listRoutes(netlink).find(
    (route) => formatPrefix(route.destination) === "10.30.0.0/16",
  );
  assert.deepEqual(several?.hops, hops);

  netlink.run(addRoute({ destination: parsePrefix("10.40.0.0/16"), type: "blackhole" }));
  assert.match(ip(name, "route"), /blackhole 10\.40\.0\.0\/16/);
  netlink.run(deleteRoute({ destination }));
  assert.ok(
    !listRoutes(netlink, 254).some((route) => route.destination.address === destination.address),
  );
  assert.throws(
    () => getRoute(netlink, { destination: parseIpv4("10.20.1.1") }),
    hasCode("ENETUNREACH", /cannot find route to 10\.20\.1\.1/),
  );
});

test("a dump of thousands of routes is whole", (t) => {
  const { netlink } = scratch(t);
  const { a } = pair(netlink);
  const routes = Array.from({ length: 3000 }, (_, index) =>
    addRoute({
      destination: parsePrefix(`10.${64 + (index >> 8)}.${index & 255}.0/24`),
      device: a,
      table: 7,
    }),
  );
  netlink.runAll(routes);
  const dumped = new Set(
    listRoutes(netlink, 7).map(({ destination }) => formatPrefix(destination)),
  );
  assert.equal(dumped.size, 3000);
});

test("rules come and go", (t) => {
  const { name, netlink } = scratch(t);
  const rule = {
    family: "ipv4" as const,
    priority: 9,
    table: 300,
    source: parsePrefix("10.1.0.0/16"),
    inputDevice: "eth7",
    mark: { value: 0x200, mask: 0xf00 },
  };
  netlink.run(addRule(rule));
  assert.match(
    ip(name, "rule"),
    /9:\s+from 10\.1\.0\.0\/16 fwmark 0x200\/0xf00 iif eth7.*lookup 300/,
  );
  assert.deepEqual(
    listRules(netlink).find(({ priority }) => priority === 9),
    rule,
  );
  netlink.run(deleteRule(rule));
  assert.deepEqual(
    listRules(netlink)
      .filter(({ family }) => family === "ipv4")
      .map(({ priority }) => priority),
    [0, 32766, 32767],
  );
});

test("neighbours are set, resolved, managed and forgotten", (t) => {
  const left = scratch(t);
  const right = scratch(t);
  withNamespaces([left.path, right.path], ([leftFd = -1, rightFd = -1]) => {
    using host = openNetlink();
    const end = { name: "end", namespaceFd: leftFd };
    host.run(createVeth(end, { ...end, namespaceFd: rightFd, mac: parseMac("02:00:00:00:02:02") }));
  });
  for (const [{ netlink }, address] of [
    [left, "10.9.0.1/24"],
    [right, "10.9.0.2/24"],
  ] as const) {
    const device = getLink(netlink, "end").index;
    netlink.run(setLink(device, { up: true }));
    netlink.run(addAddress({ device, address: parseInterfaceAddress(address) }));
  }
  const { netlink } = left;
  const device = getLink(netlink, "end").index;
  const fixed = parseIpv4("10.9.0.77");
  netlink.run(setNeighbour(device, fixed, parseMac("02:00:00:00:00:77")));
  netlink.run(setNeighbour(device, fixed, parseMac("02:00:00:00:00:78")));
  netlink.run(manageNeighbour(device, parseIpv4("10.9.0.2")));
  const all = listNeighbours(netlink, device);
  const find = (address: string) => all.find((entry) => formatAddress(entry.address) === address);
  assert.deepEqual(find("10.9.0.77"), {
    device,
    address: fixed,
    mac: 0x020000000078,
    state: "permanent",
    managed: false,
  });
  // The veth's other end answers within the same call chain: ARP needs no other thread to run.
  assert.equal(find("10.9.0.2")?.managed, true);
  netlink.run(deleteNeighbour(device, fixed));
  assert.ok(!listNeighbours(netlink).some(({ address }) => address === fixed));
  netlink.run(resolveNeighbour(getLink(right.netlink, "end").index, parseIpv4("10.9.0.200")));
  assert.throws(
    () => netlink.run(deleteNeighbour(device, fixed)),
    hasCode("ENOENT", /10\.9\.0\.77/),
  );
});

test("a namespace is known by the number that it was given", (t) => {
  const left = scratch(t);
  const right = scratch(t);
  withNamespaces([right.path], ([fd = -1]) => {
    assert.equal(getNamespaceId(left.netlink, fd), undefined);
    left.netlink.run(addNamespaceId(fd, 4242));
    assert.equal(getNamespaceId(left.netlink, fd), 4242);
    assert.throws(() => left.netlink.run(addNamespaceId(fd, 4243)), hasCode("EEXIST", /4243/));
  });
  assert.notEqual(namespaceInode(left.path), namespaceInode(right.path));
});

test("checksum and GRO offloads are turned off and on", (t) => {
  const { path, netlink } = scratch(t);
  pair(netlink);
  using ethtool = openEthtool(path);
  assert.ok(ethtool.activeFeatures("a").has("tx-checksum-ip-generic"));
  const off = Object.fromEntries(TX_CHECKSUMS.map((feature) => [feature, false]));
  ethtool.setFeatures("a", { ...off, [GRO]: true });
  const features = ethtool.activeFeatures("a");
  assert.deepEqual([features.has("tx-checksum-ip-generic"), features.has(GRO)], [false, true]);
  const shown = execFileSync("nsenter", [`--net=${path}`, "ethtool", "-k", "a"], {
    encoding: "utf8",
  });
  assert.match(shown, /^tx-checksumming: off$/m);
  assert.match(shown, /^generic-receive-offload: on$/m);
  assert.match(shown, /^\ttx-tcp-segmentation: off/m);
  assert.throws(() => ethtool.setFeatures("zz", { [GRO]: true }), hasCode("ENODEV", /zz/));
});
