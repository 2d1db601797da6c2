// SPDX-License-Identifier: Apache-2.0
// Streams through a service that is forwarded by SNAT: some pods are the balancer's own, the others
// see the balancer as their client.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { maps, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import type { Lab } from "../../src/lab/lab.ts";
import { nodesOf, openTable, since, verdicts } from "./tools/inspect.ts";
import { balance, createStage, streamsTo } from "./tools/stage.ts";

const COUNT = 20;
/** TCP's go in several segments, a datagram must not be cut. */
const RECORD_BYTES = { tcp: 20_000, udp: 1200 } as const;
const SPEAK_MS = 1000;
const PODS = ["pod1-1", "pod2-1", "pod3-1"] as const;
/** Rows of services that the lab's few can be in. */
const ROWS = 64;

function serveBySnat(lab: Lab): void {
  for (const node of nodesOf(lab)) {
    using table = openTable(lab, node, maps.services);
    for (let row = 0; row < ROWS; row++) {
      const service = table.lookup(row);
      if (service === undefined || service.id === 0) continue;
      table.update(row, { ...service, flags: service.flags | ServiceFlag.snat });
    }
  }
}

async function testStreams(t: TestContext, place: "edge" | "host"): Promise<void> {
  const acceleration = place === "edge" ? "native" : "off";
  const { lab, client } = await createStage(t, PODS, { config: { acceleration } });
  await balance(lab, PODS);
  serveBySnat(lab);
  const before = verdicts(lab);
  for (const protocol of ["tcp", "udp"] as const) {
    const recordBytes = RECORD_BYTES[protocol];
    await client.open(protocol, streamsTo(COUNT, { protocol, intervalMs: 50, recordBytes }));
    await delay(SPEAK_MS);
    const end = await client.finish(protocol);
    assert.equal(end.broken, 0, end.brokenHow.join(", "));
    assert.deepEqual([end.open, end.wrong, end.moved], [COUNT, 0, 0]);
    assert.equal(end.answered, end.sent);
    assert.deepEqual(Object.keys(end.byBackend).sort(), PODS);
  }
  const counted = since(before, verdicts(lab));
  assert.ok((counted[`${place} sent nat`] ?? 0) > COUNT);
  assert.ok((counted[`${place} sent nat reply`] ?? 0) > COUNT);
  assert.ok((counted["pod sent reply"] ?? 0) > COUNT, "the balancer's own pods answer directly");
  assert.equal(counted[`${place} sent encapsulated`], undefined);
}

test("streams go through SNAT in XDP and back", (t) => testStreams(t, "edge"));
test("streams go through SNAT at tc and back", (t) => testStreams(t, "host"));
