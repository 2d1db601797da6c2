// SPDX-License-Identifier: Apache-2.0

// Real programs through services, by every way that a packet can take. A lab for each pair of
// settings serves several rows; CILIATE_ROWS=native/all/remote (a regular expression) runs some.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, type TestContext, test } from "node:test";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { formatMac } from "../../src/net/mac.ts";
import { type Exposition, expositionOf } from "./tools/exposition.ts";
import { nodesOf, podEndpoint, untilBalanced } from "./tools/inspect.ts";
import {
  ECHO_PORT,
  echo,
  HTTP_PORT,
  IPERF_PORT,
  OTHER_HTTP_PORT,
  type PodPrograms,
  setOffloads,
  startPrograms,
} from "./tools/programs.ts";
import { freshName } from "./tools/stage.ts";
import { type Frame, watch } from "./tools/wire.ts";

type Acceleration = "native" | "generic" | "off";
type Encapsulate = "all" | "first";
type Backend = "local" | "remote";

interface Row {
  readonly acceleration: Acceleration;
  readonly encapsulate: Encapsulate;
  readonly backend: Backend;
  readonly protocol: "tcp" | "udp";
}

const ROWS: readonly Row[] = [
  ...(["native", "off"] as const).flatMap((acceleration) =>
    (["all", "first"] as const).flatMap((encapsulate) =>
      (["local", "remote"] as const).flatMap((backend) =>
        (["tcp", "udp"] as const).map((protocol) => ({
          acceleration,
          encapsulate,
          backend,
          protocol,
        })),
      ),
    ),
  ),
  { acceleration: "generic", encapsulate: "all", backend: "local", protocol: "tcp" },
  { acceleration: "generic", encapsulate: "all", backend: "remote", protocol: "tcp" },
  { acceleration: "generic", encapsulate: "all", backend: "remote", protocol: "udp" },
];

/** The balancer is node1. */
const PODS = { local: "pod1-1", remote: "pod2-1" } as const;
/** A LoadBalancer address and an ExternalIP. */
const ADDRESSES = {
  local: ["198.51.100.1", "198.51.100.101"],
  remote: ["198.51.100.2", "198.51.100.102"],
} as const;
const HTTP = 80;
const OTHER_HTTP = 81;
const IPERF = 5200;
const ECHO = 9001;
const CLIENT = "192.0.2.10";
const IPERF_BYTES = 8 * 1024 * 1024;
/** DSCP EF and ECT(0), so that both can be seen copied. */
const TOS = 0xba;
const SYN = 0x02;
const SYN_ACK_RST_FIN = 0x17;
const IPIP = 4;
const WIRE_BYTES = 1514;
/** Of a large body, packets that are looked at. */
const BULK_PACKETS = 3000;
const CLOSED_LIMIT_MS = 5000;

const nameOf = ({ acceleration, encapsulate, backend, protocol }: Row): string =>
  [acceleration, encapsulate, backend, protocol].join("/");

/** A lab with a service at each of the two places of a backend. */
class Scene {
  readonly lab: Lab;
  readonly #programs: Readonly<Record<Backend, PodPrograms>>;

  constructor(lab: Lab, programs: Readonly<Record<Backend, PodPrograms>>) {
    this.lab = lab;
    this.#programs = programs;
  }

  programs(backend: Backend): PodPrograms {
    return this.#programs[backend];
  }

  mac(node: "node1" | "node2"): string {
    return formatMac(nodeNamed(this.lab.plan, node).wire[0].mac);
  }

  podAddress(backend: Backend): string {
    return formatIpv4(podNamed(this.lab.plan, PODS[backend]).address);
  }

  /** Whether pods and client leave checksums and segmentation to their devices. */
  async setEnds(on: boolean): Promise<void> {
    for (const place of ["client", ...Object.values(PODS)]) await setOffloads(this.lab, place, on);
  }
}

function publish(lab: Lab, backend: Backend): Promise<void>[] {
  const [address, external] = ADDRESSES[backend];
  const port = (name: string, port: number, targetPort: number, protocol: "TCP" | "UDP") => ({
    name,
    port,
    targetPort,
    protocol,
  });
  lab.publish({
    name: backend,
    addresses: [address],
    externalIps: [external],
    ports: [
      port("http", HTTP, HTTP_PORT, "TCP"),
      port("other", OTHER_HTTP, OTHER_HTTP_PORT, "TCP"),
      port("iperf", IPERF, IPERF_PORT, "TCP"),
      port("echo", ECHO, ECHO_PORT, "UDP"),
    ],
    backends: [PODS[backend]],
  });
  const leads = (at: string, port: number, target: number, protocol?: string): Promise<void> =>
    untilBalanced(
      lab,
      `${at}:${port}`,
      [podEndpoint(lab, PODS[backend], target)],
      nodesOf(lab),
      protocol,
    );
  return [leads(external, OTHER_HTTP, OTHER_HTTP_PORT), leads(external, ECHO, ECHO_PORT, "udp")];
}

async function createScene(
  t: TestContext,
  acceleration: Acceleration,
  encapsulate: Encapsulate,
): Promise<Scene> {
  const name = freshName();
  t.after(() => removeLab(name));
  // The routes' MSS is not lowered: the datapath itself must see to it. IPv6 is in the matrix.
  const options = { name, nodes: 2, podsPerNode: 1, lowerMss: false, ipv6: false };
  // As it is installed, for once.
  const bundle = acceleration === "generic";
  const lab = await createLab({ ...options, acceleration, encapsulate, bundle });
  for (const node of nodesOf(lab)) assertProgram(lab, node, bundle);
  const local = await startPrograms(lab, PODS.local);
  const remote = await startPrograms(lab, PODS.remote);
  await Promise.all([...publish(lab, "local"), ...publish(lab, "remote")]);
  // As a card without offloads: what its wire gets is whole, and the capture there the judge.
  for (const node of nodesOf(lab)) {
    await setOffloads(lab, node, false);
    // Else the capture would show what the switch has put together again.
    await lab.output("switch", ["ethtool", "-K", node, "gro", "off"]);
  }
  return new Scene(lab, { local, remote });
}

/** What a node's agent runs from, by what its process was started with. */
function assertProgram(lab: Lab, node: string, bundle: boolean): void {
  const command = readFileSync(`/proc/${lab.agent(node)?.pid}/cmdline`, "utf8").split("\0");
  const main = bundle ? "/build/bundle/ciliate.mjs" : "/src/cli/main.ts";
  assert.ok(
    command.some((word) => word.endsWith(main)),
    `${node} runs ${command.join(" ")}`,
  );
}

const isOfService = ({ ip }: Frame, row: Row, pod: string): boolean =>
  ip.some(({ source, target }) =>
    [...ADDRESSES[row.backend], pod].some((address) => address === source || address === target),
  );

function assertRight(frames: readonly Frame[], where: string): void {
  assert.ok(frames.length > 0, `${where}: nothing was captured`);
  for (const frame of frames) {
    assert.deepEqual(frame.wrong, [], `${where}: wrong checksums in ${JSON.stringify(frame)}`);
    for (const { headerBytes } of frame.ip) assert.equal(headerBytes, 20, `${where}: IP options`);
    assert.ok(frame.bytes <= WIRE_BYTES, `${where}: ${frame.bytes} bytes on the wire`);
  }
}

/** What the balancer sent out: as the row's settings and docs/packet-path.md say. */
function assertBalanced(scene: Scene, row: Row, sent: readonly Frame[]): void {
  const fromVip = sent.filter(({ ip }) => ADDRESSES[row.backend].some((a) => a === ip[0]?.source));
  const requests = sent.filter((frame) => !fromVip.includes(frame));
  if (row.backend === "local") {
    assert.ok(fromVip.length > 0, "a local pod's answers leave by the balancer's uplink");
    assert.deepEqual(requests, [], "a request left the node that has the pod");
    return;
  }
  assert.deepEqual(fromVip, [], "an answer passed the balancer");
  assert.ok(requests.length > 0);
  const pod = scene.podAddress("remote");
  for (const frame of requests) {
    const [outer, inner] = frame.ip;
    const text = JSON.stringify(frame);
    const syn = ((frame.tcpFlags ?? 0) & SYN_ACK_RST_FIN) === SYN;
    const whole = row.encapsulate === "all" || row.protocol === "udp" || syn;
    assert.equal(outer?.target, pod, text);
    if (!whole) {
      assert.equal(inner, undefined, text);
      assert.deepEqual([outer?.source, outer?.ttl, outer?.protocol], [CLIENT, 62, 6], text);
      continue;
    }
    assert.deepEqual(
      [outer?.source, outer?.ttl, outer?.dontFragment, outer?.protocol, outer?.tos],
      ["10.0.1.1", 64, true, IPIP, inner?.tos],
      text,
    );
    assert.deepEqual([inner?.source, inner?.ttl], [CLIENT, 63], text);
    assert.ok(
      ADDRESSES.remote.some((address) => address === inner?.target),
      text,
    );
  }
}

/** What the balancer's metrics have counted, by what the client sent and got. */
function assertCounted(
  row: Row,
  counted: Exposition["sum"],
  { client }: { readonly client: readonly Frame[] },
): void {
  const bytesOf = (frames: readonly Frame[]) => frames.reduce((sum, { bytes }) => sum + bytes, 0);
  const asked = client.filter(({ ip }) => ip[0]?.source === CLIENT);
  const got = client.filter(({ ip }) => ip[0]?.target === CLIENT);
  const isSyn = ({ tcpFlags = 0 }: Frame): boolean => (tcpFlags & SYN_ACK_RST_FIN) === SYN;
  const service = `default/${row.backend}`;
  for (const who of ["service", "backend"]) {
    const of = (what: string): number => counted(`ciliate_${who}_${what}_total`, { service });
    assert.deepEqual([of("packets"), of("bytes")], [asked.length, bytesOf(asked)], who);
    // Where a flow of UDP begins, only its backend's node knows.
    if (row.protocol === "tcp") assert.equal(of("connections"), asked.filter(isSyn).length, who);
  }
  const replies = counted("ciliate_bytes_total", { verdict: "sent", reason: "reply" });
  assert.equal(replies, row.backend === "local" ? bytesOf(got) : 0);
  assert.equal(counted("ciliate_bytes_total", { verdict: "sent" }) - replies, bytesOf(asked));
}

/** Waits until the client has sent the last of its connections. */
function untilClosed(lab: Lab): Promise<void> {
  return until("the client's connections to be closed", CLOSED_LIMIT_MS, async () => {
    return (await lab.output("client", ["ss", "-Htn"])) === "";
  });
}

/** Small requests with whole checksums from end to end: every frame everywhere must be right. */
async function small(t: TestContext, scene: Scene, row: Row, act: () => Promise<void>) {
  const { lab } = scene;
  await scene.setEnds(false);
  await lab.resetCounters();
  const pod = PODS[row.backend];
  const before = await expositionOf(lab, "node1");
  const frames = await watch(
    t,
    lab,
    { client: { at: "client" }, wires: { at: "switch:node1,node2" }, pod: { at: pod } },
    async () => {
      await act();
      await untilClosed(lab);
    },
  );
  const after = await expositionOf(lab, "node1");
  assertCounted(row, (name, labels) => after.sum(name, labels) - before.sum(name, labels), frames);
  for (const [where, list] of Object.entries(frames)) assertRight(list, where);
  const address = scene.podAddress(row.backend);
  const wires = frames.wires.filter((frame) => isOfService(frame, row, address));
  assertBalanced(
    scene,
    row,
    wires.filter(({ sender }) => sender === scene.mac("node1")),
  );
  const arriving = frames.client.filter(({ ip }) => ip[0]?.target === CLIENT);
  assert.ok(arriving.length > 0);
  for (const { ip } of arriving) {
    assert.ok(
      ADDRESSES[row.backend].some((a) => a === ip[0]?.source),
      `the client got a packet of ${ip[0]?.source}`,
    );
  }
  for (const { ip } of frames.pod) {
    const ends = [ip[0]?.source, ip[0]?.target].sort();
    assert.deepEqual(ends, [address, CLIENT].sort(), "the pod and the client speak to each other");
    assert.equal(ip.length, 1);
  }
  const { options, ipip } = await lab.counters();
  assert.equal(options.packets, 0);
  assert.equal(ipip.packets > 0, row.backend === "remote");
  return frames;
}

async function requests(scene: Scene, row: Row): Promise<void> {
  const before = scene.programs(row.backend).requests().length;
  for (const address of ADDRESSES[row.backend]) {
    for (const port of [HTTP, OTHER_HTTP]) {
      const url = `http://${address}:${port}/name`;
      const answer = await scene.lab.output("client", ["curl", "-sS", "-m", "5", url]);
      assert.equal(answer, PODS[row.backend], url);
    }
  }
  const logged = scene.programs(row.backend).requests().slice(before);
  const line = (port: number): string => `${CLIENT} ${port} GET 200`;
  const round = [line(HTTP_PORT), line(OTHER_HTTP_PORT)];
  assert.deepEqual(logged, [...round, ...round]);
}

/** 10 MB each way, the ends' offloads on: what the nodes put on their wires must be whole. */
async function bulk(t: TestContext, scene: Scene, row: Row): Promise<void> {
  const { lab } = scene;
  await scene.setEnds(true);
  const { large, stored } = scene.programs(row.backend);
  const [address, external] = ADDRESSES[row.backend];
  const curl = ["curl", "-sS", "-f", "-m", "20"];
  const name = `up-${row.acceleration}-${row.encapsulate}`;
  const copy = `${lab.plan.state}/down`;
  const { wires } = await watch(
    t,
    lab,
    { wires: { at: "switch:node1,node2", packets: BULK_PACKETS } },
    async () => {
      await lab.output("client", [...curl, "-T", large, `http://${address}:${HTTP}/${name}`]);
      await lab.output("client", [...curl, "-o", copy, `http://${external}:${HTTP}/large`]);
    },
  );
  const body = readFileSync(large);
  assert.ok(stored(name).equals(body), "what was sent up arrived otherwise");
  assert.ok(readFileSync(copy).equals(body), "what was fetched arrived otherwise");
  for (const node of ["node1", "node2"] as const) {
    const sent = wires.filter(({ sender }) => sender === scene.mac(node));
    if (sent.length > 0) assertRight(sent, `${node}'s uplink`);
    if (node === "node1") assertBalanced(scene, row, sent);
  }
}

type IperfEnd = Readonly<Record<"sum_sent" | "sum_received", { readonly bytes: number }>>;

async function iperf(scene: Scene, row: Row): Promise<void> {
  for (const direction of [[], ["-R"]]) {
    const argv = ["iperf3", "-J", "-c", ADDRESSES[row.backend][0], "-p", String(IPERF)];
    const options = ["-n", String(IPERF_BYTES), ...direction];
    const text = await scene.lab.output("client", [...argv, ...options]);
    const { end } = JSON.parse(text) as Record<"end", IperfEnd>;
    assert.ok(end.sum_sent.bytes >= IPERF_BYTES, `${end.sum_sent.bytes} bytes sent`);
    // What is on its way at the end doesn't count.
    assert.ok(
      end.sum_received.bytes >= IPERF_BYTES / 4,
      `${end.sum_received.bytes} bytes received`,
    );
  }
}

async function tcpRow(t: TestContext, scene: Scene, row: Row): Promise<void> {
  await small(t, scene, row, () => requests(scene, row));
  await bulk(t, scene, row);
  await iperf(scene, row);
}

async function udpRow(t: TestContext, scene: Scene, row: Row): Promise<void> {
  const frames = await small(t, scene, row, async () => {
    for (const address of ADDRESSES[row.backend]) {
      for (const text of ["x", "a few words", "y".repeat(1400)]) {
        assert.equal(await echo(scene.lab, address, ECHO, text, `,tos=${TOS}`), text);
      }
    }
  });
  const got = frames.pod.filter(({ ip }) => ip[0]?.source === CLIENT);
  assert.equal(got.length, 2 * 3);
  for (const { ip, ports } of got) assert.deepEqual([ip[0]?.tos, ports[1]], [TOS, ECHO_PORT]);
}

const wanted = new RegExp(process.env["CILIATE_ROWS"] ?? "");
const groups = Object.groupBy(
  ROWS.filter((row) => wanted.test(nameOf(row))),
  ({ acceleration, encapsulate }) => `${acceleration}/${encapsulate}`,
);

suite("real programs through services", { concurrency: 3 }, () => {
  for (const [settings, rows = []] of Object.entries(groups)) {
    test(`nginx, curl, iperf3 and UDP, ${settings}`, async (t) => {
      const [first] = rows;
      assert.ok(first !== undefined);
      const scene = await createScene(t, first.acceleration, first.encapsulate);
      for (const row of rows) {
        await t.test(nameOf(row), (inner) =>
          row.protocol === "tcp" ? tcpRow(inner, scene, row) : udpRow(inner, scene, row),
        );
      }
    });
  }
});
