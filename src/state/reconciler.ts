// SPDX-License-Identifier: Apache-2.0
import { type BackoffOptions, backoffMs } from "./backoff.ts";
import type { SyncGate } from "./gate.ts";
import type { Plan, PlannedWrite } from "./plan.ts";
import { type AnyEntry, type Held, Ledger } from "./plan.ts";
import { HoldWatch, removeAll, type Sequence, toError, writeAll } from "./round.ts";
import type { Cursor, PrimaryKey, ReadTable } from "./table.ts";
import type { AnyTarget, Entry, Target } from "./target.ts";

/** Where time comes from; tests bring their own. */
export interface Clock {
  /** Milliseconds, monotonic. */
  nowMs(): number;
  /** 0 inclusive to 1 exclusive. */
  random(): number;
  /** Calls back once after `delayMs`, unless cancelled by what it gives. */
  after(delayMs: number, call: () => void): () => void;
}

export interface ReconcilerOptions<T> {
  readonly targets: T;
  readonly gate: SyncGate;
  /** For how long the event loop may be held at a time. */
  readonly budgetMs?: number;
  readonly backoff?: BackoffOptions;
  readonly clock?: Clock;
}

/** Why a row isn't in force, or isn't gone. */
export interface RowFailure {
  readonly plan: string;
  readonly key: PrimaryKey;
  readonly error: Error;
  /** Attempts since the row last changed. */
  readonly attempts: number;
  /** When it first failed and when it is tried again, on the reconciler's clock. */
  readonly sinceMs: number;
  readonly retryAtMs: number;
}

export type RowStatus =
  | { readonly state: "applied" }
  | { readonly state: "pending" }
  | { readonly state: "failed"; readonly failure: RowFailure };

/** Values for metrics. Counts only grow. */
export interface ReconcilerFigures {
  /** Rows that wait to be looked at, without those in backoff. */
  readonly pendingRows: number;
  /** Age of the change that has waited longest, or of the failure that has lasted longest. */
  readonly lagMs: number;
  readonly failedRows: number;
  /** Keys held in all targets. */
  readonly entries: number;
  readonly written: number;
  readonly removed: number;
  readonly failures: number;
  readonly pruned: number;
  /** The longest time for which the event loop was held. */
  readonly longestHoldMs: number;
}

/** Rows of one table and what they want. */
interface TablePlan {
  readonly name: string;
  readonly cursor: Cursor<PrimaryKey, object>;
  readonly get: (key: PrimaryKey) => object | undefined;
  readonly entries: (row: object) => readonly AnyEntry[];
  readonly held: Map<PrimaryKey, readonly Held[]>;
  readonly failed: Map<PrimaryKey, RowFailure>;
}

/** A row's writes on their way. */
interface Job extends Sequence<PlannedWrite> {
  readonly table: TablePlan;
  readonly key: PrimaryKey;
  readonly had: readonly Held[];
  readonly plan: Plan;
}

/** What a row wanted and nobody wants now. */
interface Release extends Sequence<Held> {
  readonly table: TablePlan;
  readonly key: PrimaryKey;
  /** What failed before, and is over with this: a later failure of the row is not. */
  readonly failure: RowFailure | undefined;
}

const BACKOFF: BackoffOptions = { firstMs: 100, longestMs: 60_000 };

/** Rows in one chunk, at most. */
const MAX_CHUNK_ROWS = 4096;

/** Keys that one batch of a prune removes. */
const PRUNE_BATCH = 512;

const SYSTEM_CLOCK: Clock = {
  nowMs: () => performance.now(),
  random: () => Math.random(),
  after(delayMs, call) {
    const timer = setTimeout(call, delayMs).unref();
    return () => clearTimeout(timer);
  },
};

/**
 * Keeps targets as the rows of tables want them. A row's entries are written in their order and
 * removed in reverse; entries that several rows want are counted. Such rows should agree on the
 * value; when they don't, because a key changes hands, the later writer wins. Everything that is
 * written goes before anything that is removed, so a key that changes hands is never missing.
 */
export class Reconciler<T extends { readonly [Name in keyof T]: AnyTarget }> {
  readonly #ledger: Ledger;
  readonly #gate: SyncGate;
  readonly #budgetMs: number;
  readonly #backoff: BackoffOptions;
  readonly #clock: Clock;
  readonly #plans = new Map<string, TablePlan>();
  readonly #due: { readonly table: TablePlan; readonly key: PrimaryKey }[] = [];
  #releases: Release[] = [];
  /** Rows to be looked at before the releases: those that waited when the first was queued. */
  #rowsBeforeReleases = 0;
  readonly #idle: (() => void)[] = [];
  readonly #counts = { written: 0, removed: 0, failures: 0, pruned: 0, longestHoldMs: 0 };
  #chunkRows = 64;
  #running = false;
  #closed = false;
  #prune = true;
  #pruneAttempts = 0;
  #pruneAtMs = 0;
  #pruneError: Error | undefined;
  #cancelTimer: (() => void) | undefined;

  constructor(options: ReconcilerOptions<T>) {
    // Entries are checked against T by `add`; inside, the mechanism knows no types.
    const targets = options.targets as unknown as Readonly<
      Record<string, Target<unknown, unknown>>
    >;
    this.#ledger = new Ledger(targets);
    this.#gate = options.gate;
    this.#budgetMs = options.budgetMs ?? 10;
    this.#backoff = options.backoff ?? BACKOFF;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    void this.#gate.opened.then(() => this.#wake());
  }

  /** Makes a table's rows wanted; `entries` must be pure. Before any other plan's releases. */
  add<Key extends PrimaryKey, Row extends object>(
    table: ReadTable<Key, Row, never>,
    entries: (row: Row) => readonly Entry<T>[],
  ): void {
    if (this.#plans.has(table.name)) throw new Error(`table ${table.name} was added twice`);
    const cursor = table.cursor(() => this.#wake());
    this.#plans.set(table.name, {
      name: table.name,
      cursor: cursor as unknown as Cursor<PrimaryKey, object>,
      get: (key) => table.get(key as Key),
      entries: (row) => entries(row as Row) as readonly AnyEntry[],
      held: new Map(),
      failed: new Map(),
    });
  }

  /** Whether the row with this key, of the table of this name, is in force. */
  status(tableName: string, key: PrimaryKey): RowStatus {
    const plan = this.#plans.get(tableName);
    const failure = plan?.failed.get(key);
    if (failure !== undefined) return { state: "failed", failure };
    return { state: plan?.cursor.isPending(key) === true ? "pending" : "applied" };
  }

  /** Every row that failed and waits for its next attempt. */
  *failures(): Generator<RowFailure> {
    for (const plan of this.#plans.values()) yield* plan.failed.values();
  }

  /** Why the last prune failed, undefined when it didn't. */
  get pruneError(): Error | undefined {
    return this.#pruneError;
  }

  figures(): ReconcilerFigures {
    let pendingRows = 0;
    let failedRows = 0;
    let lagMs = 0;
    const changeMs = performance.now();
    const failureMs = this.#clock.nowMs();
    for (const { cursor, failed } of this.#plans.values()) {
      pendingRows += cursor.pending;
      failedRows += failed.size;
      // A map keeps its order, so the first is what failed first.
      const [oldest] = failed.values();
      const since = [
        changeMs - (cursor.oldestMs ?? changeMs),
        failureMs - (oldest?.sinceMs ?? failureMs),
      ];
      lagMs = Math.max(lagMs, ...since);
    }
    return {
      pendingRows,
      lagMs,
      failedRows,
      entries: this.#ledger.size,
      ...this.#counts,
    };
  }

  /** Settles when everything is done that can be done now; rows in backoff don't count. */
  idle(): Promise<void> {
    if (!this.#running && !this.#hasWork()) return Promise.resolve();
    this.#wake();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Looks again for keys that no row wants, once all sources are synced. */
  prune(): void {
    this.#prune = true;
    this.#wake();
  }

  /** Stops looking at tables. What was written stays. */
  close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    for (const plan of this.#plans.values()) plan.cursor.close();
  }

  #wake(): void {
    if (this.#running || this.#closed) return;
    this.#running = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    void this.#run().finally(() => {
      this.#running = false;
      if (this.#hasWork()) return this.#wake();
      this.#setTimer();
      for (const resolve of this.#idle.splice(0)) resolve();
    });
  }

  async #run(): Promise<void> {
    for (;;) {
      const watch = new HoldWatch(this.#budgetMs);
      await watch.turn();
      if (this.#closed || !(await this.#step(watch))) return;
      const heldMs = watch.longestMs;
      this.#counts.longestHoldMs = Math.max(this.#counts.longestHoldMs, heldMs);
      if (heldMs > this.#budgetMs * 0.7) this.#chunkRows = Math.ceil(this.#chunkRows / 2);
      else if (heldMs < this.#budgetMs * 0.3) {
        this.#chunkRows = Math.min(MAX_CHUNK_ROWS, Math.ceil(this.#chunkRows * 1.25));
      }
    }
  }

  /** Does one chunk of what is most urgent; false if there is nothing to do. */
  async #step(watch: HoldWatch): Promise<boolean> {
    this.#findDue();
    if (this.#releases.length > 0 && this.#rowsBeforeReleases <= 0) {
      await this.#release(watch);
    } else if (this.#pendingRows() > 0) {
      await this.#reconcile(watch);
    } else if (this.#releases.length > 0) {
      await this.#release(watch);
    } else if (this.#pruneIsDue()) {
      await this.#pruneAll(watch);
    } else {
      return false;
    }
    return true;
  }

  #hasWork(): boolean {
    if (this.#closed) return false;
    return this.#pendingRows() > 0 || this.#releases.length > 0 || this.#pruneIsDue();
  }

  #pendingRows(): number {
    let pending = this.#due.length;
    for (const { cursor } of this.#plans.values()) pending += cursor.pending;
    return pending;
  }

  #pruneIsDue(): boolean {
    return this.#prune && this.#gate.open && this.#clock.nowMs() >= this.#pruneAtMs;
  }

  async #reconcile(watch: HoldWatch): Promise<void> {
    const jobs: Job[] = [];
    while (jobs.length < this.#chunkRows && !watch.isLong) {
      const job = this.#nextJob();
      if (job === undefined) break;
      if (job !== "failed") jobs.push(job);
    }
    this.#counts.written += await writeAll(jobs, watch);
    for (const job of jobs) this.#finish(job);
  }

  #nextJob(): Job | "failed" | undefined {
    const { table, key } = this.#nextDue() ?? this.#nextChange() ?? {};
    if (table === undefined || key === undefined) return undefined;
    this.#rowsBeforeReleases--;
    const had = table.held.get(key) ?? [];
    try {
      const row = table.get(key);
      const plan = this.#ledger.plan(had, row === undefined ? [] : table.entries(row));
      return { table, key, had, plan, steps: plan.writes, error: undefined };
    } catch (error) {
      this.#failed(table, key, toError(error));
      return "failed";
    }
  }

  #nextDue(): { readonly table: TablePlan; readonly key: PrimaryKey } | undefined {
    for (let next = this.#due.pop(); next !== undefined; next = this.#due.pop()) {
      // What changed since it was queued comes as a change: in one chunk it must not come twice.
      if (!next.table.cursor.isPending(next.key)) return next;
      this.#rowsBeforeReleases--;
    }
    return undefined;
  }

  #nextChange(): { readonly table: TablePlan; readonly key: PrimaryKey } | undefined {
    for (const table of this.#plans.values()) {
      const change = table.cursor.take();
      if (change === undefined) continue;
      table.failed.delete(change.key);
      return { table, key: change.key };
    }
    return undefined;
  }

  #finish(job: Job): void {
    const { table, key, had, plan, error } = job;
    if (error !== undefined) {
      table.held.set(key, this.#ledger.abandon(had, plan));
      this.#failed(table, key, error);
      return;
    }
    const released = this.#ledger.settle(had, plan);
    if (plan.wanted.length === 0) table.held.delete(key);
    else table.held.set(key, plan.wanted);
    if (released.length === 0) {
      table.failed.delete(key);
      return;
    }
    if (this.#releases.length === 0) this.#rowsBeforeReleases = this.#pendingRows();
    const failure = table.failed.get(key);
    this.#releases.push({ table, key, failure, steps: released, error: undefined });
  }

  async #release(watch: HoldWatch): Promise<void> {
    const chunk = this.#releases.slice(0, this.#chunkRows);
    this.#releases = this.#releases.slice(this.#chunkRows);
    this.#counts.removed += await removeAll(chunk, watch);
    for (const { table, key, failure, steps, error } of chunk) {
      if (error === undefined) {
        for (const held of steps) this.#ledger.forget(held);
        if (table.failed.get(key) === failure) table.failed.delete(key);
        continue;
      }
      // The row has them again, so that its next attempt releases them again.
      for (const held of steps) held.wanters++;
      table.held.set(key, [...(table.held.get(key) ?? []), ...steps.toReversed()]);
      this.#failed(table, key, error);
    }
  }

  #failed(table: TablePlan, key: PrimaryKey, error: Error): void {
    const before = table.failed.get(key);
    const nowMs = this.#clock.nowMs();
    const attempts = (before?.attempts ?? 0) + 1;
    this.#counts.failures++;
    table.failed.set(key, {
      plan: table.name,
      key,
      error,
      attempts,
      sinceMs: before?.sinceMs ?? nowMs,
      retryAtMs: nowMs + backoffMs(this.#backoff, attempts, this.#clock.random()),
    });
  }

  /** Queues the failed rows whose time has come. */
  #findDue(): void {
    if (this.#due.length > 0) return;
    const nowMs = this.#clock.nowMs();
    for (const table of this.#plans.values()) {
      for (const { key, retryAtMs } of table.failed.values()) {
        if (retryAtMs <= nowMs && !table.cursor.isPending(key)) this.#due.push({ table, key });
      }
    }
  }

  #setTimer(): void {
    if (this.#closed) return;
    let atMs = this.#prune && this.#gate.open ? this.#pruneAtMs : Number.POSITIVE_INFINITY;
    for (const { retryAtMs } of this.failures()) atMs = Math.min(atMs, retryAtMs);
    if (!Number.isFinite(atMs)) return;
    const delayMs = Math.max(1, atMs - this.#clock.nowMs());
    this.#cancelTimer = this.#clock.after(delayMs, () => this.#wake());
  }

  async #pruneAll(watch: HoldWatch): Promise<void> {
    this.#prune = false;
    try {
      for (const target of this.#ledger.targets) await this.#pruneTarget(target, watch);
      this.#pruneAttempts = 0;
      this.#pruneError = undefined;
    } catch (error) {
      this.#prune = true;
      this.#pruneError = toError(error);
      const delayMs = backoffMs(this.#backoff, ++this.#pruneAttempts, this.#clock.random());
      this.#pruneAtMs = this.#clock.nowMs() + delayMs;
    }
  }

  async #pruneTarget(target: Target<unknown, unknown>, watch: HoldWatch): Promise<void> {
    const stale: unknown[] = [];
    for (const key of target.keys()) {
      if (!this.#ledger.wants(target, key)) stale.push(key);
      if (watch.isLong) await watch.turn();
    }
    const most = Math.min(PRUNE_BATCH, target.maxBatch ?? PRUNE_BATCH);
    for (let from = 0; from < stale.length; from += most) {
      await watch.turn();
      const batch = stale
        .slice(from, from + most)
        .filter((key) => !this.#ledger.wants(target, key));
      const refused = await watch.wait(
        target.remove(batch.map((key) => ({ key, previous: undefined }))),
      );
      this.#counts.pruned += batch.length - refused.length;
      if (refused[0] !== undefined) throw refused[0].error;
    }
    await watch.wait(target.flush?.());
  }
}
