// SPDX-License-Identifier: Apache-2.0
// What programs count for themselves, in arrays with a part for each CPU.

import { possibleCpus } from "../kernel/bpf.ts";
import type { BpfMap } from "../kernel/map.ts";
import type { MapMapping } from "../kernel/map-memory.ts";
import { Metric, Place, Traffic, Verdict } from "./gen/abi.ts";

/** PLACE_SLOTS and VERDICT_SLOTS of bpf/abi/verdict.h. */
const PLACE_SLOTS = 8;
const VERDICT_SLOTS = 64;

/** Packets that ended with one verdict at one place, over all CPUs since the table was made. */
export interface VerdictCount {
  readonly place: Place;
  readonly verdict: Verdict;
  readonly packets: number;
  readonly bytes: number;
}

/** What a balancer sent to one backend of one service port, over all CPUs. */
export interface TrafficCount {
  readonly packets: number;
  readonly bytes: number;
  readonly connections: number;
  /** Flows that this node, the backend's, took up. */
  readonly adopted: number;
}

/** Reads `metrics`; reading costs a few microseconds and no system call. */
export interface MetricsReader extends Disposable {
  /** Every place and verdict, also those without packets. */
  read(): readonly VerdictCount[];
}

/** Reads `counters`. */
export interface CountersReader extends Disposable {
  /** Of one counter; 0 is for all that have none. */
  read(counter: number): TrafficCount;
  /** Sets a counter that nobody uses any more to zero, before it is given to another backend. */
  reset(counter: number): void;
  /** Counters are below. */
  readonly limit: number;
}

/** Opens the map `metrics`, which may be closed afterwards. */
export function openMetrics(map: BpfMap): MetricsReader {
  const mapping = map.mmap({ readOnly: true });
  const words = new Uint32Array(mapping.buffer);
  const cpus = Math.min(possibleCpus(), map.info.maxEntries / (PLACE_SLOTS * VERDICT_SLOTS));
  const strideWords = (PLACE_SLOTS * VERDICT_SLOTS * Metric.size) / 4;
  const count = (place: Place, verdict: Verdict): VerdictCount => {
    const at = ((place * VERDICT_SLOTS + verdict) * Metric.size) / 4;
    return {
      place,
      verdict,
      packets: sumOver(words, at, strideWords, cpus),
      bytes: sumOver(words, at + 2, strideWords, cpus),
    };
  };
  return {
    read: () =>
      Object.values(Place).flatMap((place) =>
        Object.values(Verdict).map((verdict) => count(place, verdict)),
      ),
    [Symbol.dispose]: () => mapping.close(),
  };
}

/** Opens the map `counters`, of which each CPU has `stride` rows; it may be closed afterwards. */
export function openCounters(map: BpfMap, stride: number): CountersReader {
  const mapping: MapMapping = map.mmap();
  const words = new Uint32Array(mapping.buffer);
  const cpus = Math.floor(map.info.maxEntries / stride);
  const strideWords = (stride * Traffic.size) / 4;
  const start = (counter: number): number => {
    if (counter >= 0 && counter < stride) return (counter * Traffic.size) / 4;
    throw new RangeError(`no counter ${counter} in table counters: it has ${stride}`);
  };
  return {
    read(counter) {
      const at = start(counter);
      return {
        packets: sumOver(words, at, strideWords, cpus),
        bytes: sumOver(words, at + 2, strideWords, cpus),
        connections: sumOver(words, at + 4, strideWords, cpus),
        adopted: sumOver(words, at + 6, strideWords, cpus),
      };
    },
    reset(counter) {
      const at = start(counter);
      for (let cpu = 0; cpu < cpus; cpu++) {
        const from = at + cpu * strideWords;
        words.fill(0, from, from + Traffic.size / 4);
      }
    },
    limit: stride,
    [Symbol.dispose]: () => mapping.close(),
  };
}

/** The sum of a 64-bit counter's parts, exact up to 2^53. */
function sumOver(words: Uint32Array, at: number, strideWords: number, cpus: number): number {
  let sum = 0;
  for (let cpu = 0, low = at; cpu < cpus; cpu++, low += strideWords) {
    sum += (words[low + 1] ?? 0) * 2 ** 32 + (words[low] ?? 0);
  }
  return sum;
}
