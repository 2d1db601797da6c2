// SPDX-License-Identifier: Apache-2.0

/** One key to be written. */
export interface Write<Key, Value> {
  readonly key: Key;
  readonly value: Value;
  /** What this process wrote there last and had confirmed; undefined when it can't know. */
  readonly previous: Value | undefined;
}

/** One key to be removed. */
export interface Removal<Key, Value> {
  readonly key: Key;
  readonly previous: Value | undefined;
}

/** What went wrong with one element of a batch. */
export interface Refusal {
  readonly index: number;
  readonly error: Error;
}

/** The refused elements of a batch; all others were done. A throw refuses the whole batch. */
export type Outcome = readonly Refusal[];

/** For a batch that was done whole. */
export const DONE: Outcome = [];

/**
 * Something that holds keys and values outside of this process and is kept as the rows want it: a
 * kernel map, a table in shared memory. Elements of a batch are independent of each other; the
 * order between an entry and those it needs is made by the order of batches.
 */
export interface Target<Key, Value> {
  readonly name: string;
  /** Elements of a batch, at most: for a target to which one element can be thousands of writes. */
  readonly maxBatch?: number;
  /** The key as something that a Map can hold; different keys have different ids. */
  idOf(key: Key): string | number;
  same(a: Value, b: Value): boolean;
  apply(batch: readonly Write<Key, Value>[]): Outcome | Promise<Outcome>;
  /** Removing what isn't there succeeds. */
  remove(batch: readonly Removal<Key, Value>[]): Outcome | Promise<Outcome>;
  /** Every key that is there, whoever wrote it: what `prune` looks through. May be lazy. */
  keys(): Iterable<Key>;
  /** Called after each group of batches, for targets that gather before they publish. */
  flush?(): void | Promise<void>;
}

/** Any target. It may want to know less of a batch's elements than `Write` says. */
export type AnyTarget = Omit<Target<never, never>, "keys"> & { keys(): Iterable<unknown> };

/** The targets of one reconciler, by the names that entries use. */
export type Targets = Readonly<Record<string, Target<unknown, unknown>>>;

/** One key and value that a row wants in one of the targets. */
export type Entry<T> = {
  [Name in keyof T & string]: T[Name] extends Target<infer Key, infer Value>
    ? { readonly target: Name; readonly key: Key; readonly value: Value }
    : never;
}[keyof T & string];
