// SPDX-License-Identifier: Apache-2.0
// Flows of every mode of a lab that are hard to keep: another balancer gets them while they are
// open, or a pod can't tell two of them apart.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { FlowDirection, maps } from "../../../src/datapath/gen/abi.ts";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed } from "../../../src/lab/plan.ts";
import { until } from "../../../src/lab/process.ts";
import {
  FAMILIES,
  type Family,
  formatAddress,
  formatAddressPort,
  parseAddress,
} from "../../../src/net/address.ts";
import { expositionOf } from "./exposition.ts";
import { entriesOf, podEndpoint, untilBalanced } from "./inspect.ts";
import { type Mode, PROTOCOLS, type Protocol } from "./modes.ts";
import { serviceOf, streamsTo, VIP_PORT } from "./stage.ts";
import { STREAM_PORT, StreamClient, StreamServers } from "./streams.ts";

const NEAR = "pod1-1";
const FAR = "pod2-1";
/** Enough for both pods to have some. */
const COUNT = 8;
const INTERVAL_MS = 50;
const NETWORKS = { ipv4: "198.51.100.", ipv6: "fd00:198:51:100::" } as const;
const FIRST_MOVING = 201;
const FIRST_TWIN = 221;
/** None that a client is given by itself, or SNAT keeps. */
const FIRST_PORT = 30_000;
/** How an agent counts SYNs whose client port another connection has. */
const REFUSED = { place: "host", verdict: "drop", reason: "port_taken" };
const REFUSED_LIMIT_MS = 10_000;

/** One mode's services of one family. */
interface Row {
  readonly mode: Mode;
  readonly family: Family;
  readonly what: string;
  /** Of a service with both pods. */
  readonly moving: string;
  /** Of a service with one pod. */
  readonly twins: readonly [string, string];
  /** The client's, of both twins. */
  readonly port: number;
}

/** By other ways each packet says its service. */
const isPlain = ({ mode }: Row): boolean => mode.ways.tcp === "ipip-first";

function rowsOf(modes: readonly Mode[]): Row[] {
  return modes.flatMap((mode, index) =>
    FAMILIES.map((family, other) => {
      const address = (number: number): string => `${NETWORKS[family]}${number}`;
      const twin = FIRST_TWIN + 2 * index;
      return {
        mode,
        family,
        what: `${mode.name}/${family}`,
        moving: address(FIRST_MOVING + index),
        twins: [address(twin), address(twin + 1)],
        port: FIRST_PORT + 2 * index + other,
      };
    }),
  );
}

async function publish(lab: Lab, modes: readonly Mode[], rows: readonly Row[]): Promise<void> {
  for (const mode of modes) {
    const own = rows.filter((row) => row.mode === mode);
    const annotations = { "ciliate.io/forwarding-mode": mode.annotation };
    for (const [name, backends, addresses] of [
      [`${mode.name}-moving`, [NEAR, FAR], own.map(({ moving }) => moving)],
      [`${mode.name}-twins`, [FAR], own.flatMap(({ twins }) => twins)],
    ] as const) {
      lab.publish(serviceOf(backends, { name, addresses, annotations }));
    }
  }
  for (const { family, moving, twins } of rows) {
    for (const [address, pods] of [
      [moving, [NEAR, FAR]],
      ...twins.map((twin) => [twin, [FAR]] as const),
    ] as const) {
      const frontend = formatAddressPort(parseAddress(address), VIP_PORT);
      const backends = pods.map((pod) => podEndpoint(lab, pod, STREAM_PORT, family));
      await untilBalanced(lab, frontend, backends);
      await untilBalanced(lab, frontend, backends, undefined, "udp");
    }
  }
}

/** The switch sends what is for a service to the other node. */
async function move(lab: Lab, { family, moving }: Row): Promise<void> {
  const { address, address6 } = nodeNamed(lab.plan, "node2");
  const [gateway, bits] = family === "ipv4" ? [address, 32] : [address6, 128];
  const via = ["via", formatAddress(gateway.address)];
  await lab.output("switch", ["ip", "route", "replace", `${moving}/${bits}`, ...via]);
}

/** Those flows that a balancer doesn't keep in its own memory go on by another. */
async function testMoving(lab: Lab, client: StreamClient, row: Row): Promise<readonly string[]> {
  const canMove = ({ ways }: Mode, protocol: Protocol): boolean => ways[protocol] !== "snat";
  const groups = PROTOCOLS.filter((protocol) => canMove(row.mode, protocol));
  const name = (protocol: Protocol): string => `${row.what}/${protocol}`;
  for (const protocol of groups) {
    const goal = { address: row.moving, protocol, intervalMs: INTERVAL_MS };
    await client.open(name(protocol), streamsTo(COUNT, goal));
    await client.round(name(protocol));
  }
  await move(lab, row);
  const pods: string[] = [];
  for (const protocol of groups) {
    // Twice: the first answer may be to what was on its way.
    await client.round(name(protocol));
    const report = await client.round(name(protocol));
    assert.equal(report.broken, 0, `${name(protocol)}: ${report.brokenHow.join(", ")}`);
    assert.deepEqual([report.open, report.wrong, report.moved], [COUNT, 0, 0], name(protocol));
    pods.push(...Object.keys(report.byBackend));
    const end = await client.finish(name(protocol));
    assert.deepEqual([end.broken, end.wrong], [0, 0], name(protocol));
    if (protocol === "tcp") assert.equal(end.answered, end.sent, name(protocol));
  }
  return pods;
}

/** By which ports the pod knows those who come from a port of the client's. */
function aliasesOf(lab: Lab, { mode, family, port }: Row): number[] {
  // SNAT's are in the balancer's memory.
  const node = mode.ways.tcp === "snat" ? "node1" : "node2";
  const table = family === "ipv4" ? maps.conntrack : maps.conntrack6;
  interface Key {
    readonly direction: number;
    readonly sourcePort: number;
  }
  return entriesOf<Key, { readonly aliasPort: number }>(lab, node, table)
    .filter(
      ([{ direction, sourcePort }]) => direction === FlowDirection.request && sourcePort === port,
    )
    .map(([, { aliasPort }]) => aliasPort);
}

/** Two connections of one client port, to two addresses of one pod. */
async function testTwins(lab: Lab, client: StreamClient, row: Row): Promise<void> {
  const names = row.twins.map((address) => `${row.what}/${address}`);
  for (const [index, address] of row.twins.entries()) {
    const goal = { address, localPort: row.port, intervalMs: INTERVAL_MS };
    const { broken, ports } = await client.open(names[index] ?? "", streamsTo(1, goal));
    assert.deepEqual([broken, ports], [0, [row.port]], address);
  }
  const aliases = aliasesOf(lab, row);
  assert.deepEqual([aliases.length, new Set(aliases).size], [2, 2], `aliases ${aliases.join()}`);
  for (const name of names) {
    await client.round(name);
    const end = await client.finish(name);
    assert.deepEqual([end.broken, end.wrong, end.sent - end.answered], [0, 0, 0], name);
  }
}

/**
 * The same where plain packets don't say to which address they went: the second is refused, which
 * is counted, and gets in once the first has ended.
 */
async function testHeirs(lab: Lab, client: StreamClient, rows: readonly Row[]): Promise<void> {
  const refused = async (): Promise<number> =>
    (await expositionOf(lab, "node2")).sum("ciliate_packets_total", REFUSED);
  const goalOf = (address: string, { port }: Row) =>
    streamsTo(1, { address, localPort: port, intervalMs: INTERVAL_MS });
  const before = await refused();
  for (const row of rows) {
    const [first] = row.twins;
    const { broken } = await client.open(first, goalOf(first, row));
    assert.equal(broken, 0, first);
  }
  await using others = new AsyncDisposableStack();
  const heirs = rows.map((row) => {
    const own = others.use(new StreamClient(lab));
    const opened = own.open(row.what, goalOf(row.twins[1], row));
    opened.catch(() => {}); // it ends with its client when the test fails before it asks
    return { row, own, opened };
  });
  await until("SYNs to be refused", REFUSED_LIMIT_MS, async () => {
    return (await refused()) >= before + rows.length;
  });
  for (const row of rows) assert.deepEqual(aliasesOf(lab, row), [row.port], row.what);
  for (const { twins } of rows) {
    await client.round(twins[0]);
    const end = await client.finish(twins[0]);
    assert.deepEqual([end.broken, end.wrong, end.sent - end.answered], [0, 0, 0], twins[0]);
  }
  for (const { row, own, opened } of heirs) {
    const { broken, ports } = await opened;
    assert.deepEqual([broken, ports], [0, [row.port]], row.what);
    await own.round(row.what);
    const end = await own.finish(row.what);
    assert.deepEqual([end.broken, end.wrong, end.sent - end.answered], [0, 0, 0], row.what);
    assert.deepEqual(aliasesOf(lab, row), [row.port], row.what);
  }
}

/** Proves it for services of these modes, in a lab of two nodes with a pod each. */
export async function proveKept(t: TestContext, lab: Lab, modes: readonly Mode[]): Promise<void> {
  await using servers = new StreamServers(lab);
  await servers.start([NEAR, FAR]);
  await using client = new StreamClient(lab);
  const rows = rowsOf(modes);
  await publish(lab, modes, rows);
  const pods: string[] = [];
  for (const row of rows) {
    await t.test(`${row.what}: another balancer`, async () => {
      pods.push(...(await testMoving(lab, client, row)));
    });
    if (isPlain(row)) continue;
    await t.test(`${row.what}: one client port, two addresses`, () => testTwins(lab, client, row));
  }
  const plain = rows.filter(isPlain);
  if (plain.length > 0) {
    const what = plain.map((row) => row.what).join();
    await t.test(`${what}: one client port, one address after the other`, () =>
      testHeirs(lab, client, plain),
    );
  }
  assert.deepEqual([...new Set(pods)].sort(), [NEAR, FAR]);
  assert.equal(await servers.wrong(), 0);
}
