// SPDX-License-Identifier: Apache-2.0

// Mixed connections on every mode, long ones that stream numbered bytes, short ones and UDP, while
// backends, services, balancers and agents come and go: none that should succeed fails, and what
// nodes remember of them goes with them. Each thing happens once, and again as long as there is
// time: `make soak T=churn`.

import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { FlowFlag, maps } from "../../src/datapath/gen/abi.ts";
import type { Lab } from "../../src/lab/lab.ts";
import type { BackendSpec } from "../../src/lab/manifest.ts";
import type { LabOptions } from "../../src/lab/plan.ts";
import { nodeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { FAMILIES, type Family, formatAddress } from "../../src/net/address.ts";
import { Prng } from "../differential/prng.ts";
import { budget } from "./tools/budget.ts";
import { entriesOf, nodesOf, podEndpoint, untilBalanced, untilGone } from "./tools/inspect.ts";
import { MODES, type Mode, PROTOCOLS, type Protocol } from "./tools/modes.ts";
import { inUrl } from "./tools/programs.ts";
import { ShortConnections } from "./tools/short-connections.ts";
import { createStage, type Stage, serviceOf, streamsTo, VIP_PORT } from "./tools/stage.ts";
import { STREAM_PORT } from "./tools/streams.ts";

/** Of all labs together, besides each thing's first time. */
const SECONDS = budget("seconds", 0);
const SEED = budget("seed", Date.now() % 0x1_0000_0000);
/** An agent with IPv6 takes long to start, and the same happens to both: once there is time. */
const USED: readonly Family[] = SECONDS > 0 ? FAMILIES : ["ipv4"];
/** To each service, by each family. */
const LONG = { tcp: 12, udp: 4 } as const;
const SHORT = 8;
const INTERVAL_MS = 250;
const PODS = [1, 2, 3].flatMap((node) => [1, 2].map((pod) => `pod${node}-${pod}`));
const ACCELERATIONS = SECONDS > 0 ? (["native", "off"] as const) : (["native"] as const);
/** Flows that are over are forgotten while the test waits. */
const CONFIG = { conntrack: { tcpClosing: "1s", udp: "8s", collectInterval: "1s" } };
const FORGET_LIMIT_MS = 60_000;
/** Who only knows where a flow is remembers it for five minutes. */
const REMOTE_LIMIT_MS = 400_000;

const NETWORKS = { ipv4: "198.51.100.", ipv6: "fd00:198:51:100::" } as const;
const BITS = { ipv4: 32, ipv6: 128 } as const;
const addressOf = (mode: Mode, family: Family): string =>
  `${NETWORKS[family]}${1 + MODES.indexOf(mode)}`;
const guestAddressOf = (mode: Mode, family: Family): string =>
  `${NETWORKS[family]}${101 + MODES.indexOf(mode)}`;
const frontendOf = (address: string): string => `${inUrl(address)}:${VIP_PORT}`;

/** Connections that are opened and judged together. */
interface Group {
  readonly name: string;
  readonly mode: Mode;
  readonly family: Family;
  readonly protocol: Protocol;
}

const groupsOf = (mode: Mode): Group[] =>
  USED.flatMap((family) =>
    PROTOCOLS.map((protocol) => {
      return { name: `${mode.name}-${family}-${protocol}`, mode, family, protocol };
    }),
  );

/** SNAT's flows are in one balancer's memory alone. */
const canMove = (mode: Mode): boolean => PROTOCOLS.every((name) => mode.ways[name] !== "snat");

class Scene {
  readonly #t: TestContext;
  readonly #stage: Stage;
  readonly #modes: readonly Mode[];
  readonly #random: Prng;
  readonly #short: ShortConnections;
  #balancer = 1;

  constructor(t: TestContext, stage: Stage, modes: readonly Mode[], seed: number) {
    this.#t = t;
    this.#stage = stage;
    this.#modes = modes;
    this.#random = new Prng(seed);
    const goals = modes.flatMap((mode) =>
      USED.map((family) => ({ address: addressOf(mode, family), port: VIP_PORT })),
    );
    this.#short = new ShortConnections(stage.lab, goals, SHORT);
    t.after(() => this.#short[Symbol.asyncDispose]());
  }

  get #lab(): Lab {
    return this.#stage.lab;
  }

  /** What happens, each by its name. */
  readonly happenings: Readonly<Record<string, () => Promise<void>>> = {
    "a backend drains": () => this.#without({ ready: false, serving: true, terminating: true }),
    "a backend leaves": () => this.#without(undefined),
    "a backend dies": () => this.#death(),
    "a service comes and goes": () => this.#guest(),
    "another balancer": () => this.#move(),
    "an agent stops": () => this.#restart("SIGTERM"),
    "an agent is killed": () => this.#restart("SIGKILL"),
  };

  async begin(): Promise<void> {
    await this.#balance(PODS);
    for (const mode of this.#modes) await this.#open(mode);
    this.#short.start();
  }

  /** All that should be well is. */
  async assertWell(what: string): Promise<void> {
    for (const { name, protocol } of this.#modes.flatMap(groupsOf)) {
      const report = await this.#stage.client.round(name);
      const about = `${what}, ${name}`;
      assert.equal(report.broken, 0, `${about}: ${report.brokenHow.join(", ")}`);
      assert.deepEqual([report.open, report.wrong, report.moved], [LONG[protocol], 0, 0], about);
    }
    assert.deepEqual(this.#short.failures, [], what);
  }

  async end(): Promise<void> {
    await this.#short.pause();
    assert.deepEqual(this.#short.failures, []);
    for (const mode of this.#modes) await this.#close(mode);
    assert.equal(await this.#stage.servers.wrong(), 0);
    this.#t.diagnostic(`${this.#short.made} short connections`);
    const flows = (flags: number): number => flowEntries(this.#lab, flags);
    await until("nodes to forget their flows", FORGET_LIMIT_MS, () => {
      return flows(FlowFlag.remote) === 0;
    });
    if (SECONDS === 0) return;
    await until("nodes to forget others' flows", REMOTE_LIMIT_MS, () => flows(0) === 0);
  }

  /** Publishes every service over these backends and waits until it is so. */
  async #balance(backends: readonly (string | BackendSpec)[]): Promise<void> {
    const lab = this.#lab;
    const names = backends.filter((backend) => typeof backend === "string");
    for (const mode of this.#modes) this.#publish(mode, mode.name, addressOf, backends);
    for (const { mode, family, protocol } of this.#modes.flatMap(groupsOf)) {
      const wanted = names.map((pod) => podEndpoint(lab, pod, STREAM_PORT, family));
      const frontend = frontendOf(addressOf(mode, family));
      await untilBalanced(lab, frontend, wanted, nodesOf(lab), protocol);
    }
  }

  #publish(
    mode: Mode,
    name: string,
    addressOf: (mode: Mode, family: Family) => string,
    backends: readonly (string | BackendSpec)[],
  ): void {
    const annotations = { "ciliate.io/forwarding-mode": mode.annotation };
    const addresses = USED.map((family) => addressOf(mode, family));
    this.#lab.publish(serviceOf(backends, { name, addresses, annotations }));
  }

  async #open(mode: Mode): Promise<void> {
    for (const { name, family, protocol } of groupsOf(mode)) {
      const goal = { address: addressOf(mode, family), protocol, intervalMs: INTERVAL_MS };
      await this.#stage.client.open(name, streamsTo(LONG[protocol], goal));
    }
  }

  async #close(mode: Mode): Promise<void> {
    for (const { name, protocol } of groupsOf(mode)) {
      const report = await this.#stage.client.finish(name);
      assert.equal(report.broken, 0, `${name}: ${report.brokenHow.join(", ")}`);
      if (protocol === "tcp") assert.equal(report.answered, report.sent, name);
    }
  }

  /** A backend gets no new connections for a while; those that it has go on. */
  async #without(conditions: Omit<BackendSpec, "pod"> | undefined): Promise<void> {
    const pod = this.#random.pick(PODS);
    const others = PODS.filter((name) => name !== pod);
    await this.#balance(conditions === undefined ? others : [...others, { pod, ...conditions }]);
    await this.assertWell(`${pod} takes nothing new`);
    await this.#balance(PODS);
  }

  /** A backend leaves and dies: its connections end with it, and only they. */
  async #death(): Promise<void> {
    const { client, servers } = this.#stage;
    const pod = this.#random.pick(PODS);
    await this.#balance(PODS.filter((name) => name !== pod));
    await this.#short.pause();
    await servers.kill(pod);
    this.#short.start();
    for (const { name: group, protocol } of this.#modes.flatMap(groupsOf)) {
      if (protocol === "tcp") {
        const report = await client.round(group);
        const { [pod]: dead, ...others } = report.byBackend;
        assert.equal(dead?.open ?? 0, 0, `${group}: connections to a dead ${pod}`);
        for (const [name, { broken }] of Object.entries(others)) {
          assert.equal(broken, 0, `${group}: ${name}: ${report.brokenHow.join(", ")}`);
        }
      }
      await client.reset(group);
    }
    await servers.start([pod]);
    await this.#balance(PODS);
    for (const mode of this.#modes) await this.#open(mode);
  }

  async #guest(): Promise<void> {
    const lab = this.#lab;
    for (const mode of this.#modes) {
      const name = `guest-${mode.name}`;
      this.#publish(mode, name, guestAddressOf, PODS);
      await this.#short.pause();
      for (const family of USED) {
        const address = guestAddressOf(mode, family);
        const backends = PODS.map((pod) => podEndpoint(lab, pod, STREAM_PORT, family));
        await untilBalanced(lab, frontendOf(address), backends);
        await this.#short.connect({ address, port: VIP_PORT });
      }
      this.#short.start();
      lab.withdraw(name);
      for (const { family, protocol } of groupsOf(mode)) {
        await untilGone(lab, frontendOf(guestAddressOf(mode, family)), protocol);
      }
    }
  }

  /** The switch sends what is for services to another node; SNAT's flows can't go with them. */
  async #move(): Promise<void> {
    const lab = this.#lab;
    const nodes = lab.plan.nodes.map(({ index }) => index);
    this.#balancer = this.#random.pick(nodes.filter((index) => index !== this.#balancer));
    const { address, address6 } = nodeNamed(lab.plan, `node${this.#balancer}`);
    const gateways = { ipv4: address.address, ipv6: address6.address };
    const [moving, staying] = [this.#modes.filter(canMove), this.#modes.filter((m) => !canMove(m))];
    if (staying.length > 0) await this.#short.pause();
    for (const mode of staying) await this.#close(mode);
    for (const mode of this.#modes) {
      for (const family of USED) {
        const route = ["ip", "route", "replace", `${addressOf(mode, family)}/${BITS[family]}`];
        await lab.output("switch", [...route, "via", formatAddress(gateways[family])]);
      }
    }
    for (const mode of staying) await this.#open(mode);
    if (staying.length > 0) this.#short.start();
    const names = moving.map(({ name }) => name).join(", ") || "none";
    this.#t.diagnostic(`by node${this.#balancer}; moved with all connections: ${names}`);
  }

  async #restart(signal: NodeJS.Signals): Promise<void> {
    const node = this.#random.pick(nodesOf(this.#lab));
    await this.#lab.stopAgent(node, signal);
    await this.assertWell(`without the agent of ${node}`);
    await this.#lab.startAgent(node);
  }
}

/** Entries of all nodes that have none of these flags. */
function flowEntries(lab: Lab, without: number): number {
  const counts = nodesOf(lab).map((node) => {
    const entries = entriesOf(lab, node, maps.conntrack).map(([, { flags }]) => flags);
    if (USED.includes("ipv6")) {
      entries.push(...entriesOf(lab, node, maps.conntrack6).map(([, { flags }]) => flags));
    }
    return entries.filter((flags) => (flags & without) === 0).length;
  });
  return counts.reduce((sum, count) => sum + count, 0);
}

async function churn(t: TestContext, options: LabOptions, modes: readonly Mode[], ms: number) {
  const stage = await createStage(t, PODS, {
    nodes: 3,
    podsPerNode: 2,
    config: CONFIG,
    ipv6: USED.includes("ipv6"),
    ...options,
  });
  const scene = new Scene(t, stage, modes, SEED);
  await scene.begin();
  await scene.assertWell("before");
  const end = Date.now() + ms;
  const counts = new Map<string, number>();
  do {
    for (const [name, happen] of Object.entries(scene.happenings)) {
      await happen().catch((error: Error) => {
        throw new Error(`${name} (seed ${SEED}): ${error.message}`, { cause: error });
      });
      await scene.assertWell(name);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  } while (Date.now() < end);
  await scene.end();
  t.diagnostic(`seed ${SEED}; ${[...counts].map(([name, n]) => `${name}: ${n}`).join(", ")}`);
}

const groups = Object.values(
  Object.groupBy(MODES, ({ settings }) => JSON.stringify(settings)),
).flatMap((modes = []) => ACCELERATIONS.map((acceleration) => ({ modes, acceleration })));
/** With no time to spend, those whose nodes have usual settings must do. */
const wanted = SECONDS > 0 ? groups : groups.slice(0, 1);

suite("connections while all things change", { concurrency: 2 }, () => {
  for (const { modes, acceleration } of wanted) {
    const names = modes.map(({ name }) => name).join(", ");
    test(`${names}, acceleration ${acceleration}`, (t) => {
      const settings = { ...modes[0]?.settings, acceleration };
      return churn(t, settings, modes, (SECONDS * 1000 * 2) / groups.length);
    });
  }
});
