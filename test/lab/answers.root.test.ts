// SPDX-License-Identifier: Apache-2.0
// What a service's address says for itself, whom it lets in, and who stays with whom.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ServiceSpec } from "../../src/lab/manifest.ts";
import { FAMILIES, type Family } from "../../src/net/address.ts";
import { podEndpoint, since, untilBalanced, verdicts } from "./tools/inspect.ts";
import { createStage, FRONTENDS, type Stage, serviceOf, streamsTo, VIPS } from "./tools/stage.ts";
import { STREAM_PORT } from "./tools/streams.ts";

const PODS = ["pod1-1", "pod2-1", "pod3-1"] as const;
/** As backends, whose sockets nobody has opened. */
const NODES = ["node2"] as const;
const COUNT = 20;
/** Exit codes of curl. */
const REFUSED = 7;
const TIMED_OUT = 28;

async function publish(
  { lab }: Stage,
  pods: readonly string[],
  more?: Partial<ServiceSpec>,
): Promise<void> {
  lab.publish(serviceOf(pods, { addresses: Object.values(VIPS), ...more }));
  for (const family of FAMILIES) {
    const backends = pods.map((pod) => podEndpoint(lab, pod, STREAM_PORT, family));
    await untilBalanced(lab, FRONTENDS[family], backends);
    await untilBalanced(lab, FRONTENDS[family], backends, undefined, "udp");
  }
}

async function curl({ lab }: Stage, at: string): Promise<number | null> {
  const { code } = await lab.run("client", ["curl", "-s", "-m", "1", `telnet://${at}`]);
  return code;
}

/** A datagram's sender is told that nobody is there. */
async function datagram({ lab }: Stage, family: Family): Promise<void> {
  const to = family === "ipv4" ? "UDP4" : "UDP6";
  const target = `${to}:${FRONTENDS[family]}`;
  const { stderr } = await lab.run("client", ["socat", "-t", "1", "-", target], { input: "x" });
  assert.match(stderr, /Connection refused/);
}

/** A closed port of a node that is the backend: told by the service, of what the client sent. */
async function testClosed(stage: Stage, family: Family): Promise<void> {
  await publish(stage, NODES);
  const before = verdicts(stage.lab);
  await datagram(stage, family);
  assert.equal(since(before, verdicts(stage.lab))["node sent relayed"], 1);
}

async function testAnswers(t: TestContext, place: "edge" | "host"): Promise<void> {
  const acceleration = place === "edge" ? "native" : "off";
  const stage = await createStage(t, PODS, { ipv6: true, config: { acceleration } });
  const { lab } = stage;
  const spec = { loadBalancerSourceRanges: ["198.18.0.0/24", "fd00:198:18::/64"] };
  for (const family of FAMILIES) {
    await publish(stage, []);
    const before = verdicts(lab);
    assert.equal(await curl(stage, FRONTENDS[family]), REFUSED);
    await datagram(stage, family);
    assert.equal(await curl(stage, FRONTENDS[family].replace(/\d+$/, "81")), TIMED_OUT);
    await lab.output("client", ["ping", "-c", "2", "-i", "0.2", "-W", "5", VIPS[family]]);
    const counted = since(before, verdicts(lab));
    assert.equal(counted[`${place} sent rejected`], 2);
    assert.equal(counted[`${place} sent echo`], 2);
    assert.ok((counted[`${place} drop unknown port`] ?? 0) >= 1);

    if (place === "host") await testClosed(stage, family);
    await publish(stage, PODS, { spec });
    const open = verdicts(lab);
    assert.equal(await curl(stage, FRONTENDS[family]), TIMED_OUT);
    assert.ok((since(open, verdicts(lab))[`${place} drop source range`] ?? 0) >= 1);
  }
}

test("a service answers for itself in XDP", (t) => testAnswers(t, "edge"));
test("a service answers for itself at tc", (t) => testAnswers(t, "host"));

test("a client stays with its pod over many connections and a changed ring", async (t) => {
  const stage = await createStage(t, PODS, { ipv6: true });
  const spec = { sessionAffinity: "ClientIP" };
  const seen: Record<Family, Set<string>> = { ipv4: new Set(), ipv6: new Set() };
  for (const [round, pods] of [PODS.slice(0, 2), PODS, PODS.slice(0, 2)].entries()) {
    await publish(stage, pods, { spec });
    for (const family of FAMILIES) {
      const group = `round ${round} by ${family}`;
      await stage.client.open(group, streamsTo(COUNT, { address: VIPS[family] }));
      const end = await stage.client.finish(group);
      assert.deepEqual([end.open, end.broken, end.wrong], [COUNT, 0, 0], group);
      for (const pod of Object.keys(end.byBackend)) seen[family].add(pod);
    }
  }
  for (const pods of Object.values(seen)) assert.equal(pods.size, 1, [...pods].join());
});
