// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApiClient } from "../api/client.ts";
import { Agent, connect, documents, service, slice, untilWell } from "./fixture.ts";

const TOO_MANY = Array.from({ length: 17 }, (_, index) => index);

/** For a node whose tables have room for 16 of each: what is one too many, by the key to raise. */
const OVERFLOWS = {
  endpoints: TOO_MANY.map((index) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: `pod${index}`,
      annotations: { "ciliate.io/device": "p0", "ciliate.io/mac": "02:00:00:00:00:01" },
    },
    spec: { nodeName: "node1" },
    status: { podIP: `10.2.0.${index}` },
  })),
  nodes: TOO_MANY.map((index) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `far${index}` },
    status: { addresses: [{ type: "InternalIP", address: `10.3.0.${index}` }] },
  })),
  sourceRanges: [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "ranges" },
      spec: {
        type: "LoadBalancer",
        ports: [{ port: 80 }],
        loadBalancerSourceRanges: TOO_MANY.map((index) => `10.4.${index}.0/24`),
      },
      status: { loadBalancer: { ingress: [{ ip: "192.0.2.99" }] } },
    },
  ],
};

/** By the metrics, the age of the oldest change that isn't in force. */
function lagSeconds(agent: Agent): number {
  const [, value] = /^ciliate_reconciler_lag_seconds (.*)$/m.exec(agent.get("/metrics")) ?? [];
  return Number(value);
}

async function assertOverflows(agent: Agent, client: ApiClient): Promise<void> {
  agent.ip("link add p0 type veth peer name p1");
  agent.ip("link set p0 up");
  for (const [key, objects] of Object.entries(OVERFLOWS)) {
    const texts = objects.map((object) => JSON.stringify(object));
    assert.equal(lagSeconds(agent), 0);
    const start = performance.now();
    const { inForce } = await client.apply({ documents: documents(...texts) });
    const applied = performance.now();
    assert.equal(inForce, false, key);
    const { problems } = agent.json("status").reconcilers[0];
    assert.equal(problems.length, 1, problems.join("; "));
    assert.match(problems[0], new RegExp(`it is full with 16 entries; raise tables\\.${key} `));
    const least = (performance.now() - applied) / 1000;
    const lag = lagSeconds(agent);
    assert.ok(lag >= least && lag <= (performance.now() - start) / 1000, `${lag} s behind`);
    const { deleted } = await client.delete({
      objects: objects.map(({ kind, metadata }) => ({ kind, namespace: "", name: metadata.name })),
    });
    assert.equal(deleted.length, objects.length, key);
    await untilWell(agent);
  }
}

test("a full table is told with the way out, and harms nobody else", async (t) => {
  const small = "endpoints: 16, nodes: 16, sourceRanges: 16";
  const tables = `tables: {services: 16, backends: 64, ringEntries: 4096, ${small}}\n`;
  const agent = await new Agent(t, "", tables).start().ready();
  const client = await connect(t, agent);
  const texts = Array.from({ length: 8 }, (_, index) =>
    documents(service(`s${index}`, `192.0.2.${index}`), slice(`s${index}`, "10.1.0.1")),
  );
  const { inForce } = await client.apply({ documents: documents(...texts) });
  assert.equal(inForce, false);
  const applied = agent.json("bpf service list").length;
  assert(applied > 0 && applied < 8, `${applied} services applied`);
  const status = agent.json("status");
  assert.equal(status.state, "degraded");
  assert.match(status.reconcilers[0].problems[0], /tables\.ringEntries/);
  await client.delete({
    objects: texts.map((_, index) => ({
      kind: "Service",
      namespace: "default",
      name: `s${index}`,
    })),
  });
  await untilWell(agent);
  await assertOverflows(agent, client);
});
