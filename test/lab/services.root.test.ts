// SPDX-License-Identifier: Apache-2.0

// Every type of service in every mode, side by side in one cluster, told by manifests alone.

import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { dumpFrontends } from "../../src/datapath/dump.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { clusterManifests, type Document, type ServiceSpec } from "../../src/lab/manifest.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { FAMILIES, type Family, formatAddress } from "../../src/net/address.ts";
import {
  type Asked,
  type Conversation,
  conversation,
  converse,
  expectedLog,
  Judge,
} from "./tools/conversation.ts";
import { nodesOf, pinsOf } from "./tools/inspect.ts";
import {
  ECHO_PORT,
  echo,
  HTTP_PORT,
  inUrl,
  type PodPrograms,
  setOffloads,
  startPrograms,
} from "./tools/programs.ts";
import { type SocketKind, SocketProgram } from "./tools/sockets.ts";
import { freshName } from "./tools/stage.ts";
import { watch } from "./tools/wire.ts";

type Mode = "dsr" | "snat" | "hybrid";
type Protocol = "tcp" | "udp";
type NoWay = keyof typeof CURL_CODES;

const PROTOCOLS = ["tcp", "udp"] as const;
/** The one on node1, where the switch sends what is for a service's address, and another one. */
const PODS = ["pod1-1", "pod2-1"] as const;
const PORTS = { tcp: 80, udp: 7 } as const;
const OUR_MODE = "ciliate.io/forwarding-mode";
const CILIUM_MODE = "service.cilium.io/forwarding-mode";
const HOST_PORT = 8088;
const CLUSTER_NETWORK = "10.96.0.0/16";
const SHARED_PORT = 50_000;
/** Of a connection, so that all are open at the same time. */
const HOLD_SECONDS = "1";
const IN_FORCE_LIMIT_MS = 60_000;
const LOG_LIMIT_MS = 5000;
const FRAGMENTS_LIMIT_MS = 30_000;
const LARGE = "large ".repeat(600);
/** What curl exits with. */
const CURL_CODES = { refused: 7, silence: 28 } as const;

/** A service of a number, from which its addresses and ports follow. */
interface Numbered {
  readonly name: string;
  readonly number: number;
  readonly pod: string;
  readonly mode: Mode;
  readonly annotation?: string;
  /** More keys of its spec. */
  readonly spec?: Readonly<Record<string, unknown>>;
}

/** Of services: the last part of an address is the same in both families, read as digits. */
const NETWORKS = { ipv4: "198.51.100.", ipv6: "fd00:198:51:100::" } as const;
const CLUSTER_NETWORKS = { ipv4: "10.96.0.", ipv6: "fd00:10:96::" } as const;
const vipOf = ({ number }: Numbered, family: Family = "ipv4"): string =>
  `${NETWORKS[family]}${number}`;
const externalOf = ({ number }: Numbered, family: Family = "ipv4"): string =>
  `${NETWORKS[family]}${100 + number}`;
const clusterIpOf = ({ number }: Numbered, family: Family = "ipv4"): string =>
  `${CLUSTER_NETWORKS[family]}${number}`;
/** For each family what a function of it says. */
const both = <T>(of: (family: Family) => T): T[] => FAMILIES.map(of);
const nodePortOf = ({ number }: Numbered): number => 30_000 + number;
const isSnat = (mode: Mode, protocol: Protocol): boolean =>
  mode === "snat" || (mode === "hybrid" && protocol === "udp");

const SERVICES: readonly Numbered[] = (["dsr", "snat", "hybrid"] as const).flatMap((mode, row) =>
  PODS.map((pod, column) => ({
    name: `${mode}-${pod}`,
    number: 10 + PODS.length * row + column,
    pod,
    mode,
  })),
);

function specOf(service: Numbered): ServiceSpec {
  const nodePort = nodePortOf(service);
  return {
    name: service.name,
    addresses: both((family) => vipOf(service, family)),
    externalIps: both((family) => externalOf(service, family)),
    clusterIps: both((family) => clusterIpOf(service, family)),
    ports: [
      { name: "http", port: PORTS.tcp, targetPort: HTTP_PORT, nodePort },
      { name: "echo", port: PORTS.udp, targetPort: ECHO_PORT, protocol: "UDP", nodePort },
    ],
    backends: [service.pod],
    annotations: { [service.annotation ?? OUR_MODE]: service.mode },
    spec: service.spec ?? {},
  };
}

class Scene {
  readonly lab: Lab;
  readonly programs: ReadonlyMap<string, PodPrograms>;
  readonly judge: Judge;

  constructor(lab: Lab, programs: ReadonlyMap<string, PodPrograms>) {
    this.lab = lab;
    this.programs = programs;
    this.judge = new Judge(lab);
  }

  address(node: string, family: Family = "ipv4"): string {
    const { address, address6 } = nodeNamed(this.lab.plan, node);
    return formatAddress((family === "ipv4" ? address : address6).address);
  }

  /** Publishes a service and waits until all nodes have it in this mode. */
  async publish(service: Numbered): Promise<void> {
    this.lab.publish(specOf(service));
    for (const protocol of PROTOCOLS) {
      for (const family of FAMILIES) {
        const frontend = `${inUrl(vipOf(service, family))}:${PORTS[protocol]}`;
        await this.untilServed("service", frontend, protocol, isSnat(service.mode, protocol));
      }
    }
  }

  async untilServed(
    kind: string,
    frontend: string,
    protocol: Protocol,
    snat: boolean,
    nodes: readonly string[] = nodesOf(this.lab),
  ): Promise<void> {
    for (const node of nodes) {
      await until(`${frontend}/${protocol} on ${node}`, IN_FORCE_LIMIT_MS, () =>
        [...dumpFrontends(pinsOf(this.lab, node))].some(
          (row) =>
            row.kind === kind &&
            row.frontend === frontend &&
            row.protocol === protocol &&
            row.flags.includes("snat") === snat,
        ),
      );
    }
  }

  /** Lets `act` happen, and wires, pods and nginx must tell of exactly these conversations. */
  async watch(t: TestContext, all: readonly Conversation[], act: () => Promise<void>) {
    const before = new Map(
      [...this.programs].map(([pod, programs]) => [pod, programs.requests().length]),
    );
    // Neighbour discovery is none of these.
    const filter = "tcp or udp or icmp or ip proto 4 or ip6 proto 41";
    const { wires, ...pods } = await watch(
      t,
      this.lab,
      {
        wires: { at: `switch:${nodesOf(this.lab).join()}`, filter },
        near: { at: PODS[0], filter },
        far: { at: PODS[1], filter },
      },
      act,
    );
    this.judge.assertRight(all, wires, [...pods.near, ...pods.far]);
    for (const [pod, programs] of this.programs) {
      const wanted = expectedLog(this.lab, pod, all);
      const logged = (): string[] => programs.requests().slice(before.get(pod));
      await until(`the log of ${pod}`, LOG_LIMIT_MS, () => logged().length >= wanted.length);
      assert.deepEqual(logged().sort(), wanted, pod);
    }
  }
}

/** The lab's pods, one of them with a host port for each protocol. */
function podsWithHostPort(lab: Lab, name: string): Document[] {
  const containers = [
    {
      name: "main",
      ports: [
        { containerPort: HTTP_PORT, hostPort: HOST_PORT },
        { containerPort: ECHO_PORT, hostPort: HOST_PORT, protocol: "UDP" },
      ],
    },
  ];
  return (clusterManifests(lab.plan)["pods.yaml"] ?? []).map((pod) => {
    const { metadata, spec } = pod as Readonly<Record<string, Document>>;
    return metadata?.["name"] === name ? { ...pod, spec: { ...spec, containers } } : pod;
  });
}

async function createScene(t: TestContext, acceleration: "native" | "off"): Promise<Scene> {
  const name = freshName();
  t.after(() => removeLab(name));
  const lab = await createLab({ name, nodes: 3, podsPerNode: 1, acceleration });
  const programs = new Map<string, PodPrograms>();
  await Promise.all(
    PODS.map(async (pod) => {
      programs.set(pod, await startPrograms(lab, pod));
    }),
  );
  // What is captured must be whole.
  await Promise.all([
    ...["client", ...PODS, ...nodesOf(lab)].map((place) => setOffloads(lab, place, false)),
    ...nodesOf(lab).map((node) => lab.output("switch", ["ethtool", "-K", node, "gro", "off"])),
  ]);
  const scene = new Scene(lab, programs);
  lab.writeManifest("pods.yaml", podsWithHostPort(lab, "pod2-1"));
  await Promise.all(SERVICES.map((service) => scene.publish(service)));
  for (const protocol of PROTOCOLS) {
    for (const family of FAMILIES) {
      const frontend = `${inUrl(scene.address("node2", family))}:${HOST_PORT}`;
      await scene.untilServed("service", frontend, protocol, false, ["node2"]);
    }
  }
  return scene;
}

/** By each of the ways from outside. */
function waysTo(scene: Scene, service: Numbered, protocol: Protocol): Asked[] {
  const { name, pod, mode } = service;
  const way = isSnat(mode, protocol) ? "snat" : "ipip";
  const by = (which: string, address: string, port: number, entry = "node1"): Asked => {
    const what = `${name} ${protocol} by ${which} ${address}`;
    return { what, address, port, entry, protocol, pod, way };
  };
  return FAMILIES.flatMap((family) => [
    by("load balancer address", vipOf(service, family), PORTS[protocol]),
    by("external address", externalOf(service, family), PORTS[protocol]),
    ...["node1", "node2"].map((node) =>
      by("node port", scene.address(node, family), nodePortOf(service), node),
    ),
  ]);
}

async function fromOutside(t: TestContext, scene: Scene): Promise<void> {
  const asked = PROTOCOLS.flatMap((protocol) => [
    ...SERVICES.flatMap((service) => waysTo(scene, service, protocol)),
    ...both((family) => ({
      what: `${protocol} by host port of ${family}`,
      address: scene.address("node2", family),
      port: HOST_PORT,
      protocol,
      entry: "node2",
      pod: "pod2-1",
      way: "ipip" as const,
    })),
  ]);
  const all = asked.map(conversation);
  await scene.watch(t, all, () => converse(scene.lab, all));
}

/** One request over a connection that stays open for a while. */
async function holdTcp(lab: Lab, { address, port, pod, what }: Asked): Promise<void> {
  const kind = address.includes(":") ? "TCP6" : "TCP4";
  const to = `${kind}:${inUrl(address)}:${port},sourceport=${SHARED_PORT},reuseaddr,shut-none`;
  const input = "GET /name HTTP/1.1\r\nHost: lab\r\n\r\n";
  const answer = await lab.output("client", ["socat", "-t", HOLD_SECONDS, "-", to], { input });
  assert.ok(answer.endsWith(`\r\n\r\n${pod}`), `${what}: ${JSON.stringify(answer)}`);
}

/** All at once by one port of the client, so that pods and SNAT can't tell them by it. */
async function byOnePort(scene: Scene): Promise<void> {
  const { lab } = scene;
  const options = `,sourceport=${SHARED_PORT},reuseaddr`;
  const asked = (protocol: Protocol): Asked[] =>
    SERVICES.flatMap((service) => waysTo(scene, service, protocol));
  await Promise.all(asked("tcp").map((one) => holdTcp(lab, one)));
  for (const round of ["first", "second"]) {
    await Promise.all(
      asked("udp").map(async ({ address, port, what }) => {
        const text = `${round} ${what}`;
        assert.equal(await echo(lab, address, port, text, options), text, text);
      }),
    );
  }
}

/** Datagrams of several frames. The first may be lost, as clients have to learn what fits. */
async function inFragments({ lab }: Scene): Promise<void> {
  const asked = SERVICES.flatMap((service) => both((family) => vipOf(service, family)));
  await Promise.all(
    asked.map((address) =>
      until(`an answer in fragments from ${address}`, FRAGMENTS_LIMIT_MS, async () => {
        const answer = await echo(lab, address, PORTS.udp, LARGE).catch(() => "");
        return answer === LARGE;
      }),
    ),
  );
}

/** At the socket: from a pod and from a node, to pods of this node and of another one. */
async function fromInside(t: TestContext, scene: Scene): Promise<void> {
  const { lab } = scene;
  const ask = async (where: string, kind: SocketKind, to: string, pod: string): Promise<void> => {
    const answer = kind === "tcp" ? pod : "hello";
    const program = new SocketProgram(t, lab, where, kind, to);
    assert.deepEqual(await program.answer(), { peer: to, from: to, answer }, `${where} to ${to}`);
  };
  for (const where of ["pod1-1", "node1"]) {
    for (const service of SERVICES.slice(1, 3)) {
      for (const family of FAMILIES) {
        const { pod } = service;
        const clusterIp = clusterIpOf(service, family);
        const nodePort = `${scene.address("node3", family)}:${nodePortOf(service)}`;
        await Promise.all([
          ask(where, "tcp", `${clusterIp}:${PORTS.tcp}`, pod),
          ask(where, "udp", `${clusterIp}:${PORTS.udp}`, pod),
          ask(where, "datagrams", `${clusterIp}:${PORTS.udp}`, pod),
          ask(where, "tcp", `${externalOf(service, family)}:${PORTS.tcp}`, pod),
          ask(where, "tcp", nodePort, pod),
        ]);
      }
    }
  }
}

/** A cluster IP that finds its way to a node is the kernel's business. */
async function clusterIpFromOutside(scene: Scene): Promise<void> {
  const { lab } = scene;
  const route = ["ip", "route", "add"];
  await lab.output("node1", [...route, "unreachable", CLUSTER_NETWORK]);
  await lab.output("switch", [...route, CLUSTER_NETWORK, "via", scene.address("node1")]);
  for (const service of SERVICES.slice(0, 2)) {
    const url = `http://${clusterIpOf(service)}/name`;
    const { code, stderr } = await lab.run("client", ["curl", "-sS", "-v", "-m", "5", url]);
    assert.equal(code, 7);
    assert.match(stderr, /No route to host/);
  }
}

function health(scene: Scene, node: string, port: number): Promise<string> {
  const url = `http://${scene.address(node)}:${port}/healthz`;
  return scene.lab.output("client", ["curl", "-s", "-m", "5", "-w", "%{http_code}", url]);
}

const urlOf = (address: string, port: number): string => `http://${inUrl(address)}:${port}/name`;

async function assertNoWay(lab: Lab, url: string, how: NoWay): Promise<void> {
  const limit = how === "refused" ? "5" : "1";
  const { code } = await lab.run("client", ["curl", "-sS", "-m", limit, url]);
  assert.equal(code, CURL_CODES[how], url);
}

/** externalTrafficPolicy Local: only the node that has the pod serves it, in one hop. */
async function localOnly(t: TestContext, scene: Scene): Promise<void> {
  const { lab } = scene;
  const services = (["dsr", "snat"] as const).map((mode, index): Numbered => {
    const healthCheckNodePort = 32_000 + index;
    const spec = { externalTrafficPolicy: "Local", healthCheckNodePort };
    return { name: `local-${mode}`, number: 30 + index, pod: "pod2-1", mode, spec };
  });
  for (const service of services) await scene.publish(service);
  t.after(() => lab.setBalancers([1]));
  lab.setBalancers([2]);
  const all = services.flatMap((service) =>
    PROTOCOLS.flatMap((protocol) =>
      waysTo(scene, service, protocol)
        .filter((way) => !both((family) => scene.address("node1", family)).includes(way.address))
        .map((way) => conversation({ ...way, entry: "node2" })),
    ),
  );
  const refused = services.flatMap((service) =>
    ["node1", "node3"].flatMap((node) =>
      both((family) => urlOf(scene.address(node, family), nodePortOf(service))),
    ),
  );
  await scene.watch(t, all, async () => {
    await converse(lab, all);
    await Promise.all(refused.map((url) => assertNoWay(lab, url, "refused")));
  });
  for (const port of [32_000, 32_001]) {
    for (const [node, status, count] of [
      ["node1", 503, 0],
      ["node2", 200, 1],
      ["node3", 503, 0],
    ] as const) {
      const text = await health(scene, node, port);
      assert.match(text, new RegExp(`"localEndpoints":${count}.*\\n${status}$`), `${node} ${port}`);
    }
  }
}

/** Clients outside are chosen by whichever way they come; who is inside is not asked. */
async function sourceRanges(t: TestContext, scene: Scene): Promise<void> {
  const { lab } = scene;
  const services = (["dsr", "snat"] as const).map((mode, index): Numbered => {
    const spec = { loadBalancerSourceRanges: ["203.0.113.0/24", "fd00:203::/64"] };
    return { name: `ranges-${mode}`, number: 50 + index, pod: "pod2-1", mode, spec };
  });
  for (const service of services) await scene.publish(service);
  const ways = services.flatMap((service) => waysTo(scene, service, "tcp"));
  await scene.watch(t, [], async () => {
    const urls = ways.map(({ address, port }) => urlOf(address, port));
    await Promise.all(urls.map((url) => assertNoWay(lab, url, "silence")));
  });
  for (const service of services) {
    for (const family of FAMILIES) {
      const url = urlOf(vipOf(service, family), PORTS.tcp);
      assert.equal(await lab.output("pod3-1", ["curl", "-sS", "-m", "5", url]), service.pod);
    }
  }
}

/** Programs serve on while an agent takes over from one that was killed. */
async function afterKill(t: TestContext, scene: Scene): Promise<void> {
  const { lab } = scene;
  await lab.stopAgent("node1", "SIGKILL");
  await Promise.all([lab.startAgent("node1"), fromOutside(t, scene)]);
}

/** New connections go as the service says now. */
async function changes(t: TestContext, scene: Scene): Promise<void> {
  const service = { name: "changing", number: 40, pod: "pod2-1" } as const;
  const stages: readonly Pick<Numbered, "mode" | "annotation">[] = [
    { mode: "snat", annotation: CILIUM_MODE },
    { mode: "hybrid" },
    { mode: "dsr", annotation: CILIUM_MODE },
    { mode: "snat" },
  ];
  const steps = stages.map((stage, index) => {
    const now: Numbered = { ...service, ...stage };
    // A datagram may be of a flow of before, for a while: it goes on by DSR.
    const wasDsr = stages[index - 1]?.mode === "dsr";
    const ways = PROTOCOLS.flatMap((protocol) => waysTo(scene, now, protocol));
    const all = ways.map((one) =>
      conversation(wasDsr && one.protocol === "udp" ? { ...one, way: "ipip" } : one),
    );
    return { now, all };
  });
  await scene.watch(
    t,
    steps.flatMap(({ all }) => all),
    async () => {
      for (const { now, all } of steps) {
        await scene.publish(now);
        await converse(scene.lab, all);
      }
    },
  );
}

suite("services of every type and mode", { concurrency: 2 }, () => {
  for (const acceleration of ["native", "off"] as const) {
    test(`acceleration ${acceleration}`, async (t) => {
      const scene = await createScene(t, acceleration);
      await t.test("by every way from outside", (inner) => fromOutside(inner, scene));
      await t.test("at once, by one port of the client", () => byOnePort(scene));
      await t.test("datagrams in fragments", () => inFragments(scene));
      await t.test("at the sockets of a pod and a node", (inner) => fromInside(inner, scene));
      await t.test("cluster IPs are none of ours from outside", () => clusterIpFromOutside(scene));
      await t.test("pods of the node alone", (inner) => localOnly(inner, scene));
      await t.test("source ranges", (inner) => sourceRanges(inner, scene));
      await t.test("while another agent starts", (inner) => afterKill(inner, scene));
      await t.test("a service changes its mode", (inner) => changes(inner, scene));
    });
  }
});
