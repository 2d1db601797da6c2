// SPDX-License-Identifier: Apache-2.0

// Runs inside a booted kernel: services through a lab's balancer, and the kernel's own ipip device
// as a foreign peer in both directions.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { hasFeature } from "../../src/kernel/probe.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { serviceDocuments, serviceFile } from "../../src/lab/manifest.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { ForeignPeer, ip } from "./foreign-peer.ts";

const FAR_VIP = "198.51.100.1";
const NEAR_VIP = "198.51.100.2";
const FOREIGN_VIP = "198.51.100.3";
const CLIENT = "192.0.2.10";
const STRANGER = "192.0.2.66";
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
  const config = { trustedSources: [`${CLIENT}/32`] };
  const lab = await createLab({
    name: `k${acceleration}`,
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    encapsulate,
    config,
    bundle: true, // starts in half the time, which an emulator has not got
  });
  for (const pod of ["pod1-1", "pod2-1"]) lab.start(pod, webServer(pod, "0.0.0.0", 8080));
  lab.publish({ name: "far", addresses: [FAR_VIP], ports: PORTS, backends: ["pod2-1"] });
  lab.publish({ name: "near", addresses: [NEAR_VIP], ports: PORTS, backends: ["pod1-1"] });
  const big = join(mkdtempSync(join(tmpdir(), "web-")), "big");
  writeFileSync(big, Buffer.alloc(BIG_BYTES));
  return { lab, big };
}

function curl({ lab }: Stage, address: string, ...more: readonly string[]): Promise<string> {
  const usual = ["--silent", "--show-error", "--fail", "--max-time", "60"];
  return lab.output("client", ["curl", ...usual, ...more, `http://${address}`]);
}

/** Asks until a service answers, as its tables are written after its manifest. */
function curlOnceThere(stage: Stage, address: string): Promise<string> {
  const retry = ["--retry", "30", "--retry-delay", "1", "--retry-all-errors"];
  return curl(stage, address, "--connect-timeout", "2", ...retry);
}

/** Downloads and uploads enough for full segments, GSO and a growing window. */
async function moveBulk(stage: Stage, address: string): Promise<void> {
  assert.equal((await curl(stage, `${address}/big`)).length, BIG_BYTES);
  const post = ["--data-binary", `@${stage.big}`];
  assert.equal(await curl(stage, address, ...post), `${BIG_BYTES}`);
}

async function untrustedDrops({ lab }: Stage, node: string): Promise<number> {
  const answer = await lab.fetch(node, METRICS_PORT, "/metrics");
  const counted = /^ciliate_\w*packets\w*\{.*reason="untrusted".*\} (\d+)$/gm;
  const counts = [...(answer?.body ?? "").matchAll(counted)].map(([, count]) => Number(count));
  assert.ok(counts.length > 0, answer?.body);
  return counts.reduce((sum, count) => sum + count, 0);
}

async function testFarPod(stage: Stage): Promise<void> {
  assert.equal(await curlOnceThere(stage, FAR_VIP), "pod2-1");
  await moveBulk(stage, FAR_VIP);
  const { options, ipip } = await stage.lab.counters();
  assert.equal(options.packets, 0);
  assert.ok(ipip.packets > 0);
}

async function testAttachment({ lab }: Stage): Promise<void> {
  const device = await lab.output("node1", ["ip", "link", "show", "dev", "eth0"]);
  assert.equal(/ prog\/xdp /.test(device), lab.plan.settings.acceleration === "native", device);
  const filters = await lab.output("node1", ["tc", "filter", "show", "dev", "eth0", "ingress"]);
  if (hasFeature("tcx")) assert.equal(filters, "");
  else assert.match(filters, /direct-action/);
}

async function testForeignBalancer(stage: Stage): Promise<void> {
  const { lab } = stage;
  const client = lab.plan.client.namespace;
  const node = lab.plan.nodes[1] ?? assert.fail("no node2");
  const pod = formatIpv4(node.pods[0]?.address ?? assert.fail("no pod2-1"));
  // By eth0, as the route to the service leads back into the device.
  const change = (word: string, local: string, remote: string): void =>
    ip(client, `link ${word} foreign type ipip local ${local} remote ${remote} dev eth0`);
  change("add", CLIENT, pod);
  ip(client, "link set foreign up");
  ip(client, `route add ${FAR_VIP}/32 dev foreign src ${CLIENT}`);
  try {
    for (const remote of [pod, formatIpv4(node.address.address), FAR_VIP]) {
      change("change", CLIENT, remote);
      assert.equal(await curl(stage, FAR_VIP), "pod2-1", `to ${remote}`);
    }

    const before = await untrustedDrops(stage, "node2");
    ip(client, `addr add ${STRANGER}/32 dev eth0`);
    change("change", STRANGER, pod);
    const refused = await lab.run("client", ["curl", "--max-time", "3", `http://${FAR_VIP}/`]);
    assert.equal(refused.code, CURL_TIMED_OUT, refused.stderr);
    assert.ok((await untrustedDrops(stage, "node2")) > before);
  } finally {
    ip(client, "link del foreign");
  }
}

async function testDeadAgent(stage: Stage): Promise<void> {
  const { lab } = stage;
  await lab.stopAgent("node1", "SIGKILL");
  await lab.stopAgent("node2", "SIGKILL");
  assert.equal(await curl(stage, FAR_VIP), "pod2-1");
  await lab.startAgent("node1");
  await lab.startAgent("node2");
  assert.equal(await curl(stage, FAR_VIP), "pod2-1");
}

async function testForeignBackend(stage: Stage): Promise<void> {
  const { lab } = stage;
  await using peer = new ForeignPeer(lab);
  peer.strip(FOREIGN_VIP);
  peer.start(webServer("peer", FOREIGN_VIP, 80));

  const ports = [{ port: 80, targetPort: 80 }]; // the peer translates nothing
  const service = { name: "foreign", addresses: [FOREIGN_VIP], ports, backends: [] };
  const [frontend, slice] = serviceDocuments(lab.plan, service);
  const endpoints = [{ addresses: [peer.address], conditions: { ready: true } }];
  lab.writeManifest(serviceFile("foreign"), [{ ...frontend }, { ...slice, endpoints }]);
  assert.equal(await curlOnceThere(stage, FOREIGN_VIP), "peer");
  await moveBulk(stage, FOREIGN_VIP);
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
      onStage(async (on) => {
        assert.equal(await curlOnceThere(on, NEAR_VIP), "pod1-1");
        await moveBulk(on, NEAR_VIP);
      }),
    );
    test("programs are attached by tcx, or by clsact where there is none", onStage(testAttachment));
    test("services answer while agents are dead and once they are back", onStage(testDeadAgent));
    test(
      "the kernel's IPIP to pod, node or service is stripped if its source is trusted",
      onStage(testForeignBalancer),
    );
    test("the balancer's IPIP is stripped by a foreign kernel", onStage(testForeignBackend));
  });
}
