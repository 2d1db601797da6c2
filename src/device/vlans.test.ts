// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { XdpMode } from "../kernel/link.ts";
import type { Link } from "../kernel/netlink/link.ts";
import { whyTagsHide } from "./vlans.ts";

const NOTHING = { packets: 0, bytes: 0 };

function link(index: number, name: string, more: Partial<Link> = {}): Link {
  return {
    index,
    name,
    hardware: 1,
    up: true,
    carrier: true,
    operState: "up",
    mtu: 1500,
    mac: undefined,
    kind: "",
    master: 0,
    peer: 0,
    peerNamespaceId: undefined,
    alias: "",
    xdp: { mode: "none", programId: 0 },
    received: NOTHING,
    sent: NOTHING,
    ...more,
  };
}

const vlan = (index: number, name: string, peer: number, more: Partial<Link> = {}): Link =>
  link(index, name, { kind: "vlan", peer, ...more });

/** Why tags hide from XDP on the first device, when these strip by these features. */
function why(
  [device, ...others]: readonly [Link, ...Link[]],
  stripping: Readonly<Record<string, readonly string[]>>,
  mode: XdpMode = "native",
): string | undefined {
  const links = new Map([device, ...others].map((one) => [one.index, one]));
  return whyTagsHide(device, mode, links, (name) => stripping[name] ?? []);
}

const RXVLAN = { eth0: ["rxvlan"] };

test("a device that strips tags hides those of its VLAN devices, and the way out is told", () => {
  const eth0 = link(2, "eth0");
  for (const mode of ["native", "generic"] as const) {
    assert.equal(
      why([eth0, vlan(5, "eth0.7", 2), vlan(6, "storage", 2)], RXVLAN, mode),
      "XDP on eth0 would not see the VLAN tags of eth0.7, storage: ethtool -K eth0 rxvlan off",
    );
  }
  assert.match(
    why([eth0, vlan(5, "a", 2)], { eth0: ["rxvlan", "rx-vlan-stag-hw-parse"] }) ?? "",
    /: ethtool -K eth0 rxvlan off; ethtool -K eth0 rx-vlan-stag-hw-parse off$/,
  );
  const many = [5, 6, 7, 8, 9].map((index) => vlan(index, `v${index}`, 2));
  assert.match(why([eth0, ...many], RXVLAN) ?? "", /tags of v5, v6, v7 and 2 more: /);
});

test("a device that leaves tags in frames, or has no VLAN devices on it, hides nothing", () => {
  const eth0 = link(2, "eth0");
  assert.equal(why([eth0, vlan(5, "eth0.7", 2)], {}), undefined);
  assert.equal(why([eth0], RXVLAN), undefined);
  const elsewhere = [vlan(5, "eth1.7", 3), link(6, "mac0", { kind: "macvlan", peer: 2 })] as const;
  assert.equal(why([eth0, link(3, "eth1"), ...elsewhere], RXVLAN), undefined);
  const foreign = vlan(5, "eth0.7", 2, { peerNamespaceId: 1 });
  assert.equal(why([eth0, foreign], RXVLAN), undefined, "its 2 is a device of another namespace");
  assert.equal(why([link(2, "tap0", { kind: "tun" }), vlan(5, "v", 2)], {}), undefined);
});

test("VLAN devices on a port's bond or bridge count as on the port", () => {
  const eth0 = link(2, "eth0", { master: 3 });
  const bond = link(3, "bond0", { kind: "bond", master: 4 });
  const bridge = link(4, "br0", { kind: "bridge" });
  for (const under of [3, 4]) {
    assert.match(why([eth0, bond, bridge, vlan(5, "v", under)], RXVLAN) ?? "", /on eth0 .* of v: /);
  }
  assert.equal(why([bond, bridge, eth0, vlan(5, "v", 2)], RXVLAN), undefined);
});

test("a bond asks its ports, of which each must leave tags in", () => {
  const bond = link(2, "bond0", { kind: "bond" });
  const ports = [link(3, "eth0", { master: 2 }), link(4, "eth1", { master: 2 })];
  const all = [bond, ...ports, vlan(5, "bond0.7", 2)] as const;
  const both = { eth0: ["rxvlan"], eth1: ["rxvlan"], bond0: ["rxvlan"] };
  assert.match(
    why(all, both) ?? "",
    /on bond0 .* of bond0\.7: ethtool -K eth0 rxvlan off; ethtool -K eth1 rxvlan off$/,
  );
  assert.match(why(all, { eth1: ["rxvlan"] }) ?? "", /: ethtool -K eth1 rxvlan off$/);
  assert.equal(why(all, { bond0: ["rxvlan"] }), undefined);
});

test("where the kernel keeps tags beside the frame, no feature of the device helps", () => {
  const on = vlan(5, "v", 2);
  const beside = (kind: string): RegExp =>
    new RegExp(` of v: a ${kind} keeps them .* or set acceleration: off$`);
  assert.match(why([link(2, "eth0", { kind: "veth" }), on], {}) ?? "", beside("veth"));
  const bond = link(2, "bond0", { kind: "bond" });
  const port = link(3, "eth0", { master: 2 });
  assert.match(why([bond, port, on], {}, "generic") ?? "", beside("bond"));
  const veth = link(3, "eth0", { kind: "veth", master: 2 });
  assert.match(why([bond, veth, on], {}) ?? "", beside("veth"));
});
