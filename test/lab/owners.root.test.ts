// SPDX-License-Identifier: Apache-2.0

// Flows whose slot has many owners one after the other, of which most then die: who owns a flow is
// learned from its owner, not through those between.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { deleteNamespace } from "../../src/kernel/netns.ts";
import { clusterManifests } from "../../src/lab/manifest.ts";
import { podNamed } from "../../src/lab/plan.ts";
import { FAMILIES } from "../../src/net/address.ts";
import { since, verdicts } from "./tools/inspect.ts";
import { without } from "./tools/manifests.ts";
import { balance, createStage, streamsTo, VIPS } from "./tools/stage.ts";
import type { GroupReport } from "./tools/streams.ts";

const COUNT = 30;
const INTERVAL_MS = 200;
const OWNERS = ["pod1-1", "pod2-1", "pod3-1", "pod4-1", "pod5-1", "pod6-1"];

function assertWhole(report: GroupReport, what: string): void {
  assert.equal(report.broken, 0, `${what}: ${report.brokenHow.join(", ")}`);
  assert.deepEqual([report.open, report.wrong, report.moved], [COUNT, 0, 0], what);
  assert.deepEqual(Object.keys(report.byBackend), [OWNERS[0]], what);
}

/** TCP and UDP by each family. */
const GROUPS = FAMILIES.flatMap((family) =>
  (["tcp", "udp"] as const).map((protocol) => ({
    name: `${protocol} by ${family}`,
    family,
    protocol,
  })),
);

test("a slot's owners come and go, and its first flows stay", async (t) => {
  const stage = await createStage(t, OWNERS, {
    nodes: OWNERS.length,
    podsPerNode: 1,
    ipv6: true,
  });
  const { lab, client, servers } = stage;
  await balance(lab, OWNERS.slice(0, 1), undefined, FAMILIES);
  for (const { name, family, protocol } of GROUPS) {
    const how = { intervalMs: INTERVAL_MS, protocol, address: VIPS[family] };
    await client.open(name, streamsTo(COUNT, how));
  }
  const look = async (what: string): Promise<void> => {
    for (const { name } of GROUPS) {
      const report = await client.round(name);
      assertWhole(report, `${name}, ${what}`);
      t.diagnostic(`${name}, ${what}: longest stall ${Math.round(report.longestStallMs)} ms`);
    }
  };
  for (const owner of OWNERS.slice(1)) {
    const before = verdicts(lab);
    await balance(lab, [owner], undefined, FAMILIES);
    await look(`owned by ${owner}`);
    const { "host sent noted": noted = 0 } = since(before, verdicts(lab));
    assert.ok(noted >= GROUPS.length * COUNT, `${noted} notes`);
  }

  const dead = OWNERS.slice(1, -1);
  for (const pod of dead) {
    await servers.kill(pod);
    deleteNamespace(podNamed(lab.plan, pod).place.namespace);
  }
  lab.writeManifest("pods.yaml", without(clusterManifests(lab.plan)["pods.yaml"], dead));
  await delay(1000);
  await look("those between are dead");
  for (const { name, protocol } of GROUPS) {
    const end = await client.finish(name);
    assertWhole(end, `${name} at the end`);
    if (protocol === "tcp") assert.equal(end.answered, end.sent);
  }
});
