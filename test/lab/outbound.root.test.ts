// SPDX-License-Identifier: Apache-2.0

// Pods as clients of services where sockets aren't translated: packet by packet, at their own node.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import type { ServiceSpec } from "../../src/lab/manifest.ts";
import { nodeNamed, podNamed } from "../../src/lab/plan.ts";
import { removeLab } from "../../src/lab/state.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { formatPrefix } from "../../src/net/prefix.ts";
import { flowsAt, podEndpoint, since, untilBalanced, verdictsAt } from "./tools/inspect.ts";
import {
  ECHO_PORT,
  HTTP_PORT,
  type PodPrograms,
  setOffloads,
  startPrograms,
} from "./tools/programs.ts";
import { type SocketKind, SocketProgram } from "./tools/sockets.ts";
import { freshName } from "./tools/stage.ts";
import { type Frame, watch } from "./tools/wire.ts";

/** Who asks, and by which service it gets where. */
const ASKER = "pod1-1";
const SERVICES = {
  itself: { pod: "pod1-1", vip: "198.51.100.1", clusterIp: "10.96.0.1", nodePort: 30_001 },
  near: { pod: "pod1-2", vip: "198.51.100.2", clusterIp: "10.96.0.2", nodePort: 30_002 },
  far: { pod: "pod2-1", vip: "198.51.100.3", clusterIp: "10.96.0.3", nodePort: 30_003 },
} as const;
const NAMES = ["itself", "near", "far"] as const;
type Name = (typeof NAMES)[number];
/** A second service with the same pod and port. */
const FAR_TOO = "198.51.100.4";
const EMPTY = "198.51.100.5";
const HTTP = 80;
const ECHO = 7;
/** Where no pod listens. */
const SILENT = 9;
/** Addresses of services. */
const OURS = /^(198\.51\.100|10\.96)\./;
const NODE = "node1";
const ITSELF = "169.254.42.1";
const SHARED_PORT = 50_000;
/** Of a connection, so that both are open at the same time. */
const HOLD_SECONDS = "1";
const NARROW = 1400;
const PACE_MS = 250;

const name = freshName();
const stage: { lab?: Lab; programs: Map<string, PodPrograms> } = { programs: new Map() };

function theLab(): Lab {
  assert.ok(stage.lab !== undefined, "the lab did not come up");
  return stage.lab;
}

const addressOf = (pod: string): string => formatIpv4(podNamed(theLab().plan, pod).address);

function programsOf(pod: string): PodPrograms {
  const programs = stage.programs.get(pod);
  assert.ok(programs);
  return programs;
}

function spec(service: string, more: Partial<ServiceSpec>): ServiceSpec {
  const tcp = { name: "http", port: HTTP, targetPort: HTTP_PORT };
  const udp = { name: "echo", port: ECHO, targetPort: ECHO_PORT, protocol: "UDP" } as const;
  const silent = { name: "silent", port: SILENT, targetPort: SILENT, protocol: "UDP" } as const;
  return { name: service, addresses: [], ports: [tcp, udp, silent], backends: [], ...more };
}

async function publish(service: ServiceSpec, pods: readonly string[]): Promise<void> {
  const lab = theLab();
  lab.publish({ ...service, backends: pods });
  const [address = ""] = service.addresses;
  const at = pods.map((pod) => podEndpoint(lab, pod, HTTP_PORT));
  await untilBalanced(lab, `${address}:${HTTP}`, at);
}

async function bringUp(): Promise<void> {
  const config = { socket: { enabled: false } };
  const options = { name, nodes: 2, podsPerNode: 2, acceleration: "native", config } as const;
  const lab = await createLab(options);
  stage.lab = lab;
  // The lab's nodes send no virtual address back to the fabric; then there is no packet at all.
  await lab.output(NODE, ["ip", "route", "del", "unreachable", formatPrefix(lab.plan.virtualIps)]);
  for (const { pod } of Object.values(SERVICES)) {
    stage.programs.set(pod, await startPrograms(lab, pod));
    // What is left to a device that isn't there has no checksum that could be judged.
    await setOffloads(lab, pod, false);
  }
  for (const service of NAMES) {
    const { pod, vip, clusterIp, nodePort } = SERVICES[service];
    const plain = spec(service, { addresses: [vip], spec: { clusterIP: clusterIp } });
    const ports = plain.ports.map((port) => (port.port === SILENT ? port : { ...port, nodePort }));
    await publish({ ...plain, ports }, [pod]);
  }
  await publish(spec("far-too", { addresses: [FAR_TOO] }), [SERVICES.far.pod]);
  await publish(spec("empty", { addresses: [EMPTY] }), []);
}

const curl = (url: string, ...options: readonly string[]): Promise<string> =>
  theLab().output(ASKER, ["curl", "-sS", "-m", "20", ...options, url]);

/** Who a backend sees. */
const clientOf = (service: Name): string => (service === "itself" ? ITSELF : addressOf(ASKER));

function open(t: TestContext, kind: SocketKind, to: string): SocketProgram {
  return new SocketProgram(t, theLab(), ASKER, kind, to);
}

/** Every address of the service, by TCP and UDP, and bodies both ways. */
async function askAll(t: TestContext, service: Name): Promise<void> {
  const { pod, vip, clusterIp, nodePort } = SERVICES[service];
  const node2 = formatIpv4(nodeNamed(theLab().plan, "node2").address.address);
  for (const at of [`${vip}:${HTTP}`, `${clusterIp}:${HTTP}`, `${node2}:${nodePort}`]) {
    assert.equal(await curl(`http://${at}/name`), pod, at);
  }
  for (const to of [`${vip}:${ECHO}`, `${clusterIp}:${ECHO}`, `${node2}:${nodePort}`]) {
    for (const kind of ["udp", "datagrams"] as const) {
      const answer = { peer: to, from: to, answer: "hello" };
      assert.deepEqual(await open(t, kind, to).answer(), answer, kind);
    }
  }
  const to = `${vip}:${HTTP}`;
  assert.deepEqual(await open(t, "tcp", to).answer(), { peer: to, from: to, answer: pod });
  await bodies(service);
}

async function bodies(service: Name): Promise<void> {
  const { pod, vip } = SERVICES[service];
  const { large, stored } = programsOf(pod);
  const got = join(theLab().plan.state, `got-${service}`);
  await curl(`http://${vip}/large`, "-o", got);
  assert.ok(readFileSync(got).equals(readFileSync(large)), "the body that came");
  await curl(`http://${vip}/put-${service}`, "-T", large);
  assert.ok(stored(`put-${service}`).equals(readFileSync(large)), "the body that went");
}

const addressesIn = (frames: readonly Frame[]): Set<string> =>
  new Set(frames.flatMap(({ ip }) => ip.flatMap((h) => [h.source, h.target])));

async function served(t: TestContext, service: Name): Promise<void> {
  const lab = theLab();
  const { pod } = SERVICES[service];
  const begin = verdictsAt(lab, "node1");
  const seen = programsOf(pod).requests().length;
  const filter = "tcp or udp or icmp";
  const { asker, uplink } = await watch(
    t,
    lab,
    { asker: { at: ASKER, filter }, uplink: { at: "node1:eth0", filter } },
    () => askAll(t, service),
  );
  const clients = programsOf(pod)
    .requests()
    .slice(seen)
    .map((line) => line.split(" ")[0]);
  assert.deepEqual([...new Set(clients)], [clientOf(service)]);
  const wrong = [...asker, ...uplink].filter((frame) => frame.wrong.length > 0);
  assert.deepEqual(wrong, [], "wrong checksums");
  const onWire = [...addressesIn(uplink)].filter((address) => OURS.test(address));
  assert.deepEqual(onWire, [], "a service's address is on the wire");
  assert.equal(addressesIn(uplink).has(addressOf(SERVICES.far.pod)), service === "far");
  if (service !== "itself") {
    assert.ok(!addressesIn(asker).has(addressOf(pod)), "the pod meets its backend's own address");
  }
  const tunnelled = uplink.filter(({ ip }) => ip.some(({ protocol }) => protocol === 4));
  assert.deepEqual(tunnelled, []);
  const counts = since(begin, verdictsAt(lab, "node1"));
  assert.ok((counts["pod sent outbound"] ?? 0) > 100, JSON.stringify(counts));
  t.diagnostic(JSON.stringify(counts));
}

/** The node itself, to a pod of its own and to one elsewhere. */
async function fromNode(t: TestContext): Promise<void> {
  const lab = theLab();
  const node1 = formatIpv4(nodeNamed(lab.plan, NODE).address.address);
  await setOffloads(lab, NODE, false);
  const begin = verdictsAt(lab, NODE);
  const filter = "tcp or udp or icmp";
  const seen = NAMES.map((service) => programsOf(SERVICES[service].pod).requests().length);
  const { uplink } = await watch(t, lab, { uplink: { at: `${NODE}:eth0`, filter } }, async () => {
    for (const service of NAMES) {
      const { pod, vip, clusterIp } = SERVICES[service];
      for (const at of [vip, clusterIp]) {
        const url = `http://${at}/name`;
        assert.equal(await lab.output(NODE, ["curl", "-sS", "-m", "10", url]), pod, url);
        for (const kind of ["tcp", "udp", "datagrams"] as const) {
          const peer = `${at}:${kind === "tcp" ? HTTP : ECHO}`;
          const program = new SocketProgram(t, lab, NODE, kind, peer);
          const answer = kind === "tcp" ? pod : "hello";
          assert.deepEqual(await program.answer(), { peer, from: peer, answer }, kind);
        }
      }
      const { large, stored } = programsOf(pod);
      const name = `node-${service}`;
      await lab.output(NODE, ["curl", "-sS", "-m", "20", "-T", large, `http://${vip}/${name}`]);
      assert.ok(stored(name).equals(readFileSync(large)), name);
    }
    const empty = new SocketProgram(t, lab, NODE, "tcp", `${EMPTY}:${HTTP}`);
    assert.equal(await empty.end(), "ECONNREFUSED");
    const silent = new SocketProgram(t, lab, NODE, "udp", `${SERVICES.far.vip}:${SILENT}`);
    assert.equal(await silent.end(), "ECONNREFUSED");
  });
  for (const [index, service] of NAMES.entries()) {
    const clients = programsOf(SERVICES[service].pod)
      .requests()
      .slice(seen[index])
      .map((line) => line.split(" ")[0]);
    assert.deepEqual([...new Set(clients)], [node1], service);
  }
  // What comes from pods of the node and from itself looks as if it came by the uplink.
  const targets = uplink.map(({ ip: [header] }) => header?.target ?? "");
  assert.deepEqual(
    targets.filter((target) => OURS.test(target)),
    [],
    "a service's address is on the wire",
  );
  assert.deepEqual(
    uplink.flatMap((frame) => frame.wrong),
    [],
    "wrong checksums",
  );
  const counts = since(begin, verdictsAt(lab, NODE));
  assert.ok((counts["node sent outbound"] ?? 0) > 100, JSON.stringify(counts));
  t.diagnostic(JSON.stringify(counts));
}

async function refused(t: TestContext): Promise<void> {
  const lab = theLab();
  for (const kind of ["tcp", "udp"] as const) {
    const to = `${EMPTY}:${kind === "tcp" ? HTTP : ECHO}`;
    assert.equal(await open(t, kind, to).end(), "ECONNREFUSED", `${kind}: no backend`);
  }
  const begin = verdictsAt(lab, "node1");
  for (const service of NAMES) {
    const to = `${SERVICES[service].vip}:${SILENT}`;
    assert.equal(await open(t, "udp", to).end(), "ECONNREFUSED", `${service}: nobody listens`);
  }
  const counts = since(begin, verdictsAt(lab, "node1"));
  assert.equal(counts["pod sent relayed"], 2, "by pods of this node");
  assert.equal(counts["host sent relayed"], 1, "by the one elsewhere");
}

async function pinged(): Promise<void> {
  await theLab().output(ASKER, ["ping", "-c", "1", "-W", "2", SERVICES.far.vip]);
}

/** Two connections to one pod and port by the same port of the client, at the same time. */
async function sharedPort(): Promise<void> {
  const lab = theLab();
  const { vip, pod } = SERVICES.far;
  const ask = async (address: string): Promise<void> => {
    const to = `TCP4:${address}:${HTTP},sourceport=${SHARED_PORT},reuseaddr,shut-none`;
    const input = "GET /name HTTP/1.1\r\nHost: lab\r\n\r\n";
    const answer = await lab.output(ASKER, ["socat", "-t", HOLD_SECONDS, "-", to], { input });
    assert.ok(answer.endsWith(pod), answer);
  };
  await Promise.all([ask(vip), ask(FAR_TOO)]);
  const flows = flowsAt(lab, "node1").filter(({ client }) => client.endsWith(":50000"));
  const services = flows.map(({ service }) => service);
  assert.deepEqual(services.sort(), [`${vip}:${HTTP}`, `${FAR_TOO}:${HTTP}`]);
  for (const { flags } of flows) assert.ok(flags.includes("outbound"));
  const listed = await lab.output("node1", ["ciliate", "bpf", "ct", "list"]);
  assert.match(listed, /outbound/);
}

/** The kernel goes on alone, and an agent that starts takes over between two packets. */
async function withoutAgent(t: TestContext): Promise<void> {
  const lab = theLab();
  const ask = async (where: string): Promise<void> => {
    for (const service of NAMES) {
      const { pod, vip } = SERVICES[service];
      const url = `http://${vip}/name`;
      assert.equal(await lab.output(where, ["curl", "-sS", "-m", "10", url]), pod, where);
    }
  };
  const to = `${SERVICES.far.vip}:${HTTP}`;
  const before = open(t, "tcp", to);
  await before.answer();
  await lab.stopAgent(NODE, "SIGKILL");
  for (const where of [ASKER, NODE]) await ask(where);
  let starting = true;
  const start = lab.startAgent(NODE).finally(() => {
    starting = false;
  });
  let rounds = 0;
  for (; starting; rounds++) {
    for (const where of [ASKER, NODE]) await ask(where);
    // An agent that starts needs the machine more than we do.
    await delay(PACE_MS);
  }
  await start;
  t.diagnostic(`${rounds} rounds while an agent started`);
  assert.ok(rounds > 0);
  await ask(ASKER);
  assert.equal(before.ended, undefined, "a connection from before");
}

async function narrow(): Promise<void> {
  const lab = theLab();
  const begin = verdictsAt(lab, "node1");
  await lab.output("node1", ["ip", "link", "set", "eth0", "mtu", String(NARROW)]);
  const { pod, vip } = SERVICES.far;
  const { large, stored } = programsOf(pod);
  await curl(`http://${vip}/narrow`, "-T", large);
  assert.ok(stored("narrow").equals(readFileSync(large)));
  const counts = since(begin, verdictsAt(lab, "node1"));
  assert.ok((counts["pod sent frag needed"] ?? 0) > 0, JSON.stringify(counts));
  const route = await lab.output(ASKER, ["ip", "route", "get", SERVICES.far.vip]);
  assert.match(route, new RegExp(`mtu ${NARROW}`));
}

suite("pods as clients, packet by packet", () => {
  before(bringUp);
  after(() => removeLab(name));
  for (const service of NAMES) {
    test(`a pod reaches a service whose backend is ${service}`, (t) => served(t, service));
  }
  test("the node itself reaches services", fromNode);
  test("a pod is told when there is no backend, or when that doesn't listen", refused);
  test("a pod's pings of services are answered", pinged);
  test("two services with the same pod keep a shared port of the client apart", sharedPort);
  test("without an agent and while one starts, pods and the node reach services", withoutAgent);
  test("a pod learns what fits the way to a backend", narrow);
});
