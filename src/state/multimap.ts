// SPDX-License-Identifier: Apache-2.0

/** Several values per key. A lone value is held without a Set around it: most keys have one. */
export class Multimap<Key, Value extends string | number | bigint> {
  readonly #held = new Map<Key, Value | Set<Value>>();

  add(key: Key, value: Value): void {
    const held = this.#held.get(key);
    if (held === undefined || held === value) this.#held.set(key, value);
    else if (held instanceof Set) held.add(value);
    else this.#held.set(key, new Set([held, value]));
  }

  delete(key: Key, value: Value): void {
    const held = this.#held.get(key);
    if (held === value) this.#held.delete(key);
    if (!(held instanceof Set)) return;
    held.delete(value);
    const [last] = held;
    if (held.size === 1 && last !== undefined) this.#held.set(key, last);
  }

  has(key: Key): boolean {
    return this.#held.has(key);
  }

  /** In the order in which they were added. */
  *values(key: Key): Generator<Value> {
    const held = this.#held.get(key);
    if (held instanceof Set) yield* held;
    else if (held !== undefined) yield held;
  }
}
