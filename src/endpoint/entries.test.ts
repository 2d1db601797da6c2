// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIpv4, parseIpv6 } from "../net/address.ts";
import { endpointEntries } from "./entries.ts";
import { createEndpointWriter } from "./writer.ts";

const attachment = { device: "lxc1", mac: undefined, netns: undefined };
const POD = parseIpv4("10.0.1.10");
const WIDE = parseIpv6("2001:db8::10");
const pod = {
  key: "default/web-1",
  addresses: [POD, WIDE],
  node: "n1",
  attachment,
  hostPorts: undefined,
};

test("only a pod that is attached to this node needs something in its kernel", () => {
  assert.deepEqual(endpointEntries("n1", pod), [
    { target: "endpoints", key: POD, value: attachment },
    { target: "endpoints6", key: WIDE, value: attachment },
  ]);
  assert.deepEqual(endpointEntries("n2", pod), []);
  assert.deepEqual(endpointEntries("n1", { ...pod, attachment: undefined }), []);
});

test("pods are found by address and by node", () => {
  const { endpoints, put, delete: remove } = createEndpointWriter();
  put(pod);
  assert.deepEqual(endpoints.by("address", WIDE), [pod]);
  put({ ...pod, node: "n2" });
  assert.deepEqual(endpoints.by("node", "n1"), []);
  remove(pod.key);
  assert.equal(endpoints.hasBy("node", "n2"), false);
});
