// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SnatPorts } from "../conntrack/tally.ts";
import { parseIpv4, parseIpv6 } from "../net/address.ts";
import { createSnatPorts, nameOf } from "./snat-ports.ts";

const backend = (used: number): SnatPorts => {
  return { pod: parseIpv4("10.0.2.1"), port: 8080, protocol: 6, used };
};

test("ports of SNAT are told to run out before they have, and after", () => {
  let [used, refused, nowMs] = [0, 7, 0];
  const watch = createSnatPorts({
    ports: 1000,
    most: () => (used === 0 ? [] : [backend(used), backend(1)]),
    refused: () => refused,
    nowMs: () => nowMs,
  });
  const near =
    "flows to 10.0.2.1:8080/tcp have most of the ports, and new ones soon find none; " +
    "add backends, widen snat.ports, or use mode dsr";
  for (const [count, problem] of [
    [0, ""],
    [599, ""],
    [600, near],
    [500, near],
    [499, ""],
    [599, ""],
    [1000, near],
  ] as const) {
    used = count;
    assert.deepEqual(watch.use(), { table: "snat_ports", used, limit: 1000, problem });
  }
  refused++;
  nowMs = 1000;
  watch.look();
  const dropped = /^new connections to 10\.0\.2\.1:8080\/tcp were dropped .* no port was free; add/;
  nowMs = 60_999;
  assert.match(watch.use().problem, dropped);
  used = 3;
  assert.match(watch.use().problem, dropped);
  nowMs = 61_000;
  assert.equal(watch.use().problem, "");
});

test("who has ports is named by address, port and protocol", () => {
  assert.equal(nameOf({ ...backend(1), protocol: 132 }), "10.0.2.1:8080/sctp");
  assert.equal(
    nameOf({ pod: parseIpv6("2001:db8::1"), port: 53, protocol: 17, used: 1 }),
    "[2001:db8::1]:53/udp",
  );
});
