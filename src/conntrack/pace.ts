// SPDX-License-Identifier: Apache-2.0
// How fast a table of flows is walked through: as its entries cost, and as it fills.

/** How full a table is, as far as anything is done about it. */
export type Pressure = "none" | "high" | "critical";

interface Level {
  readonly pressure: Pressure;
  /** From this fill on, and until it is below the other one. */
  readonly from: number;
  readonly until: number;
  /** Half-open flows are kept for so long, if not for less. */
  readonly halfOpenMs: number;
  /** How long a whole sweep should take. */
  readonly sweepMs: number;
  /** Of a core, at most. */
  readonly share: number;
}

const NONE: Level = {
  pressure: "none",
  from: 0,
  until: 0,
  halfOpenMs: Number.POSITIVE_INFINITY,
  sweepMs: Number.POSITIVE_INFINITY,
  share: 0.006,
};
const HIGH: Level = {
  pressure: "high",
  from: 0.75,
  until: 0.65,
  halfOpenMs: 5000,
  sweepMs: 2000,
  share: 0.1,
};
const CRITICAL: Level = {
  pressure: "critical",
  from: 0.9,
  until: 0.8,
  halfOpenMs: 1000,
  sweepMs: 1000,
  share: 0.25,
};
const LEVELS = [CRITICAL, HIGH];

/** A reading should not take longer, whatever is in the table. */
const READ_MS = 0.5;
const MIN_CHUNK = 64;
const MAX_CHUNK = 8192;
/** What a step costs besides what can be measured within it: timers, turns of the event loop. */
const STEP_MS = 0.1;
/** A table may fill within seconds: no longer without a look at it. */
const LOOK_MS = 2000;
/** When haste has freed less than one entry in so many for so long, it is over. */
const FUTILE_SHARE = 128;
const FUTILE_MS = 10_000;
/**
 * Entries from which the fill of a table is judged, those of all of it if there are fewer: to about
 * 6 %. A reading asks for no less, so that each is a judgement.
 */
const SAMPLE = 256;

/** One step along a table. */
export interface Step {
  /** Entries met, and buckets that they were in. */
  readonly entries: number;
  readonly buckets: number;
  /** Entries removed of those. */
  readonly removed: number;
  /** What it took of a core. */
  readonly costMs: number;
}

/** Of one table. Nothing here reads a clock: whoever steps says what it took. */
export class Pace {
  readonly #limit: number;
  readonly #buckets: number;
  readonly #tables: number;
  #level = NONE;
  #risenMs = 0;
  #futile = false;
  #chunk = 512;
  #estimate: number | undefined;
  #sample = { entries: 0, buckets: 0, removed: 0 };

  /** `limit` entries in so many buckets; one of `tables` that share what may be spent. */
  constructor(limit: number, buckets: number, tables: number) {
    this.#limit = limit;
    this.#buckets = buckets;
    this.#tables = tables;
  }

  get pressure(): Pressure {
    return this.#level.pressure;
  }

  /** For how long a half-open flow is kept while the table is as full as it is. */
  get halfOpenMs(): number {
    return this.#level.halfOpenMs;
  }

  /** Entries in the whole table, by those of the last steps: buckets are alike. */
  get estimate(): number {
    return this.#estimate ?? 0;
  }

  /** How many entries the next reading asks for, if sweeps may take so long. */
  chunk(sweepMs: number): number {
    const looks = Math.max(1, this.#periodMs(sweepMs) / LOOK_MS);
    const most = this.#estimate === undefined ? this.#chunk : Math.ceil(this.#estimate / looks);
    return Math.min(this.#chunk, Math.max(SAMPLE, most));
  }

  /** A reading of `count` entries took so long: the next ones are larger or smaller. */
  readTook(count: number, ms: number): void {
    const fits = ms > 0 ? (count * READ_MS) / ms : MAX_CHUNK;
    // Others may have had the processor meanwhile: no reason to read much less.
    const next = Math.min(this.#chunk * 2, Math.max(this.#chunk / 2, fits));
    this.#chunk = Math.max(MIN_CHUNK, Math.min(MAX_CHUNK, Math.floor(next)));
  }

  /** Takes a step into account; returns how many milliseconds to wait before the next. */
  stepped({ entries, buckets, removed, costMs }: Step, nowMs: number, sweepMs: number): number {
    this.#sample.entries += entries;
    this.#sample.buckets += buckets;
    this.#sample.removed += removed;
    if (this.#sample.entries >= SAMPLE || this.#sample.buckets >= this.#buckets) this.#judge(nowMs);
    const due = this.#periodMs(sweepMs) * (buckets / this.#buckets);
    const share = (this.#futile ? NONE.share : this.#level.share) / this.#tables;
    return Math.max(Math.min(due, LOOK_MS), (costMs + STEP_MS) / share) - costMs;
  }

  /** A whole sweep that began at `beganMs` removed so many of so many entries. */
  swept(removed: number, entries: number, beganMs: number): void {
    const isOld = this.#level !== NONE && beganMs - this.#risenMs > FUTILE_MS;
    this.#futile = isOld && removed * FUTILE_SHARE < entries;
  }

  #periodMs(sweepMs: number): number {
    return Math.min(sweepMs, this.#futile ? Number.POSITIVE_INFINITY : this.#level.sweepMs);
  }

  #judge(nowMs: number): void {
    const { entries, buckets, removed } = this.#sample;
    this.#sample = { entries: 0, buckets: 0, removed: 0 };
    if (removed > 0 && removed * FUTILE_SHARE >= entries) this.#futile = false;
    this.#estimate = Math.min(this.#limit, Math.round((entries / buckets) * this.#buckets));
    const fill = this.#estimate / this.#limit;
    const level =
      LEVELS.find((level) => fill >= (this.#isAt(level) ? level.until : level.from)) ?? NONE;
    if (level === this.#level) return;
    if (level.from > this.#level.from) {
      this.#risenMs = nowMs;
      this.#futile = false;
    }
    this.#level = level;
  }

  /** Whether the table is under this pressure now, or under more. */
  #isAt({ from }: Level): boolean {
    return this.#level.from >= from;
  }
}
