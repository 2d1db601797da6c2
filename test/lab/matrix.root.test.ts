// SPDX-License-Identifier: Apache-2.0

// Every mode in every family, for TCP and UDP, by XDP and by tc, to a pod of the balancer and of
// another node, with equal ports and with different ones, and to these nodes themselves: a client
// that must get its answers, and tshark's verdict about the wires. A lab for each pair of settings
// serves all of its rows at once; CILIATE_ROWS=snat/ipv4/tcp/native/far/other (a regular
// expression) runs some.

import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { dumpFrontends } from "../../src/datapath/dump.ts";
import { maps } from "../../src/datapath/gen/abi.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import type { LabOptions } from "../../src/lab/plan.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { FAMILIES, type Family, formatAddress } from "../../src/net/address.ts";
import { formatPrefix } from "../../src/net/prefix.ts";
import { BULK_BYTES, proveBulk } from "./tools/bulk.ts";
import {
  type Conversation,
  conversation,
  converseOnce,
  expectedLog,
  inLanes,
  Judge,
  type Way,
} from "./tools/conversation.ts";
import { entriesOf, nodesOf, pinsOf } from "./tools/inspect.ts";
import { proveKept } from "./tools/kept.ts";
import { MODES, type Mode, PROTOCOLS, type Protocol } from "./tools/modes.ts";
import {
  ECHO_PORT,
  HTTP_PORT,
  inUrl,
  type PodPrograms,
  setOffloads,
  startPrograms,
} from "./tools/programs.ts";
import { HOME } from "./tools/sizes.ts";
import { freshName } from "./tools/stage.ts";
import { type Frame, watch } from "./tools/wire.ts";

const ACCELERATIONS = ["native", "off"] as const;
/** Of the balancer, node1, and of another node, or these themselves. */
const BACKENDS = ["near", "far", "itself", "other-node"] as const;
const PODS = { near: "pod1-1", far: "pod2-1", itself: "node1", "other-node": "node2" } as const;
/** Where the balancer runs makes no difference to nodes as backends. */
const isPlayed = ({ backend, acceleration, ports }: Row): boolean =>
  backend === "near" || backend === "far" || (acceleration === "off" && ports === "other");
const POD_PORTS = { tcp: HTTP_PORT, udp: ECHO_PORT } as const;
/** A service's port is the pod's, or another one. */
const SERVICE_PORTS = { same: POD_PORTS, other: { tcp: 80, udp: 7 } } as const;
const PORTS = ["same", "other"] as const;
/** Less than what pods offer by any dispatch. */
const WIDTHS = { fabric: 1400, pod: 1500, client: 1300 };
const IN_FORCE_LIMIT_MS = 60_000;
const LOG_LIMIT_MS = 5000;

type Acceleration = (typeof ACCELERATIONS)[number];
type Backend = (typeof BACKENDS)[number];
type Ports = (typeof PORTS)[number];

interface Row {
  readonly mode: Mode;
  readonly family: Family;
  readonly protocol: Protocol;
  readonly acceleration: Acceleration;
  readonly backend: Backend;
  readonly ports: Ports;
}

const ROWS: readonly Row[] = MODES.flatMap((mode) =>
  FAMILIES.flatMap((family) =>
    PROTOCOLS.flatMap((protocol) =>
      ACCELERATIONS.flatMap((acceleration) =>
        BACKENDS.flatMap((backend) =>
          PORTS.map((ports) => ({ mode, family, protocol, acceleration, backend, ports })).filter(
            isPlayed,
          ),
        ),
      ),
    ),
  ),
);

function nameOf({ mode, family, protocol, acceleration, backend, ports }: Row): string {
  return [mode.name, family, protocol, acceleration, backend, ports].join("/");
}

/** Each mode has a service for each place of a backend, each service an address of each family. */
function addressOf({ mode, family, backend }: Pick<Row, "mode" | "family" | "backend">): string {
  const number = 1 + BACKENDS.length * MODES.indexOf(mode) + BACKENDS.indexOf(backend);
  return family === "ipv4" ? `198.51.100.${number}` : `fd00:198:51:100::${number}`;
}

function conversationOf(row: Row): Conversation {
  const { mode, protocol, backend, ports } = row;
  return conversation({
    what: nameOf(row),
    address: addressOf(row),
    port: SERVICE_PORTS[ports][protocol],
    protocol,
    entry: "node1",
    pod: PODS[backend],
    way: mode.ways[protocol],
  });
}

function publish(lab: Lab, mode: Mode, backends: ReadonlySet<Backend>): void {
  for (const backend of backends) {
    lab.publish({
      name: `${mode.name}-${backend}`,
      addresses: FAMILIES.map((family) => addressOf({ mode, family, backend })),
      ports: PORTS.flatMap((ports) =>
        PROTOCOLS.map((protocol) => ({
          name: `${protocol}-${ports}`,
          port: SERVICE_PORTS[ports][protocol],
          targetPort: POD_PORTS[protocol],
          protocol: protocol === "tcp" ? "TCP" : "UDP",
        })),
      ),
      backends: [PODS[backend]],
      annotations: { "ciliate.io/forwarding-mode": mode.annotation },
    });
  }
}

/** Waits until every node has what all of these go to. */
async function untilServed(lab: Lab, all: readonly Conversation[]): Promise<void> {
  const wanted = all.map(({ address, port, protocol }) => `${inUrl(address)}:${port}/${protocol}`);
  for (const node of nodesOf(lab)) {
    await until(`services on ${node}`, IN_FORCE_LIMIT_MS, () => {
      const rows = [...dumpFrontends(pinsOf(lab, node))].filter(
        ({ kind, backends }) => kind === "service" && backends > 0,
      );
      const there = new Set(rows.map(({ frontend, protocol }) => `${frontend}/${protocol}`));
      return wanted.every((frontend) => there.has(frontend));
    });
  }
}

interface Scene {
  readonly lab: Lab;
  readonly programs: readonly (readonly [pod: string, programs: PodPrograms])[];
}

async function createScene(
  t: TestContext,
  settings: LabOptions,
  acceleration: Acceleration,
  pods: readonly string[],
): Promise<Scene> {
  const name = freshName();
  t.after(() => removeLab(name));
  // The routes' MSS is not lowered: the datapath itself must see to it.
  const options = { name, nodes: 2, podsPerNode: 1, lowerMss: false, acceleration };
  const lab = await createLab({ ...options, ...settings });
  const programs = await Promise.all(
    pods.map(async (pod) => [pod, await startPrograms(lab, pod, BULK_BYTES)] as const),
  );
  // What is captured must be whole, and cut as it was on the wire.
  await Promise.all([
    ...["client", PODS.near, PODS.far, ...nodesOf(lab)].map((place) =>
      setOffloads(lab, place, false),
    ),
    ...nodesOf(lab).map((node) => lab.output("switch", ["ethtool", "-K", node, "gro", "off"])),
  ]);
  return { lab, programs };
}

/** Has all conversations and tells which failed, and what passed the wires and reached the pods. */
async function play(t: TestContext, { lab }: Scene, all: readonly Conversation[]) {
  const failures = new Map<Conversation, unknown>();
  const { wires, ...pods } = await watch(
    t,
    lab,
    {
      wires: { at: `switch:${nodesOf(lab).join()}` },
      near: { at: PODS.near },
      far: { at: PODS.far },
    },
    () =>
      inLanes(all, async (one) => {
        await converseOnce(lab, one).catch((error: unknown) => failures.set(one, error));
      }),
  );
  return { failures, wires, pods: [...pods.near, ...pods.far] };
}

/** What a switch saw of each way; a packet with options would be its slow path's. */
async function assertCounted(lab: Lab, rows: readonly Row[]): Promise<void> {
  const { options, options6, ipip, ip6ip6, geneve } = await lab.counters();
  const far = rows.filter(({ backend }) => backend === "far" || backend === "other-node");
  const goes = (family: Family, ...ways: readonly Way[]): boolean =>
    far.some((row) => row.family === family && ways.includes(row.mode.ways[row.protocol]));
  assert.deepEqual(
    [ipip, ip6ip6, options, options6, geneve].map(({ packets }) => packets > 0),
    [
      goes("ipv4", "ipip", "ipip-first"),
      goes("ipv6", "ipip", "ipip-first"),
      goes("ipv4", "option"),
      goes("ipv6", "option"),
      far.some(({ mode, protocol }) => mode.ways[protocol] === "geneve"),
    ],
  );
}

async function assertLogged(scene: Scene, all: readonly Conversation[]): Promise<void> {
  for (const [pod, programs] of scene.programs) {
    const wanted = expectedLog(scene.lab, pod, all);
    await until(`the log of ${pod}`, LOG_LIMIT_MS, () => {
      return programs.requests().length >= wanted.length;
    });
    assert.deepEqual(programs.requests().sort(), wanted, pod);
  }
}

/** The ways to the other node get narrow; its wire is so in truth. */
async function narrow(lab: Lab): Promise<void> {
  const [near, far] = [nodeNamed(lab.plan, "node1"), nodeNamed(lab.plan, HOME)];
  const { fabric } = WIDTHS;
  const goals = [
    [formatPrefix(far.podCidr), near.gateway],
    [formatAddress(far.address.address), near.gateway],
    [formatPrefix(far.podCidr6), near.gateway6],
    [formatAddress(far.address6.address), near.gateway6],
  ] as const;
  for (const [goal, gateway] of goals) {
    const way = ["via", formatAddress(gateway), "mtu", `${fabric}`];
    await lab.output("node1", ["ip", "route", "replace", goal, ...way]);
  }
  for (const table of [maps.nexthops, maps.nexthops6] as const) {
    const rows = () => entriesOf<number, { readonly mtu: number }>(lab, "node1", table);
    await until("node1 to know of narrow ways", IN_FORCE_LIMIT_MS, () => {
      return rows().some(([, { mtu }]) => mtu === fabric);
    });
  }
}

/** Of the modes' bulk in both directions. */
async function testBulk(t: TestContext, { lab, programs }: Scene, modes: readonly Mode[]) {
  const [, far] = programs.find(([pod]) => pod === PODS.far) ?? [];
  assert.ok(far !== undefined);
  await narrow(lab);
  await proveBulk(t, lab, far, modes, WIDTHS);
}

async function testRows(t: TestContext, rows: readonly Row[]): Promise<void> {
  const [first] = rows;
  assert.ok(first !== undefined);
  const backends = new Set(rows.map(({ backend }) => backend));
  const pods = [...new Set([...backends, "near", "far"] as const)].map((name) => PODS[name]);
  const scene = await createScene(t, first.mode.settings, first.acceleration, pods);
  const { lab } = scene;
  const all = rows.map(conversationOf);
  for (const mode of new Set(rows.map((row) => row.mode))) publish(lab, mode, backends);
  await untilServed(lab, all);
  await lab.resetCounters();
  const seen: { wires: Frame[]; pods: Frame[]; failures: Map<Conversation, unknown> } = await play(
    t,
    scene,
    all,
  );
  const judge = new Judge(lab);
  for (const one of all) {
    await t.test(one.what, () => {
      if (seen.failures.has(one)) throw seen.failures.get(one);
      judge.assertOne(one, seen.wires, seen.pods);
    });
  }
  await t.test("nothing else", async () => {
    judge.assertNoOthers(all, seen.wires, seen.pods);
    await assertCounted(lab, rows);
    await assertLogged(scene, all);
  });
  const modes = [...new Set(rows.map(({ mode }) => mode))];
  await t.test("flows that are hard to keep", (inner) => proveKept(inner, lab, modes));
  await t.test("bulk, where wires are narrow", (inner) => testBulk(inner, scene, modes));
}

const wanted = new RegExp(process.env["CILIATE_ROWS"] ?? "");
const labs = Object.groupBy(
  ROWS.filter((row) => wanted.test(nameOf(row))),
  ({ mode, acceleration }) => `${JSON.stringify(mode.settings)}, acceleration ${acceleration}`,
);

suite("every mode", { concurrency: 2 }, () => {
  for (const [settings, rows = []] of Object.entries(labs)) {
    test(`with ${settings}`, (t) => testRows(t, rows));
  }
});
