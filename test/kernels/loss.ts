// SPDX-License-Identifier: Apache-2.0

// Runs inside a booted kernel: services over wires that lose, double, delay and swap packets. The
// main machine's kernel has no netem.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { podNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import type { Family } from "../../src/net/address.ts";
import { since, verdictsAt } from "../lab/tools/inspect.ts";

const NAME = "kloss";
const LIMIT_MS = 60_000;
const BYTES = 500_000;
const DATAGRAMS = 200;
/** Three wires lose, each 3 %. */
const LEAST_ANSWERED = 120;
const FAMILIES = ["ipv4", "ipv6"] as const;
/** By the balancer, whose dispatch it is; the last part of the service's addresses. */
const MODES = [
  { name: "dsr by ipip", annotation: "dsr", balancer: 1, pod: "pod2-1", number: 1 },
  { name: "snat", annotation: "snat", balancer: 1, pod: "pod2-1", number: 2 },
  { name: "dsr by geneve", annotation: "dsr", balancer: 2, pod: "pod1-1", number: 3 },
  { name: "dsr by option", annotation: "dsr", balancer: 3, pod: "pod2-1", number: 4 },
] as const;
type Mode = (typeof MODES)[number];
const PODS = ["pod1-1", "pod2-1"] as const;
const NODES = ["node1", "node2", "node3"] as const;
/** One wire of the switch each: what comes to balancers, to the pods' nodes and to the client. */
const WIRES = [...NODES, "client"];
const TROUBLE = "delay 3ms 2ms loss 3% duplicate 2% reorder 10%";
const MOST_ROUNDS = 20;

const addressOf = ({ number }: Mode, family: Family): string =>
  family === "ipv4" ? `198.51.100.${number}` : `fd00:198:51:100::${number}`;

function urlOf(mode: Mode, family: Family): string {
  const address = addressOf(mode, family);
  return family === "ipv4" ? `http://${address}/` : `http://[${address}]/`;
}

async function bringUp(): Promise<Lab> {
  const lab = await createLab({
    name: NAME,
    nodes: 3,
    podsPerNode: 1,
    acceleration: "native",
    bundle: true,
    config: { acceptOption: true },
    nodeConfig: { node2: { dispatch: "geneve" }, node3: { dispatch: "option" } },
  });
  const server = join(import.meta.dirname, "web-server.ts");
  for (const pod of PODS) {
    lab.start(pod, [process.execPath, server, pod, "::", "8080", `${BYTES}`]);
  }
  for (const mode of MODES) {
    lab.publish({
      name: `service-${mode.number}`,
      addresses: FAMILIES.map((family) => addressOf(mode, family)),
      ports: [
        { name: "tcp", port: 80, targetPort: 8080 },
        { name: "udp", port: 80, targetPort: 8080, protocol: "UDP" },
      ],
      backends: [mode.pod],
      annotations: { "ciliate.io/forwarding-mode": mode.annotation },
    });
  }
  for (const mode of MODES) {
    lab.setBalancers([mode.balancer]);
    const retry = ["--retry", "60", "--retry-delay", "1", "--retry-all-errors"];
    const urls = FAMILIES.map((family) => urlOf(mode, family));
    await lab.output("client", ["curl", "-gsS", "-m", "120", ...retry, ...urls]);
  }
  for (const wire of WIRES) {
    const words = ["tc", "qdisc", "add", "dev", wire, "root", "netem", ...TROUBLE.split(" ")];
    await lab.output("switch", words);
  }
  return lab;
}

/** Packets that netem lost on a wire since it began. */
async function lostOn(lab: Lab, wire: string): Promise<number> {
  const text = await lab.output("switch", ["tc", "-s", "qdisc", "show", "dev", wire]);
  return Number(/dropped (\d+)/.exec(text)?.[1] ?? assert.fail(text));
}

async function lost(lab: Lab, wires: readonly string[]): Promise<number[]> {
  return Promise.all(wires.map((wire) => lostOn(lab, wire)));
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** A download and an upload, compared with what was sent. */
async function moveBoth(lab: Lab, mode: Mode, family: Family, scratch: string): Promise<void> {
  const [body, got] = [join(scratch, `body-${family}`), join(scratch, `got-${family}`)];
  writeFileSync(body, Buffer.alloc(BYTES, mode.pod));
  const curl = ["curl", "-gsS", "--fail", "-m", "120"];
  const url = urlOf(mode, family);
  await lab.output("client", [...curl, "-o", got, `${url}big`]);
  assert.equal(digest(readFileSync(got)), digest(readFileSync(body)));
  const sent = await lab.output("client", [...curl, "--data-binary", `@${body}`, url]);
  assert.equal(sent, `${BYTES}`);
}

/** Datagrams: each answer is right, and no more are lost than wires lose. */
async function ask(lab: Lab, mode: Mode, family: Family): Promise<void> {
  const client = join(import.meta.dirname, "datagrams.ts");
  const where = [addressOf(mode, family), "80", `${DATAGRAMS}`];
  const text = await lab.output("client", [process.execPath, client, mode.pod, ...where]);
  const { answered } = JSON.parse(text) as { readonly answered: number };
  assert.ok(answered >= LEAST_ANSWERED, `${answered} of ${DATAGRAMS} by ${family}`);
}

/** Datagrams of both families that came whole to a pod, and those that it sent. */
async function datagramsOf(lab: Lab, pod: string): Promise<{ came: number; sent: number }> {
  const text = await lab.output(pod, ["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
  const [, names = "", values = ""] = /^Udp: (.*)\nUdp: (.*)$/m.exec(text) ?? assert.fail(text);
  const ofName = new Map(names.split(" ").map((name, at) => [name, values.split(" ")[at]]));
  const count = (name: string): number => {
    const wide = new RegExp(`^Udp6${name}\\s+(\\d+)$`, "m").exec(text);
    return Number(ofName.get(name)) + Number(wide?.[1]);
  };
  // What its full buffer refuses on a busy machine came whole, too.
  assert.equal(count("InErrors"), count("RcvbufErrors"), text);
  return { came: count("InDatagrams"), sent: count("OutDatagrams") };
}

/** Moves bodies until every wire has lost something; then no program has dropped a packet. */
async function live(lab: Lab, mode: Mode, scratch: string): Promise<void> {
  lab.setBalancers([mode.balancer]);
  const wires = [`node${mode.balancer}`, podNamed(lab.plan, mode.pod).node, "client"];
  const begin = await lost(lab, wires);
  const counts = NODES.map((node) => verdictsAt(lab, node));
  let lossless: readonly string[] = wires;
  await Promise.all(FAMILIES.map((family) => ask(lab, mode, family)));
  await until(`${mode.pod} to have answered all datagrams`, LIMIT_MS, async () => {
    const { came, sent } = await datagramsOf(lab, mode.pod);
    return came === sent;
  });
  for (let round = 0; round < MOST_ROUNDS && lossless.length > 0; round++) {
    await Promise.all(FAMILIES.map((family) => moveBoth(lab, mode, family, scratch)));
    const all = await lost(lab, wires);
    lossless = wires.filter((_, index) => all[index] === begin[index]);
  }
  assert.deepEqual(lossless, [], "netem lost nothing there");
  for (const [index, node] of NODES.entries()) {
    const counted = since(counts[index] ?? new Map(), verdictsAt(lab, node));
    const drops = Object.keys(counted).filter((key) => / drop /.test(key));
    assert.deepEqual(drops, [], `${node}: ${JSON.stringify(counted)}`);
  }
}

suite("wires that lose, double, delay and swap packets", () => {
  let stage: Lab | undefined;
  let scratch = "";

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), "loss-"));
    stage = await bringUp();
  });
  after(async () => {
    await removeLab(NAME);
    rmSync(scratch, { recursive: true });
  });

  for (const mode of MODES) {
    test(`by ${mode.name}, datagrams are answered and bodies come whole both ways`, () =>
      live(stage ?? assert.fail("the lab did not come up"), mode, scratch));
  }
});
