// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createNamespace, deleteNamespace, namespacePath } from "../kernel/netns.ts";
import { parseAddress } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import { type DeviceChanges, openDevices } from "./devices.ts";

const LIMIT_MS = 5000;
let serial = 0;

/** Devices a0 and b0 that are up, the first list behind them, and what they tell from then on. */
async function setUp(t: TestContext) {
  serial += 1;
  const name = `cildev${process.pid}x${serial}`;
  createNamespace(name);
  t.after(() => deleteNamespace(name));
  const ip = (...lines: string[]): void =>
    void execFileSync("ip", ["-n", name, "-batch", "-"], { input: `${lines.join("\n")}\n` });
  ip(
    ...["a", "b"].flatMap((one) => [
      `link add ${one}0 type veth peer name ${one}1`,
      `link set ${one}1 up`,
      `link set ${one}0 up`,
    ]),
    "address add 2001:db8:a::1/64 dev a0 nodad",
    "address add 2001:db8:b::1/64 dev b0 nodad",
    "address add 10.1.0.1/24 dev a0",
    "address add 10.2.0.1/24 dev b0",
  );
  const errors: Error[] = [];
  const failed = (error: Error): void => void errors.push(error);
  const devices = openDevices({ namespace: namespacePath(name), failed });
  t.after(() => devices[Symbol.dispose]());
  const told: DeviceChanges[] = [];
  devices.listen((changes) => void told.push(changes));
  const until = async (what: string, condition: () => boolean): Promise<void> => {
    const end = performance.now() + LIMIT_MS;
    while (!condition()) {
      assert.ok(performance.now() < end, `not within ${LIMIT_MS} ms: ${what}`);
      await delay(2);
    }
  };
  await until("the first list", () => told.some(({ all }) => all));
  told.length = 0;
  const way = (address: string): string | undefined => {
    const found = devices.routes.wayTo(parseAddress(address), () => true);
    return found && devices.links.get(found.device)?.name;
  };
  return { ip, devices, told, errors, until, way };
}

test("a route of IPv6 that goes for one by another device takes its place", async (t) => {
  const { ip, until, way } = await setUp(t);
  const route = "2001:db8:9::/64 via 2001:db8:";
  ip(`route add ${route}a::2 dev a0`);
  await until("the route", () => way("2001:db8:9::1") === "a0");
  ip(`route replace ${route}b::2 dev b0`);
  await until("the route in its place", () => way("2001:db8:9::1") === "b0");
});

test("many routes of IPv6 that go at once are listed once", async (t) => {
  const { ip, devices, until, way } = await setUp(t);
  const each = (verb: string): string[] =>
    Array.from({ length: 64 }, (_, at) => `route ${verb} 2001:db8:${9000 + at}::/64 dev a0`);
  ip(...each("add"));
  await until("the routes", () => way("2001:db8:9063::1") === "a0");
  const { mock } = t.mock.method(devices.netlink, "dump");
  ip(...each("del"));
  await until("no route", () => way("2001:db8:9063::1") === undefined);
  assert.equal(way("2001:db8:9000::1"), undefined);
  await until("the list", () => mock.callCount() > 0);
  assert.ok(mock.callCount() <= 8, `${mock.callCount()} dumps`);
});

test("tables that couldn't be listed are listed later, and listeners hear of it", async (t) => {
  const { ip, devices, told, errors, until, way } = await setUp(t);
  ip("route add 10.9.0.0/16 via 10.1.0.2");
  await until("the route", () => way("10.9.0.1") === "a0");
  told.length = 0;
  const busy = (): never => {
    throw new Error("busy");
  };
  const { mock } = t.mock.method(devices.netlink, "dump", busy);
  // The kernel doesn't tell of the route, which is gone with the device.
  ip("link set a0 down");
  await until("the failure", () => errors.length > 0);
  mock.restore();
  assert.deepEqual([errors[0]?.message, way("10.9.0.1")], ["busy", "a0"]);
  await until("the list", () => told.some(({ all }) => all));
  assert.equal(way("10.9.0.1"), undefined);
});

test("a device that goes down changes what is routed by it, and nothing else", async (t) => {
  const { ip, told, until, way } = await setUp(t);
  ip("route add 10.9.0.0/16 nexthop via 10.1.0.2 nexthop via 10.2.0.2");
  await until("the route", () => way("10.9.0.1") !== undefined);
  told.length = 0;
  ip("link set a0 down");
  await until("its way is gone", () => way("10.1.0.2") === undefined);
  assert.equal(
    told.some(({ all }) => all),
    false,
  );
  const prefixes = told.flatMap(({ routes }) => (routes === "all" ? [] : routes)).map(formatPrefix);
  assert.ok(prefixes.includes("10.1.0.0/24") && prefixes.includes("10.9.0.0/16"), `${prefixes}`);
  assert.equal(prefixes.includes("10.2.0.0/24"), false);
});

test("beyond a number of prefixes, all routes have changed", async (t) => {
  const { ip, told, until } = await setUp(t);
  ip(...Array.from({ length: 300 }, (_, at) => `route add 10.77.${at % 256}.${at >> 8}/32 dev a0`));
  told.length = 0;
  await delay(0);
  ip("link set a0 down");
  await until("all of them", () => told.some(({ routes }) => routes === "all"));
});
