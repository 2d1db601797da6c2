// SPDX-License-Identifier: Apache-2.0

// The datapath never stops for the agent: it is killed, stopped, replaced and told to read its file
// again while connections stream.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { dump, load } from "js-yaml";
import { maps } from "../../src/datapath/gen/abi.ts";
import { type Lab, openLab } from "../../src/lab/lab.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { replaceFile } from "../../src/lab/state.ts";
import { FAMILIES, formatIpv4, parseIpv4 } from "../../src/net/address.ts";
import { buildPacket, ethernet, ipv4, payload, udp } from "../../src/net/packet.ts";
import { budget } from "./tools/budget.ts";
import {
  backendsOf,
  entriesOf,
  nodesOf,
  podEndpoint,
  serviceIds,
  since,
  untilBalanced,
  verdicts,
} from "./tools/inspect.ts";
import { netStats } from "./tools/net-stats.ts";
import { makeNextVersion, migrated } from "./tools/next-version.ts";
import { pinnedAt } from "./tools/pins.ts";
import {
  balance,
  createStage,
  type Stage,
  serviceOf,
  streamsTo,
  VIP,
  VIP_PORT,
  VIPS,
} from "./tools/stage.ts";
import { STREAM_PORT } from "./tools/streams.ts";

/** Of each family. */
const CONNECTIONS = budget("connections", 1000) / 2;
const FLOWS = budget("flows", 50) / 2;
const COUNTS = { tcp: CONNECTIONS, udp: FLOWS } as const;
const GROUPS = FAMILIES.flatMap((family) =>
  (["tcp", "udp"] as const).map((protocol) => ({
    name: `${protocol} by ${family}`,
    family,
    protocol,
  })),
);
/** In the flow tables of all nodes together, while nothing but these is open. */
const ENTRIES = FAMILIES.length * 2 * (CONNECTIONS + FLOWS);
const KILLS = budget("kills", 4);
/** Nodes whose agents become those of the next version. */
const UPGRADES = budget("upgrades", 1);
const INTERVAL_MS = 500;
/** An agent needs about this long to start on a busy machine: kills hit it anywhere. */
const START_MS = 1500;
const FORGET_LIMIT_MS = 30_000;
/** All along, agents look for flows that have ended. */
const CONFIG = { conntrack: { tcpClosing: "1s", collectInterval: "1s" } };
const PODS = [1, 2, 3].flatMap((node) => [1, 2, 3].map((pod) => `pod${node}-${pod}`));

/** What must be the same before and after an agent's death. */
function identities(lab: Lab) {
  return nodesOf(lab).map((node) => {
    const pinned = pinnedAt(lab, node);
    // With the time of birth: one that was lost and made again would be another.
    const flows = [
      ...entriesOf(lab, node, maps.conntrack).map(([key, { created, pod }]) => [key, created, pod]),
      ...entriesOf(lab, node, maps.conntrack6).map(([key, { created, pod }]) => [
        key,
        created,
        pod,
      ]),
    ].map((entry) => JSON.stringify(entry, textOfBig));
    const counted = backendsOf(lab, node).map(({ backend, connections }) => [backend, connections]);
    const { maps: mapIds, links } = pinned;
    return { node, mapIds, links, services: serviceIds(lab, node), flows: flows.sort(), counted };
  });
}

/** JSON has no integers of this size: addresses of IPv6. */
const textOfBig = (_key: string, value: unknown): unknown =>
  typeof value === "bigint" ? String(value) : value;

function flowEntries(lab: Lab): number {
  return nodesOf(lab).reduce(
    (sum, node) =>
      sum +
      entriesOf(lab, node, maps.conntrack).length +
      entriesOf(lab, node, maps.conntrack6).length,
    0,
  );
}

/** Segments that the clients repeated, and why packets were dropped, since then. */
async function losses(lab: Lab, before: Losses): Promise<string> {
  const { "Tcp RetransSegs": repeated = 0 } = since(before.stats, await netStats(lab, "client"));
  const drops = Object.entries(since(before.verdicts, verdicts(lab))).filter(([what]) => {
    return what.includes("drop");
  });
  const lost = drops.map(([what, count]) => `, ${what} ${count}`);
  return `${repeated} segments repeated${lost.join("")}`;
}

interface Losses {
  readonly stats: ReadonlyMap<string, number>;
  readonly verdicts: ReadonlyMap<string, number>;
}

async function countLosses(lab: Lab): Promise<Losses> {
  return { stats: await netStats(lab, "client"), verdicts: verdicts(lab) };
}

/** Waits until every connection has spoken and been answered, and looks at it. */
async function assertWhole(t: TestContext, { client }: Stage, what: string): Promise<void> {
  for (const { name, protocol } of GROUPS) {
    const report = await client.round(name);
    const late = Math.round(report.clientDelayMs);
    const longest = Math.round(report.longestStallMs);
    t.diagnostic(`${what}, ${name}: longest stall ${longest} ms, client late by ${late} ms`);
    assert.equal(report.broken, 0, `${name}, ${what}: ${report.brokenHow.join(", ")}`);
    assert.equal(report.wrong, 0, `${name}, ${what}: wrong bytes`);
    assert.equal(report.moved, 0, `${name}, ${what}: flows moved`);
    assert.equal(report.open, COUNTS[protocol], `${name}, ${what}`);
  }
}

/** Starts every agent; not all of them get far. */
function startAll(lab: Lab): Promise<PromiseSettledResult<unknown>[]> {
  return Promise.allSettled(nodesOf(lab).map((node) => lab.startAgent(node)));
}

async function testKills(t: TestContext, stage: Stage): Promise<void> {
  const { lab } = stage;
  const before = identities(lab);
  assert.equal(flowEntries(lab), ENTRIES);
  const moments: number[] = [];
  const lost = await countLosses(lab);
  let starting = Promise.resolve<PromiseSettledResult<unknown>[]>([]);
  for (let kill = 0; kill < KILLS; kill++) {
    const moment = Math.round((START_MS * (kill + Math.random())) / KILLS);
    moments.push(moment);
    await delay(moment);
    await Promise.all(nodesOf(lab).map((node) => lab.stopAgent(node, "SIGKILL")));
    await starting;
    starting = startAll(lab);
  }
  const failures = (await starting).filter(({ status }) => status === "rejected");
  assert.deepEqual(failures, []);
  await assertWhole(t, stage, `${KILLS} kills, at ${moments.join(", ")} ms of the agents' lives`);
  assert.deepEqual(identities(lab), before);
  t.diagnostic(await losses(lab, lost));
}

async function testWithoutAgents(t: TestContext, stage: Stage): Promise<void> {
  const { lab, client } = stage;
  await Promise.all(nodesOf(lab).map((node) => lab.stopAgent(node)));
  await assertWhole(t, stage, "no agent");
  for (const address of Object.values(VIPS)) {
    const fresh = await client.open("fresh", streamsTo(100, { address }));
    assert.deepEqual([fresh.open, fresh.broken], [100, 0]);
    await client.finish("fresh");
  }

  const lines = async (...words: string[]): Promise<string[]> => {
    const text = await lab.output("node2", ["ciliate", "bpf", ...words, "list"]);
    return text.trim().split("\n");
  };
  assert.match((await lines("service")).join("\n"), /198\.51\.100\.1:80 +service +tcp/);
  assert.match((await lines("service")).join("\n"), /\[fd00:198:51:100::1\]:80 +service +tcp/);
  assert.equal((await lines("backend")).length, 1 + GROUPS.length * PODS.length);
  assert.equal((await lines("maglev")).length, 1 + GROUPS.length * PODS.length);
  const ct = await lab.output("node2", ["ciliate", "bpf", "ct", "list", "-o", "json"]);
  assert.ok((JSON.parse(ct) as unknown[]).length > (CONNECTIONS * 2) / 9);
  assert.match((await lines("metrics")).join("\n"), /pod +sent reply/);
  const status = await lab.run("node2", ["ciliate", "status"]);
  assert.equal(status.code, 3);
  assert.match(status.stderr, /ciliate/);
  await Promise.all(nodesOf(lab).map((node) => lab.startAgent(node)));
  await assertWhole(t, stage, "agents again");
  // Those that have ended go when their time has come, and no others.
  await until("ended flows to be forgotten", FORGET_LIMIT_MS, () => flowEntries(lab) <= ENTRIES);
  assert.equal(flowEntries(lab), ENTRIES);
}

/** Changes a node's configuration file. */
function configure(lab: Lab, node: string, change: Readonly<Record<string, unknown>>): void {
  const { config } = nodeNamed(lab.plan, node).paths;
  const before = load(readFileSync(config, "utf8")) as Record<string, unknown>;
  replaceFile(config, dump({ ...before, ...change }));
}

async function testPrograms(t: TestContext, stage: Stage): Promise<void> {
  const { lab } = stage;
  const before = identities(lab);
  const programs = nodesOf(lab).map((node) => pinnedAt(lab, node).programs);
  const lost = await countLosses(lab);
  for (const node of nodesOf(lab)) {
    configure(lab, node, { fragments: "pass" });
    await lab.stopAgent(node);
    await lab.startAgent(node);
  }
  await assertWhole(t, stage, "programs replaced");
  assert.deepEqual(identities(lab), before);
  for (const [index, node] of nodesOf(lab).entries()) {
    const now = pinnedAt(lab, node).programs;
    for (const [link, program] of Object.entries(programs[index] ?? {})) {
      assert.notEqual(now[link], program, `${link} of ${node}`);
    }
  }
  // Without a program for a moment, a node's kernel answers for the service: unreachable.
  const seen = since(lost.stats, await netStats(lab, "client"));
  assert.equal(seen["Icmp InDestUnreachs"], undefined);
  t.diagnostic(await losses(lab, lost));
  const counts = verdicts(lab);
  sendFragment(lab);
  await until("the fragment to pass", 2000, () => {
    return since(counts, verdicts(lab))["edge pass fragment"] === 1;
  });
}

/** The first fragment of a datagram for the service, of which the others never come. */
function sendFragment(lab: Lab): void {
  const { plan } = lab;
  const [here, there] = plan.clientWire;
  const path = { source: plan.clientAddress.address, target: parseIpv4(VIP) };
  const frame = buildPacket(
    ethernet({ source: here.mac, target: there.mac }),
    ipv4({ ...path, moreFragments: true }),
    udp({ targetPort: VIP_PORT }),
    payload(64),
  );
  lab.sendFrame("client", here.device, frame);
}

async function testReload(t: TestContext, stage: Stage): Promise<void> {
  const { lab } = stage;
  const before = identities(lab);
  configure(lab, "node1", { trustedSources: ["203.0.113.0/24"], fragments: "drop" });
  const text = await lab.output("node1", ["ciliate", "config", "reload"]);
  assert.match(text, /trustedSources/);
  assert.match(text, /fragments.*restart/s);
  const trusted = (): boolean =>
    entriesOf(lab, "node1", maps.trusted).some(([{ address, prefixLength }]) => {
      return formatIpv4(address) === "203.0.113.0" && prefixLength === 24;
    });
  await until("the new prefix in force", 5000, trusted);
  configure(lab, "node1", { trustedSources: ["203.0.113.0/99"] });
  const refused = await lab.run("node1", ["ciliate", "config", "reload"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /trustedSources/);
  assert.ok(trusted());
  await assertWhole(t, stage, "configuration reloaded");
  assert.deepEqual(identities(lab), before);
}

/** Tables of another layout: agents of the next version take over what is in them. */
async function testLayout(t: TestContext, stage: Stage): Promise<void> {
  const { lab } = stage;
  const directory = mkdtempSync(join(tmpdir(), "ciliate-next-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const next = openLab(lab.name, makeNextVersion(directory));
  const before = identities(lab);
  const lost = await countLosses(lab);
  const upgraded = nodesOf(lab).slice(0, UPGRADES);
  for (const node of upgraded) {
    configure(lab, node, { trustedSources: [] });
    await lab.stopAgent(node);
    await next.startAgent(node);
    const said = readFileSync(nodeNamed(lab.plan, node).paths.log, "utf8");
    for (const { name } of [maps.conntrack, maps.conntrack6]) {
      assert.ok(said.includes(migrated(name)), `${node} says nothing of ${name}: ${said}`);
    }
  }
  await assertWhole(t, stage, "tables of another layout");
  for (const [index, { node, flows, services, links, mapIds }] of identities(lab).entries()) {
    assert.deepEqual({ flows, services, links }, pick(before[index]), node);
    const isNew = ([name, id]: [string, unknown]): boolean => before[index]?.mapIds[name] !== id;
    const fresh = Object.entries(mapIds).filter(isNew);
    const wanted = upgraded.includes(node) ? ["conntrack", "conntrack6"] : [];
    assert.deepEqual(fresh.map(([name]) => name).sort(), wanted, node);
  }
  t.diagnostic(await losses(lab, lost));
}

/** What a change of a table's layout leaves alone. */
function pick(node: ReturnType<typeof identities>[number] | undefined) {
  return { flows: node?.flows, services: node?.services, links: node?.links };
}

/** So that ids which are given anew are others than before. */
async function takeFirstIds({ lab }: Stage): Promise<void> {
  const address = "198.51.100.9";
  lab.publish(serviceOf(["pod2-3"], { name: "early", addresses: [address] }));
  const backend = podEndpoint(lab, "pod2-3", STREAM_PORT);
  await untilBalanced(lab, `${address}:${VIP_PORT}`, [backend]);
}

test("connections go on whatever becomes of the agents", async (t) => {
  const stage = await createStage(t, PODS, {
    nodes: 3,
    podsPerNode: 3,
    ipv6: true,
    config: CONFIG,
  });
  const { client } = stage;
  await takeFirstIds(stage);
  await balance(stage.lab, PODS, undefined, FAMILIES);
  stage.lab.withdraw("early");
  for (const { name, family, protocol } of GROUPS) {
    const how = { protocol, address: VIPS[family], intervalMs: INTERVAL_MS };
    await client.open(name, streamsTo(COUNTS[protocol], how));
  }
  await assertWhole(t, stage, "before");
  await t.test(`killed ${KILLS} times`, (t) => testKills(t, stage));
  await t.test("stopped, all of them", (t) => testWithoutAgents(t, stage));
  await t.test("started again with other programs", (t) => testPrograms(t, stage));
  await t.test("told to read the configuration again", (t) => testReload(t, stage));
  await t.test("replaced by agents with another layout of flows", (t) => testLayout(t, stage));
  for (const { name } of GROUPS.filter(({ protocol }) => protocol === "tcp")) {
    const end = await client.finish(name);
    assert.deepEqual([end.broken, end.wrong, end.sent - end.answered], [0, 0, 0], name);
  }
  assert.equal(await stage.servers.wrong(), 0);
});
