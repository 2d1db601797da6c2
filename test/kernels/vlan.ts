// SPDX-License-Identifier: Apache-2.0

// Runs inside a booted kernel: VLAN devices on a balancer's uplink. The main machine's kernel has
// none.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { findLink, type Link } from "../../src/kernel/netlink/link.ts";
import { openNetlink } from "../../src/kernel/netlink/socket.ts";
import { namespacePath } from "../../src/kernel/netns.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { ringOf, verdictsAt } from "../lab/tools/inspect.ts";
import { ip } from "./foreign-peer.ts";

const NAME = "kvlan";
const BALANCER = "node1";
const VLAN = "eth0.5";
const FAMILIES = ["ipv4", "ipv6"] as const;
const VIP = { ipv4: "198.51.100.1", ipv6: "fd00:198:51:100::1" } as const;
/** The ends of the VLAN: of the balancer, of the fabric. */
const TAGGED = {
  ipv4: { node: "10.55.0.2", fabric: "10.55.0.1/24", length: "24" },
  ipv6: { node: "fd00:55::2", fabric: "fd00:55::1/64", length: "64" },
} as const;
const PORT = 80;
/** Many more than what a new device hears of ARP and IPv6. */
const FRAMES = 100;
const LIMIT_MS = 60_000;

function balancerNamespace(lab: Lab): string {
  return nodeNamed(lab.plan, BALANCER).place.namespace;
}

function deviceOf(lab: Lab, name: string): Link | undefined {
  using netlink = openNetlink({ namespace: namespacePath(balancerNamespace(lab)) });
  return findLink(netlink, name);
}

async function untilXdp(lab: Lab, mode: Link["xdp"]["mode"]): Promise<void> {
  await until(`eth0 to have ${mode} XDP`, LIMIT_MS, () => deviceOf(lab, "eth0")?.xdp.mode === mode);
}

/** What the balancer's status says of an uplink: [program, reason] of each of this name. */
async function statusOf(lab: Lab, device: string): Promise<string[][]> {
  const text = await lab.output(BALANCER, ["ciliate", "status", "-o", "json"]);
  const { devices } = JSON.parse(text) as {
    devices: readonly Readonly<Record<"name" | "program" | "reason", string>>[];
  };
  const ours = devices.filter(({ name }) => name === device);
  return ours.map(({ program, reason }) => [program, reason]);
}

/** Datagrams for the service's addresses, from the fabric by whatever leads there. */
async function sendAll(lab: Lab): Promise<void> {
  const both = FAMILIES.map((family) => `echo >/dev/udp/${VIP[family]}/${PORT}`).join("; ");
  await lab.output("switch", ["bash", "-c", `for i in {1..${FRAMES}}; do ${both}; done`]);
}

function balanced(lab: Lab, place: "edge" | "host"): number {
  return verdictsAt(lab, BALANCER).get(`${place} sent encapsulated`) ?? 0;
}

/** Packets with an outer header that the balancer has sent, as they came to the fabric. */
async function encapsulated(lab: Lab): Promise<readonly [number, number]> {
  const { ipip, ip6ip6 } = await lab.counters();
  return [ipip.packets, ip6ip6.packets];
}

async function bringUp(): Promise<Lab> {
  // The other node only has to have an address.
  const lab = await createLab({
    name: NAME,
    nodes: 2,
    podsPerNode: 1,
    bundle: true,
    agents: false,
    config: { devices: "auto" }, // also the VLAN, once a default route leads there
  });
  await lab.startAgent(BALANCER);
  const ports = [{ port: PORT, targetPort: 8080, protocol: "UDP" as const }];
  lab.publish({ name: "far", addresses: Object.values(VIP), ports, backends: ["pod2-1"] });
  lab.setBalancers([1]);
  for (const frontend of [`${VIP.ipv4}:${PORT}`, `[${VIP.ipv6}]:${PORT}`]) {
    await until(`${frontend} to have a ring`, LIMIT_MS, () => {
      return ringOf(lab, BALANCER, frontend, "udp").size === 1;
    });
  }
  return lab;
}

/** A VLAN between fabric and balancer, by which the service's packets come. */
function wireVlan(lab: Lab): void {
  const fabric = lab.plan.switch.namespace;
  const node = balancerNamespace(lab);
  ip(node, `link set ${VLAN} up`);
  ip(fabric, `link add link ${BALANCER} name tagged type vlan id 5`);
  ip(fabric, "link set tagged up");
  for (const family of FAMILIES) {
    const ends = TAGGED[family];
    ip(node, `addr add ${ends.node}/${ends.length} dev ${VLAN}`);
    ip(fabric, `addr add ${ends.fabric} dev tagged`);
    ip(fabric, `route add ${VIP[family]} via ${ends.node} dev tagged metric 1`);
    const gateway = ends.fabric.split("/")[0];
    ip(node, `route add default via ${gateway} dev ${VLAN} metric 4096`);
  }
}

suite("VLAN devices on an uplink", () => {
  let stage: Lab | undefined;
  const theLab = (): Lab => stage ?? assert.fail("the lab did not come up");

  before(async () => {
    stage = await bringUp();
  });
  after(() => removeLab(NAME));

  test("XDP goes while there is one, by which frames are balanced in tc", async () => {
    const lab = theLab();
    await untilXdp(lab, "native");
    ip(balancerNamespace(lab), `link add link eth0 name ${VLAN} type vlan id 5`);
    await untilXdp(lab, "none");
    const [[program, reason] = [], ...more] = await statusOf(lab, "eth0");
    assert.deepEqual([program, more], ["host", []]);
    assert.match(
      reason ?? "",
      /^balanced in tc: XDP on eth0 would not see the VLAN tags of eth0\.5: a veth keeps them /,
    );

    wireVlan(lab);
    const begin = balanced(lab, "edge");
    await until(`${VLAN} to be balanced`, LIMIT_MS, async () => {
      const [[at] = []] = await statusOf(lab, VLAN);
      return at === "host";
    });
    const host = balanced(lab, "host");
    const [ipip, ip6ip6] = await encapsulated(lab);
    await sendAll(lab);
    await until("tagged frames of both families to be balanced", LIMIT_MS, () => {
      return balanced(lab, "host") >= host + 2 * FRAMES;
    });
    assert.equal(balanced(lab, "host"), host + 2 * FRAMES); // each once
    assert.equal(balanced(lab, "edge"), begin);
    assert.deepEqual(await encapsulated(lab), [ipip + FRAMES, ip6ip6 + FRAMES]);

    ip(lab.plan.switch.namespace, "link del tagged");
    ip(balancerNamespace(lab), `link del ${VLAN}`);
    await untilXdp(lab, "native");
    await sendAll(lab);
    await until("untagged frames to be balanced", LIMIT_MS, () => {
      return balanced(lab, "edge") >= begin + 2 * FRAMES;
    });
  });
});
