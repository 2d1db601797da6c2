// SPDX-License-Identifier: Apache-2.0

// Tables that are full: status says which, what it does and which key makes room; what is in force
// stays, and with room all is well by itself.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Lab } from "../../src/lab/lab.ts";
import type { ServiceSpec } from "../../src/lab/manifest.ts";
import { until } from "../../src/lab/process.ts";
import {
  nodesOf,
  podEndpoint,
  serviceIds,
  since,
  untilBalanced,
  untilGone,
  verdictsAt,
} from "./tools/inspect.ts";
import { balance, createStage, type Stage, serviceOf, streamsTo, VIP_PORT } from "./tools/stage.ts";
import { type GroupReport, STREAM_PORT } from "./tools/streams.ts";

const LIMITS = { services: 16, backends: 16, ringEntries: 8192, formerOwners: 1024 };
const MAX_FLOWS = 1024;
const PODS = ["pod1-1", "pod1-2", "pod2-1", "pod2-2"];
const WITNESSES = 50;
const WITNESS_VIP = "198.51.100.2";
const WITNESS_FRONTEND = `${WITNESS_VIP}:${VIP_PORT}`;
const STATUS_LIMIT_MS = 10_000;
/** `ciliate status` when the agent works, but not all is as asked for. */
const NOT_READY = 5;

function extra(index: number): { readonly name: string; readonly address: string } {
  return { name: `extra${index}`, address: `198.51.100.${100 + index}` };
}

function extraService(index: number, backends: readonly string[]): ServiceSpec {
  const { name, address } = extra(index);
  const ports = [{ port: VIP_PORT, targetPort: STREAM_PORT }];
  return serviceOf(backends, { name, addresses: [address], ports });
}

/** How many of the first extra services each node balances. */
function extrasInForce({ lab }: Stage, count: number): number[] {
  const indexes = Array.from({ length: count }, (_, index) => index);
  return nodesOf(lab).map((node) => {
    const frontends = serviceIds(lab, node);
    const has = (index: number): boolean => `${extra(index).address}:${VIP_PORT}/tcp` in frontends;
    return indexes.filter(has).length;
  });
}

async function untilInForce(stage: Stage, count: number, wanted: number): Promise<void> {
  await until(`${wanted} of ${count} to be in force`, STATUS_LIMIT_MS, () => {
    return extrasInForce(stage, count).every((found) => found === wanted);
  });
}

/** Waits until a node's status has a problem like this, and exits as one that has. */
async function untilProblem(lab: Lab, node: string, problem: RegExp): Promise<void> {
  let text = "";
  await until(`${problem} in the status of ${node}`, STATUS_LIMIT_MS, async () => {
    const { code, stdout } = await lab.run(node, ["ciliate", "status"]);
    text = stdout.slice(stdout.indexOf("problems"));
    return code === NOT_READY && problem.test(text);
  }).catch((error: Error) => assert.fail(`${error.message}; it says:\n${text}`));
}

async function untilWell(lab: Lab, node: string): Promise<void> {
  await until(`${node} to be well`, STATUS_LIMIT_MS, async () => {
    return (await lab.run(node, ["ciliate", "status"])).code === 0;
  });
}

/** The witnesses stream on, whatever is full: each has an answer to what it says from now on. */
async function assertWitnesses({ client }: Stage): Promise<void> {
  const report = await client.round("witnesses");
  assert.equal(report.broken, 0, report.brokenHow.join(", "));
  assert.deepEqual([report.open, report.wrong], [WITNESSES, 0]);
}

interface Case {
  /** Services too many, and each one's backends. */
  readonly count: number;
  readonly backends: readonly string[];
  readonly fits: number;
  readonly problem: RegExp;
}

/** Publishes more than there is room for, then makes room. */
async function testRefusals(stage: Stage, { count, backends, fits, problem }: Case): Promise<void> {
  const { lab } = stage;
  const publish = (from: number, end: number): void => {
    for (let index = from; index < end; index++) lab.publish(extraService(index, backends));
  };
  // So that it is known which of them are refused.
  publish(0, fits);
  await untilInForce(stage, fits, fits);
  publish(fits, count);
  for (const node of nodesOf(lab)) await untilProblem(lab, node, problem);
  assert.deepEqual(extrasInForce(stage, count), [fits, fits]);
  await assertWitnesses(stage);

  // A service that is in force still follows its pods.
  const first = extra(0).address;
  const before = extraService(0, backends.slice(0, 1));
  lab.publish(before);
  const left = backends.slice(0, 1).map((pod) => podEndpoint(lab, pod, STREAM_PORT));
  await untilBalanced(lab, `${first}:${VIP_PORT}`, left);

  for (let index = 1; index < fits; index++) lab.withdraw(extra(index).name);
  await untilInForce(stage, count, count - fits + 1);
  for (const node of nodesOf(lab)) await untilWell(lab, node);
  for (let index = 0; index < count; index++) lab.withdraw(extra(index).name);
  await untilInForce(stage, count, 0);
}

function assertOpen(report: GroupReport, open: number, broken: number): void {
  assert.deepEqual([report.open, report.broken, report.wrong], [open, broken, 0]);
}

async function testConntrack(t: TestContext, stage: Stage): Promise<void> {
  const { lab, client } = stage;
  await balance(lab, ["pod2-1"]);
  const before = verdictsAt(lab, "node2");
  const room = MAX_FLOWS - WITNESSES;
  const many = streamsTo(room - 100, { intervalMs: 2000 });
  assertOpen(await client.open("many", many), room - 100, 0);
  const last = await client.open("last", streamsTo(150, { openLimitMs: 1500 }));
  assertOpen(last, 100, 50);
  const counts = since(before, verdictsAt(lab, "node2"));
  assert.ok((counts["host drop conntrack full"] ?? 0) >= 50, JSON.stringify(counts));
  await untilProblem(lab, "node2", /table conntrack: full.*raise conntrack\.maxEntries/);
  await assertWitnesses(stage);

  // Room is made by flows that end, and by nothing else.
  assertOpen(await client.finish("many"), room - 100, 0);
  await untilWell(lab, "node2");
  assertOpen(await client.open("again", streamsTo(150)), 150, 0);
  assertOpen(await client.finish("again"), 150, 0);
  assertOpen(await client.finish("last"), 100, 50);
  t.diagnostic(`at the backend's node: ${JSON.stringify(counts)}`);
}

async function testFormerOwners(stage: Stage): Promise<void> {
  const { lab } = stage;
  // Two rings change hands altogether, and there is room for one.
  await balance(lab, ["pod2-2"]);
  await untilProblem(lab, "node1", /table former_owners: .*raise tables\.formerOwners/);
  await assertWitnesses(stage);
  lab.withdraw("streams");
  await untilGone(lab, `198.51.100.1:${VIP_PORT}`);
  await untilWell(lab, "node1");
}

test("a full table is told and harms nothing else", async (t) => {
  const stage = await createStage(t, PODS, {
    nodes: 2,
    podsPerNode: 2,
    config: {
      tables: LIMITS,
      conntrack: { maxEntries: MAX_FLOWS, collectInterval: "1s", tcpClosing: "1s" },
    },
  });
  const { lab, client } = stage;
  const ports = [{ port: VIP_PORT, targetPort: STREAM_PORT }];
  lab.publish(serviceOf(["pod2-2"], { name: "witness", addresses: [WITNESS_VIP], ports }));
  await untilBalanced(lab, WITNESS_FRONTEND, [podEndpoint(lab, "pod2-2", STREAM_PORT)]);
  const witnesses = streamsTo(WITNESSES, { address: WITNESS_VIP, intervalMs: 200 });
  assertOpen(await client.open("witnesses", witnesses), WITNESSES, 0);

  await t.test("services", () => {
    const problem = /extra\d+:80\/tcp is left out.*raise tables\.services/;
    return testRefusals(stage, { count: 18, backends: [], fits: 15, problem });
  });
  await t.test("rings", () => {
    const problem = /extra\d+:80\/tcp: no room in table rings.*raise tables\.ringEntries/;
    return testRefusals(stage, { count: 9, backends: ["pod1-1"], fits: 7, problem });
  });
  await t.test("backends", () => {
    const problem = /extra\d+:80\/tcp: no room in table backends.*raise tables\.backends/;
    return testRefusals(stage, { count: 5, backends: PODS, fits: 3, problem });
  });
  await t.test("former owners", async () => {
    await balance(lab, ["pod2-1"]);
    await testFormerOwners(stage);
  });
  await t.test("conntrack", (t) => testConntrack(t, stage));
  assertOpen(await client.finish("witnesses"), WITNESSES, 0);
});
