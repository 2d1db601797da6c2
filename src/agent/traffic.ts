// SPDX-License-Identifier: Apache-2.0
import type { CountersReader, TrafficCount } from "../datapath/metrics.ts";
import type { ServicePort } from "../lb/rows.ts";
import type { Cursor, ReadTable } from "../state/table.ts";

/**
 * What this node's balancer sent to whom. A counter is zeroed when it gets an owner, and what it
 * had counted for the one before stays in that service's sum.
 */
export interface Traffic extends Disposable {
  /** By one backend's counter, since the backend has it; agents before this one included. */
  ofBackend(counter: number): TrafficCount;
  /** To all backends that the port has or had since this agent started, zero at its start. */
  ofPort(key: string): TrafficCount;
}

const NOTHING: TrafficCount = { packets: 0, bytes: 0, connections: 0, adopted: 0 };

/** What is not counted has counter 0. */
const NO_COUNTER = 0;

/** `restored` are the counters that had an owner when the agent started: they are not zeroed. */
export function createTraffic(
  ports: ReadTable<string, ServicePort, never>,
  counters: CountersReader,
  restored: Iterable<number>,
): Traffic {
  const book = new Book(counters, restored);
  // It wakes before the reconciler has its turn: a counter's new owner isn't in force yet.
  const cursor: Cursor<string, ServicePort> = ports.cursor(() => book.follow(cursor));
  return {
    ofBackend: (counter) => (counter === NO_COUNTER ? NOTHING : counters.read(counter)),
    ofPort: (key) => book.sum(key),
    [Symbol.dispose]: () => cursor.close(),
  };
}

class Book {
  readonly #counters: CountersReader;
  readonly #restored: Set<number>;
  /** By counter, its port: counters are small numbers. */
  readonly #owners: (string | undefined)[] = [];
  /** By port, its counters. */
  readonly #counted = new Map<string, readonly number[]>();
  /** By counter, what it had when its owner was first seen. */
  readonly #bases = new Map<number, TrafficCount>();
  /** By port, what backends of before have had. */
  readonly #retired = new Map<string, TrafficCount>();

  constructor(counters: CountersReader, restored: Iterable<number>) {
    this.#counters = counters;
    this.#restored = new Set(restored);
  }

  follow(cursor: Cursor<string, ServicePort>): void {
    for (let change = cursor.take(); change !== undefined; change = cursor.take()) {
      const { key, row } = change;
      const now = row === undefined ? [] : countersOf(row);
      const kept = new Set(now);
      for (const counter of this.#counted.get(key) ?? []) {
        if (!kept.has(counter) && this.#owners[counter] === key) this.#retire(counter);
      }
      for (const counter of now) if (this.#owners[counter] !== key) this.#own(counter, key);
      if (row === undefined) {
        this.#counted.delete(key);
        this.#retired.delete(key);
      } else {
        this.#counted.set(key, now);
      }
    }
  }

  sum(key: string): TrafficCount {
    let sum = this.#retired.get(key) ?? NOTHING;
    for (const counter of this.#counted.get(key) ?? []) sum = add(sum, this.#since(counter));
    return sum;
  }

  #own(counter: number, key: string): void {
    if (this.#owners[counter] !== undefined) this.#retire(counter);
    if (this.#restored.delete(counter)) this.#bases.set(counter, this.#counters.read(counter));
    else this.#counters.reset(counter);
    this.#owners[counter] = key;
  }

  #retire(counter: number): void {
    const key = this.#owners[counter] ?? "";
    this.#retired.set(key, add(this.#retired.get(key) ?? NOTHING, this.#since(counter)));
    this.#owners[counter] = undefined;
    this.#bases.delete(counter);
  }

  #since(counter: number): TrafficCount {
    const now = this.#counters.read(counter);
    const base = this.#bases.get(counter);
    return base === undefined ? now : subtract(now, base);
  }
}

function countersOf({ backends, draining }: ServicePort): number[] {
  const all = [...backends, ...draining].map(({ counter }): number => counter);
  // Most have all of theirs; what filter makes has room for more than it holds.
  return all.includes(NO_COUNTER) ? all.filter((counter) => counter !== NO_COUNTER) : all;
}

function add(a: TrafficCount, b: TrafficCount): TrafficCount {
  return {
    packets: a.packets + b.packets,
    bytes: a.bytes + b.bytes,
    connections: a.connections + b.connections,
    adopted: a.adopted + b.adopted,
  };
}

function subtract(a: TrafficCount, b: TrafficCount): TrafficCount {
  return {
    packets: a.packets - b.packets,
    bytes: a.bytes - b.bytes,
    connections: a.connections - b.connections,
    adopted: a.adopted - b.adopted,
  };
}
