// SPDX-License-Identifier: Apache-2.0

// What strangers send: forged encapsulation, broken headers, fragments, and what is none of ours.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { after, before, suite, type TestContext, test } from "node:test";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { isAlive, until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { formatIpv4, type Ipv4, parseIpv4 } from "../../src/net/address.ts";
import {
  buildPacket,
  icmp,
  ipv4,
  type LayerInit,
  mssOption,
  payload,
  tcp,
  udp,
  vlan,
} from "../../src/net/packet.ts";
import { PROTOCOL, TCP_FLAG } from "../../src/net/protocol.ts";
import {
  addressOf,
  cuts,
  decided,
  extremes,
  fromClient,
  openWire,
  receivedAt,
  sum,
  totals,
  towards,
} from "./tools/hostile.ts";
import { nodesOf, podEndpoint, since, untilBalanced, verdictsAt } from "./tools/inspect.ts";
import { ECHO_PORT, HTTP_PORT, startPrograms } from "./tools/programs.ts";
import { freshName } from "./tools/stage.ts";
import { watch } from "./tools/wire.ts";

const LIMIT_MS = 15_000;
const CLIENT = parseIpv4("192.0.2.10");
const STRANGER = parseIpv4("192.0.2.66");
const NODE1 = parseIpv4("10.0.1.1");
/** Of a load balancer that is no node of the cluster, and the prefix that is trusted for it. */
const FOREIGN_BALANCER = parseIpv4("203.0.113.7");
const TRUSTED_PREFIX = "203.0.113.0/24";
const REMOTE_VIP = parseIpv4("198.51.100.1");
const LOCAL_VIP = parseIpv4("198.51.100.2");
const NO_VIP = parseIpv4("198.51.100.99");
const PORT = 80;
const BACKEND = "pod2-1";
const NO_BACKEND = "pod2-2";
const LOCAL_BACKEND = "pod1-1";
const ETHERNET_BYTES = 14;
const VLAN_ID = 100;
/** Of the words that `payload` fills. */
const SOME = 32;

const name = freshName();
const scene: { lab?: Lab } = {};

function theLab(): Lab {
  assert.ok(scene.lab !== undefined, "the lab did not come up");
  return scene.lab;
}

async function publish(lab: Lab, at: Ipv4, backend: string): Promise<void> {
  const address = formatIpv4(at);
  const ports = [
    { name: "http", port: PORT, targetPort: HTTP_PORT },
    { name: "echo", port: PORT, targetPort: ECHO_PORT, protocol: "UDP" as const },
  ];
  lab.publish({ name: `to-${backend}`, addresses: [address], ports, backends: [backend] });
  const echo = podEndpoint(lab, backend, ECHO_PORT);
  await untilBalanced(lab, `${address}:${PORT}`, [echo], nodesOf(lab), "udp");
}

async function bringUp(): Promise<void> {
  const lab = await createLab({
    name,
    nodes: 2,
    podsPerNode: 2,
    config: { trustedSources: [TRUSTED_PREFIX] },
    nodeConfig: { node1: { fragments: "drop" }, node2: { fragments: "pass" } },
  });
  await startPrograms(lab, BACKEND);
  await publish(lab, REMOTE_VIP, BACKEND);
  await publish(lab, LOCAL_VIP, LOCAL_BACKEND);
  scene.lab = lab;
}

const syn = (target: Ipv4, sourcePort: number): LayerInit[] => [
  ipv4({ source: CLIENT, target }),
  tcp({ sourcePort, targetPort: PORT, flags: TCP_FLAG.syn, options: mssOption(1460) }),
];

const datagram = (target: Ipv4, sourcePort: number, ecn = 0): LayerInit[] => [
  ipv4({ source: CLIENT, target, ecn }),
  udp({ sourcePort, targetPort: PORT }),
  payload(SOME),
];

const outer = (source: Ipv4, pod = BACKEND, ecn = 0): LayerInit =>
  ipv4({ source, target: addressOf(theLab(), pod), ecn, dontFragment: true });

interface Heard {
  readonly verdict: string;
  readonly place: string;
  readonly outerSource: string;
}

/** Sends until `ciliate monitor`, which takes its time to begin, has told of a drop. */
async function monitored(t: TestContext, send: () => void): Promise<Heard> {
  const words = ["ciliate", "monitor", "-o", "json", "--count", "1"];
  const child = theLab().spawn("node2", words, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  assert.ok(child.stdout !== null);
  const lines: string[] = [];
  createInterface(child.stdout).on("line", (line) => lines.push(line));
  await until("ciliate monitor to tell of a drop", LIMIT_MS, () => {
    send();
    return lines.length > 0;
  });
  return JSON.parse(lines[0] ?? "") as Heard;
}

async function strangers(t: TestContext): Promise<void> {
  const lab = theLab();
  const begin = verdictsAt(lab, "node2");
  let sent = 0;
  const send = (): void => {
    fromClient(lab, outer(STRANGER), ...syn(REMOTE_VIP, 20_000 + sent));
    sent++;
  };
  let heard: Heard | undefined;
  const { pod } = await watch(t, lab, { pod: { at: BACKEND, filter: "ip" } }, async () => {
    heard = await monitored(t, send);
  });
  assert.deepEqual(pod, [], "something reached the pod");
  assert.deepEqual(
    [heard?.verdict, heard?.place, heard?.outerSource],
    ["drop untrusted", "host", formatIpv4(STRANGER)],
  );
  assert.deepEqual(decided(lab, "node2", "host", begin), { "drop untrusted": sent });
  const metrics = await lab.fetch("node2", 9962, "/metrics");
  const line = `ciliate_packets_total{place="host",verdict="drop",reason="untrusted"} ${sent}`;
  assert.ok(metrics?.body.split("\n").includes(line), metrics?.body);
  const table = await lab.output("node2", ["ciliate", "bpf", "metrics", "list"]);
  assert.match(table, new RegExp(`host +drop untrusted +${sent} `));
}

/** IPIP for a pod, from a node, and what becomes of it. */
function forged(): readonly (readonly [string, string, readonly LayerInit[]])[] {
  const whole = { source: CLIENT, target: REMOTE_VIP };
  return [
    ["an inner service that doesn't exist", "drop no service", [outer(NODE1), ...syn(NO_VIP, 1)]],
    [
      "a pod that is no backend",
      "drop not a backend",
      [outer(NODE1, NO_BACKEND), ...syn(REMOTE_VIP, 2)],
    ],
    [
      "an inner first fragment",
      "drop fragment",
      [
        outer(NODE1),
        ipv4({ ...whole, moreFragments: true }),
        udp({ targetPort: PORT }),
        payload(8),
      ],
    ],
    [
      "an inner last fragment",
      "drop fragment",
      [outer(NODE1), ipv4({ ...whole, fragmentOffset: 64, protocol: PROTOCOL.udp }), payload(8)],
    ],
    [
      "inner ICMP",
      "drop inner protocol",
      [outer(NODE1), ipv4(whole), icmp({ type: 8 }), payload(8)],
    ],
    ["IPIP in IPIP", "drop inner protocol", [outer(NODE1), outer(NODE1), ...syn(REMOTE_VIP, 3)]],
    [
      "no inner packet",
      "drop inner invalid",
      [ipv4({ source: NODE1, target: addressOf(theLab(), BACKEND), protocol: PROTOCOL.ipip })],
    ],
    [
      "an inner packet longer than the outer one says",
      "drop inner invalid",
      [outer(NODE1), ipv4({ ...whole, totalLength: 200 }), udp({ targetPort: PORT })],
    ],
    [
      "a fragment of an IPIP packet",
      "drop outer fragment",
      [
        ipv4({ source: NODE1, target: addressOf(theLab(), BACKEND), moreFragments: true }),
        ...syn(REMOTE_VIP, 4),
      ],
    ],
    [
      "a FIN of a flow that nobody knows",
      "drop unknown flow",
      [outer(NODE1), ipv4(whole), tcp({ sourcePort: 5, targetPort: PORT, flags: TCP_FLAG.fin })],
    ],
  ];
}

async function oddities(t: TestContext): Promise<void> {
  const lab = theLab();
  const { pods } = await watch(t, lab, { pods: { at: BACKEND, filter: "ip" } }, async () => {
    for (const [what, verdict, layers] of forged()) {
      const begin = verdictsAt(lab, "node2");
      const now = () => decided(lab, "node2", "host", begin);
      fromClient(lab, ...layers);
      await until(what, LIMIT_MS, () => Object.keys(now()).length > 0);
      assert.deepEqual(now(), { [verdict]: 1 }, what);
    }
  });
  assert.deepEqual(pods, [], "something reached the pod");
}

async function foreignBalancer(t: TestContext): Promise<void> {
  const lab = theLab();
  const sourcePort = 31_000;
  const { client } = await watch(t, lab, { client: { at: "client" } }, async () => {
    const begin = verdictsAt(lab, "node2");
    fromClient(lab, outer(FOREIGN_BALANCER), ...syn(REMOTE_VIP, sourcePort));
    await until("the pod's answer", LIMIT_MS, () => {
      return (decided(lab, "node2", "pod", begin)["sent reply"] ?? 0) > 0;
    });
  });
  const answer = client.find(({ ip }) => ip[0]?.source === formatIpv4(REMOTE_VIP));
  assert.ok(answer !== undefined);
  assert.deepEqual([answer.tcpFlags, answer.ports], [0x12, [PORT, sourcePort]]);
}

/** RFC 6040, figure 4: outer mark → what comes out, by inner mark; undefined is a drop. */
const NOT_ECT = 0;
const ECT1 = 1;
const ECT0 = 2;
const CE = 3;
const DECAPSULATED = new Map([
  [NOT_ECT, [NOT_ECT, ECT1, ECT0, CE]],
  [ECT0, [NOT_ECT, ECT1, ECT0, CE]],
  [ECT1, [NOT_ECT, ECT1, ECT1, CE]],
  [CE, [undefined, CE, CE, CE]],
]);

async function congestion(t: TestContext): Promise<void> {
  const lab = theLab();
  const cases = [...DECAPSULATED].flatMap(([mark, results]) =>
    results.map((result, inner) => ({ mark, inner, result, port: 32_000 + mark * 16 + inner })),
  );
  const begin = verdictsAt(lab, "node2");
  const marked = { at: BACKEND, filter: `udp dst port ${ECHO_PORT}` };
  const { pod } = await watch(t, lab, { pod: marked }, async () => {
    for (const { mark, inner, port } of cases) {
      fromClient(lab, outer(NODE1, BACKEND, mark), ...datagram(REMOTE_VIP, port, inner));
    }
    await until("all marks", LIMIT_MS, () => {
      // The client has no sockets for the answers, and says so.
      const { "sent relayed": _, ...counts } = decided(lab, "node2", "host", begin);
      return sum(counts) === cases.length;
    });
  });
  assert.equal(decided(lab, "node2", "host", begin)["drop ecn"], 1);
  for (const { mark, inner, result, port } of cases) {
    const arrived = pod.find(({ ports }) => ports[0] === port);
    assert.equal(arrived?.ip[0]?.tos, result, `outer ${mark}, inner ${inner}`);
    assert.deepEqual(arrived?.wrong ?? [], []);
  }
}

async function fragments(t: TestContext): Promise<void> {
  const lab = theLab();
  const first = [
    ipv4({ source: CLIENT, target: REMOTE_VIP, moreFragments: true }),
    udp({ sourcePort: 6, targetPort: PORT }),
    payload(24),
  ];
  const rest = [
    ipv4({ source: CLIENT, target: REMOTE_VIP, fragmentOffset: 32, protocol: PROTOCOL.udp }),
    payload(24),
  ];
  for (const [node, edge, host] of [
    ["node1", { "drop fragment": 2 }, {}],
    ["node2", { "pass fragment": 2 }, { "pass fragment": 2 }],
  ] as const) {
    const begin = verdictsAt(lab, node);
    using wire = openWire(lab, "switch", node);
    for (const layers of [first, rest]) wire.send(towards(lab, node, ...layers));
    await until(
      `fragments at ${node}`,
      LIMIT_MS,
      () => sum(decided(lab, node, "edge", begin)) === 2,
    );
    await until(`fragments behind it`, LIMIT_MS, () => {
      return sum(decided(lab, node, "host", begin)) === sum(host);
    });
    assert.deepEqual(decided(lab, node, "edge", begin), edge);
    assert.deepEqual(decided(lab, node, "host", begin), host);
  }
  t.diagnostic("node1 drops, node2 passes");
}

/** Packets for a pod that no service is about. */
function foreignPackets(target: Ipv4, ttl: number): LayerInit[][] {
  const ip = { source: CLIENT, target, ttl };
  return [
    [ipv4(ip), icmp({ type: 8, rest: 0x12340001 }), payload(SOME)],
    [ipv4(ip), udp({ sourcePort: 7, targetPort: 7 }), payload(SOME)],
    [ipv4(ip), udp({ sourcePort: 7, targetPort: 7, checksum: 0 }), payload(SOME)],
    [
      ipv4({ ...ip, dscp: 46, ecn: CE, id: 77 }),
      tcp({ targetPort: 7, flags: 0xff }),
      payload(SOME),
    ],
    [ipv4({ ...ip, options: Uint8Array.of(1, 1, 1, 0) }), udp({ targetPort: 7 }), payload(SOME)],
    [ipv4({ ...ip, moreFragments: true }), udp({ targetPort: PORT }), payload(SOME - 8)],
    [ipv4({ ...ip, fragmentOffset: SOME, protocol: PROTOCOL.udp }), payload(SOME)],
    ...[2, 47, 50, 89, 132, 253].map((protocol) => [ipv4({ ...ip, protocol }), payload(SOME)]),
    [ipv4(ip), tcp({ targetPort: 7, flags: TCP_FLAG.syn, checksum: 0x1234 }), payload(SOME)],
  ];
}

async function others(_t: TestContext): Promise<void> {
  const lab = theLab();
  const target = addressOf(lab, NO_BACKEND);
  using inside = openWire(lab, NO_BACKEND, "eth0");
  const begin = verdictsAt(lab, "node2");
  for (const layers of foreignPackets(target, 64)) fromClient(lab, ...layers);
  // Two routers later: the switch and the node itself.
  const expected = foreignPackets(target, 62).map((layers) => hex(buildPacket(...layers)));
  const got: string[] = [];
  await until("all that is none of ours", LIMIT_MS, () => {
    for (let frame = inside.receive(); frame !== undefined; frame = inside.receive()) {
      const packet = frame.subarray(ETHERNET_BYTES);
      const isRequest = hex(packet.subarray(16, 20)) === hex(addressBytes(target));
      if (isRequest) got.push(hex(packet));
    }
    return got.length >= expected.length;
  });
  assert.deepEqual(got, expected);
  assert.deepEqual(decided(lab, "node2", "host", begin), {});
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const addressBytes = (address: number): Uint8Array =>
  Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);

/** Even one for a service: the VLAN's device would be the uplink. */
async function tagged(_t: TestContext): Promise<void> {
  const lab = theLab();
  using inside = openWire(lab, "node1", "eth0");
  using wire = openWire(lab, "switch", "node1");
  const begin = verdictsAt(lab, "node1");
  const plain = hex(towards(lab, "node1", ...datagram(REMOTE_VIP, 8)));
  const tag = vlan({ id: VLAN_ID, priority: 5 });
  wire.send(towards(lab, "node1", tag, ...datagram(REMOTE_VIP, 8)));
  // The kernel takes tags off before a packet socket sees the frame.
  await until("the frame behind the tag", LIMIT_MS, () => {
    const frame = inside.receive();
    return frame !== undefined && hex(frame) === plain;
  });
  const now = since(begin, verdictsAt(lab, "node1"));
  for (const place of ["edge", "host"]) {
    assert.ok((now[`${place} pass not ours`] ?? 0) >= 1, place);
    assert.deepEqual(decided(lab, "node1", place, begin), {});
  }
}

/** Valid frames of every kind that a node may get, with the length of their headers. */
function validFrames(node: string): { readonly frame: Uint8Array; readonly headers: number }[] {
  const lab = theLab();
  const options = Uint8Array.of(1, 1, 1, 0);
  const make = (...layers: LayerInit[]) => ({ frame: towards(lab, node, ...layers), headers: 0 });
  const ack = tcp({ sourcePort: 41_001, targetPort: PORT, flags: TCP_FLAG.ack });
  const services = [REMOTE_VIP, LOCAL_VIP].flatMap((target) => [
    make(...syn(target, 41_000)),
    make(ipv4({ source: CLIENT, target }), ack, payload(SOME)),
    make(ipv4({ source: CLIENT, target, options }), ack, payload(SOME)),
    make(...datagram(target, 41_002)),
  ]);
  const forPods = [
    make(outer(NODE1), ...syn(REMOTE_VIP, 41_003)),
    make(outer(NODE1), ipv4({ source: CLIENT, target: REMOTE_VIP, options }), ack, payload(SOME)),
    make(outer(NODE1), ...datagram(REMOTE_VIP, 41_004)),
    make(ipv4({ source: CLIENT, target: addressOf(lab, BACKEND) }), ack),
  ];
  const all = node === "node1" ? services : forPods;
  return all.map(({ frame }) => ({ frame, headers: Math.min(frame.length, 14 + 24 + 24 + 20) }));
}

/** Verdicts and received frames of one moment, in which nothing came. */
async function reading(lab: Lab, node: string) {
  for (;;) {
    const begin = verdictsAt(lab, node);
    const came = await receivedAt(lab, node);
    if (Object.keys(since(begin, verdictsAt(lab, node))).length === 0) return { begin, came };
  }
}

async function everyByte(t: TestContext): Promise<void> {
  const lab = theLab();
  for (const node of nodesOf(lab)) {
    const frames = validFrames(node).flatMap(({ frame, headers }) => [
      ...cuts(frame),
      ...extremes(frame, headers),
      frame,
    ]);
    const pods = [1, 2].map((pod) => `pod${node.slice(-1)}-${pod}`);
    const { begin, came } = await reading(lab, node);
    using wire = openWire(lab, "switch", node);
    for (const frame of frames) wire.send(frame);
    const check = async (): Promise<string> => {
      const now = await receivedAt(lab, node);
      const delta = (device: string): number => (now.get(device) ?? 0) - (came.get(device) ?? 0);
      const counts = new Map(Object.entries(since(begin, verdictsAt(lab, node))));
      const [edge, host, pod] = ["edge", "host", "pod"].map((place) => totals(counts, place));
      const fromPods = pods.reduce((all, device) => all + delta(device), 0);
      const text = JSON.stringify({ wire: delta("eth0"), edge, host, fromPods, pod });
      const balanced =
        delta("eth0") >= frames.length &&
        sum(edge) === delta("eth0") &&
        sum(host) === edge?.pass &&
        sum(pod) === fromPods;
      return balanced ? "" : text;
    };
    let wrong = "not looked at";
    await until(`${node}: in = passed + sent + dropped`, LIMIT_MS, async () => {
      wrong = await check();
      return wrong === "";
    }).catch((error: Error) => assert.fail(`${error.message}: ${wrong}`));
    t.diagnostic(`${frames.length} frames to ${node}`);
    const agent = lab.agent(node);
    assert.ok(agent !== undefined && isAlive(agent));
    assert.equal((await lab.fetch(node, 9962, "/readyz"))?.status, 200);
  }
  const url = `http://${formatIpv4(REMOTE_VIP)}/name`;
  assert.equal(await lab.output("client", ["curl", "-sS", "-m", "5", url]), BACKEND);
}

suite("what strangers send", () => {
  before(bringUp);
  after(() => removeLab(name));
  test("IPIP of a stranger is dropped, and everybody says why", strangers);
  test("IPIP of a node is dropped with its reason when it can't be right", oddities);
  test("IPIP of a trusted load balancer's prefix is believed", foreignBalancer);
  test("congestion marks survive the outer header's removal (RFC 6040)", congestion);
  test("fragments for a service are dropped, or passed by configuration", fragments);
  test("what is none of ours passes byte for byte", others);
  test("a frame with a VLAN tag passes untouched", tagged);
  test("in = passed + sent + dropped, whatever bytes come", everyByte);
});
