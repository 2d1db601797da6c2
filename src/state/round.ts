// SPDX-License-Identifier: Apache-2.0
import type { Held, PlannedWrite } from "./plan.ts";
import type { Outcome, Target } from "./target.ts";

/** Steps that go one after the other; those of different sequences go together in batches. */
export interface Sequence<Step> {
  readonly steps: readonly Step[];
  /** The first failure: what comes after it in the sequence is not tried. */
  error: Error | undefined;
}

/** Measures for how long the event loop is held between waits. */
export class HoldWatch {
  readonly #budgetMs: number;
  #since = performance.now();
  #longestMs = 0;

  constructor(budgetMs: number) {
    this.#budgetMs = budgetMs;
  }

  /** Whether it is time to wait, as half of the budget is used up. */
  get isLong(): boolean {
    return this.sinceMs > this.#budgetMs / 2;
  }

  /** The longest time without a wait so far, the present one included. */
  get longestMs(): number {
    return Math.max(this.#longestMs, this.sinceMs);
  }

  /** Time since the last wait. */
  get sinceMs(): number {
    return performance.now() - this.#since;
  }

  /** Waits for what is a promise; goes straight on with what isn't. */
  async wait<T>(value: T | Promise<T>): Promise<T> {
    if (!(value instanceof Promise)) return value;
    this.#longestMs = this.longestMs;
    const result = await value.finally(() => {
      this.#since = performance.now();
    });
    return result;
  }

  /** Lets everything else of the event loop have a turn. */
  turn(): Promise<void> {
    return this.wait(new Promise<void>((resolve) => setImmediate(resolve)));
  }
}

/** Writes what the sequences plan; counts what was written. */
export async function writeAll(
  sequences: readonly Sequence<PlannedWrite>[],
  watch: HoldWatch,
): Promise<number> {
  let written = 0;
  await inStep(
    sequences,
    watch,
    (step) => step.held.target,
    async (target, steps) => {
      const batch = steps.map(({ held, value }) => ({
        key: held.key,
        value,
        previous: held.value,
      }));
      const errors = await attempt(steps.length, watch, () => target.apply(batch));
      for (const [index, { held, value }] of steps.entries()) {
        held.applied = errors[index] === undefined;
        if (held.applied) {
          held.value = value;
          written++;
        }
      }
      return errors;
    },
  );
  return written;
}

/** Removes keys, but for those that somebody wants by now; counts what was removed. */
export async function removeAll(
  sequences: readonly Sequence<Held>[],
  watch: HoldWatch,
): Promise<number> {
  let removed = 0;
  await inStep(
    sequences,
    watch,
    (held) => held.target,
    async (target, steps) => {
      const gone = steps.filter((held) => held.wanters === 0);
      const batch = gone.map((held) => ({ key: held.key, previous: held.value }));
      const errors = await attempt(gone.length, watch, () => target.remove(batch));
      const failed = new Map(gone.map((held, index) => [held, errors[index]]));
      for (const held of gone) {
        held.applied = false;
        if (failed.get(held) !== undefined) continue;
        held.value = undefined;
        removed++;
      }
      return steps.map((held) => failed.get(held));
    },
  );
  return removed;
}

/**
 * Takes all sequences forward together. In each step, every sequence gives its next run of steps
 * for one target, and each target gets what all of them gave as one batch.
 */
async function inStep<Step>(
  sequences: readonly Sequence<Step>[],
  watch: HoldWatch,
  targetOf: (step: Step) => Target<unknown, unknown>,
  run: (
    target: Target<unknown, unknown>,
    steps: readonly Step[],
  ) => Promise<readonly (Error | undefined)[]>,
): Promise<void> {
  const touched = new Set<Target<unknown, unknown>>();
  let live = sequences.map((sequence) => ({ sequence, next: 0 }));
  for (;;) {
    live = live.filter(
      ({ sequence, next }) => sequence.error === undefined && next < sequence.steps.length,
    );
    if (live.length === 0) break;
    const batches = new Map<Target<unknown, unknown>, { steps: Step[]; from: Sequence<Step>[] }>();
    for (const place of live) {
      const target = targetOf(place.sequence.steps[place.next] as Step);
      const batch = batches.get(target) ?? { steps: [], from: [] };
      batches.set(target, batch);
      for (; place.next < place.sequence.steps.length; place.next++) {
        const step = place.sequence.steps[place.next] as Step;
        if (targetOf(step) !== target) break;
        batch.steps.push(step);
        batch.from.push(place.sequence);
      }
    }
    for (const [target, { steps, from }] of batches) {
      touched.add(target);
      const most = target.maxBatch ?? steps.length;
      for (let start = 0; start < steps.length; start += most) {
        if (start > 0 && watch.isLong) await watch.turn();
        const errors = await run(target, steps.slice(start, start + most));
        for (const [index, error] of errors.entries()) {
          const sequence = from[start + index];
          if (error !== undefined && sequence !== undefined) sequence.error ??= error;
        }
      }
    }
  }
  await flush(touched, sequences, watch);
}

/** A failed flush leaves open what was done: every sequence has failed. */
async function flush(
  touched: Iterable<Target<unknown, unknown>>,
  sequences: readonly Sequence<unknown>[],
  watch: HoldWatch,
): Promise<void> {
  for (const target of touched) {
    if (target.flush === undefined) continue;
    try {
      await watch.wait(target.flush());
    } catch (error) {
      for (const sequence of sequences) sequence.error ??= toError(error);
    }
  }
}

/** The error of each of `count` elements; undefined where there was none. */
async function attempt(
  count: number,
  watch: HoldWatch,
  call: () => Outcome | Promise<Outcome>,
): Promise<readonly (Error | undefined)[]> {
  const errors = new Array<Error | undefined>(count).fill(undefined);
  if (count === 0) return errors;
  try {
    for (const { index, error } of await watch.wait(call())) errors[index] = error;
    return errors;
  } catch (error) {
    return errors.fill(toError(error));
  }
}

/** Whatever was thrown, as an Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
