// SPDX-License-Identifier: Apache-2.0

/** Random numbers that a seed makes again: xorshift128 seeded by splitmix32. */
export class Prng {
  readonly #state: [number, number, number, number];

  constructor(seed: number) {
    let word = seed >>> 0;
    const next = (): number => {
      word = (word + 0x9e3779b9) >>> 0;
      let z = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
    this.#state = [next(), next(), next(), next() | 1];
  }

  /** 0…2^32-1. */
  word(): number {
    const [a, b, c, d] = this.#state;
    const mixed = d ^ (d << 11);
    const last = (a ^ (a >>> 19) ^ (mixed ^ (mixed >>> 8))) >>> 0;
    this.#state[3] = c;
    this.#state[2] = b;
    this.#state[1] = a;
    this.#state[0] = last;
    return last;
  }

  /** 0…below-1. */
  below(below: number): number {
    return this.word() % below;
  }

  /** True `percent` times of a hundred. */
  chance(percent: number): boolean {
    return this.below(1000) < percent * 10;
  }

  pick<T>(from: readonly T[]): T {
    const value = from[this.below(from.length)];
    if (value === undefined) throw new RangeError("there is nothing to pick from");
    return value;
  }

  /** One of the values, as often as its weight says. */
  weighted<T>(...from: readonly (readonly [weight: number, value: T])[]): T {
    let at = this.below(from.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, value] of from) {
      if (at < weight) return value;
      at -= weight;
    }
    throw new RangeError("weights are whole numbers");
  }
}
