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
const VIP = "198.51.100.1";
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

/** What the balancer's status says of its uplink: [program, reason] of each. */
async function statusOf(lab: Lab): Promise<string[][]> {
  const text = await lab.output(BALANCER, ["ciliate", "status", "-o", "json"]);
  const { devices } = JSON.parse(text) as {
    devices: readonly Readonly<Record<"name" | "program" | "reason", string>>[];
  };
  const ours = devices.filter(({ name }) => name === "eth0");
  return ours.map(({ program, reason }) => [program, reason]);
}

/** Datagrams for the service, from the fabric by whatever leads there. */
async function sendAll(lab: Lab): Promise<void> {
  const send = `for i in {1..${FRAMES}}; do echo >/dev/udp/${VIP}/${PORT}; done`;
  await lab.output("switch", ["bash", "-c", send]);
}

function balanced(lab: Lab): number {
  return verdictsAt(lab, BALANCER).get("edge sent encapsulated") ?? 0;
}

async function bringUp(): Promise<Lab> {
  // The other node only has to have an address.
  const lab = await createLab({
    name: NAME,
    nodes: 2,
    podsPerNode: 1,
    bundle: true,
    agents: false,
  });
  await lab.startAgent(BALANCER);
  const ports = [{ port: PORT, targetPort: 8080, protocol: "UDP" as const }];
  lab.publish({ name: "far", addresses: [VIP], ports, backends: ["pod2-1"] });
  lab.setBalancers([1]);
  await until("the service to have a ring", LIMIT_MS, () => {
    return ringOf(lab, BALANCER, `${VIP}:${PORT}`, "udp").size === 1;
  });
  return lab;
}

/** A VLAN between fabric and balancer, by which the service's packets come. */
function wireVlan(lab: Lab): void {
  const fabric = lab.plan.switch.namespace;
  const node = balancerNamespace(lab);
  ip(node, "addr add 10.55.0.2/24 dev eth0.5");
  ip(node, "link set eth0.5 up");
  ip(fabric, `link add link ${BALANCER} name tagged type vlan id 5`);
  ip(fabric, "addr add 10.55.0.1/24 dev tagged");
  ip(fabric, "link set tagged up");
  ip(fabric, `route add ${VIP}/32 via 10.55.0.2 dev tagged metric 1`);
}

suite("VLAN devices on an uplink", () => {
  let stage: Lab | undefined;
  const theLab = (): Lab => stage ?? assert.fail("the lab did not come up");

  before(async () => {
    stage = await bringUp();
  });
  after(() => removeLab(NAME));

  test("XDP goes while there is one, and its frames arrive there", async () => {
    const lab = theLab();
    await untilXdp(lab, "native");
    ip(balancerNamespace(lab), "link add link eth0 name eth0.5 type vlan id 5");
    await untilXdp(lab, "none");
    const [[program, reason] = [], ...more] = await statusOf(lab);
    assert.deepEqual([program, more], ["host", []]);
    assert.match(
      reason ?? "",
      /^balanced in tc: XDP on eth0 would not see the VLAN tags of eth0\.5: a veth keeps them /,
    );

    wireVlan(lab);
    const begin = balanced(lab);
    await sendAll(lab);
    await until("tagged frames to arrive", LIMIT_MS, () => {
      return (deviceOf(lab, "eth0.5")?.received.packets ?? 0) >= FRAMES;
    });
    assert.equal(balanced(lab), begin);

    ip(lab.plan.switch.namespace, "link del tagged");
    ip(balancerNamespace(lab), "link del eth0.5");
    await untilXdp(lab, "native");
    await sendAll(lab);
    await until("untagged frames to be balanced", LIMIT_MS, () => balanced(lab) >= begin + FRAMES);
  });
});
