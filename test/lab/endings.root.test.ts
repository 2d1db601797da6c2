// SPDX-License-Identifier: Apache-2.0

// Services, pods and nodes that end under load: what is left goes on.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { deleteNamespace } from "../../src/kernel/netns.ts";
import { clusterManifests } from "../../src/lab/manifest.ts";
import { podNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import {
  podEndpoint,
  serviceIds,
  since,
  untilBalanced,
  untilGone,
  verdicts,
} from "./tools/inspect.ts";
import { without } from "./tools/manifests.ts";
import {
  balance,
  createStage,
  FRONTEND,
  type Stage,
  serviceOf,
  streamsTo,
  VIP_PORT,
} from "./tools/stage.ts";
import { type GroupReport, STREAM_PORT } from "./tools/streams.ts";

const COUNT = 200;
const INTERVAL_MS = 200;
const OTHER_VIP = "198.51.100.2";
const OTHER_FRONTEND = `${OTHER_VIP}:${VIP_PORT}`;
const PODS = ["pod1-1", "pod2-1", "pod2-2", "pod3-1", "pod3-2"];
const REST = ["pod1-1", "pod2-1", "pod2-2"];

function assertWhole(report: GroupReport, open = COUNT): void {
  assert.equal(report.broken, 0, report.brokenHow.join(", "));
  assert.deepEqual([report.open, report.wrong], [open, 0]);
}

/** The service that nothing happens to. */
async function publishOther({ lab }: Stage): Promise<void> {
  lab.publish(serviceOf(["pod1-1", "pod2-2"], { name: "other", addresses: [OTHER_VIP] }));
  const backends = ["pod1-1", "pod2-2"].map((pod) => podEndpoint(lab, pod, STREAM_PORT));
  await untilBalanced(lab, OTHER_FRONTEND, backends);
}

async function testService(t: TestContext, stage: Stage): Promise<void> {
  const { lab, client } = stage;
  await balance(lab, PODS);
  assertWhole(await client.open("mine", streamsTo(COUNT, { intervalMs: INTERVAL_MS })));
  lab.withdraw("streams");
  await untilGone(lab, FRONTEND);
  // The kernel's "unreachable" has a rate; who doesn't hear it has no answer at all.
  const refused = await client.open("refused", streamsTo(3, { openLimitMs: 1500 }));
  assert.equal(refused.broken, 3);
  assert.match(refused.brokenHow.join(), /^(: (EHOSTUNREACH|no answer),?)+$/);
  assert.deepEqual(Object.keys(serviceIds(lab, "node1")).sort(), [
    `${OTHER_FRONTEND}/tcp`,
    `${OTHER_FRONTEND}/udp`,
  ]);
  // What was open waits, for TCP gives a service time to come back; its pods still know it.
  await balance(lab, PODS);
  await client.round("mine");
  assertWhole(await client.finish("mine"));

  const before = verdicts(lab);
  lab.publish(serviceOf([]));
  await untilBalanced(lab, FRONTEND, []);
  const nobody = await client.open("nobody", streamsTo(1, { openLimitMs: 1500 }));
  assert.deepEqual(nobody.brokenHow, [": ECONNREFUSED"]);
  const counts = since(before, verdicts(lab));
  assert.ok((counts["edge sent rejected"] ?? 0) >= 1, JSON.stringify(counts));
  t.diagnostic(`to a service without backends: ${JSON.stringify(counts)}`);
  await forget(stage);
}

/** Ends the service with its history: by that, flows of the dead might be someone else's. */
async function forget({ lab }: Stage): Promise<void> {
  lab.withdraw("streams");
  await untilGone(lab, FRONTEND);
}

function broken({ byBackend }: GroupReport): Record<string, number> {
  const counts = Object.entries(byBackend).map(([pod, { broken }]) => [pod, broken] as const);
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

/** Waits until so many have heard that their pod is dead, and says for how long, in ms. */
async function untilBroken({ client }: Stage, count: number): Promise<number> {
  const began = performance.now();
  await until("connections to the dead to end", 20_000, async () => {
    return (await client.report("mine")).broken >= count;
  });
  return Math.round(performance.now() - began);
}

async function testPod(t: TestContext, stage: Stage): Promise<void> {
  const { lab, client, servers } = stage;
  await balance(lab, PODS);
  const open = await client.open("mine", streamsTo(COUNT, { intervalMs: INTERVAL_MS }));
  assertWhole(open);
  const lost = open.byBackend["pod3-2"]?.open ?? 0;
  assert.ok(lost > 0);
  // Silent, so that nobody but the pods that are left can tell the clients.
  await lab.output("pod3-2", ["ip", "link", "set", "eth0", "down"]);
  await servers.kill("pod3-2");
  deleteNamespace(podNamed(lab.plan, "pod3-2").place.namespace);
  const left = PODS.slice(0, -1);
  lab.writeManifest("pods.yaml", without(clusterManifests(lab.plan)["pods.yaml"], ["pod3-2"]));
  await balance(lab, left);
  const fresh = await client.open("fresh", streamsTo(COUNT));
  assertWhole(fresh);
  assert.deepEqual(Object.keys(fresh.byBackend).sort(), left);
  assertWhole(await client.finish("fresh"));
  const tookMs = await untilBroken(stage, lost);
  t.diagnostic(`${lost} connections to the dead pod ended within ${tookMs} ms`);
  const end = await client.finish("mine");
  assert.deepEqual(broken(end), { "pod3-2": lost });
  assert.ok(
    end.brokenHow.every((how) => how === "pod3-2: ECONNRESET"),
    end.brokenHow.join(),
  );
  assert.deepEqual([end.open, end.wrong], [COUNT - lost, 0]);
  await forget(stage);
}

async function testNode(t: TestContext, stage: Stage): Promise<void> {
  const { lab, client } = stage;
  const left = PODS.slice(0, -1);
  await balance(lab, left);
  const open = await client.open("mine", streamsTo(COUNT, { intervalMs: INTERVAL_MS }));
  const lost = open.byBackend["pod3-1"]?.open ?? 0;
  await lab.stopAgent("node3", "SIGKILL");
  await lab.output("node3", ["ip", "link", "set", "eth0", "down"]);
  // Its pods and their readiness are as the cluster heard of them last.
  const living = ["node1", "node2"];
  const nodes = without(clusterManifests(lab.plan)["nodes.yaml"], ["node3"]);
  lab.writeManifest("nodes.yaml", nodes, living);
  const rest = REST.map((pod) => podEndpoint(lab, pod, STREAM_PORT));
  await untilBalanced(lab, FRONTEND, rest, living);
  assertWhole(await client.open("fresh", streamsTo(COUNT)));
  const fresh = await client.finish("fresh");
  assertWhole(fresh);
  assert.deepEqual(Object.keys(fresh.byBackend).sort(), REST);
  const tookMs = await untilBroken(stage, lost);
  const end = await client.finish("mine");
  assert.deepEqual(broken(end), { "pod3-1": lost });
  t.diagnostic(
    `${lost} connections to the dead node ended within ${tookMs} ms, ${end.open} others went on`,
  );
}

test("what is left goes on", async (t) => {
  const stage = await createStage(t, PODS, { nodes: 3, podsPerNode: 2 });
  const { client } = stage;
  await publishOther(stage);
  const bystanders = streamsTo(COUNT, { address: OTHER_VIP, intervalMs: INTERVAL_MS });
  await client.open("bystanders", bystanders);
  await t.test("when a service is deleted, and when it has no backend", (t) =>
    testService(t, stage),
  );
  await t.test("when a pod dies", (t) => testPod(t, stage));
  await t.test("when a node dies", (t) => testNode(t, stage));
  await client.round("bystanders");
  const end = await client.finish("bystanders");
  assertWhole(end);
  assert.equal(end.answered, end.sent);
  assert.equal(await stage.servers.wrong(), 0);
});
