// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeviceChanges } from "../device/devices.ts";
import type { DeviceAddress } from "../kernel/netlink/address.ts";
import { type Address, formatAddress, parseAddress, parseIpv4 } from "../net/address.ts";
import { hostPrefix, parsePrefix, parsePrefix4 } from "../net/prefix.ts";
import { createNodeAddresses } from "./addresses.ts";
import { nodeAddressEntries } from "./entries.ts";
import { createNodeWriter } from "./writer.ts";

const NOTHING: DeviceChanges = {
  all: false,
  links: new Set(),
  addresses: false,
  routes: [],
  neighbours: new Set(),
};
const HOST = 254;
const LINK = 253;

function scopeOf(text: string): number {
  if (text.startsWith("fe80:")) return LINK;
  return text.startsWith("127.") || text === "::1" ? HOST : 0;
}

function setUp(...more: readonly Address[]) {
  const nodes = createNodeWriter();
  let listener: (changes: DeviceChanges) => void = () => undefined;
  const devices = {
    addresses: [] as DeviceAddress[],
    listen(call: (changes: DeviceChanges) => void) {
      listener = call;
      return () => undefined;
    },
  };
  const have = (...texts: readonly string[]): void => {
    devices.addresses = texts.map((text) => {
      const address = parseAddress(text);
      const scope = scopeOf(text);
      return { device: 1, address: hostPrefix(address), peer: address, scope, tentative: false };
    });
    listener({ ...NOTHING, addresses: true });
  };
  const address = parseIpv4("10.0.0.1");
  const made = createNodeAddresses({ devices, nodes: nodes.nodes, known: [address, ...more] });
  const show = (): string[] =>
    [...made.addresses.rows()]
      .map((row) => {
        const word = row.served ? "served" : row.own ? "own" : "other";
        return `${formatAddress(row.address)} ${word}`;
      })
      .sort();
  const put = async (name: string, ...addresses: readonly string[]): Promise<void> => {
    nodes.put({ name, addresses: addresses.map(parseAddress), podPrefixes: [] });
    await new Promise(setImmediate);
  };
  return { made, nodes, have, show, put };
}

test("addresses of IPv6 count where the node serves it, those of the link never", async () => {
  const all = ["10.0.0.1", "fd00::1", "fd00:1::1", "fe80::1", "::1"];
  const both = setUp(parseAddress("fd00::1"));
  both.have(...all);
  await both.put("n2", "10.0.0.2", "fd00::2");
  const served = ["10.0.0.1 served", "fd00:1::1 served", "fd00::1 served"];
  assert.deepEqual(both.show(), [
    "10.0.0.1 served",
    "10.0.0.2 other",
    ...served.slice(1),
    "fd00::2 other",
  ]);
  both.made.serve([parsePrefix("fd00:1::/64")]);
  assert.deepEqual(
    both.show().filter((line) => line.endsWith("served")),
    ["fd00:1::1 served"],
  );
  const four = setUp();
  four.have(...all);
  await four.put("n2", "10.0.0.2", "fd00::2");
  assert.deepEqual(four.show(), ["10.0.0.1 served", "10.0.0.2 other"]);
});

test("this node's addresses are those of its devices, loopback's left out", () => {
  const { have, show } = setUp();
  assert.deepEqual(show(), ["10.0.0.1 served"]);
  have("127.0.0.1", "10.0.0.1", "192.168.0.1");
  assert.deepEqual(show(), ["10.0.0.1 served", "192.168.0.1 served"]);
  have("10.0.0.1");
  assert.deepEqual(show(), ["10.0.0.1 served"]);
});

test("the others' are those of their Node objects, as long as they are there", async () => {
  const { nodes, show, put } = setUp();
  await put("n1", "10.0.0.1");
  await put("n2", "10.0.0.2", "10.0.0.3");
  assert.deepEqual(show(), ["10.0.0.1 served", "10.0.0.2 other", "10.0.0.3 other"]);
  nodes.delete("n2");
  await new Promise(setImmediate);
  assert.deepEqual(show(), ["10.0.0.1 served"]);
});

test("an address outside of the chosen prefixes is this node's, but doesn't serve", () => {
  const { made, have, show } = setUp();
  have("10.0.0.1", "192.168.0.1");
  made.serve([parsePrefix4("192.168.0.0/16")]);
  assert.deepEqual(show(), ["10.0.0.1 own", "192.168.0.1 served"]);
  made.serve("auto");
  assert.deepEqual(show(), ["10.0.0.1 served", "192.168.0.1 served"]);
});

test("programs read whether node ports are served at an address", () => {
  const address = parseIpv4("10.0.0.1");
  const values = [
    { address, own: true, served: true },
    { address, own: true, served: false },
    { address, own: false, served: false },
  ].map((row) => nodeAddressEntries(row).map(({ key, value }) => [key.kind, value]));
  assert.deepEqual(values, [[[5, 1]], [[5, 2]], [[5, 2]]]);
});
