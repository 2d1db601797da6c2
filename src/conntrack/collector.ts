// SPDX-License-Identifier: Apache-2.0
// Removes flows that are over from conntrack, a little at a time.

import { Flow, FlowDirection, FlowFlag, FlowKey, type Port } from "../datapath/gen/abi.ts";
import type { Ticks } from "../datapath/jiffies.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { Ipv4 } from "../net/address.ts";
import { type FlowTimeouts, flowTimeoutMs, type Removal } from "./rows.ts";

export interface CollectorOptions {
  readonly map: TypedMap<FlowKey, Flow>;
  readonly ticks: Pick<Ticks, "msSince">;
  /** Read anew for every walk: they may change while the agent runs. */
  readonly timeouts: () => FlowTimeouts;
  readonly intervalMs: () => number;
  /** Whether a pod of this node has this address; undefined while that isn't known yet. */
  readonly isEndpoint: (address: Ipv4) => boolean | undefined;
  /** Whether a pod of any node still has its flows; undefined while that isn't known yet. */
  readonly lives: (address: Ipv4) => boolean | undefined;
  /** Called when a walk fails; the next one comes all the same. */
  readonly failed: (error: Error) => void;
}

/** What the last whole walk saw, and how many flows all of them removed. */
export interface CollectorFigures {
  /** Entries in the map; a flow of a pod of this node has two. */
  readonly entries: number;
  readonly limit: number;
  readonly removed: Readonly<Record<Removal, number>>;
  /** The longest time for which the event loop was held, of all walks. */
  readonly longestHoldMs: number;
  readonly lastWalkMs: number;
}

export interface Collector extends AsyncDisposable {
  figures(): CollectorFigures;
  /** Walks now and once; a walk that is under way is waited for first. */
  collect(): Promise<void>;
}

/** For how long the event loop may be held at a time. */
const HOLD_MS = 1.5;
const MIN_CHUNK = 64;
const MAX_CHUNK = 4096;
/** One entry in so many is checked for a missing other half, other ones in every walk. */
const ORPHAN_SHARE = 16;
/** The packet path writes one half right after the other. */
const YOUNG_MS = 2000;

/** Walks every `intervalMs`, from now on. */
export function createCollector(options: CollectorOptions): Collector {
  const walker = new Walker(options);
  let timer: NodeJS.Timeout | undefined;
  let walking: Promise<void> = Promise.resolve();
  let closed = false;
  const collect = (): Promise<void> => {
    walking = walking.then(() => (closed ? undefined : walker.walk()));
    return walking;
  };
  const schedule = (): void => {
    timer = setTimeout(() => {
      collect()
        .catch((error: unknown) => {
          walking = Promise.resolve();
          options.failed(error instanceof Error ? error : new Error(String(error)));
        })
        .finally(() => {
          if (!closed) schedule();
        });
    }, options.intervalMs()).unref();
  };
  schedule();
  return {
    figures: () => walker.figures(),
    collect,
    async [Symbol.asyncDispose]() {
      closed = true;
      walker.stop();
      clearTimeout(timer);
      await walking.catch(() => undefined);
    },
  };
}

class Walker {
  readonly #options: CollectorOptions;
  readonly #removed = { expired: 0, "pod-gone": 0, orphan: 0 };
  #entries = 0;
  #longestHoldMs = 0;
  #lastWalkMs = 0;
  #chunk = 256;
  #turn = 0;
  #stopped = false;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  figures(): CollectorFigures {
    return {
      entries: this.#entries,
      limit: this.#options.map.raw.info.maxEntries,
      removed: { ...this.#removed },
      longestHoldMs: this.#longestHoldMs,
      lastWalkMs: this.#lastWalkMs,
    };
  }

  stop(): void {
    this.#stopped = true;
  }

  async walk(): Promise<void> {
    const { map, timeouts } = this.#options;
    const walkStart = performance.now();
    const limits = timeouts();
    this.#turn = (this.#turn + 1) % ORPHAN_SHARE;
    let entries = 0;
    const batches = map.raw.lookupBatches(this.#chunk)[Symbol.iterator]();
    for (;;) {
      const start = performance.now();
      const { value: batch, done } = batches.next();
      if (done === true || batch === undefined || this.#stopped) break;
      const keys = viewOf(batch.keys);
      const values = viewOf(batch.values);
      const dead = new Map<string, FlowKey>();
      for (let index = 0; index < batch.count; index++) {
        const key = FlowKey.decode(keys, index * FlowKey.size);
        const flow = Flow.decode(values, index * Flow.size);
        if (!this.#look(key, flow, limits, dead)) entries++;
      }
      // Deleting while walking is safe: the walk goes by hash bucket.
      if (dead.size > 0) map.deleteAll([...dead.values()]);
      this.#held(performance.now() - start, batch.count);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    if (this.#stopped) return;
    this.#entries = Math.max(0, entries);
    this.#lastWalkMs = performance.now() - walkStart;
  }

  /** The next walk's chunks are such that they hold the loop for less than the limit. */
  #held(heldMs: number, count: number): void {
    this.#longestHoldMs = Math.max(this.#longestHoldMs, heldMs);
    if (heldMs > HOLD_MS) this.#chunk = Math.max(MIN_CHUNK, Math.floor(this.#chunk / 2));
    else if (heldMs < HOLD_MS / 4 && count >= this.#chunk) {
      this.#chunk = Math.min(MAX_CHUNK, this.#chunk * 2);
    }
  }

  /** Adds the entry, and its other half, to `dead` if it is over; false if it stays. */
  #look(key: FlowKey, flow: Flow, limits: FlowTimeouts, dead: Map<string, FlowKey>): boolean {
    if (dead.size > 0 && dead.has(textOf(key))) return true;
    const remote = (flow.flags & FlowFlag.remote) !== 0;
    const ageMs = this.#options.ticks.msSince(flow.seen);
    // Packets for a dead owner go on renewing the entry: without it they ask anew who the owner is.
    const known = remote ? this.#options.lives(flow.pod) : this.#options.isEndpoint(flow.pod);
    const gone = known === false;
    const over = ageMs > flowTimeoutMs(key.protocol, flow.flags, limits);
    const turn = flow.clientPort % ORPHAN_SHARE === this.#turn;
    const suspect = !remote && turn && ageMs > YOUNG_MS;
    if (!gone && !over && !suspect) return false;
    const otherKey = remote ? undefined : otherHalf(key, flow);
    const other = otherKey === undefined ? undefined : this.#options.map.lookup(otherKey);
    const removal = this.#removal(key, flow, other, gone, limits);
    if (removal === undefined) return false;
    dead.set(textOf(key), key);
    this.#removed[removal]++;
    // An other half that belongs to another flow by now is not ours to remove.
    if (other !== undefined && otherKey !== undefined && belong(flow, other)) {
      dead.set(textOf(otherKey), otherKey);
    }
    return true;
  }

  #removal(
    key: FlowKey,
    flow: Flow,
    other: Flow | undefined,
    gone: boolean,
    limits: FlowTimeouts,
  ): Removal | undefined {
    const { msSince } = this.#options.ticks;
    if (gone) return "pod-gone";
    if ((flow.flags & FlowFlag.remote) !== 0) return "expired";
    if (other === undefined || !belong(flow, other)) return "orphan";
    const ageMs = Math.min(msSince(flow.seen), msSince(other.seen));
    const limitMs = flowTimeoutMs(key.protocol, flow.flags | other.flags, limits);
    return ageMs > limitMs ? "expired" : undefined;
  }
}

/** The key of a flow's other entry. */
export function otherHalf(key: FlowKey, flow: Flow): FlowKey {
  const { protocol } = key;
  if (key.direction === FlowDirection.request) {
    return {
      source: flow.pod,
      destination: flow.client,
      sourcePort: flow.podPort,
      destinationPort: flow.aliasPort,
      protocol,
      direction: FlowDirection.reply,
    };
  }
  return {
    source: flow.client,
    destination: flow.serviceAddress,
    sourcePort: flow.clientPort,
    destinationPort: flow.servicePort as Port,
    protocol,
    direction: FlowDirection.request,
  };
}

/** Whether two entries are of one flow. */
function belong(a: Flow, b: Flow): boolean {
  return (
    a.client === b.client &&
    a.clientPort === b.clientPort &&
    a.serviceAddress === b.serviceAddress &&
    a.servicePort === b.servicePort &&
    a.pod === b.pod
  );
}

function textOf(key: FlowKey): string {
  return Object.values(key).join(" ");
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
