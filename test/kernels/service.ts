// SPDX-License-Identifier: Apache-2.0

// Runs inside a booted kernel: services of both families through a lab's balancer, and the kernel's
// own tunnel devices as a foreign peer in both directions.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { hasFeature } from "../../src/kernel/probe.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { serviceDocuments, serviceFile } from "../../src/lab/manifest.ts";
import { nodeNamed, podNamed } from "../../src/lab/plan.ts";
import { type Family, formatIpv4, formatIpv6 } from "../../src/net/address.ts";
import { ForeignPeer, ip } from "./foreign-peer.ts";

const FAMILIES = ["ipv4", "ipv6"] as const;
const FAR_VIP = { ipv4: "198.51.100.1", ipv6: "fd00:198:51:100::1" } as const;
const NEAR_VIP = { ipv4: "198.51.100.2", ipv6: "fd00:198:51:100::2" } as const;
const FOREIGN_VIP = { ipv4: "198.51.100.3", ipv6: "fd00:198:51:100::3" } as const;
const CLIENT = { ipv4: "192.0.2.10", ipv6: "fd00:192:0:2::10" } as const;
const STRANGER = { ipv4: "192.0.2.66/32", ipv6: "fd00:192:0:2::66/128" } as const;
/**
 * What makes outer headers, with one option and without where the kernel has a choice: ip6tnl says
 * how often one may be put around another (RFC 2473, 4.1.1) unless it is told not to.
 */
const TUNNELS = {
  ipv4: ["type ipip"],
  ipv6: ["type ip6tnl mode ip6ip6 encaplimit none", "type ip6tnl mode ip6ip6 encaplimit 4"],
} as const;
const BY_ETH0 = "oif eth0 lookup 100";
const PORTS = [{ port: 80, targetPort: 8080 }];
const BIG_BYTES = 1_000_000;
const CURL_TIMED_OUT = 28;
const METRICS_PORT = 9962;

interface Stage {
  readonly lab: Lab;
  /** A file of BIG_BYTES. */
  readonly big: string;
}

function webServer(name: string, address: string, port: number): string[] {
  const program = join(import.meta.dirname, "web-server.ts");
  return [process.execPath, program, name, address, `${port}`, `${BIG_BYTES}`];
}

const MODES = [
  { acceleration: "native", encapsulate: "all" },
  { acceleration: "off", encapsulate: "all" },
  { acceleration: "native", encapsulate: "first" },
] as const;
type Mode = (typeof MODES)[number];

async function createStage({ acceleration, encapsulate }: Mode): Promise<Stage> {
  const config = { trustedSources: [`${CLIENT.ipv4}/32`, `${CLIENT.ipv6}/128`] };
  const lab = await createLab({
    name: `k${acceleration}`,
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    encapsulate,
    config,
    bundle: true, // starts in half the time, which an emulator has not got
  });
  for (const pod of ["pod1-1", "pod2-1"]) lab.start(pod, webServer(pod, "::", 8080));
  lab.publish({
    name: "far",
    addresses: Object.values(FAR_VIP),
    ports: PORTS,
    backends: ["pod2-1"],
  });
  lab.publish({
    name: "near",
    addresses: Object.values(NEAR_VIP),
    ports: PORTS,
    backends: ["pod1-1"],
  });
  const big = join(mkdtempSync(join(tmpdir(), "web-")), "big");
  writeFileSync(big, Buffer.alloc(BIG_BYTES));
  return { lab, big };
}

const urlOf = (address: string): string =>
  address.includes(":") ? `http://[${address}]/` : `http://${address}/`;

function curl({ lab }: Stage, url: string, ...more: readonly string[]): Promise<string> {
  const usual = ["--silent", "--show-error", "--fail", "--globoff", "--max-time", "60"];
  return lab.output("client", ["curl", ...usual, ...more, url]);
}

/** Asks until a service answers, as its tables are written after its manifest. */
function curlOnceThere(stage: Stage, address: string): Promise<string> {
  const retry = ["--retry", "30", "--retry-delay", "1", "--retry-all-errors"];
  return curl(stage, urlOf(address), "--connect-timeout", "2", ...retry);
}

/** Downloads and uploads enough for full segments, GSO and a growing window. */
async function moveBulk(stage: Stage, address: string): Promise<void> {
  assert.equal((await curl(stage, `${urlOf(address)}big`)).length, BIG_BYTES);
  const post = ["--data-binary", `@${stage.big}`];
  assert.equal(await curl(stage, urlOf(address), ...post), `${BIG_BYTES}`);
}

async function untrustedDrops({ lab }: Stage, node: string): Promise<number> {
  const answer = await lab.fetch(node, METRICS_PORT, "/metrics");
  const counted = /^ciliate_\w*packets\w*\{.*reason="untrusted".*\} (\d+)$/gm;
  const counts = [...(answer?.body ?? "").matchAll(counted)].map(([, count]) => Number(count));
  assert.ok(counts.length > 0, answer?.body);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** That a pod answers for each of a service's addresses, and what is large comes both ways. */
async function testBoth(
  stage: Stage,
  addresses: Readonly<Record<Family, string>>,
  pod: string,
): Promise<void> {
  for (const family of FAMILIES) {
    assert.equal(await curlOnceThere(stage, addresses[family]), pod);
    await moveBulk(stage, addresses[family]);
  }
}

async function testFarPod(stage: Stage): Promise<void> {
  await testBoth(stage, FAR_VIP, "pod2-1");
  const { options, options6, ipip, ip6ip6 } = await stage.lab.counters();
  assert.deepEqual([options.packets, options6.packets], [0, 0]);
  assert.ok(ipip.packets > 0 && ip6ip6.packets > 0);
}

async function testAttachment({ lab }: Stage): Promise<void> {
  const device = await lab.output("node1", ["ip", "link", "show", "dev", "eth0"]);
  assert.equal(/ prog\/xdp /.test(device), lab.plan.settings.acceleration === "native", device);
  const filters = await lab.output("node1", ["tc", "filter", "show", "dev", "eth0", "ingress"]);
  if (hasFeature("tcx")) assert.equal(filters, "");
  else assert.match(filters, /direct-action/);
}

/** What a foreign balancer may address: a pod, its node, a service. */
function targetsOf({ plan }: Lab, family: Family): string[] {
  const node = nodeNamed(plan, "node2");
  const pod = podNamed(plan, "pod2-1");
  return family === "ipv4"
    ? [formatIpv4(pod.address), formatIpv4(node.address.address), FAR_VIP.ipv4]
    : [formatIpv6(pod.address6), formatIpv6(node.address6.address), FAR_VIP.ipv6];
}

/**
 * A tunnel device of the client, by which it sends what is for the service. What leaves the tunnel
 * goes by eth0, where routes to the service would lead back into it.
 */
function openTunnel(lab: Lab, kind: string, family: Family, ends: string): Disposable {
  const client = lab.plan.client.namespace;
  const { clientGateway, clientGateway6 } = lab.plan;
  const [word, gateway] =
    family === "ipv4" ? ["-4", formatIpv4(clientGateway)] : ["-6", formatIpv6(clientGateway6)];
  ip(client, `link add foreign ${kind} ${ends} dev eth0`);
  ip(client, "link set foreign up");
  ip(client, `${word} route add ${FAR_VIP[family]} dev foreign src ${CLIENT[family]}`);
  ip(client, `${word} route add default via ${gateway} dev eth0 table 100`);
  ip(client, `${word} rule add ${BY_ETH0}`);
  return {
    [Symbol.dispose]: () => {
      ip(client, `${word} rule del ${BY_ETH0}`);
      ip(client, `${word} route del default table 100`);
      ip(client, "link del foreign");
    },
  };
}

async function testForeignBalancer(stage: Stage, family: Family): Promise<void> {
  const { lab } = stage;
  const client = lab.plan.client.namespace;
  const targets = targetsOf(lab, family);
  for (const kind of TUNNELS[family]) {
    for (const remote of targets) {
      const ends = `local ${CLIENT[family]} remote ${remote}`;
      using _tunnel = openTunnel(lab, kind, family, ends);
      const answer = await curl(stage, urlOf(FAR_VIP[family]));
      assert.equal(answer, "pod2-1", `${kind} to ${remote}`);
    }
  }

  const [kind] = TUNNELS[family];
  const [pod] = targets;
  const [stranger] = STRANGER[family].split("/");
  const before = await untrustedDrops(stage, "node2");
  ip(client, `addr add ${STRANGER[family]} dev eth0`);
  using _tunnel = openTunnel(lab, kind, family, `local ${stranger} remote ${pod}`);
  const url = urlOf(FAR_VIP[family]);
  const refused = await lab.run("client", ["curl", "--globoff", "--max-time", "3", url]);
  assert.equal(refused.code, CURL_TIMED_OUT, refused.stderr);
  assert.ok((await untrustedDrops(stage, "node2")) > before);
  ip(client, `addr del ${STRANGER[family]} dev eth0`);
}

async function testDeadAgent(stage: Stage): Promise<void> {
  const { lab } = stage;
  const answers = () => Promise.all(FAMILIES.map((family) => curl(stage, urlOf(FAR_VIP[family]))));
  await lab.stopAgent("node1", "SIGKILL");
  await lab.stopAgent("node2", "SIGKILL");
  assert.deepEqual(await answers(), ["pod2-1", "pod2-1"]);
  await Promise.all([lab.startAgent("node1"), lab.startAgent("node2")]);
  assert.deepEqual(await answers(), ["pod2-1", "pod2-1"]);
}

async function testForeignBackend(stage: Stage): Promise<void> {
  const { lab } = stage;
  await using peer = new ForeignPeer(lab);
  peer.strip(FOREIGN_VIP);
  peer.start(webServer("peer", "::", 80));

  const ports = [{ port: 80, targetPort: 80 }]; // the peer translates nothing
  const service = { name: "foreign", addresses: Object.values(FOREIGN_VIP), ports, backends: [] };
  const [frontend, ...slices] = serviceDocuments(lab.plan, service);
  const filled = slices.map((slice, index) => {
    const address = peer.address[FAMILIES[index] ?? assert.fail("a slice of no family")];
    return { ...slice, endpoints: [{ addresses: [address], conditions: { ready: true } }] };
  });
  lab.writeManifest(serviceFile("foreign"), [{ ...frontend }, ...filled]);
  await testBoth(stage, FOREIGN_VIP, "peer");
}

for (const mode of MODES) {
  suite(`acceleration ${mode.acceleration}, encapsulate ${mode.encapsulate}`, () => {
    let stage: Stage | undefined;
    const onStage = (run: (stage: Stage) => Promise<void>) => () =>
      run(stage ?? assert.fail("the lab did not come up"));

    before(async () => {
      stage = await createStage(mode);
    });
    after(async () => {
      await stage?.lab.down();
      if (stage) rmSync(dirname(stage.big), { recursive: true });
    });

    test("a pod of another node answers from the service's address", onStage(testFarPod));
    // The rest is the same, but that a foreign peer can't know what comes without an outer header.
    if (mode.encapsulate === "first") return;
    test(
      "a pod of the balancer's node answers",
      onStage((on) => testBoth(on, NEAR_VIP, "pod1-1")),
    );
    test("programs are attached by tcx, or by clsact where there is none", onStage(testAttachment));
    test("services answer while agents are dead and once they are back", onStage(testDeadAgent));
    for (const family of FAMILIES) {
      test(
        `a foreign ${family} header to pod, node or service is stripped if its source is trusted`,
        onStage((on) => testForeignBalancer(on, family)),
      );
    }
    test(
      "the balancer's outer headers are stripped by a foreign kernel",
      onStage(testForeignBackend),
    );
  });
}
