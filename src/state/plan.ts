// SPDX-License-Identifier: Apache-2.0
import type { Target } from "./target.ts";

/** An entry whose types have been forgotten: what the mechanism works with. */
export interface AnyEntry {
  readonly target: string;
  readonly key: unknown;
  readonly value: unknown;
}

/** A key of a target that some row wants, or that still has to be removed. */
export interface Held {
  readonly target: Target<unknown, unknown>;
  readonly id: string | number;
  readonly key: unknown;
  /** What the target was last known to hold; undefined before the first success. */
  value: unknown;
  /** Whether `value` is surely there: false before the first success and after a failure. */
  applied: boolean;
  /** How many rows want it. */
  wanters: number;
}

/** One write that a row needs. */
export interface PlannedWrite {
  readonly held: Held;
  readonly value: unknown;
}

/** The way from what a row has to what it wants. */
export interface Plan {
  /** Everything that the row wants, in its order. */
  readonly wanted: readonly Held[];
  /** What has to be written for it, in its order. */
  readonly writes: readonly PlannedWrite[];
  /** What the row had and doesn't want any more, last first. */
  readonly released: readonly Held[];
}

/** Knows every key that is wanted, across all rows, and counts who wants it. */
export class Ledger {
  readonly #targets: ReadonlyMap<string, Target<unknown, unknown>>;
  readonly #held = new Map<Target<unknown, unknown>, Map<string | number, Held>>();

  constructor(targets: Readonly<Record<string, Target<unknown, unknown>>>) {
    this.#targets = new Map(Object.entries(targets));
    for (const target of this.#targets.values()) this.#held.set(target, new Map());
  }

  get targets(): Iterable<Target<unknown, unknown>> {
    return this.#targets.values();
  }

  /** Keys that are wanted or wait for their removal, in all targets. */
  get size(): number {
    let size = 0;
    for (const held of this.#held.values()) size += held.size;
    return size;
  }

  wants(target: Target<unknown, unknown>, key: unknown): boolean {
    return this.#of(target).has(target.idOf(key));
  }

  /**
   * Plans a row's way from what it `had` to its `entries`, and counts the row as a wanter of both
   * until `settle` or `abandon`. Throws when two entries of the row are for one key.
   */
  plan(had: readonly Held[], entries: readonly AnyEntry[]): Plan {
    const wanted = entries.map((entry) => this.#hold(entry));
    if (wanted.length > 1 && new Set(wanted).size < wanted.length) {
      this.#unwant(wanted);
      for (const held of wanted) if (!held.applied) this.forget(held);
      const names = wanted.map((held) => `${held.target.name} ${held.id}`);
      throw new Error(`two of a row's entries are for one key, among ${names.join(", ")}`);
    }
    const writes: PlannedWrite[] = [];
    for (const [index, held] of wanted.entries()) {
      const value = entries[index]?.value;
      if (!held.applied || !held.target.same(held.value, value)) writes.push({ held, value });
    }
    const keep = had.length === 0 ? undefined : new Set(wanted);
    const released = had.filter((held) => keep?.has(held) !== true).reverse();
    return { wanted, writes, released };
  }

  /** After all writes of a plan: the row wants only `plan.wanted`. Gives what nobody wants now. */
  settle(had: readonly Held[], plan: Plan): Held[] {
    this.#unwant(had);
    return plan.released.filter((held) => held.wanters === 0);
  }

  /**
   * After a failed write of a plan: the row goes on having what it had, and whatever of the plan
   * may have been written.
   */
  abandon(had: readonly Held[], plan: Plan): readonly Held[] {
    const wanted = new Set(plan.wanted);
    for (const held of had) if (wanted.has(held)) held.wanters--;
    return [...had.filter((held) => !wanted.has(held)), ...plan.wanted];
  }

  /** Drops a key that nobody wants and that surely isn't in its target. */
  forget(held: Held): void {
    if (held.wanters === 0) this.#of(held.target).delete(held.id);
  }

  #hold(entry: AnyEntry): Held {
    const target = this.#targets.get(entry.target);
    if (target === undefined) throw new Error(`no target is called ${entry.target}`);
    const id = target.idOf(entry.key);
    const of = this.#of(target);
    let held = of.get(id);
    if (held === undefined) {
      held = { target, id, key: entry.key, value: undefined, applied: false, wanters: 0 };
      of.set(id, held);
    }
    held.wanters++;
    return held;
  }

  #unwant(list: readonly Held[]): void {
    for (const held of list) held.wanters--;
  }

  #of(target: Target<unknown, unknown>): Map<string | number, Held> {
    const held = this.#held.get(target);
    if (held === undefined) throw new Error(`target ${target.name} is not of this reconciler`);
    return held;
  }
}
