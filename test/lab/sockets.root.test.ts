// SPDX-License-Identifier: Apache-2.0

// Services translated at the sockets of pods and of nodes: no packet ever has the service's
// address, and who is connected to a backend that is gone hears of it at once.

import assert from "node:assert/strict";
import { after, before, suite, type TestContext, test } from "node:test";
import { dumpSockets } from "../../src/datapath/dump.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { clusterManifests, type ServiceSpec } from "../../src/lab/manifest.ts";
import { podNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { formatAddressPort, formatIpv4, formatIpv6 } from "../../src/net/address.ts";
import { metric, pinsOf, podEndpoint, since, untilBalanced, verdictsAt } from "./tools/inspect.ts";
import { pinnedAt } from "./tools/pins.ts";
import { ECHO_PORT, HTTP_PORT, startPrograms } from "./tools/programs.ts";
import { type SocketKind, SocketProgram } from "./tools/sockets.ts";
import { freshName } from "./tools/stage.ts";
import { watch } from "./tools/wire.ts";

/** Clients are a pod and a node; node1 has both. */
const CLIENTS = ["pod1-1", "node1"] as const;
const PODS = { near: "pod1-2", far: "pod2-1", other: "pod2-2" } as const;
const HTTP = 80;
const ECHO = 7;
const NEAR = "198.51.100.1";
const FAR = "198.51.100.2";
const OTHER = "198.51.100.3";
const EMPTY = "198.51.100.4";
const ENDING = "198.51.100.5";
const KEPT = "198.51.100.6";
/** From a change of manifests to closed sockets: half a second is waited for rows to come back. */
const AT_ONCE_MS = 10_000;

const name = freshName();
const stage: { lab?: Lab } = {};

function theLab(): Lab {
  assert.ok(stage.lab !== undefined, "the lab did not come up");
  return stage.lab;
}

function spec(service: string, address: string, pods: ServiceSpec["backends"]): ServiceSpec {
  return {
    name: service,
    addresses: [address, wide(address)],
    ports: [
      { name: "http", port: HTTP, targetPort: HTTP_PORT },
      { name: "echo", port: ECHO, targetPort: ECHO_PORT, protocol: "UDP" },
    ],
    backends: pods,
  };
}

/** The address of IPv6 that a service has beside one of IPv4. */
function wide(address: string): string {
  return address.replace("198.51.100.", "fd00:198:51:100::");
}

/** As podEndpoint, of IPv6. */
function wideEndpoint(pod: string, port: number): string {
  return formatAddressPort(podNamed(theLab().plan, pod).address6, port);
}

async function publish(service: string, address: string, pods: readonly string[]): Promise<void> {
  const lab = theLab();
  lab.publish(spec(service, address, pods));
  const at = (port: number): string[] => pods.map((pod) => podEndpoint(lab, pod, port));
  await untilBalanced(lab, `${address}:${HTTP}`, at(HTTP_PORT));
  await untilBalanced(lab, `${address}:${ECHO}`, at(ECHO_PORT), undefined, "udp");
  const wideAt = (port: number): string[] => pods.map((pod) => wideEndpoint(pod, port));
  await untilBalanced(lab, `[${wide(address)}]:${HTTP}`, wideAt(HTTP_PORT));
  await untilBalanced(lab, `[${wide(address)}]:${ECHO}`, wideAt(ECHO_PORT), undefined, "udp");
}

async function bringUp(): Promise<void> {
  const lab = await createLab({ name, nodes: 2, podsPerNode: 2, acceleration: "off" });
  stage.lab = lab;
  for (const pod of Object.values(PODS)) await startPrograms(lab, pod);
  await publish("near", NEAR, [PODS.near]);
  await publish("far", FAR, [PODS.far]);
  await publish("other", OTHER, [PODS.other]);
  await publish("empty", EMPTY, []);
}

const portOf = (kind: SocketKind): number => (kind === "tcp" ? HTTP : ECHO);

function open(t: TestContext, where: string, kind: SocketKind, address: string): SocketProgram {
  return new SocketProgram(t, theLab(), where, kind, `${address}:${portOf(kind)}`);
}

/** As a socket of AF_INET6 says an IPv4 address. */
const mapped = (address: string): string => `::ffff:${address}`;

/** A dual-stack socket that is made as others than Node make it, and asked by both families. */
const DUAL_STACK = `
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.settimeout(5)
    one.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
    data, peer = one.recvfrom(100)
    print(data.decode(), *peer[:2])
`;

async function translated(t: TestContext): Promise<void> {
  const lab = theLab();
  const begin = verdictsAt(lab, "node1");
  const filter = `net 198.51.100.0/24 or net fd00:198:51:100::/64 or tcp port ${HTTP_PORT}`;
  const { pod, node } = await watch(
    t,
    lab,
    { pod: { at: "pod1-1", filter }, node: { at: "node1:eth0,pod1-1,pod1-2", filter } },
    async () => {
      for (const where of CLIENTS) {
        for (const [address, backend] of [
          [NEAR, PODS.near],
          [FAR, PODS.far],
        ] as const) {
          const told = await lab.output(where, [
            "curl",
            "-sS",
            "-m",
            "5",
            `http://${address}/name`,
          ]);
          assert.equal(told, backend, `${where} to ${address}`);
          for (const kind of ["tcp", "udp", "datagrams"] as const) {
            const peer = `${address}:${portOf(kind)}`;
            const answer = kind === "tcp" ? backend : "hello";
            const program = open(t, where, kind, address);
            assert.deepEqual(await program.answer(), { peer, from: peer, answer }, where);
            const both = mapped(peer);
            const dual = open(t, where, kind, mapped(address));
            assert.deepEqual(await dual.answer(), { peer: both, from: both, answer }, where);
            const six = `${wide(address)}:${portOf(kind)}`;
            const own = open(t, where, kind, wide(address));
            assert.deepEqual(await own.answer(), { peer: six, from: six, answer }, where);
          }
          const ask = ["python3", "-c", DUAL_STACK, mapped(address), String(ECHO)];
          assert.equal(await lab.output(where, ask), `hello ${mapped(address)} ${ECHO}\n`);
        }
      }
    },
  );
  for (const frames of [pod, node]) {
    const addresses = new Set(frames.flatMap(({ ip }) => ip.flatMap((h) => [h.source, h.target])));
    assert.ok(addresses.has(formatIpv4(podNamed(lab.plan, PODS.far).address)));
    assert.ok(addresses.has(formatIpv6(podNamed(lab.plan, PODS.far).address6)));
    const ours = [...addresses].filter((address) => /^(198\.51\.100\.|fd00:198:51:)/.test(address));
    assert.deepEqual(ours, [], "a packet has a service's address");
    assert.deepEqual(
      frames.flatMap(({ ip }) => ip.filter((h) => h.protocol === 4)),
      [],
    );
  }
  const counts = since(begin, verdictsAt(lab, "node1"));
  // curl, each kind of socket in both spellings and by IPv6, and one more, from two clients to two
  // services.
  assert.equal(counts["socket sent socket"], 44);
}

async function refused(t: TestContext): Promise<void> {
  for (const where of CLIENTS) {
    for (const kind of ["tcp", "udp", "datagrams"] as const) {
      for (const address of [EMPTY, mapped(EMPTY), wide(EMPTY)]) {
        const end = await open(t, where, kind, address).end();
        assert.equal(end, "ECONNREFUSED", `${kind} from ${where} to ${address}`);
      }
    }
  }
}

/** Who is not in a node's cgroup meets a balancer, as ever. */
async function outside(): Promise<void> {
  const lab = theLab();
  assert.equal(
    await lab.output("client", ["curl", "-sS", "-m", "5", `http://${FAR}/name`]),
    PODS.far,
  );
}

async function withoutAgent(t: TestContext): Promise<void> {
  const lab = theLab();
  const { links } = pinnedAt(lab, "node1");
  const open1 = open(t, "pod1-1", "tcp", FAR);
  await open1.answer();
  await open(t, "pod1-1", "udp", wide(FAR)).answer();
  await lab.stopAgent("node1", "SIGKILL");
  assert.equal((await open(t, "pod1-1", "tcp", FAR).answer()).peer, `${FAR}:${HTTP}`);
  const text = await lab.output("node1", ["ciliate", "bpf", "socket", "list"]);
  const backend = podEndpoint(lab, PODS.far, HTTP_PORT).replaceAll(".", "\\.");
  assert.match(text, new RegExp(`tcp +\\d+ +\\d+ +198\\.51\\.100\\.2:80 +${backend}`));
  const wideLine = [`[${wide(FAR)}]:${ECHO}`, wideEndpoint(PODS.far, ECHO_PORT)];
  assert.ok(
    text.split("\n").some((line) => wideLine.every((part) => line.includes(part))),
    text,
  );
  // While the next one takes over, every connection is translated.
  let starting = true;
  const start = lab.startAgent("node1").finally(() => {
    starting = false;
  });
  let peers = 0;
  while (starting) {
    const program = open(t, "pod1-1", "tcp", NEAR);
    assert.equal((await program.answer()).peer, `${NEAR}:${HTTP}`);
    peers++;
  }
  await start;
  t.diagnostic(`${peers} connections while an agent started`);
  assert.ok(peers > 0);
  assert.deepEqual(pinnedAt(lab, "node1").links, links, "links are the same");
  assert.equal(open1.ended, undefined);
}

/** Sockets to the pod that will go, by every kind, and to one that stays. */
async function openAll(t: TestContext, address: string) {
  const all = CLIENTS.flatMap((where) => [
    open(t, where, "tcp", address),
    open(t, where, "udp", address),
    open(t, where, "tcp", mapped(address)),
    open(t, where, "udp", mapped(address)),
    open(t, where, "tcp", wide(address)),
    open(t, where, "udp", wide(address)),
  ]);
  const staying = CLIENTS.flatMap((where) => [
    open(t, where, "tcp", FAR),
    open(t, where, "udp", mapped(FAR)),
    open(t, where, "datagrams", address),
    open(t, where, "datagrams", mapped(address)),
    open(t, where, "tcp", wide(FAR)),
    open(t, where, "datagrams", wide(address)),
  ]);
  for (const program of [...all, ...staying]) await program.answer();
  return { all, staying };
}

async function podGone(t: TestContext): Promise<void> {
  const lab = theLab();
  const { all, staying } = await openAll(t, OTHER);
  // To the same pod by its own address: none of ours.
  const direct = new SocketProgram(
    t,
    lab,
    "pod1-1",
    "tcp",
    podEndpoint(lab, PODS.other, HTTP_PORT),
  );
  await direct.answer();
  lab.publish(spec("other", OTHER, [{ pod: PODS.other, ready: false, terminating: true }]));
  await untilBalanced(lab, `${OTHER}:${HTTP}`, []);
  await until("a refused connection", AT_ONCE_MS, async () => {
    const { code } = await lab.run("pod1-1", ["curl", "-sS", "-m", "1", `http://${OTHER}/name`]);
    return code === 7;
  });
  assert.deepEqual(
    all.map(({ ended }) => ended).filter((end) => end !== undefined),
    [],
    "drained",
  );

  const pods = clusterManifests(lab.plan)["pods.yaml"] ?? [];
  const left = pods.filter((pod) => !JSON.stringify(pod).includes(`"${PODS.other}"`));
  assert.equal(left.length, pods.length - 1);
  lab.publish(spec("other", OTHER, []));
  lab.writeManifest("pods.yaml", left);
  const began = performance.now();
  for (const program of all) assert.equal(await program.end(AT_ONCE_MS), "ECONNABORTED");
  t.diagnostic(`${all.length} sockets closed after ${Math.round(performance.now() - began)} ms`);
  for (const program of [...staying, direct]) assert.equal(program.ended, undefined);
  const closed = await metric(lab, "ciliate_sockets_closed_total");
  assert.equal(closed, all.length);
  const backends = [...dumpSockets(pinsOf(lab, "node1"))].map(({ backend }) => backend);
  assert.ok(!backends.includes(podEndpoint(lab, PODS.other, HTTP_PORT)), "it is forgotten");
}

async function serviceGone(t: TestContext): Promise<void> {
  const lab = theLab();
  await publish("ending", ENDING, [PODS.near]);
  const { all, staying } = await openAll(t, ENDING);
  lab.withdraw("ending");
  for (const program of all) assert.equal(await program.end(AT_ONCE_MS), "ECONNABORTED");
  for (const program of staying) assert.equal(program.ended, undefined);
}

/** Who goes while no agent is there is missed by the next one. */
async function goneMeanwhile(t: TestContext): Promise<void> {
  const lab = theLab();
  await publish("ending", ENDING, [PODS.near]);
  const { all, staying } = await openAll(t, ENDING);
  await lab.stopAgent("node1", "SIGKILL");
  lab.withdraw("ending");
  await lab.startAgent("node1");
  for (const program of all) assert.equal(await program.end(AT_ONCE_MS), "ECONNABORTED");
  for (const program of staying) assert.equal(program.ended, undefined);
}

/** Listens at a node port, and says what the kernel said. */
const BIND = `
import errno, socket, sys
family, kind = getattr(socket, sys.argv[1]), getattr(socket, sys.argv[2])
with socket.socket(family, kind) as one:
    try:
        one.bind((sys.argv[3], int(sys.argv[4])))
        print("bound")
    except OSError as error:
        print(errno.errorcode[error.errno])
`;
const NODE_PORT = 30_080;

async function nodePortKept(): Promise<void> {
  const lab = theLab();
  const bind = async (where: string, ...args: (string | number)[]): Promise<string> =>
    (await lab.output(where, ["python3", "-c", BIND, ...args.map(String)])).trim();
  const all = ["AF_INET", "AF_INET6"].flatMap((family) =>
    ["SOCK_STREAM", "SOCK_DGRAM"].map((kind) => [family, kind] as const),
  );
  const any = { AF_INET: "0.0.0.0", AF_INET6: "::" };
  // One after the other: a socket of both families has the port of IPv4's as well.
  const bindAll = async (where: string): Promise<string[]> => {
    const said: string[] = [];
    for (const [family, kind] of all) {
      said.push(await bind(where, family, kind, any[family as keyof typeof any], NODE_PORT));
    }
    return said;
  };
  assert.deepEqual(await bindAll("node1"), Array<string>(4).fill("bound"), "nobody has it");
  const { ports, ...rest } = spec("kept", KEPT, [PODS.far]);
  const [http, ...others] = ports;
  assert.ok(http !== undefined);
  lab.publish({ ...rest, ports: [{ ...http, nodePort: NODE_PORT }, ...others] });
  await untilBalanced(lab, `${KEPT}:${HTTP}`, [podEndpoint(lab, PODS.far, HTTP_PORT)]);
  const begin = verdictsAt(lab, "node1");
  const refusedTcp = ["EADDRINUSE", "bound", "EADDRINUSE", "bound"];
  assert.deepEqual(await bindAll("node1"), refusedTcp);
  assert.equal(await bind("node1", "AF_INET", "SOCK_STREAM", "127.0.0.1", NODE_PORT), "EADDRINUSE");
  assert.equal(since(begin, verdictsAt(lab, "node1"))["socket drop bind"], 3);
  assert.deepEqual(await bindAll("pod1-1"), Array<string>(4).fill("bound"));
  // The node's loopback leads to the service, a pod's is its own.
  for (const host of ["127.0.0.1", "[::ffff:127.0.0.1]"]) {
    const url = `http://${host}:${NODE_PORT}/name`;
    assert.equal(await lab.output("node1", ["curl", "-sS", "-m", "5", url]), PODS.far);
    assert.equal((await lab.run("pod1-1", ["curl", "-sS", "-m", "5", url])).code, 7);
  }
  lab.withdraw("kept");
}

suite("services at the sockets of pods and nodes", () => {
  before(bringUp);
  after(() => removeLab(name));
  test("no packet has a service's address, and programs see nothing else", translated);
  test("without backends, every call is refused", refused);
  test("who is outside is balanced as ever", outside);
  test("a node port of a service is bound by no program of the node", nodePortKept);
  test("without an agent and while one starts, sockets are translated", withoutAgent);
  test("when a pod is gone, sockets to it are closed; none while it drains", podGone);
  test("when a service is gone, its sockets are closed", serviceGone);
  test("what went while no agent was there is closed by the next", goneMeanwhile);
});
