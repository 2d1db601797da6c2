// SPDX-License-Identifier: Apache-2.0
// What a service's address says for itself, whom it lets in, and who stays with whom.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ServiceSpec } from "../../src/lab/manifest.ts";
import { podEndpoint, since, untilBalanced, verdicts } from "./tools/inspect.ts";
import { createStage, FRONTEND, type Stage, serviceOf, streamsTo, VIP } from "./tools/stage.ts";
import { STREAM_PORT } from "./tools/streams.ts";

const PODS = ["pod1-1", "pod2-1", "pod3-1"] as const;
const COUNT = 20;
/** Exit codes of curl. */
const REFUSED = 7;
const TIMED_OUT = 28;

async function publish(
  { lab }: Stage,
  pods: readonly string[],
  more?: Partial<ServiceSpec>,
): Promise<void> {
  lab.publish(serviceOf(pods, more));
  await untilBalanced(
    lab,
    FRONTEND,
    pods.map((pod) => podEndpoint(lab, pod, STREAM_PORT)),
  );
}

async function curl({ lab }: Stage, at: string): Promise<number | null> {
  const { code } = await lab.run("client", ["curl", "-s", "-m", "1", `telnet://${at}`]);
  return code;
}

async function testAnswers(t: TestContext, place: "edge" | "host"): Promise<void> {
  const acceleration = place === "edge" ? "native" : "off";
  const stage = await createStage(t, PODS, { config: { acceleration } });
  const { lab } = stage;
  await publish(stage, []);
  const before = verdicts(lab);
  assert.equal(await curl(stage, FRONTEND), REFUSED);
  assert.equal(await curl(stage, `${VIP}:81`), TIMED_OUT);
  await lab.output("client", ["ping", "-c", "2", "-i", "0.2", "-W", "5", VIP]);
  const counted = since(before, verdicts(lab));
  assert.equal(counted[`${place} sent rejected`], 1);
  assert.equal(counted[`${place} sent echo`], 2);
  assert.ok((counted[`${place} drop unknown port`] ?? 0) >= 1);

  await publish(stage, PODS, { spec: { loadBalancerSourceRanges: ["198.18.0.0/24"] } });
  const open = verdicts(lab);
  assert.equal(await curl(stage, FRONTEND), TIMED_OUT);
  assert.ok((since(open, verdicts(lab))[`${place} drop source range`] ?? 0) >= 1);
}

test("a service answers for itself in XDP", (t) => testAnswers(t, "edge"));
test("a service answers for itself at tc", (t) => testAnswers(t, "host"));

test("a client stays with its pod over many connections and a changed ring", async (t) => {
  const stage = await createStage(t, PODS);
  const spec = { sessionAffinity: "ClientIP" };
  const seen = new Set<string>();
  for (const [round, pods] of [PODS.slice(0, 2), PODS, PODS.slice(0, 2)].entries()) {
    await publish(stage, pods, { spec });
    await stage.client.open(`round ${round}`, streamsTo(COUNT));
    const end = await stage.client.finish(`round ${round}`);
    assert.deepEqual([end.open, end.broken, end.wrong], [COUNT, 0, 0]);
    for (const pod of Object.keys(end.byBackend)) seen.add(pod);
  }
  assert.equal(seen.size, 1, [...seen].join());
});
