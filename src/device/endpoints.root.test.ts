// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Ifindex, maps } from "../datapath/gen/abi.ts";
import { TypedMap } from "../datapath/maps.ts";
import { THIS_NODE } from "../endpoint/rows.ts";
import { check } from "../kernel/error.ts";
import * as sys from "../kernel/ffi.ts";
import { BpfMap } from "../kernel/map.ts";
import { createNamespace, deleteNamespace } from "../kernel/netns.ts";
import { formatIpv4, parseIpv4 } from "../net/address.ts";
import { formatMac, parseMac } from "../net/mac.ts";
import { openDevices } from "./devices.ts";
import { createEndpointTarget } from "./endpoints.ts";

const CLONE_NEWNET = 0x4000_0000;
check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
const POD_NAMESPACE = `ciliate-endpoint-${process.pid}`;
createNamespace(POD_NAMESPACE);
after(() => deleteNamespace(POD_NAMESPACE));

const POD = parseIpv4("10.244.1.2");
const HOST_MAC = "02:00:00:00:00:01";
const POD_MAC = "02:00:00:00:00:02";

function makePod(): void {
  const host = ["link", "add", "cilpod", "address", HOST_MAC, "type", "veth"];
  const peer = ["peer", "name", "cileth", "address", POD_MAC, "netns", POD_NAMESPACE];
  execFileSync("ip", [...host, ...peer]);
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    assert.ok(performance.now() < end, `after 5 s still not: ${what}`);
    await delay(2);
  }
}

test("a pod's entry is found out from its device and follows it", async () => {
  const spec = { ...maps.endpoints, maxEntries: 4 };
  using map = new TypedMap(BpfMap.create(spec), spec);
  const failed = (error: Error): void => assert.fail(error);
  using devices = openDevices({ failed });
  let changes = 0;
  using target = createEndpointTarget({ map, devices, changed: () => void changes++, failed });
  const value = { device: "cilpod", mac: undefined, netns: POD_NAMESPACE };

  const [refusal] = await target.apply([{ key: POD, value, previous: undefined }]);
  assert.match(refusal?.error.message ?? "", /no device cilpod for pod 10\.244\.1\.2/);
  assert.deepEqual(target.devices(), []);

  makePod();
  await until(() => map.lookup({ address: POD }) !== undefined, "the device's entry is there");
  const entry = map.lookup({ address: POD });
  assert.equal(entry?.ifindex, sys.interfaceIndex("cilpod"));
  assert.equal(formatMac(entry?.podMac ?? parseMac("00:00:00:00:00:00")), POD_MAC);
  assert.equal(formatMac(entry?.nodeMac ?? parseMac("00:00:00:00:00:00")), HOST_MAC);
  assert.notEqual(entry?.netns, -1);
  assert.deepEqual(
    target.devices().map(({ name }) => name),
    ["cilpod"],
  );

  execFileSync("ip", ["link", "del", "cilpod"]);
  await until(() => target.devices().length === 0, "its device is gone");
  const before = changes;
  makePod();
  const index = sys.interfaceIndex("cilpod");
  await until(() => map.lookup({ address: POD })?.ifindex === index, "it is back");
  assert(changes > before);

  target.remove([{ key: POD, previous: value }]);
  assert.equal(map.lookup({ address: POD }), undefined);
  assert.deepEqual(target.devices(), []);
  execFileSync("ip", ["link", "del", "cilpod"]);
});

test("a pod whose MAC isn't known for a moment keeps its device, also over a restart", async () => {
  const spec = { ...maps.endpoints, maxEntries: 4 };
  using map = new TypedMap(BpfMap.create(spec), spec);
  const failures: Error[] = [];
  const failed = (error: Error): void => void failures.push(error);
  using devices = openDevices({ failed });
  makePod();
  execFileSync("ip", ["link", "set", "cilpod", "up"]);
  const learn = ["neigh", "replace", formatIpv4(POD), "lladdr", POD_MAC, "dev", "cilpod"];
  execFileSync("ip", learn);
  const index = sys.interfaceIndex("cilpod") as Ifindex;
  await until(() => devices.neighbour(index, POD) !== undefined, "the neighbour is known");
  const options = { map, devices, changed: () => undefined, failed };
  using target = createEndpointTarget(options);
  const batch = [
    {
      key: POD,
      value: { device: "cilpod", mac: undefined, netns: undefined },
      previous: undefined,
    },
  ];
  assert.deepEqual(await target.apply(batch), []);
  assert.equal(map.lookup({ address: POD })?.ifindex, index);
  const names = (one: typeof target) => one.devices().map(({ name }) => name);

  execFileSync("ip", ["neigh", "del", formatIpv4(POD), "dev", "cilpod"]);
  await until(() => devices.neighbour(index, POD) === undefined, "the neighbour is forgotten");
  execFileSync("ip", ["link", "set", "cilpod", "mtu", "1400"]);
  await until(() => failures.length > 0, "the MAC is missed");
  assert.match(failures[0]?.message ?? "", /^no MAC of pod 10\.244\.1\.2 behind device cilpod: /);
  assert.deepEqual([names(target), map.lookup({ address: POD })?.ifindex], [["cilpod"], index]);

  using next = createEndpointTarget(options);
  assert.equal((await next.apply(batch)).length, 1);
  assert.deepEqual([names(next), map.lookup({ address: POD })?.ifindex], [["cilpod"], index]);
  // Before Linux 6.2 a device that is up keeps its name.
  execFileSync("ip", ["link", "set", "cilpod", "down"]);
  execFileSync("ip", ["link", "set", "cilpod", "name", "cilpod2"]);
  await until(() => devices.link("cilpod2") !== undefined, "it has another name");
  using last = createEndpointTarget(options);
  await last.apply(batch);
  assert.deepEqual(names(last), [], "another device has its number");
  execFileSync("ip", ["link", "del", "cilpod2"]);
});

test("the node itself has no device, and is known from before", async () => {
  const spec = { ...maps.endpoints, maxEntries: 4 };
  using map = new TypedMap(BpfMap.create(spec), spec);
  const failed = (error: Error): void => assert.fail(error);
  using devices = openDevices({ failed });
  let changes = 0;
  const options = { map, devices, changed: () => void changes++, failed };
  using target = createEndpointTarget(options);
  assert.equal(target.hasNode(), false);
  await target.apply([{ key: POD, value: THIS_NODE, previous: undefined }]);
  const entry = map.lookup({ address: POD });
  assert.deepEqual([entry?.ifindex, entry?.netns, changes], [0, -1, 1]);
  assert.deepEqual([target.hasNode(), target.devices()], [true, []]);

  using next = createEndpointTarget(options);
  assert.equal(next.hasNode(), true, "before its row is there");
  await next.remove([{ key: POD, previous: undefined }]);
  assert.equal(next.hasNode(), false);
});
