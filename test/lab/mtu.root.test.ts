// SPDX-License-Identifier: Apache-2.0

// Pods that offer a full-sized MSS: what doesn't fit with the outer header is told to the client by
// ICMP, and bulk gets through.

import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { until } from "../../src/lab/process.ts";
import { FAMILIES, type Family, formatAddress } from "../../src/net/address.ts";
import { dissect } from "./tools/dissect.ts";
import { since, verdicts } from "./tools/inspect.ts";
import { balance, createStage, type Stage, streamsTo, VIP_PORT, VIPS } from "./tools/stage.ts";

/** Bytes each way; larger than any window. */
const BULK_BYTES = 4_000_000;
const RECORD_BYTES = 50_000;
/** What differs between families of what clients are told, and how tshark calls it. */
const WORDS = {
  ipv4: {
    outerBytes: 20,
    headerBytes: 20,
    ip: "-4",
    told: "icmp.type == 3 && icmp.code == 4",
    // Sums are of the message's own header and of the one that it quotes.
    fields: ["icmp.mtu", "icmp.checksum.status", "ip.src", "ip.dst", "ip.proto", "ip.ttl"],
    protocols: ["1", "6"],
    summed: ["ip.checksum.status"],
  },
  ipv6: {
    outerBytes: 40,
    headerBytes: 40,
    ip: "-6",
    told: "icmpv6.type == 2 && icmpv6.code == 0",
    fields: [
      "icmpv6.mtu",
      "icmpv6.checksum.status",
      "ipv6.src",
      "ipv6.dst",
      "ipv6.nxt",
      "ipv6.hlim",
    ],
    protocols: ["58", "6"],
    summed: [],
  },
} as const;
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
async function moveBulk({ client }: Stage, family: Family): Promise<void> {
  const records = { recordBytes: RECORD_BYTES, intervalMs: 20 };
  await client.open(family, streamsTo(1, { ...records, address: VIPS[family] }));
  await until("bulk to get through", 20_000, async () => {
    const { answered, broken, brokenHow } = await client.report(family);
    assert.equal(broken, 0, brokenHow.join());
    await delay(50);
    return answered >= BULK_BYTES;
  });
  const end = await client.finish(family);
  assert.deepEqual([end.broken, end.wrong, end.sent - end.answered], [0, 0, 0]);
}

/** What the client is told, as tshark reads it. */
function assertTooBig(file: string, client: string, mtu: number, family: Family): void {
  const { outerBytes, told: filter, fields, protocols, summed } = WORDS[family];
  const told = dissect(file, filter, [...fields, "tcp.dstport", ...summed]);
  assert.ok(told.length > 0, "nothing at the client about its size");
  for (const [nextMtu, sum, sources, targets, numbers, ttls, port, ...sums] of told) {
    assert.equal(nextMtu, `${mtu - outerBytes}`);
    assert.equal(sum, "1");
    assert.deepEqual(
      sums,
      summed.map(() => "1,1"),
    );
    assert.deepEqual(sources?.split(","), [VIPS[family], client]);
    assert.deepEqual(targets?.split(","), [client, VIPS[family]]);
    assert.deepEqual(numbers?.split(","), protocols);
    assert.equal(port, `${VIP_PORT}`);
    assert.ok(Number(ttls?.split(",")[0]) >= 60);
  }
}

/** Moves bulk by one family, and looks at what it was told on the way. */
async function proveBy(t: TestContext, stage: Stage, how: Case, family: Family): Promise<void> {
  const { lab } = stage;
  const { mtu, podMtu } = how;
  const { outerBytes, headerBytes, ip } = WORDS[family];
  const file = join(lab.plan.state, `${family}.pcapng`);
  const capture = await lab.capture("client", file, { devices: ["eth0"], snapBytes: 160 });
  const before = verdicts(lab);
  await moveBulk(stage, family);
  await capture.stop();

  const offered = dissect(file, `tcp.flags.syn == 1 && tcp.srcport == ${VIP_PORT}`, [
    "tcp.options.mss_val",
  ]);
  const whole = [[`${podMtu - headerBytes - 20}`]];
  assert.deepEqual(offered, whole, "the pod offers all that its own wire takes");
  const { clientAddress, clientAddress6 } = lab.plan;
  const own = family === "ipv4" ? clientAddress : clientAddress6;
  const address = formatAddress(own.address);
  assertTooBig(file, address, mtu, family);
  const counts = since(before, verdicts(lab));
  const place = how.acceleration === "off" ? "host" : "edge";
  assert.ok((counts[`${place} sent frag needed`] ?? 0) > 0, JSON.stringify(counts));
  const route = await lab.output("client", ["ip", ip, "route", "get", VIPS[family]]);
  assert.match(route, new RegExp(`mtu ${mtu - outerBytes}`));
  if (podMtu > mtu) {
    const back = await lab.output(POD, ["ip", ip, "route", "get", address]);
    assert.match(back, new RegExp(`mtu ${mtu}`), "the kernel has answered the pod");
  }
  t.diagnostic(JSON.stringify(counts));
}

async function prove(t: TestContext, how: Case): Promise<void> {
  const { acceleration, mtu } = how;
  const stage = await createStage(t, [POD], {
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    lowerMss: false,
    ipv6: true,
    config: { mss: { clamp: false }, ...(mtu === 1500 ? {} : { mtu }) },
  });
  await narrow(stage, how);
  await balance(stage.lab, [POD], undefined, FAMILIES);
  for (const family of FAMILIES) {
    await t.test(`by ${family}`, (inner) => proveBy(inner, stage, how, family));
  }
}

suite("bulk gets through pods with a full-sized MSS", { concurrency: 2 }, () => {
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
