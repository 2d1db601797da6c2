// SPDX-License-Identifier: Apache-2.0

// Labs with agents keep to themselves, and one that was killed leaves nothing that matters.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { BpfMap } from "../../src/kernel/map.ts";
import { listNamespaces } from "../../src/kernel/netns.ts";
import { createLab, type Lab, openLab } from "../../src/lab/lab.ts";
import { labPaths, namespacePrefix } from "../../src/lab/plan.ts";
import { isAlive, until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { flowsAt, nodesOf } from "./tools/inspect.ts";
import { pinnedAt } from "./tools/pins.ts";
import { balance, createStage, freshName, type Stage, streamsTo } from "./tools/stage.ts";

const COUNT = 50;
const INTERVAL_MS = 100;
const SIZE = { nodes: 2, podsPerNode: 1 };

async function assertStreams({ client }: Stage, backend: string): Promise<void> {
  const report = await client.round("tcp");
  assert.equal(report.broken, 0, report.brokenHow.join(", "));
  assert.equal(report.wrong, 0);
  assert.deepEqual(report.byBackend, { [backend]: { open: COUNT, broken: 0 } });
}

/** Whether the kernel still holds any of these maps. */
function someMapLives(ids: readonly number[]): boolean {
  return ids.some((id) => {
    try {
      BpfMap.openId(id).close();
      return true;
    } catch {
      return false;
    }
  });
}

function mapsOf(lab: Lab): number[] {
  return nodesOf(lab).flatMap((node) => Object.values(pinnedAt(lab, node).maps));
}

test("two labs with the same addresses and services don't touch each other", async (t) => {
  const [one, two] = await Promise.all([
    createStage(t, ["pod1-1", "pod2-1"], SIZE),
    createStage(t, ["pod1-1", "pod2-1"], SIZE),
  ]);
  await Promise.all([balance(one.lab, ["pod2-1"]), balance(two.lab, ["pod1-1"])]);
  for (const { client } of [one, two]) {
    await client.open("tcp", streamsTo(COUNT, { intervalMs: INTERVAL_MS }));
  }
  await assertStreams(one, "pod2-1");
  await assertStreams(two, "pod1-1");
  assert.deepEqual(
    [flowsAt(one.lab, "node1").length, flowsAt(two.lab, "node1").length],
    [0, COUNT],
  );
  const maps = mapsOf(one.lab);
  assert.equal(new Set([...maps, ...mapsOf(two.lab)]).size, 2 * maps.length);

  await one.lab.stopAgent("node1", "SIGKILL");
  await one.lab.down();
  await until("the kernel to let go of the maps", 5000, () => !someMapLives(maps));
  await assertStreams(two, "pod1-1");
  assert.ok(two.lab.status().nodes.every(({ agent }) => agent?.running === true));
});

/** Brings up a lab in a process of its own and kills that process when it is up. */
async function abandonLab(name: string): Promise<void> {
  const lab = JSON.stringify(new URL("../../src/lab/lab.ts", import.meta.url).href);
  const code = `
    const { createLab } = await import(${lab});
    await createLab(${JSON.stringify({ ...SIZE, name })});
    console.log("up");
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [said] = (await once(child.stdout, "data")) as [Buffer];
  assert.equal(said.toString(), "up\n");
  child.kill("SIGKILL");
  await once(child, "close");
}

test("a lab whose maker and agents were killed is taken over, and leaves no trace", async (t) => {
  const name = freshName();
  t.after(() => removeLab(name));
  await abandonLab(name);
  const ruins = openLab(name);
  // Its agents live on: that is a lab, not ruins.
  await assert.rejects(createLab({ name }), /is up already/);
  const agents = nodesOf(ruins).map((node) => ruins.agent(node));
  assert.ok(agents.every((agent) => agent !== undefined && isAlive(agent)));
  await Promise.all(nodesOf(ruins).map((node) => ruins.stopAgent(node, "SIGKILL")));
  const left = mapsOf(ruins);
  assert.ok(left.length > 0 && someMapLives(left));

  const stage = await createStage(t, ["pod1-1", "pod2-1"], { ...SIZE, name });
  await until("the kernel to let go of the maps", 5000, () => !someMapLives(left));
  await balance(stage.lab, ["pod2-1"]);
  await stage.client.open("tcp", streamsTo(COUNT, { intervalMs: INTERVAL_MS }));
  await assertStreams(stage, "pod2-1");

  const maps = mapsOf(stage.lab);
  await stage.lab.down();
  const { state, pins } = labPaths(name);
  assert.ok(!existsSync(state) && !existsSync(pins));
  assert.ok(!listNamespaces().some((namespace) => namespace.startsWith(namespacePrefix(name))));
  await until("the kernel to let go of the maps", 5000, () => !someMapLives(maps));
});
