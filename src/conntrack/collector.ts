// SPDX-License-Identifier: Apache-2.0
// Removes flows that are over from conntrack, a little at a time.

import {
  type Flow,
  type Flow6,
  FlowDirection,
  FlowFlag,
  type FlowKey,
  type FlowKey6,
} from "../datapath/gen/abi.ts";
import type { Ticks } from "../datapath/jiffies.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { Address } from "../net/address.ts";
import { type FlowTimeouts, flowTimeoutMs, type Removal } from "./rows.ts";

/** Flows of either family. */
type AnyFlowKey = Omit<FlowKey, "source" | "destination"> &
  Record<"source" | "destination", Address>;
type FlowAddress = "client" | "serviceAddress" | "pod" | "aliasAddress";
type AnyFlow = Omit<Flow, FlowAddress> & Record<FlowAddress, Address>;
type FlowMap = TypedMap<AnyFlowKey, AnyFlow>;

export interface CollectorOptions {
  readonly map: TypedMap<FlowKey, Flow>;
  /** Of IPv6, where the node has it. */
  readonly wide?: TypedMap<FlowKey6, Flow6> | undefined;
  readonly ticks: Pick<Ticks, "msSince">;
  /** Read anew for every walk: they may change while the agent runs. */
  readonly timeouts: () => FlowTimeouts;
  readonly intervalMs: () => number;
  /** Whether a pod of this node has this address; undefined while that isn't known yet. */
  readonly isEndpoint: (address: Address) => boolean | undefined;
  /** Whether a pod of any node still has its flows; undefined while that isn't known yet. */
  readonly lives: (address: Address) => boolean | undefined;
  /** Called when a walk fails; the next one comes all the same. */
  readonly failed: (error: Error) => void;
  /** Milliseconds, monotonic; tests bring their own. */
  readonly nowMs?: () => number;
}

/** What the last whole walk saw, and how many flows all of them removed. */
export interface CollectorFigures {
  /** Entries in the map; a flow of a pod of this node has two. */
  readonly entries: number;
  readonly limit: number;
  /** The same of IPv6's map. */
  readonly wide: { readonly entries: number; readonly limit: number } | undefined;
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

/** For how long the event loop may be held at a time, besides what one reading takes. */
const HOLD_MS = 1.5;
/** Entries in one reading, which takes the kernel about 0.2 ms. */
const CHUNK = 1024;
/** One entry in so many is checked for a missing other half, other ones in every walk. */
const ORPHAN_SHARE = 16;
/** The packet path writes one half right after the other. */
const YOUNG_MS = 2000;

/** Walks every `intervalMs`, from now on. */
export function createCollector(options: CollectorOptions): Collector {
  const walker = new Walker(options, options.map);
  const wide = options.wide && new Walker(options, options.wide);
  let timer: NodeJS.Timeout | undefined;
  let walking: Promise<void> = Promise.resolve();
  let closed = false;
  const collect = (): Promise<void> => {
    walking = walking
      .then(() => (closed ? undefined : walker.walk()))
      .then(() => (closed ? undefined : wide?.walk()));
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
    figures: () => figuresOf(walker, wide),
    collect,
    async [Symbol.asyncDispose]() {
      closed = true;
      walker.stop();
      wide?.stop();
      clearTimeout(timer);
      await walking.catch(() => undefined);
    },
  };
}

function figuresOf(walker: Walker, wide: Walker | undefined): CollectorFigures {
  const one = walker.figures();
  if (wide === undefined) return { ...one, wide: undefined };
  const { entries, limit, removed, longestHoldMs, lastWalkMs } = wide.figures();
  return {
    ...one,
    removed: {
      expired: one.removed.expired + removed.expired,
      "pod-gone": one.removed["pod-gone"] + removed["pod-gone"],
      orphan: one.removed.orphan + removed.orphan,
    },
    longestHoldMs: Math.max(one.longestHoldMs, longestHoldMs),
    lastWalkMs: one.lastWalkMs + lastWalkMs,
    wide: { entries, limit },
  };
}

/** One entry of a flow. */
interface Half {
  readonly key: AnyFlowKey;
  readonly flow: AnyFlow;
}

class Walker {
  readonly #options: CollectorOptions;
  readonly #map: FlowMap;
  readonly #nowMs: () => number;
  readonly #removed = { expired: 0, "pod-gone": 0, orphan: 0 };
  #entries = 0;
  #longestHoldMs = 0;
  #lastWalkMs = 0;
  #turn = 0;
  #stopped = false;

  constructor(options: CollectorOptions, map: FlowMap) {
    this.#options = options;
    this.#map = map;
    this.#nowMs = options.nowMs ?? (() => performance.now());
  }

  figures(): Omit<CollectorFigures, "wide"> {
    return {
      entries: this.#entries,
      limit: this.#map.raw.info.maxEntries,
      removed: { ...this.#removed },
      longestHoldMs: this.#longestHoldMs,
      lastWalkMs: this.#lastWalkMs,
    };
  }

  stop(): void {
    this.#stopped = true;
  }

  async walk(): Promise<void> {
    const map = this.#map;
    const { timeouts } = this.#options;
    const { key: keyCodec, value: flowCodec } = map.spec;
    const walkStart = this.#nowMs();
    const limits = timeouts();
    this.#turn = (this.#turn + 1) % ORPHAN_SHARE;
    let entries = 0;
    let turnStart = walkStart;
    // Removing while walking is safe: the walk goes by hash bucket.
    for (const batch of map.raw.lookupBatches(CHUNK)) {
      const keys = viewOf(batch.keys);
      const values = viewOf(batch.values);
      for (let index = 0; index < batch.count; index++) {
        const key = keyCodec.decode(keys, index * keyCodec.size);
        const flow = flowCodec.decode(values, index * flowCodec.size);
        if (!this.#look({ key, flow }, limits)) entries++;
        if (!this.#isHeld(turnStart)) continue;
        await new Promise<void>((resolve) => setImmediate(resolve));
        if (this.#stopped) return;
        turnStart = this.#nowMs();
      }
    }
    this.#isHeld(turnStart);
    this.#entries = entries;
    this.#lastWalkMs = this.#nowMs() - walkStart;
  }

  /** Whether the event loop has been held for long enough since then. */
  #isHeld(sinceMs: number): boolean {
    const heldMs = this.#nowMs() - sinceMs;
    this.#longestHoldMs = Math.max(this.#longestHoldMs, heldMs);
    return heldMs >= HOLD_MS;
  }

  /** Removes the flow of an entry if it is over; false if the entry stays. */
  #look({ key, flow }: Half, limits: FlowTimeouts): boolean {
    const remote = (flow.flags & FlowFlag.remote) !== 0;
    const ageMs = this.#options.ticks.msSince(flow.seen);
    const over = ageMs > flowTimeoutMs(key.protocol, flow.flags, limits);
    const turn = flow.clientPort % ORPHAN_SHARE === this.#turn;
    const suspect = !remote && turn && ageMs > YOUNG_MS;
    if (!over && !suspect && !this.#isGone(flow)) return false;
    const halves = [{ key, flow }];
    if (!remote) {
      const otherKey = otherHalf(key, flow);
      const other = this.#map.lookup(otherKey);
      // An other half that belongs to another flow by now is not ours to remove.
      if (other !== undefined && belong(flow, other)) halves.push({ key: otherKey, flow: other });
    }
    const removal = this.#removal(halves, limits);
    return removal !== undefined && this.#remove(halves, removal);
  }

  /**
   * Packets for a dead pod go on renewing the entry; without it they ask for the owner anew, or
   * begin a flow with another pod.
   */
  #isGone({ flags, pod, client }: AnyFlow): boolean {
    const { isEndpoint, lives } = this.#options;
    const anywhere = (flags & (FlowFlag.remote | FlowFlag.snat | FlowFlag.outbound)) !== 0;
    if ((anywhere ? lives(pod) : isEndpoint(pod)) === false) return true;
    const byPod = (flags & (FlowFlag.outbound | FlowFlag.node)) === FlowFlag.outbound;
    return byPod && isEndpoint(client) === false;
  }

  /** Why a flow is over that has these entries; undefined if it isn't. */
  #removal(halves: readonly Half[], limits: FlowTimeouts): Removal | undefined {
    const flags = halves.reduce((all, { flow }) => all | flow.flags, 0);
    const ageMs = Math.min(...halves.map(({ flow }) => this.#options.ticks.msSince(flow.seen)));
    const [first] = halves;
    if (first === undefined) return undefined;
    if (this.#isGone(first.flow)) return "pod-gone";
    const alone = halves.length === 1 && (flags & FlowFlag.remote) === 0;
    if (alone) return ageMs > YOUNG_MS ? "orphan" : undefined;
    return ageMs > flowTimeoutMs(first.key.protocol, flags, limits) ? "expired" : undefined;
  }

  /**
   * Removes what was judged, and puts it back when a packet has come since: it may be the first one
   * of the next flow by these ports. False if the flow stays.
   */
  #remove(halves: readonly Half[], removal: Removal): boolean {
    const map = this.#map;
    const taken: Half[] = [];
    // REQUEST first: without REPLY the pod's packets go out as they are.
    for (const { key, flow } of halves.toSorted(byDirection)) {
      const now = map.take(key);
      if (now === undefined) continue;
      taken.push({ key, flow: now });
      if (removal === "pod-gone" ? now.pod === flow.pod : now.seen === flow.seen) continue;
      for (const half of taken.toReversed()) map.add(half.key, half.flow);
      return false;
    }
    if (taken.length > 0) this.#removed[removal]++;
    return true;
  }
}

function byDirection(a: Half, b: Half): number {
  return a.key.direction - b.key.direction;
}

/** The key of a flow's other entry. */
export function otherHalf(key: AnyFlowKey, flow: AnyFlow): AnyFlowKey {
  const { protocol } = key;
  if (key.direction === FlowDirection.request) {
    return {
      source: flow.pod,
      destination: flow.aliasAddress,
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
    destinationPort: flow.servicePort,
    protocol,
    direction: FlowDirection.request,
  };
}

/** Whether two entries are of one flow. */
function belong(a: AnyFlow, b: AnyFlow): boolean {
  return (
    a.client === b.client &&
    a.clientPort === b.clientPort &&
    a.serviceAddress === b.serviceAddress &&
    a.servicePort === b.servicePort &&
    a.pod === b.pod
  );
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
