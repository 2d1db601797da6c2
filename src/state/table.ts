// SPDX-License-Identifier: Apache-2.0
import { deepFreeze, FREEZE_ROWS } from "./freeze.ts";
import { Multimap } from "./multimap.ts";

export type PrimaryKey = string | number | bigint;
export type IndexKey = string | number | bigint;

/** What happened to a key since its reader last looked; `row` is undefined when it is gone. */
export interface Change<Key, Row> {
  readonly key: Key;
  readonly row: Row | undefined;
}

/**
 * One reader's place in a table's changes. Changes coalesce: a key that changed ten times is
 * taken once, with its row of now, so a slow reader costs at most one word per key.
 */
export interface Cursor<Key, Row> {
  /** Keys that wait to be taken. */
  readonly pending: number;
  /** When the longest waiting key changed (`performance.now()`), undefined if none waits. */
  readonly oldestMs: number | undefined;
  isPending(key: Key): boolean;
  /** Takes the key that has waited longest. */
  take(): Change<Key, Row> | undefined;
  close(): void;
}

/** A table as everybody but its writer sees it. */
export interface ReadTable<Key extends PrimaryKey, Row, Index extends string = never> {
  readonly name: string;
  readonly size: number;
  /** Counts every change since the table was made. */
  readonly revision: number;
  get(key: Key): Row | undefined;
  has(key: Key): boolean;
  keys(): IterableIterator<Key>;
  rows(): IterableIterator<Row>;
  /** The rows whose index function named `value`. */
  by(index: Index, value: IndexKey): Row[];
  /** Whether any row's index function named `value`. */
  hasBy(index: Index, value: IndexKey): boolean;
  /**
   * A new reader, to which every present row is a change. `wake` is called once per turn of the
   * event loop in which something became pending, after the code that wrote has finished.
   */
  cursor(wake?: () => void): Cursor<Key, Row>;
}

/** A table as its one writer sees it. The event loop is the transaction. */
export interface Table<Key extends PrimaryKey, Row, Index extends string = never>
  extends ReadTable<Key, Row, Index> {
  /** Puts a row in, in place of the one with its key; the same object again is no change. */
  set(row: Row): void;
  /** Whether there was such a row. */
  delete(key: Key): boolean;
}

export interface TableOptions<Key extends PrimaryKey, Row, Index extends string> {
  readonly name: string;
  readonly key: (row: Row) => Key;
  /** Under which values a row is found by `by`. They must not depend on anything but the row. */
  readonly indexes?: Readonly<Record<Index, (row: Row) => Iterable<IndexKey>>>;
  readonly freeze?: boolean;
}

export function createTable<
  Key extends PrimaryKey,
  Row extends object,
  Index extends string = never,
>(options: TableOptions<Key, Row, Index>): Table<Key, Row, Index> {
  return new MapTable(options);
}

interface IndexState<Key extends PrimaryKey, Row> {
  readonly of: (row: Row) => Iterable<IndexKey>;
  readonly keys: Multimap<IndexKey, Key>;
}

class MapTable<Key extends PrimaryKey, Row extends object, Index extends string>
  implements Table<Key, Row, Index>
{
  readonly name: string;
  readonly #rows = new Map<Key, Row>();
  readonly #keyOf: (row: Row) => Key;
  readonly #freeze: boolean;
  readonly #indexes = new Map<Index, IndexState<Key, Row>>();
  readonly #cursors = new Set<DirtyKeys<Key, Row>>();
  #revision = 0;

  constructor(options: TableOptions<Key, Row, Index>) {
    this.name = options.name;
    this.#keyOf = options.key;
    this.#freeze = options.freeze ?? FREEZE_ROWS;
    for (const index in options.indexes) {
      this.#indexes.set(index, { of: options.indexes[index], keys: new Multimap() });
    }
  }

  get size(): number {
    return this.#rows.size;
  }

  get revision(): number {
    return this.#revision;
  }

  get(key: Key): Row | undefined {
    return this.#rows.get(key);
  }

  has(key: Key): boolean {
    return this.#rows.has(key);
  }

  keys(): IterableIterator<Key> {
    return this.#rows.keys();
  }

  rows(): IterableIterator<Row> {
    return this.#rows.values();
  }

  by(index: Index, value: IndexKey): Row[] {
    const rows: Row[] = [];
    for (const key of this.#index(index).keys.values(value)) {
      const row = this.#rows.get(key);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }

  hasBy(index: Index, value: IndexKey): boolean {
    return this.#index(index).keys.has(value);
  }

  set(row: Row): void {
    const key = this.#keyOf(row);
    const before = this.#rows.get(key);
    if (before === row) return;
    if (this.#freeze) deepFreeze(row);
    this.#rows.set(key, row);
    this.#reindex(key, before, row);
    this.#changed(key);
  }

  delete(key: Key): boolean {
    const before = this.#rows.get(key);
    if (before === undefined) return false;
    this.#rows.delete(key);
    this.#reindex(key, before, undefined);
    this.#changed(key);
    return true;
  }

  cursor(wake: () => void = () => {}): Cursor<Key, Row> {
    const cursor = new DirtyKeys<Key, Row>(this.#rows, wake, () => this.#cursors.delete(cursor));
    this.#cursors.add(cursor);
    return cursor;
  }

  #index(index: Index): IndexState<Key, Row> {
    const state = this.#indexes.get(index);
    if (state === undefined) throw new Error(`table ${this.name} has no index ${index}`);
    return state;
  }

  #reindex(key: Key, before: Row | undefined, after: Row | undefined): void {
    for (const { of, keys } of this.#indexes.values()) {
      if (before !== undefined) for (const value of of(before)) keys.delete(value, key);
      if (after !== undefined) for (const value of of(after)) keys.add(value, key);
    }
  }

  #changed(key: Key): void {
    this.#revision++;
    for (const cursor of this.#cursors) cursor.mark(key);
  }
}

/** The keys that one reader has not taken yet, longest waiting first. */
class DirtyKeys<Key extends PrimaryKey, Row> implements Cursor<Key, Row> {
  readonly #rows: ReadonlyMap<Key, Row>;
  readonly #dirty = new Map<Key, number>();
  readonly #wake: () => void;
  readonly #closed: () => void;
  #waking = false;

  constructor(rows: ReadonlyMap<Key, Row>, wake: () => void, closed: () => void) {
    this.#rows = rows;
    this.#wake = wake;
    this.#closed = closed;
    for (const key of rows.keys()) this.mark(key);
  }

  get pending(): number {
    return this.#dirty.size;
  }

  get oldestMs(): number | undefined {
    return this.#dirty.values().next().value;
  }

  isPending(key: Key): boolean {
    return this.#dirty.has(key);
  }

  mark(key: Key): void {
    if (!this.#dirty.has(key)) this.#dirty.set(key, performance.now());
    if (this.#waking) return;
    this.#waking = true;
    queueMicrotask(() => {
      this.#waking = false;
      if (this.#dirty.size > 0) this.#wake();
    });
  }

  take(): Change<Key, Row> | undefined {
    const next = this.#dirty.keys().next();
    if (next.done === true) return undefined;
    this.#dirty.delete(next.value);
    return { key: next.value, row: this.#rows.get(next.value) };
  }

  close(): void {
    this.#dirty.clear();
    this.#closed();
  }
}
