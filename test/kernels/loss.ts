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
import { removeLab } from "../../src/lab/state.ts";
import { since, verdictsAt } from "../lab/tools/inspect.ts";

const NAME = "kloss";
const BYTES = 500_000;
const POD = "pod2-1";
const SERVICES = { dsr: "198.51.100.1", snat: "198.51.100.2" } as const;
type Mode = keyof typeof SERVICES;
/** One wire of the switch each: what comes to the balancer, to the pod's node and to the client. */
const WIRES = ["node1", "node2", "client"];
const TROUBLE = "delay 3ms 2ms loss 3% duplicate 2% reorder 10%";
const NODES = ["node1", "node2"];
const MOST_ROUNDS = 20;

async function bringUp(): Promise<Lab> {
  const lab = await createLab({
    name: NAME,
    nodes: 2,
    podsPerNode: 1,
    acceleration: "native",
    bundle: true,
  });
  const server = join(import.meta.dirname, "web-server.ts");
  lab.start(POD, [process.execPath, server, POD, "0.0.0.0", "8080", `${BYTES}`]);
  for (const [mode, address] of Object.entries(SERVICES)) {
    lab.publish({
      name: mode,
      addresses: [address],
      ports: [{ port: 80, targetPort: 8080 }],
      backends: [POD],
      annotations: { "ciliate.io/forwarding-mode": mode },
    });
  }
  for (const address of Object.values(SERVICES)) {
    const retry = ["--retry", "60", "--retry-delay", "1", "--retry-all-errors"];
    await lab.output("client", ["curl", "-sS", "-m", "120", ...retry, `http://${address}/`]);
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

async function lost(lab: Lab): Promise<number[]> {
  return Promise.all(WIRES.map((wire) => lostOn(lab, wire)));
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** A download and an upload, compared with what was sent. */
async function moveBoth(lab: Lab, url: string, scratch: string): Promise<void> {
  const [body, got] = [join(scratch, "body"), join(scratch, "got")];
  writeFileSync(body, Buffer.alloc(BYTES, POD));
  const curl = ["curl", "-sS", "--fail", "-m", "120"];
  await lab.output("client", [...curl, "-o", got, `${url}/big`]);
  assert.equal(digest(readFileSync(got)), digest(readFileSync(body)));
  const sent = await lab.output("client", [...curl, "--data-binary", `@${body}`, url]);
  assert.equal(sent, `${BYTES}`);
}

/** Moves bodies until every wire has lost something; then no program has dropped a packet. */
async function live(lab: Lab, mode: Mode, scratch: string): Promise<void> {
  const begin = await lost(lab);
  const counts = NODES.map((node) => verdictsAt(lab, node));
  let lossless = WIRES;
  for (let round = 0; round < MOST_ROUNDS && lossless.length > 0; round++) {
    await moveBoth(lab, `http://${SERVICES[mode]}`, scratch);
    const all = await lost(lab);
    lossless = WIRES.filter((_, index) => all[index] === begin[index]);
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

  for (const mode of Object.keys(SERVICES) as Mode[]) {
    test(`by ${mode}, bodies come whole both ways`, () =>
      live(stage ?? assert.fail("the lab did not come up"), mode, scratch));
  }
});
