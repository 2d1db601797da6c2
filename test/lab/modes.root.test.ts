// SPDX-License-Identifier: Apache-2.0
// A service's mode changes while connections are open: none of them breaks, and new ones go the new
// way.

import assert from "node:assert/strict";
import { test } from "node:test";
import { maps, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { until } from "../../src/lab/process.ts";
import { nodesOf, openTable, since, verdicts } from "./tools/inspect.ts";
import { balance, createStage, type Stage, serviceOf, streamsTo } from "./tools/stage.ts";

const COUNT = 20;
const LIMIT_MS = 20_000;
const PODS = ["pod1-1", "pod2-1", "pod3-1"] as const;
const ROWS = 64;

/** Publishes the service with a mode, and waits until every node has it. */
async function change({ lab }: Stage, mode: "dsr" | "snat"): Promise<void> {
  lab.publish(serviceOf(PODS, { annotations: { "ciliate.io/forwarding-mode": mode } }));
  await until(`${mode} at every node`, LIMIT_MS, () =>
    nodesOf(lab).every((node) => {
      using table = openTable(lab, node, maps.services);
      const rows = Array.from({ length: ROWS }, (_, row) => table.lookup(row));
      // A row that nothing leads to any more stays as it was: the newest one is among them.
      const ways = rows.flatMap((row) =>
        row === undefined || row.id === 0 ? [] : [row.flags & ServiceFlag.snat],
      );
      return ways.some((way) => (way !== 0) === (mode === "snat"));
    }),
  );
}

test("connections go on through every change of their service's mode", async (t) => {
  const stage = await createStage(t, PODS);
  const { lab, client } = stage;
  await balance(lab, PODS);
  const open = async (group: string): Promise<void> => {
    const { broken } = await client.open(group, streamsTo(COUNT, { intervalMs: 100 }));
    assert.equal(broken, 0);
  };
  const groups = ["first"];
  await open("first");
  for (const [group, mode, way] of [
    ["second", "snat", "edge sent nat"],
    ["third", "dsr", "edge sent encapsulated"],
    ["fourth", "snat", "edge sent nat"],
  ] as const) {
    await change(stage, mode);
    const before = verdicts(lab);
    await open(group);
    groups.push(group);
    for (const each of groups) {
      await client.round(each);
      const { broken, brokenHow, wrong, open: alive } = await client.round(each);
      assert.equal(broken, 0, `${each} after ${mode}: ${brokenHow.join(", ")}`);
      assert.deepEqual([alive, wrong], [COUNT, 0]);
    }
    const counts = since(before, verdicts(lab));
    t.diagnostic(`${mode}: ${JSON.stringify(counts)}`);
    // Both kinds are there: connections of before, and new ones.
    for (const one of ["edge sent nat", "edge sent encapsulated", way]) {
      assert.ok((counts[one] ?? 0) > 0, `${one} after ${mode}`);
    }
  }
  for (const group of groups) {
    const { broken, answered, sent } = await client.finish(group);
    assert.deepEqual([broken, answered], [0, sent], group);
  }
});
