// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { parseConfig } from "../config/load.ts";
import { openDevices } from "../device/devices.ts";
import { createNamespace, deleteNamespace, namespacePath } from "../kernel/netns.ts";
import { formatIpv4, formatIpv6 } from "../net/address.ts";
import { findUplinks, followUplinks, identifyAgain, identifyNode } from "./uplinks.ts";

let serial = 0;

/** What `identifyNode` makes of a namespace set up by these `ip` commands. */
function setUp(t: TestContext, commands: readonly string[]) {
  serial += 1;
  const name = `cilup${process.pid}x${serial}`;
  createNamespace(name);
  t.after(() => deleteNamespace(name));
  const ip = (command: string): void =>
    void execFileSync("ip", ["-n", name, ...command.split(" ")], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  for (const command of commands) ip(command);
  const failed = (error: Error): never => {
    throw error;
  };
  const devices = openDevices({ namespace: namespacePath(name), failed });
  t.after(() => devices[Symbol.dispose]());
  const identify = (text: string) => {
    const { config } = parseConfig(text, "c.yaml");
    const { name: node, address, mtu } = identifyNode(config, devices);
    const uplinks = findUplinks(config, devices).links.map((link) => link.name);
    return [node, formatIpv4(address), uplinks.join(","), mtu];
  };
  /** Its address of IPv6, or why it has none. */
  const identify6 = (text: string): string | undefined => {
    const { address6, ipv6Off } = identifyNode(parseConfig(text, "c.yaml").config, devices);
    return address6 === undefined ? ipv6Off : formatIpv6(address6);
  };
  return Object.assign(identify, { identify6, ip, devices, path: namespacePath(name) });
}

const WIRES = [
  "link add a0 mtu 1400 type veth peer name a1",
  "link add b0 mtu 9000 type veth peer name b1",
  "link set a0 up",
  "link set a1 up",
  "link set b0 up",
  "link set b1 up",
  "addr add 10.1.0.5/24 dev a0",
  "addr add 10.2.0.5/24 dev b0",
];

test("what is auto comes from the devices with a default route, best first", (t) => {
  const identify = setUp(t, [
    ...WIRES,
    "route add default via 10.1.0.1 metric 200",
    "route add default via 10.2.0.1 metric 100",
  ]);
  assert.deepEqual(identify(""), [hostname().toLowerCase(), "10.2.0.5", "b0,a0", 1400]);
  const given = "node: {name: n1, address: 192.0.2.1}\ndevices: [a0]\nmtu: 1280\n";
  assert.deepEqual(identify(given), ["n1", "192.0.2.1", "a0", 1280]);
  assert.equal(identify("mtu: 1500\n")[3], 1400, "no more than the devices carry");
});

test("a node's address is one of IPv4, whatever else its uplinks have", (t) => {
  const identify = setUp(t, [
    ...WIRES.filter((command) => !command.startsWith("addr add 10.2.")),
    "-6 addr add 2001:db8::5/64 dev b0 nodad",
  ]);
  assert.equal(identify("devices: [b0, a0]\n")[1], "10.1.0.5");
  assert.throws(() => identify("devices: [b0]\n"), /no IPv4 address is on b0/);
});

test("a node's address of IPv6 is a global one of the first uplink that has some", (t) => {
  const { identify6 } = setUp(t, [
    ...WIRES,
    "-6 addr add fe80::77/64 dev a0 nodad",
    "-6 addr add 2001:db8::5/64 dev b0 nodad",
    "-6 addr add 2001:db8::6/64 dev b0 nodad",
  ]);
  const found = identify6("devices: [a0, b0]\n");
  assert.ok(found === "2001:db8::5" || found === "2001:db8::6", found);
  const none = "no global IPv6 address is on a0: set node.address6";
  assert.equal(identify6("devices: [a0]\n"), none);
  assert.equal(identify6("devices: [a0]\nnode: {address6: '2001:db8::9'}\n"), "2001:db8::9");
  assert.equal(identify6("devices: [b0]\nipv6: off\n"), "ipv6 is off in the node's file");
});

test("routes to halves of everything hide no default route, and IPv6's count too", (t) => {
  const identify = setUp(t, [
    ...WIRES,
    "-6 addr add 2001:db8::5/64 dev b0 nodad",
    "route add default via 10.1.0.1",
    "route add 0.0.0.0/1 via 10.2.0.1",
    "route add blackhole 0.0.0.0/8",
  ]);
  assert.equal(identify("")[2], "a0");
  identify.ip("-6 route add default via 2001:db8::1");
  const { config } = parseConfig("", "c.yaml");
  using devices = openDevices({ namespace: identify.path, failed: (error) => assert.fail(error) });
  const names = (more = {}) =>
    findUplinks({ ...config, ...more }, devices).links.map((link) => link.name);
  assert.deepEqual([names(), names({ ipv6: "off" })], [["a0", "b0"], ["a0"]]);
});

test("an uplink stays a while without its default route, and while none has one", async (t) => {
  const { ip, devices } = setUp(t, [
    ...WIRES,
    "route add default via 10.1.0.1 metric 200",
    "route add default via 10.2.0.1 metric 100",
  ]);
  let time = 1000;
  const waits: number[] = [];
  const { config } = parseConfig("", "c.yaml");
  const later = (ms: number): void => void waits.push(ms);
  const find = followUplinks(config, devices, later, () => time);
  const now = (): string => {
    const { links, missing } = find();
    return [...links.map(({ name }) => name), ...missing.values()].join(" ");
  };
  const routes = async (count: number): Promise<void> => {
    const end = performance.now() + 5000;
    while (devices.routes.defaults("ipv4").length !== count) {
      assert.ok(performance.now() < end, `never ${count} default routes`);
      await delay(2);
    }
  };
  ip("route del default via 10.2.0.1");
  await routes(1);
  assert.equal(now(), "a0 b0");
  time += 9999;
  assert.equal(now(), "a0 b0");
  assert.deepEqual(waits, [10_000, 1]);
  time += 1;
  assert.equal(now(), "a0");
  ip("route del default via 10.1.0.1");
  await routes(0);
  const none = "no Ethernet device has a default route: name the uplinks in devices";
  assert.equal(now(), `a0 ${none}`);
  time += 60_000;
  assert.equal(now(), `a0 ${none}`, "nothing would be better without it");
  ip("route add default via 10.2.0.1");
  await routes(1);
  assert.equal(now(), "b0");
  ip("link del b0");
  await routes(0);
  assert.equal(now(), none);
});

test("an address of IPv6 that was there before is waited for, and not for ever", async (t) => {
  const { ip, devices } = setUp(t, WIRES);
  const pins = mkdtempSync(join(tmpdir(), "ciliate-uplinks-"));
  t.after(() => rmSync(pins, { recursive: true }));
  const identify = async (more: string, limitMs?: number): Promise<string> => {
    const text = `devices: [a0]\npaths: {bpffs: ${pins}}\n${more}`;
    const { config } = parseConfig(text, "c.yaml");
    const { address6 } = await identifyAgain(config, devices, limitMs);
    return address6 === undefined ? "none" : formatIpv6(address6);
  };
  assert.equal(await identify(""), "none", "never served");
  writeFileSync(join(pins, "frontends6"), "");
  assert.equal(await identify("", 1), "none");
  assert.equal(await identify("ipv6: off\n"), "none");
  const identified = identify("");
  ip("-6 addr add 2001:db8::5/64 dev a0 nodad");
  assert.equal(await identified, "2001:db8::5");
});

test("a route with several hops names several uplinks", (t) => {
  const hops = "nexthop via 10.1.0.1 dev a0 nexthop via 10.2.0.1 dev b0";
  const identify = setUp(t, [...WIRES, `route add default ${hops}`]);
  assert.deepEqual(identify("").slice(1), ["10.1.0.5", "a0,b0", 1400]);
});

test("what can't be found names the key to set", (t) => {
  const identify = setUp(t, WIRES);
  const fails = (config: string, message: RegExp): void =>
    assert.throws(() => identify(config), { message });
  fails("", /^no Ethernet device has a default route: name the uplinks in devices$/);
  fails("devices: [c0]", /^there is no device c0: set devices$/);
  fails("devices: [lo]", /^lo is no Ethernet device: set devices$/);
  fails("devices: [a1]", /^no IPv4 address is on a1: set node\.address$/);
});
