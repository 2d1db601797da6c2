// SPDX-License-Identifier: Apache-2.0
// How services are forwarded changes while connections and datagrams are on their way: dispatch,
// hybrid, and how backends are chosen. None of them breaks.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { dump, load } from "js-yaml";
import { maps, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import type { Lab } from "../../src/lab/lab.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { replaceFile } from "../../src/lab/state.ts";
import { parseIpv4 } from "../../src/net/address.ts";
import { nodesOf, openTable, since, verdicts } from "./tools/inspect.ts";
import {
  balance,
  createStage,
  type Stage,
  serviceOf,
  streamsTo,
  VIP,
  VIP_PORT,
} from "./tools/stage.ts";

const COUNT = 20;
const LIMIT_MS = 30_000;
const PODS = ["pod1-1", "pod2-1", "pod3-1"] as const;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
type Protocol = keyof typeof PROTOCOLS;
const BOTH: readonly Protocol[] = ["tcp", "udp"];
const MODE = "ciliate.io/forwarding-mode";
const ALGORITHM = "ciliate.io/lb-algorithm";

/** Flags of the service's row at a node; 0 where it has none. */
function flagsAt(lab: Lab, node: string, protocol: Protocol): number {
  using frontends = openTable(lab, node, maps.frontends);
  using services = openTable(lab, node, maps.services);
  for (const [, { slot }] of frontends.entries()) {
    for (const one of slot) {
      const isOurs = one.address === parseIpv4(VIP) && one.port === VIP_PORT;
      if (!isOurs || one.protocol !== PROTOCOLS[protocol]) continue;
      return services.lookup(one.service)?.flags ?? 0;
    }
  }
  return 0;
}

/** Publishes the service anew, and waits until every node has flags as they are wanted. */
async function change(
  { lab }: Stage,
  annotations: Readonly<Record<string, string>>,
  wanted: Readonly<Record<Protocol, number>>,
): Promise<void> {
  const looked = ServiceFlag.snat | ServiceFlag.random;
  lab.publish(serviceOf(PODS, { annotations }));
  await until(`${JSON.stringify(annotations)} at every node`, LIMIT_MS, () =>
    nodesOf(lab).every((node) =>
      BOTH.every((protocol) => (flagsAt(lab, node, protocol) & looked) === wanted[protocol]),
    ),
  );
}

/** Opens a group of each protocol. */
async function open({ client }: Stage, name: string): Promise<void> {
  for (const protocol of BOTH) {
    const group = `${name} ${protocol}`;
    const { broken } = await client.open(group, streamsTo(COUNT, { protocol, intervalMs: 100 }));
    assert.equal(broken, 0, group);
  }
}

/** Every connection and flow says something and is answered, by the pod that has it. */
async function expectWhole({ client }: Stage, names: readonly string[], when: string) {
  for (const group of names.flatMap((name) => BOTH.map((protocol) => `${name} ${protocol}`))) {
    await client.round(group);
    const { broken, brokenHow, wrong, moved, open: alive } = await client.round(group);
    assert.equal(broken, 0, `${group} ${when}: ${brokenHow.join(", ")}`);
    assert.deepEqual({ alive, wrong, moved }, { alive: COUNT, wrong: 0, moved: 0 }, group);
  }
}

async function finish({ client }: Stage, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { broken, sent, answered } = await client.finish(`${name} tcp`);
    assert.deepEqual([broken, answered], [0, sent], name);
  }
}

/** Starts a node's agent anew, with other settings in its file. */
async function configure(lab: Lab, node: string, settings: Record<string, unknown>): Promise<void> {
  const { config } = nodeNamed(lab.plan, node).paths;
  const before = load(readFileSync(config, "utf8")) as Record<string, unknown>;
  replaceFile(config, dump({ ...before, ...settings }));
  await lab.stopAgent(node);
  await lab.startAgent(node);
}

test("connections go on through every change of dispatch, and of owners in each", async (t) => {
  const stage = await createStage(t, PODS, { config: { acceptOption: true } });
  const { lab } = stage;
  await balance(lab, PODS);
  const names = ["ipip"];
  await open(stage, "ipip");
  for (const [dispatch, acceleration, counter] of [
    ["geneve", "off", "geneve"],
    ["option", "native", "options"],
    ["ipip", "native", "ipip"],
  ] as const) {
    await configure(lab, "node1", { dispatch, acceleration });
    await lab.resetCounters();
    const name = `${dispatch} ${names.length}`;
    await open(stage, name);
    names.push(name);
    await expectWhole(stage, names, `after ${dispatch}`);
    const counted = await lab.counters();
    t.diagnostic(`${dispatch}: ${JSON.stringify(counted)}`);
    assert.ok(counted[counter].packets > COUNT, `${counter} by ${dispatch}`);
    await balance(lab, PODS.slice(0, 2));
    await expectWhole(stage, [name], `without a backend, by ${dispatch}`);
    await balance(lab, PODS);
  }
  await finish(stage, names);
});

test("connections and datagrams go on through every change from and to hybrid", async (t) => {
  const stage = await createStage(t, PODS);
  await balance(stage.lab, PODS);
  const names = ["dsr"];
  await open(stage, "dsr");
  const { snat } = ServiceFlag;
  for (const [mode, flags] of [
    ["hybrid", { tcp: 0, udp: snat }],
    ["snat", { tcp: snat, udp: snat }],
    ["hybrid", { tcp: 0, udp: snat }],
    ["dsr", { tcp: 0, udp: 0 }],
  ] as const) {
    await change(stage, { [MODE]: mode }, flags);
    const name = `${mode} ${names.length}`;
    await open(stage, name);
    names.push(name);
    await expectWhole(stage, names, `after ${mode}`);
  }
  await finish(stage, names);
});

test("flows of UDP that DSR began go on by DSR when their service becomes SNAT's", async (t) => {
  const stage = await createStage(t, PODS, { config: { conntrack: { udp: "3s" } } });
  const { lab, client } = stage;
  await balance(lab, PODS);
  const openUdp = (group: string) =>
    client.open(group, streamsTo(COUNT, { protocol: "udp", intervalMs: 100 }));
  await openUdp("old");
  const { snat, lately } = ServiceFlag;
  await change(stage, { [MODE]: "snat" }, { tcp: snat, udp: snat });
  await until("new flows to be SNAT's", LIMIT_MS, () =>
    nodesOf(lab).every((node) => (flagsAt(lab, node, "udp") & lately) === 0),
  );
  const before = verdicts(lab);
  for (let round = 0; round < 3; round++) await client.round("old");
  const { broken, moved, open: alive } = await client.round("old");
  assert.deepEqual({ broken, moved, alive }, { broken: 0, moved: 0, alive: COUNT });
  const counts = since(before, verdicts(lab));
  t.diagnostic(JSON.stringify(counts));
  assert.ok((counts["edge sent encapsulated"] ?? 0) > 0);
  assert.equal(counts["edge sent nat"], undefined);
  await openUdp("new");
  await client.round("new");
  assert.ok((since(before, verdicts(lab))["edge sent nat"] ?? 0) > 0);
});

/** Groups opened before go on, and what is opened now meets every pod. */
async function expectSpread(t: TestContext, stage: Stage, names: string[], name: string) {
  await open(stage, name);
  names.push(name);
  await expectWhole(stage, names, `after ${name}`);
  const { byBackend } = await stage.client.round(`${name} tcp`);
  t.diagnostic(`${name}: ${JSON.stringify(byBackend)}`);
  assert.deepEqual(Object.keys(byBackend).sort(), PODS);
}

test("connections and datagrams go on through every change of the algorithm", async (t) => {
  const stage = await createStage(t, PODS);
  await balance(stage.lab, PODS);
  const { snat, random } = ServiceFlag;
  const names: string[] = [];
  for (const [algorithm, flag] of [
    ["maglev", 0],
    ["random", random],
    ["maglev", 0],
  ] as const) {
    const flags = snat | flag;
    await change(stage, { [MODE]: "snat", [ALGORITHM]: algorithm }, { tcp: flags, udp: flags });
    const before = verdicts(stage.lab);
    await expectSpread(t, stage, names, `${algorithm} ${names.length}`);
    assert.ok((since(before, verdicts(stage.lab))["edge sent nat"] ?? 0) > COUNT);
  }
  await finish(stage, names);
});
