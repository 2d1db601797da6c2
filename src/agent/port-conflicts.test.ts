// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BoundSocket } from "../kernel/netlink/sock-diag.ts";
import { HOST_PORT_TYPE, SERVICE_INDEXES, type Service } from "../lb/rows.ts";
import { service } from "../lb/testing.ts";
import { type Address, FAMILIES, parseAddress } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import { createTable } from "../state/table.ts";
import { portConflicts } from "./port-conflicts.ts";

const SERVED = { range: { first: 30_000, last: 32_767 }, families: FAMILIES };
const OWN = ["172.16.0.1", "2001:db8::1"].map(parseAddress);
const OTHER = parseAddress("172.16.0.2");

const ports = (nodePort: number, protocol: "tcp" | "udp" = "tcp"): Service["ports"] => [
  { name: "other", port: 7, protocol, nodePort: 0 },
  { name: "http", port: 80, protocol, nodePort },
];
const web = service("web", { families: ["ipv4", "ipv6"], ports: ports(30_080) });

function bound(text: string, protocol: "tcp" | "udp" = "tcp"): BoundSocket {
  const [, wide, narrow, port] = /^(?:\[(.*)\]|(.*)):(\d+)$/.exec(text) ?? [];
  const address = parseAddress(wide ?? narrow ?? "");
  return { protocol, family: wide === undefined ? 2 : 10, address, port: Number(port) };
}

/** Object, field and text of all that is told. */
function told(rows: readonly Service[], sockets: readonly BoundSocket[] = [], more = {}) {
  const services = createTable<string, Service, "having">({
    name: "services",
    key: ({ key }) => key,
    indexes: SERVICE_INDEXES,
  });
  for (const row of rows) services.set(row);
  const addresses = createTable<Address, NodeAddressRow>({
    name: "addresses",
    key: ({ address }) => address,
  });
  for (const address of OWN) addresses.set({ address, own: true, served: true });
  addresses.set({ address: OTHER, own: false, served: false });
  const found = [
    ...portConflicts({ ...SERVED, services, addresses, bound: () => sockets, ...more }),
  ];
  return found.map(({ id, field, text }) => `${id}: ${field}: ${text}`);
}

const held = (what: string, at: string): string =>
  `Service default/web: spec.ports[1].nodePort: ${what} is bound by a program of this node, at ` +
  `${at}, whom nothing reaches there any more: stop it (ss -lntp sport = :30080), or give the ` +
  "service another number";

test("a program that has a node port is told, for each family that it takes", () => {
  const narrow = held("node port 30080/tcp", "0.0.0.0:30080");
  assert.deepEqual(told([web], [bound("0.0.0.0:30080")]), [narrow]);
  const wide = held("node port 30080/tcp of IPv6", "[2001:db8::1]:30080");
  assert.deepEqual(told([web], [bound("[2001:db8::1]:30080")]), [wide]);
  assert.deepEqual(told([web], [bound("[::]:30080")]), [
    held("node port 30080/tcp", "[::]:30080"),
    held("node port 30080/tcp of IPv6", "[::]:30080"),
  ]);
  const [own, loopback] = [bound("172.16.0.1:30080"), bound("127.0.0.1:30080")];
  assert.equal(told([web], [own, loopback]).length, 1, "once for each port");
});

test("what has another port, protocol, family or address is none of it", () => {
  const others = ["0.0.0.0:30081", "172.16.0.2:30080", "10.9.9.9:30080", "0.0.0.0:80"];
  assert.deepEqual(
    told([web], [...others.map((one) => bound(one)), bound("0.0.0.0:30080", "udp")]),
    [],
  );
  const narrow = { ...web, families: ["ipv4"] as const };
  assert.deepEqual(told([narrow], [bound("[2001:db8::1]:30080")]), []);
  assert.deepEqual(
    told([web], [bound("0.0.0.0:30080")], { range: { first: 31_000, last: 32_000 } }),
    [],
  );
  assert.equal(told([web], [bound("[::]:30080")], { families: ["ipv4"] }).length, 1);
});

test("a host port that hides a node port is told with the service that it hides", () => {
  const at = (port: number, protocol: "tcp" | "udp" = "tcp"): Service =>
    service("pod-a", {
      type: HOST_PORT_TYPE,
      families: ["ipv4", "ipv6"],
      addresses: OWN,
      ports: [{ name: "1", port, protocol, nodePort: 0 }],
    });
  const hides = (where: string, what: string): string =>
    `Pod default/pod-a: spec.containers: host port ${where}:30080/tcp hides ${what} of Service ` +
    "default/web on this node: give one of them another number";
  assert.deepEqual(told([web, at(30_080)]), [
    hides("172.16.0.1", "node port 30080/tcp"),
    hides("[2001:db8::1]", "node port 30080/tcp of IPv6"),
  ]);
  assert.deepEqual(told([web, at(30_081)]), []);
  assert.deepEqual(told([web, at(30_080, "udp")]), []);
  assert.deepEqual(told([at(30_080)]), []);
});
