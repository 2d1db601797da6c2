// SPDX-License-Identifier: Apache-2.0
// Which rows of a table are free.

/** Some rows in a row. */
export interface Extent {
  readonly start: number;
  readonly count: number;
}

/**
 * Gives out runs of rows of a table, the smallest free run that fits first, and joins what is given
 * back with its free neighbours.
 */
export class Extents {
  readonly rows: number;
  #used = 0;
  readonly #lengthAt = new Map<number, number>();
  readonly #startBefore = new Map<number, number>();
  readonly #startsOf = new Map<number, Set<number>>();
  /** The keys of #startsOf, in order: there are few different lengths. */
  readonly #lengths: number[] = [];

  /** All rows are free but those below `first` and those of `used`, which must not overlap. */
  constructor(rows: number, used: readonly Extent[] = [], first = 0) {
    this.rows = rows;
    let at = first;
    for (const { start, count } of used.toSorted((a, b) => a.start - b.start)) {
      if (start < at || start + count > rows) {
        throw new RangeError(`rows ${start} to ${start + count - 1} overlap others or the end`);
      }
      if (start > at) this.#add(at, start - at);
      at = start + count;
      this.#used += count;
    }
    if (at < rows) this.#add(at, rows - at);
  }

  /** Rows that are given out. */
  get used(): number {
    return this.#used;
  }

  /** The first of `count` free rows in a row, now taken; undefined when there are none. */
  allocate(count: number): number | undefined {
    const length = this.#lengths[this.#placeOf(count)];
    if (length === undefined) return undefined;
    const start = this.#startsOf.get(length)?.values().next().value;
    if (start === undefined) throw new Error(`no free rows of length ${length}`);
    this.#take(start, length);
    if (length > count) this.#add(start + count, length - count);
    this.#used += count;
    return start;
  }

  /** Gives back what `allocate` gave, or a part of it. */
  free({ start, count }: Extent): void {
    if (count === 0) return;
    this.#used -= count;
    let from = start;
    let to = start + count;
    const before = this.#startBefore.get(from);
    if (before !== undefined) {
      this.#take(before, from - before);
      from = before;
    }
    const after = this.#lengthAt.get(to);
    if (after !== undefined) {
      this.#take(to, after);
      to += after;
    }
    this.#add(from, to - from);
  }

  /** The place in #lengths of the first that is at least `count`. */
  #placeOf(count: number): number {
    let low = 0;
    let high = this.#lengths.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#lengths[middle] ?? 0) < count) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #add(start: number, length: number): void {
    this.#lengthAt.set(start, length);
    this.#startBefore.set(start + length, start);
    const starts = this.#startsOf.get(length);
    if (starts !== undefined) {
      starts.add(start);
      return;
    }
    this.#startsOf.set(length, new Set([start]));
    this.#lengths.splice(this.#placeOf(length), 0, length);
  }

  #take(start: number, length: number): void {
    this.#lengthAt.delete(start);
    this.#startBefore.delete(start + length);
    const starts = this.#startsOf.get(length);
    starts?.delete(start);
    if (starts?.size !== 0) return;
    this.#startsOf.delete(length);
    this.#lengths.splice(this.#placeOf(length), 1);
  }
}
