// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, test } from "node:test";
import { createNamespace, deleteNamespace, namespacePath } from "../kernel/netns.ts";
import { openDevices } from "./devices.ts";
import { readStripping } from "./vlans.ts";

const LIMIT_MS = 5000;
const NAMESPACE = `cilvlan${process.pid}`;
const PATH = namespacePath(NAMESPACE);
createNamespace(NAMESPACE);
after(() => deleteNamespace(NAMESPACE));
execFileSync("ip", ["-n", NAMESPACE, "link", "add", "a0", "type", "veth", "peer", "name", "a1"]);

/** `DEVICE FEATURE on|off` */
function ethtool(words: string): void {
  execFileSync("nsenter", [`--net=${PATH}`, "ethtool", "-K", ...words.split(" ")]);
}

test("a device says by which features it strips tags, as ethtool set them", () => {
  assert.deepEqual(readStripping("a0", PATH), ["rxvlan", "rx-vlan-stag-hw-parse"]);
  ethtool("a0 rxvlan off");
  assert.deepEqual(readStripping("a0", PATH), ["rx-vlan-stag-hw-parse"]);
  ethtool("a0 rx-vlan-stag-hw-parse off");
  assert.deepEqual(readStripping("a0", PATH), []);
  ethtool("a0 rxvlan on");
  assert.deepEqual(readStripping("a0", PATH), ["rxvlan"]);
});

test("a device that the kernel says nothing about strips nothing", () => {
  assert.deepEqual(readStripping("nowhere", PATH), []);
});

test("a change of features is a change of the device", async () => {
  const failed = (error: Error): void => assert.fail(error);
  using devices = openDevices({ namespace: PATH, failed });
  const index = devices.link("a1")?.index ?? assert.fail("no a1");
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const limit = setTimeout(() => reject(new Error("nobody heard of it")), LIMIT_MS);
  devices.listen(({ all, links }) => {
    if (all)
      ethtool("a1 rxvlan off"); // the first list is behind us
    else if (links.has(index)) resolve();
  });
  await promise.finally(() => clearTimeout(limit));
});
