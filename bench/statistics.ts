// SPDX-License-Identifier: Apache-2.0
// Samples of several contenders, taken in turn, so that what disturbs one disturbs all.

/** What a series of samples says: the median, and how far samples lay apart. */
export interface Summary {
  readonly value: number;
  readonly min: number;
  readonly max: number;
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/** The mean of the middle four fifths, for figures that a coarse clock cut to steps. */
export function trimmedMean(values: readonly number[]): number {
  const tenth = Math.floor(values.length / 10);
  const middle = values.toSorted((a, b) => a - b).slice(tenth, values.length - tenth);
  return middle.reduce((sum, value) => sum + value, 0) / middle.length;
}

/** The number below which a share `part` (0 to 1) of some numbers lies. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}

export function summarize(values: readonly number[]): Summary {
  return { value: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** One thing that is measured: a sample is one figure, such as the ns that a packet took. */
export interface Contender {
  readonly name: string;
  /** What is taken off its samples; the baseline of all when left out. */
  readonly zero?: Contender;
  /** Takes a sample. */
  sample(): number;
}

/**
 * Takes `rounds` samples of each contender, one of each a round, and after one round that doesn't
 * count. What `baseline` took in a round is taken off what the others took in it.
 */
export function interleave(
  contenders: readonly Contender[],
  rounds: number,
  baseline?: Contender,
): Map<string, Summary> {
  const samples = new Map(contenders.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    const zeros = new Map<Contender | undefined, number>([[undefined, 0]]);
    const zeroOf = (zero: Contender | undefined): number => {
      const took = zeros.get(zero) ?? zero?.sample() ?? 0;
      zeros.set(zero, took);
      return took;
    };
    for (const contender of contenders) {
      const zero = zeroOf(contender.zero ?? baseline);
      const net = contender.sample() - zero;
      if (round > 0) samples.get(contender.name)?.push(net);
    }
  }
  return new Map([...samples].map(([name, values]) => [name, summarize(values)]));
}
