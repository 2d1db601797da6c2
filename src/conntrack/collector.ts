// SPDX-License-Identifier: Apache-2.0
// Removes flows that are over from the tables of both families, a little at a time, and sooner
// those that are only half open when a table fills: docs/decisions/full-tables.md.

import type { Flow, Flow6, FlowKey, FlowKey6, ServiceId } from "../datapath/gen/abi.ts";
import type { Ticks } from "../datapath/jiffies.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { Address } from "../net/address.ts";
import type { Pressure } from "./pace.ts";
import type { FlowTimeouts, Removal } from "./rows.ts";
import { Sweeper } from "./sweeper.ts";
import type { SnatPorts } from "./tally.ts";

/** Milliseconds, both monotonic. */
export interface CollectorClock {
  nowMs(): number;
  /** What this thread has used of a processor. */
  cpuMs(): number;
}

export interface CollectorOptions {
  /** conntrack, and conntrack6 where the node has it. */
  readonly maps: readonly (TypedMap<FlowKey, Flow> | TypedMap<FlowKey6, Flow6>)[];
  readonly ticks: Pick<Ticks, "now" | "perSecond">;
  /** Read anew again and again: they may change while the agent runs. */
  readonly timeouts: () => FlowTimeouts;
  /** How often flows that are over are removed, as far as that is cheap enough. */
  readonly intervalMs: () => number;
  /** Whether a pod of this node has this address; undefined while that isn't known yet. */
  readonly isEndpoint: (address: Address) => boolean | undefined;
  /** Whether a pod of any node still has its flows; undefined while that isn't known yet. */
  readonly lives: (address: Address) => boolean | undefined;
  /** Called when all of a table has been seen, with what was in it. */
  readonly swept?: (table: string, seen: Sweep) => void;
  /** Called when a step fails; the next one comes all the same. */
  readonly failed: (error: Error) => void;
  readonly clock: CollectorClock;
}

/** What a whole sweep of one table saw. */
export interface Sweep {
  /** When it began, by the collector's clock. */
  readonly beganMs: number;
  /** Services that have flows of SNAT. */
  readonly snatServices: ReadonlySet<ServiceId>;
}

/** One table, as the last whole sweep saw it; under pressure as the last steps did. */
export interface FlowTableFigures {
  readonly table: string;
  /** Entries in the map; a flow of a pod of this node has two. */
  readonly entries: number;
  readonly limit: number;
  readonly pressure: Pressure;
  /** For how long half-open flows are kept, as long as there is pressure. */
  readonly halfOpenMs: number;
}

/** What sweeps saw, and how many flows all of them removed. */
export interface CollectorFigures {
  readonly tables: readonly FlowTableFigures[];
  readonly removed: Readonly<Record<Removal, number>>;
  /** The longest time for which the event loop was held, ever. */
  readonly longestHoldMs: number;
  /** How long the last sweeps took, and what they cost of a processor. */
  readonly lastSweepMs: number;
  readonly lastCostMs: number;
  /** Backends to which flows have most of this node's ports, those with most first. */
  readonly snatPorts: readonly SnatPorts[];
}

export interface Collector extends AsyncDisposable {
  figures(): CollectorFigures;
  /** Goes through all tables now and once, without a pause. */
  collect(): Promise<void>;
  /** The same, unless the last sweeps were so dear or so short ago that it would be a burden. */
  refresh(): Promise<void>;
}

/** A core's share that `refresh` may use, however often it is called. */
const REFRESH_SHARE = 0.1;
const MAX_SNAT_PORTS = 16;
/** A start has better things to do. */
const FIRST_MS = 1000;
/** A sweep under way says something about all of the table when it has seen so much of it. */
const ENOUGH = 1 / 8;

/** Walks through the tables from now on, each at its own pace. */
export function createCollector(options: CollectorOptions): Collector {
  const { maps, clock } = options;
  const tables = maps.map((map) => new Table(new Sweeper(map, maps.length, options), options));
  let refreshedMs = Number.NEGATIVE_INFINITY;
  const collect = async (): Promise<void> => {
    for (const table of tables) await table.collect();
    refreshedMs = clock.nowMs();
  };
  return {
    figures: () => figuresOf(tables.map(({ sweeper }) => sweeper)),
    collect,
    async refresh() {
      const costMs = tables.reduce(
        (sum, { sweeper }) => sum + (sweeper.last?.tally.costMs ?? 0),
        0,
      );
      if (clock.nowMs() - refreshedMs >= costMs / REFRESH_SHARE) await collect();
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(tables.map((table) => table.close()));
    },
  };
}

/** A sweeper, and when it takes its next step. */
class Table {
  readonly sweeper: Sweeper;
  readonly #options: CollectorOptions;
  #timer: NodeJS.Timeout | undefined;
  #last: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(sweeper: Sweeper, options: CollectorOptions) {
    this.sweeper = sweeper;
    this.#options = options;
    this.#schedule(FIRST_MS);
  }

  /** A sweep from its beginning to its end; steps by the clock wait until then. */
  collect(): Promise<void> {
    return this.#inTurn(async () => {
      this.sweeper.restart();
      while (!this.#closed && !(await this.#step()).ended) {
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.sweeper.stop();
    clearTimeout(this.#timer);
    await this.#last;
  }

  #schedule(waitMs: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      let nextMs = this.#sweepMs();
      this.#inTurn(async () => {
        nextMs = (await this.#step()).waitMs;
      })
        .catch((error: unknown) => {
          this.#options.failed(error instanceof Error ? error : new Error(String(error)));
        })
        .finally(() => this.#schedule(nextMs));
    }, waitMs).unref();
  }

  /** Runs it when all that came before is done, however that ended. */
  #inTurn(run: () => Promise<void>): Promise<void> {
    const running = this.#last.then(() => (this.#closed ? undefined : run()));
    this.#last = running.catch(() => undefined);
    return running;
  }

  async #step(): Promise<{ readonly waitMs: number; readonly ended: boolean }> {
    const { swept } = this.#options;
    const step = await this.sweeper.step(this.#sweepMs());
    const { last } = this.sweeper;
    if (step.ended && last !== undefined && !this.#closed)
      swept?.(this.sweeper.map.spec.name, last.tally);
    return step;
  }

  /** As often as the shortest of the timeouts, if that is more often. */
  #sweepMs(): number {
    const { intervalMs, timeouts } = this.#options;
    return Math.min(intervalMs(), ...Object.values(timeouts()));
  }
}

function figuresOf(sweepers: readonly Sweeper[]): CollectorFigures {
  const removed = { expired: 0, "pod-gone": 0, orphan: 0, "half-open": 0 };
  const most = { longestHoldMs: 0, lastSweepMs: 0, lastCostMs: 0 };
  for (const { removed: of, longestHoldMs, last } of sweepers) {
    removed.expired += of.expired;
    removed["pod-gone"] += of["pod-gone"];
    removed.orphan += of.orphan;
    removed["half-open"] += of["half-open"];
    most.longestHoldMs = Math.max(most.longestHoldMs, longestHoldMs);
    most.lastSweepMs = Math.max(most.lastSweepMs, last?.tookMs ?? 0);
    most.lastCostMs += last?.tally.costMs ?? 0;
  }
  const snatPorts = sweepers
    .flatMap(portsOf)
    .sort((a, b) => b.used - a.used)
    .slice(0, MAX_SNAT_PORTS);
  return { tables: sweepers.map(tableOf), removed, ...most, snatPorts };
}

function tableOf({ map, pace, last }: Sweeper): FlowTableFigures {
  const { pressure, halfOpenMs, estimate } = pace;
  const swept = last?.tally.entries ?? 0;
  return {
    table: map.spec.name,
    entries: pressure === "none" ? swept : Math.max(swept, estimate),
    limit: map.raw.info.maxEntries,
    pressure,
    halfOpenMs,
  };
}

/** Of the sweep under way when it says enough already, as ports may run out between two. */
function portsOf({ last, present }: Sweeper): readonly SnatPorts[] {
  const before = last?.tally.snatPorts(MAX_SNAT_PORTS) ?? [];
  if (present === undefined || present.covered < ENOUGH) return before;
  return present.tally.snatPorts(MAX_SNAT_PORTS, present.covered);
}
