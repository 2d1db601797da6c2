// SPDX-License-Identifier: Apache-2.0

// Pods that offer a full-sized MSS: what doesn't fit with the outer header is told to the client by
// ICMP, and bulk gets through.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { until } from "../../src/lab/process.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { dissect } from "./tools/dissect.ts";
import { since, verdicts } from "./tools/inspect.ts";
import { balance, createStage, type Stage, streamsTo, VIP, VIP_PORT } from "./tools/stage.ts";

/** Bytes each way; larger than any window. */
const BULK_BYTES = 4_000_000;
const RECORD_BYTES = 50_000;
const OUTER_HEADER_BYTES = 20;
const NODE = "node2";
const POD = "pod2-1";

interface Case {
  readonly acceleration: "native" | "off";
  /** Of the wires between the nodes. */
  readonly mtu: number;
  /** Of the pods' own wires: pods may not know how narrow the fabric is. */
  readonly podMtu: number;
}

/** Makes the wires narrower: a fabric with a tunnel on the way. */
async function narrow({ lab }: Stage, { mtu, podMtu }: Case): Promise<void> {
  for (const [where, device, wanted] of [
    ["switch", NODE, mtu],
    [NODE, "eth0", mtu],
    [NODE, POD, podMtu],
    [POD, "eth0", podMtu],
  ] as const) {
    await lab.output(where, ["ip", "link", "set", device, "mtu", `${wanted}`]);
  }
}

/** Sends bulk both ways and returns when all of it has arrived. */
async function moveBulk({ client }: Stage): Promise<void> {
  const bulk = streamsTo(1, { recordBytes: RECORD_BYTES, intervalMs: 20 });
  await client.open("bulk", bulk);
  await until("bulk to get through", 20_000, async () => {
    const { answered, broken, brokenHow } = await client.report("bulk");
    assert.equal(broken, 0, brokenHow.join());
    await delay(50);
    return answered >= BULK_BYTES;
  });
  const end = await client.finish("bulk");
  assert.deepEqual([end.broken, end.wrong, end.sent - end.answered], [0, 0, 0]);
}

/** What the client is told, as tshark reads it. */
function assertFragNeeded(file: string, client: string, mtu: number): void {
  const told = dissect(file, "icmp.type == 3 && icmp.code == 4", [
    "icmp.mtu",
    "icmp.checksum.status",
    "ip.checksum.status",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "tcp.dstport",
    "ip.ttl",
  ]);
  assert.ok(told.length > 0, "no frag-needed at the client");
  for (const [nextMtu, icmpSum, ipSums, sources, targets, protocols, port, ttls] of told) {
    assert.equal(nextMtu, `${mtu - OUTER_HEADER_BYTES}`);
    assert.equal(icmpSum, "1");
    // The first of two is the message's own header, the second is the one that it quotes.
    assert.deepEqual(ipSums?.split(","), ["1", "1"]);
    assert.deepEqual(sources?.split(","), [VIP, client]);
    assert.deepEqual(targets?.split(","), [client, VIP]);
    assert.deepEqual(protocols?.split(","), ["1", "6"]);
    assert.equal(port, `${VIP_PORT}`);
    assert.ok(Number(ttls?.split(",")[0]) >= 60);
  }
}

async function prove(t: TestContext, how: Case): Promise<void> {
  const { acceleration, mtu, podMtu } = how;
  const stage = await createStage(t, [POD], {
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    lowerMss: false,
    config: { mss: { clamp: false }, ...(mtu === 1500 ? {} : { mtu }) },
  });
  const { lab } = stage;
  await narrow(stage, how);
  await balance(lab, [POD]);
  const directory = mkdtempSync(join(tmpdir(), "ciliate-mtu-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "client.pcapng");
  const capture = await lab.capture("client", file, { devices: ["eth0"], snapBytes: 128 });
  const before = verdicts(lab);
  await moveBulk(stage);
  await capture.stop();

  const offered = dissect(file, `tcp.flags.syn == 1 && ip.src == ${VIP}`, ["tcp.options.mss_val"]);
  assert.deepEqual(offered, [[`${podMtu - 40}`]], "the pod offers all that its own wire takes");
  const address = formatIpv4(lab.plan.clientAddress.address);
  assertFragNeeded(file, address, mtu);
  const counts = since(before, verdicts(lab));
  const place = acceleration === "off" ? "host" : "edge";
  assert.ok((counts[`${place} sent frag needed`] ?? 0) > 0, JSON.stringify(counts));
  const route = await lab.output("client", ["ip", "route", "get", VIP]);
  assert.match(route, new RegExp(`mtu ${mtu - OUTER_HEADER_BYTES}`));
  if (podMtu > mtu) {
    const back = await lab.output(POD, ["ip", "route", "get", address]);
    assert.match(back, new RegExp(`mtu ${mtu}`), "the kernel has answered the pod");
  }
  t.diagnostic(JSON.stringify(counts));
}

suite("bulk gets through pods with a full-sized MSS", { concurrency: true }, () => {
  for (const [acceleration, mtu, podMtu] of [
    ["native", 1500, 1500],
    ["off", 1500, 1500],
    ["native", 1400, 1400],
    ["native", 1400, 1500],
    ["off", 1400, 1500],
  ] as const) {
    test(`acceleration ${acceleration}, ${mtu} bytes between nodes, ${podMtu} to pods`, (t) => {
      return prove(t, { acceleration, mtu, podMtu });
    });
  }
});
