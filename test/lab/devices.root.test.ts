// SPDX-License-Identifier: Apache-2.0

// Balancers whose devices are not as one would wish: several uplinks, somebody else's XDP program,
// a driver without XDP, wires too narrow for the outer header.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, suite, type TestContext, test } from "node:test";
import { FlowDirection, maps } from "../../src/datapath/gen/abi.ts";
import { attachXdp, type BpfLink } from "../../src/kernel/link.ts";
import { listLinks } from "../../src/kernel/netlink/link.ts";
import { openNetlink } from "../../src/kernel/netlink/socket.ts";
import { inNamespace, namespacePath } from "../../src/kernel/netns.ts";
import { BpfProgram } from "../../src/kernel/program.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { formatIpv4, parseIpv4 } from "../../src/net/address.ts";
import { ipv4, payload, udp } from "../../src/net/packet.ts";
import { decided, openWire, towards } from "./tools/hostile.ts";
import { entriesOf, nodesOf, podEndpoint, untilBalanced, verdictsAt } from "./tools/inspect.ts";
import {
  ECHO_PORT,
  HTTP_PORT,
  type PodPrograms,
  setOffloads,
  startPrograms,
} from "./tools/programs.ts";
import { freshName } from "./tools/stage.ts";
import { type Frame, watch } from "./tools/wire.ts";

const BACKEND = "pod2-1";
const VIP = "198.51.100.1";
const URL = `http://${VIP}/name`;
const PORT = 80;
const MTU = 1500;
const OUTER_BYTES = 20;
const OUTER_PREFIX = "10.99.0.0/24";
const LIMIT_MS = 15_000;
const ATTACH_XDP = 37;
/** `r0 = XDP_PASS; exit` */
const PASS = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

/** Of the lab's nodes, which is what; node2 has the backend. */
const TWO_UPLINKS = "node1";
const FOREIGN_XDP = "node3";
const BRIDGED = "node4";

const name = freshName();

interface Scene {
  readonly lab: Lab;
  readonly programs: PodPrograms;
  readonly foreign: { readonly link: BpfLink; readonly programId: number };
}
const stage: { scene?: Scene } = {};

function theScene(): Scene {
  assert.ok(stage.scene !== undefined, "the lab did not come up");
  return stage.scene;
}

async function ip(lab: Lab, place: string, ...commands: readonly string[]): Promise<void> {
  for (const command of commands) await lab.output(place, ["ip", ...command.split(" ")]);
}

/** A second wire between switch and node, by which the virtual IP's packets come. */
async function addUplink(lab: Lab): Promise<void> {
  const node = nodeNamed(lab.plan, TWO_UPLINKS).place.namespace;
  await ip(
    lab,
    "switch",
    `link add name second type veth peer name eth1 netns ${node}`,
    "addr add 10.9.1.254/24 dev second",
    "link set second up",
  );
  await ip(lab, TWO_UPLINKS, "addr add 10.9.1.1/24 dev eth1", "link set eth1 up");
  await setOffloads(lab, "switch", false, "second");
}

/** The node's address moves to a bridge on its uplink: no bridge has native XDP. */
async function bridgeUplink(lab: Lab): Promise<void> {
  const { address, gateway } = nodeNamed(lab.plan, BRIDGED);
  const own = `${formatIpv4(address.address)}/${address.length}`;
  await ip(
    lab,
    BRIDGED,
    "link add name br0 type bridge",
    "link set br0 up",
    `addr del ${own} dev eth0`,
    "link set eth0 master br0",
    `addr add ${own} dev br0`,
    `route replace default via ${formatIpv4(gateway)} dev br0`,
  );
  // Packets of many segments reach tc whole.
  await lab.output("switch", ["ethtool", "-K", BRIDGED, "tx", "on", "tso", "on", "gro", "off"]);
}

function attachForeign(lab: Lab): Scene["foreign"] {
  const path = namespacePath(nodeNamed(lab.plan, FOREIGN_XDP).place.namespace);
  using program = BpfProgram.fromInstructions("xdp", "cil_foreign", PASS, ATTACH_XDP);
  using netlink = openNetlink({ namespace: path });
  const ifindex = listLinks(netlink).find((device) => device.name === "eth0")?.index ?? 0;
  const link = inNamespace(path, () => attachXdp({ program, ifindex, mode: "native" }));
  return { link, programId: program.id };
}

async function bringUp(): Promise<void> {
  const lab = await createLab({
    name,
    nodes: 4,
    podsPerNode: 1,
    agents: false,
    lowerMss: false,
    // Else no segment would ever be too large.
    config: { mss: { clamp: false }, trustedSources: [OUTER_PREFIX] },
    nodeConfig: {
      [TWO_UPLINKS]: { devices: ["eth0", "eth1"] },
      [FOREIGN_XDP]: { outerSource: OUTER_PREFIX },
      [BRIDGED]: { devices: ["br0"] },
    },
  });
  await addUplink(lab);
  await bridgeUplink(lab);
  const foreign = attachForeign(lab);
  stage.scene = { lab, foreign, programs: await startPrograms(lab, BACKEND) };
  await Promise.all(nodesOf(lab).map((node) => lab.startAgent(node)));
  const ports = [
    { name: "http", port: PORT, targetPort: HTTP_PORT },
    { name: "echo", port: PORT, targetPort: ECHO_PORT, protocol: "UDP" as const },
  ];
  lab.publish({ name: "web", addresses: [VIP], ports, backends: [BACKEND] });
  const echo = podEndpoint(lab, BACKEND, ECHO_PORT);
  await untilBalanced(lab, `${VIP}:${PORT}`, [echo], nodesOf(lab), "udp");
}

async function tearDown(): Promise<void> {
  stage.scene?.foreign.link.close();
  await removeLab(name);
}

interface Status {
  readonly devices: readonly Readonly<Record<"name" | "program" | "mode" | "reason", string>>[];
  readonly checks: readonly { readonly problem: string }[];
}

/** What a node's status says of its uplinks: [device, program, mode, reason]. */
async function uplinks(lab: Lab, node: string): Promise<string[][]> {
  const text = await lab.output(node, ["ciliate", "status", "-o", "json"]);
  const { devices, checks } = JSON.parse(text) as Status;
  for (const { problem } of checks) assert.equal(problem, "");
  return devices
    .filter(({ program }) => program !== "pod")
    .map(({ name: device, program, mode, reason }) => [device, program, mode, reason]);
}

async function fetchBy(lab: Lab, node: number): Promise<void> {
  lab.setBalancers([node]);
  assert.equal(await lab.output("client", ["curl", "-sS", "-m", "5", URL]), BACKEND);
}

async function severalUplinks(t: TestContext): Promise<void> {
  const { lab } = theScene();
  assert.deepEqual(await uplinks(lab, TWO_UPLINKS), [
    ["eth0", "edge", "xdp native", ""],
    ["eth0", "host", "tcx ingress", ""],
    ["eth1", "edge", "xdp native", ""],
    ["eth1", "host", "tcx ingress", ""],
  ]);
  await ip(lab, "switch", `route add ${VIP}/32 via 10.9.1.1 dev second`);
  const begin = verdictsAt(lab, TWO_UPLINKS);
  const { first, second } = await watch(
    t,
    lab,
    {
      first: { at: `switch:${TWO_UPLINKS}`, filter: "ip proto 4" },
      second: { at: "switch:second", filter: `dst host ${VIP}` },
    },
    async () => {
      assert.equal(await lab.output("client", ["curl", "-sS", "-m", "5", URL]), BACKEND);
    },
  );
  await ip(lab, "switch", `route del ${VIP}/32`);
  assert.ok(second.length >= 5, "requests come by the second uplink");
  assert.equal(first.length, second.length, "and leave by the first");
  const [edge, ...more] = Object.entries(decided(lab, TWO_UPLINKS, "edge", begin));
  assert.deepEqual([edge, more], [["sent encapsulated", second.length], []]);
}

async function foreignProgram(_t: TestContext): Promise<void> {
  const { lab, foreign } = theScene();
  const [host, ...more] = await uplinks(lab, FOREIGN_XDP);
  assert.deepEqual(more, []);
  assert.deepEqual(host?.slice(0, 3), ["eth0", "host", "tcx ingress"]);
  assert.match(
    host?.[3] ?? "",
    /^balanced in tc: .*eth0.*it has an XDP program already, which is left alone/,
  );
  await fetchBy(lab, 3);
  const [link] = JSON.parse(
    await lab.output(FOREIGN_XDP, ["ip", "-j", "link", "show", "dev", "eth0"]),
  ) as { xdp: { prog: { id: number } } }[];
  assert.equal(link?.xdp.prog.id, foreign.programId, "the foreign program was replaced");
}

async function withoutNativeXdp(_t: TestContext): Promise<void> {
  const { lab } = theScene();
  const [host, ...more] = await uplinks(lab, BRIDGED);
  assert.deepEqual(more, []);
  assert.deepEqual(host?.slice(0, 3), ["br0", "host", "tcx ingress"]);
  assert.match(host?.[3] ?? "", /^balanced in tc: .*br0.*its driver has no native XDP/);
  await fetchBy(lab, 4);
}

const FLOWS = 64;
const FIRST_PORT = 20_000;

function isOurs(port: number | undefined): boolean {
  return port !== undefined && port >= FIRST_PORT && port < FIRST_PORT + FLOWS;
}

/** Packets of the flows that have come to the pod; others may still be ending. */
function arrived(lab: Lab): number {
  return entriesOf(lab, "node2", maps.conntrack)
    .filter(([{ direction, sourcePort }]) => {
      return direction === FlowDirection.request && isOurs(sourcePort);
    })
    .reduce((sum, [, { packets }]) => sum + Number(packets), 0);
}

async function spreadSources(t: TestContext): Promise<void> {
  const { lab } = theScene();
  const [source, target] = [parseIpv4("192.0.2.10"), parseIpv4(VIP)];
  const begin = verdictsAt(lab, "node2");
  const seen = { at: `switch:${FOREIGN_XDP}`, filter: "ip proto 4" };
  const { outer } = await watch(t, lab, { outer: seen }, async () => {
    using wire = openWire(lab, "switch", FOREIGN_XDP);
    for (let flow = 0; flow < 2 * FLOWS; flow++) {
      const mark = { dscp: flow % 63, ecn: flow % 4 };
      const ports = { sourcePort: FIRST_PORT + (flow % FLOWS), targetPort: PORT };
      wire.send(
        towards(lab, FOREIGN_XDP, ipv4({ source, target, ...mark }), udp(ports), payload(8)),
      );
    }
    await until("all flows in the pod", LIMIT_MS, () => arrived(lab) === 2 * FLOWS);
  });
  // The client has no sockets for the answers, and says so.
  const { "sent relayed": _, ...counts } = decided(lab, "node2", "host", begin);
  assert.deepEqual(Object.keys(counts), ["sent pod"]);
  const ours = outer.filter(({ ports }) => isOurs(ports[0]));
  assert.equal(ours.length, 2 * FLOWS);
  const sources = new Map<number, string>();
  for (const frame of ours) {
    const [header, inner] = frame.ip;
    assert.match(header?.source ?? "", /^10\.99\.0\.\d+$/);
    assert.equal(header?.tos, inner?.tos);
    const flow = frame.ports[0] ?? 0;
    assert.equal(sources.get(flow) ?? header?.source, header?.source, "a flow has one source");
    sources.set(flow, header?.source ?? "");
  }
  const different = new Set(sources.values()).size;
  t.diagnostic(`${different} outer sources of ${FLOWS} flows`);
  // 64 balls in 256 bins fill 57; never half of that.
  assert.ok(different > FLOWS / 2, `${different} outer sources`);
}

/** A large body goes up though no segment of the usual size fits, and the client is told why. */
async function narrow(t: TestContext, balancer: number, own: string): Promise<void> {
  const { lab, programs } = theScene();
  lab.setBalancers([balancer]);
  await lab.output("client", ["ip", "route", "flush", "cache"]);
  const node = `node${balancer}`;
  const begin = verdictsAt(lab, node);
  const up = `up-${node}`;
  const { client, whole } = await watch(
    t,
    lab,
    {
      client: { at: "client", filter: "icmp" },
      whole: { at: `${node}:eth0`, filter: `greater ${2 * MTU}`, packets: 100 },
    },
    async () => {
      const url = `http://${VIP}/${up}`;
      await lab.output("client", ["curl", "-sS", "-f", "-m", "15", "-T", programs.large, url]);
    },
  );
  assert.equal(whole.length > 0, own === "host", "tc gets packets of many segments, XDP none");
  assert.ok(programs.stored(up).equals(readFileSync(programs.large)), "other bytes arrived");
  assertFragNeeded(client);
  const counts = decided(lab, node, own, begin);
  assert.equal(counts["sent frag needed"], client.length);
}

function assertFragNeeded(frames: readonly Frame[]): void {
  assert.ok(frames.length > 0, "nobody told the client");
  for (const { icmp, ip: headers, wrong, bytes } of frames) {
    assert.deepEqual(icmp, { type: 3, code: 4, mtu: MTU - OUTER_BYTES });
    assert.deepEqual(wrong, []);
    const [header, quoted] = headers;
    assert.deepEqual([header?.source, header?.target], [VIP, "192.0.2.10"]);
    assert.deepEqual([quoted?.source, quoted?.target], ["192.0.2.10", VIP]);
    assert.equal(quoted?.protocol, 6);
    assert.equal(bytes, 14 + 20 + 8 + 20 + 8);
  }
}

suite("odd devices", () => {
  before(bringUp);
  after(tearDown);
  test("requests by one uplink leave by another", severalUplinks);
  test("a foreign XDP program stays, tc balances, and status says why", foreignProgram);
  test("a device without native XDP is balanced in tc, and status says why", withoutNativeXdp);
  test("outer sources spread over a prefix that the receiver trusts", spreadSources);
  test("too large segments are answered from XDP, and a large body gets through", (t) =>
    narrow(t, 1, "edge"));
  test("too large segments are answered from tc, and a large body gets through", (t) =>
    narrow(t, 4, "host"));
});
