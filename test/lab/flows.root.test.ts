// SPDX-License-Identifier: Apache-2.0

// Flows that are hard to keep: idle ones whose entries are gone, UDP beyond the time for which
// former owners are remembered, and two that a pod can't tell apart.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { FlowDirection, FlowFlag, maps } from "../../src/datapath/gen/abi.ts";
import { podNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import {
  entriesOf,
  nodesOf,
  openTable,
  podEndpoint,
  serviceId,
  since,
  untilBalanced,
  verdicts,
} from "./tools/inspect.ts";
import {
  balance,
  createStage,
  FRONTEND,
  type Stage,
  serviceOf,
  streamsTo,
  VIP,
  VIP_PORT,
} from "./tools/stage.ts";
import { type GroupReport, STREAM_PORT } from "./tools/streams.ts";

const COUNT = 20;
const SECOND_VIP = "198.51.100.2";
const UDP_TIMEOUT_MS = 2000;
const ANSWER_LIMIT_MS = 10_000;

function assertWhole(report: GroupReport, count = COUNT): void {
  assert.equal(report.broken, 0, report.brokenHow.join(", "));
  assert.deepEqual([report.open, report.wrong, report.moved], [count, 0, 0]);
}

/** Takes every entry out of every node's conntrack; returns how many there were. */
function forgetFlows({ lab }: Stage): number {
  let forgotten = 0;
  for (const node of nodesOf(lab)) {
    using table = openTable(lab, node, maps.conntrack);
    for (const [key] of [...table.entries()]) if (table.delete(key)) forgotten++;
  }
  return forgotten;
}

/** Lets a group say no more, and waits until all that it has said is answered. */
async function silence({ client }: Stage, group: string): Promise<GroupReport> {
  await client.pause(group);
  await until("all to be answered", ANSWER_LIMIT_MS, async () => {
    const { sent, answered } = await client.report(group);
    return answered === sent;
  });
  return client.report(group);
}

async function testIdle(stage: Stage): Promise<void> {
  const { lab, client } = stage;
  await balance(lab, ["pod2-1"]);
  assertWhole(await client.open("idle", streamsTo(COUNT)));
  await silence(stage, "idle");
  assert.equal(forgetFlows(stage), 2 * COUNT);
  const before = verdicts(lab);
  await client.resume("idle");
  await client.round("idle");
  assertWhole(await silence(stage, "idle"));
  const made = entriesOf(lab, "node2", maps.conntrack).filter(
    ([{ direction }, { flags }]) =>
      direction === FlowDirection.request && (flags & FlowFlag.confirmed) !== 0,
  );
  assert.equal(made.length, COUNT);
  assert.equal(since(before, verdicts(lab))["host sent passed"], undefined);

  forgetFlows(stage);
  await balance(lab, ["pod3-1"]);
  await client.resume("idle");
  await client.round("idle");
  const end = await client.finish("idle");
  assertWhole(end);
  assert.deepEqual(Object.keys(end.byBackend), ["pod2-1"]);
  assert.equal(end.answered, end.sent);
  assert.ok((since(before, verdicts(lab))["host sent passed"] ?? 0) >= COUNT);
}

async function testUdp(stage: Stage): Promise<void> {
  const { lab, client } = stage;
  await balance(lab, ["pod2-1"]);
  const options = streamsTo(COUNT, { protocol: "udp", intervalMs: 200 });
  assertWhole(await client.open("speaking", options));
  assertWhole(await client.open("silent", options));
  await client.pause("silent");
  await balance(lab, ["pod3-1"]);
  const formerOwners = (protocol: string): number => {
    const id = serviceId(lab, "node3", FRONTEND, protocol);
    return entriesOf(lab, "node3", maps.formerOwners).filter(([{ service }]) => service === id)
      .length;
  };
  await until("former owners of UDP to be forgotten", 10_000, () => formerOwners("udp") === 0);
  assert.ok(formerOwners("tcp") > 0);
  await delay(UDP_TIMEOUT_MS);
  const speaking = await client.finish("speaking");
  assertWhole(speaking);
  assert.deepEqual(Object.keys(speaking.byBackend), ["pod2-1"]);
  await client.resume("silent");
  await client.round("silent");
  const silent = await client.finish("silent");
  assert.equal(silent.moved, COUNT, "who says nothing for so long is a new flow");
  assert.deepEqual(Object.keys(silent.byBackend), ["pod3-1"]);
}

async function testTwins(stage: Stage): Promise<void> {
  const { lab, client } = stage;
  lab.publish(serviceOf(["pod2-1"], { addresses: [VIP, SECOND_VIP] }));
  const backends = [podEndpoint(lab, "pod2-1", STREAM_PORT)];
  await untilBalanced(lab, FRONTEND, backends);
  await untilBalanced(lab, `${SECOND_VIP}:${VIP_PORT}`, backends);
  for (const localPort of [33_333, 44_444]) {
    const one = await client.open("one", streamsTo(1, { localPort, intervalMs: 50 }));
    const two = await client.open(
      "two",
      streamsTo(1, { localPort, intervalMs: 50, address: SECOND_VIP }),
    );
    assert.deepEqual([one.ports, two.ports], [[localPort], [localPort]]);
    const requests = entriesOf(lab, "node2", maps.conntrack).filter(
      ([{ direction, sourcePort }]) =>
        direction === FlowDirection.request && sourcePort === localPort,
    );
    const aliases = requests.map(([, { aliasPort }]) => aliasPort as number);
    assert.equal(aliases.length, 2);
    assert.ok(aliases.includes(localPort));
    assert.notEqual(aliases[0], aliases[1]);
    for (const group of ["one", "two"]) {
      for (let round = 0; round < 5; round++) await client.round(group);
      const end = await client.finish(group);
      assertWhole(end, 1);
      assert.equal(end.answered, end.sent);
    }
  }
  // The client was never told of the other port.
  const pod = formatIpv4(podNamed(lab.plan, "pod2-1").address);
  assert.ok(entriesOf(lab, "node2", maps.conntrack).every(([, f]) => formatIpv4(f.pod) === pod));
}

/** What a node remembers of a connection that was reset is not taken for the next of its port. */
async function testHeirs(stage: Stage): Promise<void> {
  const { lab, client } = stage;
  const options = streamsTo(1, { localPort: 22_222, intervalMs: 50 });
  await balance(lab, ["pod3-1"]);
  assertWhole(await client.open("first", options), 1);
  await client.reset("first");
  const isReset = (): boolean =>
    entriesOf(lab, "node3", maps.conntrack).some(
      ([{ sourcePort }, { flags }]) => sourcePort === 22_222 && (flags & FlowFlag.reset) !== 0,
    );
  await until("the reset to be seen", 2000, isReset);
  await balance(lab, ["pod2-1"]);
  const heir = await client.open("heir", options);
  assertWhole(heir, 1);
  assert.deepEqual(heir.ports, [22_222]);
  assert.ok(isReset());
  await balance(lab, ["pod3-1"]);
  await client.round("heir");
  const end = await client.finish("heir");
  assertWhole(end, 1);
  assert.deepEqual([Object.keys(end.byBackend), end.sent - end.answered], [["pod2-1"], 0]);
}

test("flows that are hard to keep are kept", async (t: TestContext) => {
  const stage = await createStage(t, ["pod2-1", "pod3-1"], {
    nodes: 3,
    podsPerNode: 1,
    config: { conntrack: { udp: `${UDP_TIMEOUT_MS / 1000}s`, collectInterval: "1s" } },
  });
  await t.test("idle ones whose entries are gone, also after their slot has moved", () =>
    testIdle(stage),
  );
  await t.test("UDP beyond the time for which former owners are remembered", () => testUdp(stage));
  await t.test("one whose client port another had before, of which a node knows still", () =>
    testHeirs(stage),
  );
  await t.test("two of one client port to two addresses of one pod", () => testTwins(stage));
});
