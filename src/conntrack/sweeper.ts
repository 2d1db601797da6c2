// SPDX-License-Identifier: Apache-2.0
// Goes through one table of flows, a reading at a time, and removes those that are over.

import { FlowDirection, FlowFlag } from "../datapath/gen/abi.ts";
import type { Address } from "../net/address.ts";
import type { CollectorOptions } from "./collector.ts";
import {
  type AnyFlow,
  type AnyFlowKey,
  belong,
  type FlowMap,
  type Half,
  otherHalf,
} from "./flow.ts";
import { Pace, type Pressure } from "./pace.ts";
import { type FlowTimeouts, flowTimeoutMs, isHalfOpen, isOver, type Removal } from "./rows.ts";
import { Tally } from "./tally.ts";

/** For how long the event loop may be held at a time, besides what one reading takes. */
const HOLD_MS = 1;
/** Entries between two looks at the clock. */
const GLANCE = 64;
/** One entry in so many is checked for a missing other half, other ones in every sweep. */
const ORPHAN_SHARE = 32;
/** The packet path writes one half right after the other. */
const YOUNG_MS = 2000;

const UDP = 17;
/** An age beyond is one of a packet that came after the clock was read. */
const FUTURE_TICKS = 2 ** 31;

/** What is read of every entry, without making a value of it. */
interface Offsets {
  readonly direction: number;
  readonly flags: number;
  readonly clientPort: number;
}

/** Entries, and what they are judged by. */
interface Reading {
  readonly keys: DataView;
  readonly values: DataView;
  readonly nowTicks: number;
  readonly limits: FlowTimeouts;
  readonly tally: Tally;
  /** What rows said of addresses, which are the same again and again. */
  readonly lives: Map<Address, boolean | undefined>;
  readonly attached: Map<Address, boolean | undefined>;
}

export class Sweeper {
  readonly map: FlowMap;
  readonly pace: Pace;
  readonly #options: CollectorOptions;
  readonly #walk: ReturnType<FlowMap["raw"]["bucketWalk"]>;
  readonly #at: Offsets;
  readonly #removed = { expired: 0, "pod-gone": 0, orphan: 0, "half-open": 0 };
  #tally: Tally | undefined;
  #last: Tally | undefined;
  #lastMs = 0;
  #covered = 0;
  #longestHoldMs = 0;
  #turn = 0;
  #heldSinceMs = 0;
  #stopped = false;

  constructor(map: FlowMap, tables: number, options: CollectorOptions) {
    this.map = map;
    this.#options = options;
    this.#walk = map.raw.bucketWalk();
    this.pace = new Pace(map.raw.info.maxEntries, this.#walk.buckets, tables);
    this.#at = {
      direction: map.keyOffset("direction"),
      flags: map.valueOffset("flags"),
      clientPort: map.valueOffset("clientPort"),
    };
  }

  get removed(): Readonly<Record<Removal, number>> {
    return this.#removed;
  }

  get longestHoldMs(): number {
    return this.#longestHoldMs;
  }

  /** Of the last whole sweep, and how long it took. */
  get last(): { readonly tally: Tally; readonly tookMs: number } | undefined {
    return this.#last && { tally: this.#last, tookMs: this.#lastMs };
  }

  /** The sweep under way, and how much of the table it has seen. */
  get present(): { readonly tally: Tally; readonly covered: number } | undefined {
    return this.#tally && { tally: this.#tally, covered: this.#covered };
  }

  get pressure(): Pressure {
    return this.pace.pressure;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Begins anew with the next step. */
  restart(): void {
    this.#walk.restart();
    this.#tally = undefined;
  }

  /** Reads once and does what is to be done; milliseconds to wait, and whether a sweep ended. */
  async step(sweepMs: number): Promise<{ readonly waitMs: number; readonly ended: boolean }> {
    const { nowMs, cpuMs } = this.#options.clock;
    const beganMs = nowMs();
    const beganCpuMs = cpuMs();
    const tally = this.#tally ?? this.#begin(beganMs);
    this.#heldSinceMs = beganMs;
    const { keys, values, count, buckets, ended } = this.#walk.read(this.pace.chunk(sweepMs));
    this.pace.readTook(count, nowMs() - beganMs);
    const { ticks, timeouts } = this.#options;
    const reading = {
      keys: viewOf(keys),
      values: viewOf(values),
      nowTicks: ticks.now(),
      limits: timeouts(),
      tally,
      lives: new Map(),
      attached: new Map(),
    };
    const removedBefore = tally.removed;
    const othersMs = await this.#lookAll(reading, count);
    if (othersMs === undefined) return { waitMs: 0, ended: true };
    const costMs = cpuMs() - beganCpuMs - othersMs;
    tally.costMs += costMs;
    this.#covered += buckets / this.#walk.buckets;
    const step = { entries: count, buckets, removed: tally.removed - removedBefore, costMs };
    const waitMs = this.pace.stepped(step, nowMs(), sweepMs);
    if (ended) this.#end(tally);
    return { waitMs, ended };
  }

  #begin(nowMs: number): Tally {
    this.#turn = (this.#turn + 1) % ORPHAN_SHARE;
    this.#covered = 0;
    const tally = new Tally(nowMs);
    this.#tally = tally;
    return tally;
  }

  #end(tally: Tally): void {
    this.#last = tally;
    this.#lastMs = this.#options.clock.nowMs() - tally.beganMs;
    this.#tally = undefined;
    this.pace.swept(tally.removed, tally.removed + tally.entries, tally.beganMs);
  }

  /** Gives what others used of the processor meanwhile; undefined when it is to stop. */
  async #lookAll(reading: Reading, count: number): Promise<number | undefined> {
    const { tally } = reading;
    const { cpuMs } = this.#options.clock;
    let othersMs = 0;
    for (let index = 0; index < count; index++) {
      const isRemoved = this.#look(reading, index);
      if (isRemoved) tally.removed++;
      else tally.entries++;
      if (!isRemoved && index % GLANCE !== GLANCE - 1) continue;
      if (!this.#isHeld()) continue;
      const beforeMs = cpuMs();
      await new Promise<void>((resolve) => setImmediate(resolve));
      othersMs += cpuMs() - beforeMs;
      if (this.#stopped) return undefined;
      this.#heldSinceMs = this.#options.clock.nowMs();
    }
    this.#isHeld();
    return othersMs;
  }

  /** Whether the event loop has been held for long enough. */
  #isHeld(): boolean {
    const heldMs = this.#options.clock.nowMs() - this.#heldSinceMs;
    this.#longestHoldMs = Math.max(this.#longestHoldMs, heldMs);
    return heldMs >= HOLD_MS;
  }

  /** Counts an entry, and removes its flow if that is over; false if it stays. */
  #look(reading: Reading, index: number): boolean {
    const { keys, values, tally, limits } = reading;
    const { key: keyCodec, value: flowCodec } = this.map.spec;
    const keyAt = index * keyCodec.size;
    const flowAt = index * flowCodec.size;
    const flags = values.getUint32(flowAt + this.#at.flags, true);
    const isReply = keys.getUint8(keyAt + this.#at.direction) === FlowDirection.reply;
    const isSnat = (flags & FlowFlag.snat) !== 0;
    const clientPort = values.getUint16(flowAt + this.#at.clientPort);
    const isTurn = clientPort % ORPHAN_SHARE === this.#turn;
    // A flow is judged by its REQUEST entry, so the other one has nothing to say.
    if (isReply && !isTurn && !isSnat) return false;
    const key = keyCodec.decode(keys, keyAt);
    const flow = flowCodec.decode(values, flowAt);
    if (isSnat) tally.snatServices.add(flow.service);
    if (isSnat && isReply && !isOver(flags)) tally.addSnat(flow.pod, flow.podPort, key.protocol);
    if (isReply && !isTurn) return false;
    if (!isReply && this.#isStale(key, flow, reading)) {
      const other = { key: otherHalf(key, flow), flow };
      return this.#remove([{ key, flow }, other], "half-open");
    }
    const ageMs = this.#ageMs(flow.seen, reading);
    const isSuspect = isTurn && (flags & FlowFlag.remote) === 0 && ageMs > YOUNG_MS;
    const isDue = !isReply && ageMs > flowTimeoutMs(key.protocol, flags, limits);
    if (!isDue && !isSuspect && !this.#isGone(flow, reading)) return false;
    return this.#judge({ key, flow }, reading);
  }

  /** Whether a half-open flow has to go for others. A client that lives sends its SYN again. */
  #isStale({ protocol }: AnyFlowKey, { flags, created, seen }: AnyFlow, reading: Reading): boolean {
    const { halfOpenMs } = this.pace;
    if (halfOpenMs === Number.POSITIVE_INFINITY || !isHalfOpen(protocol, flags)) return false;
    // Datagrams that nobody answers are a flow for as long as they come.
    const since = protocol === UDP ? seen : created;
    return this.#ageMs(since, reading) > halfOpenMs;
  }

  #judge({ key, flow }: Half, reading: Reading): boolean {
    const halves = [{ key, flow }];
    if ((flow.flags & FlowFlag.remote) === 0) {
      const otherKey = otherHalf(key, flow);
      const other = this.map.lookup(otherKey);
      // An other half that belongs to another flow by now is not ours to remove.
      if (other !== undefined && belong(flow, other)) halves.push({ key: otherKey, flow: other });
    }
    const removal = this.#removal(halves, reading);
    return removal !== undefined && this.#remove(halves, removal);
  }

  #ageMs(stored: number, { nowTicks }: Reading): number {
    const ticks = (nowTicks - stored) >>> 0;
    return ticks >= FUTURE_TICKS ? 0 : (ticks * 1000) / this.#options.ticks.perSecond;
  }

  /**
   * Packets for a dead pod go on renewing the entry; without it they ask for the owner anew, or
   * begin a flow with another pod.
   */
  #isGone({ flags, pod, client }: AnyFlow, { lives, attached }: Reading): boolean {
    const { isEndpoint, lives: livesOf } = this.#options;
    const anywhere = (flags & (FlowFlag.remote | FlowFlag.snat | FlowFlag.outbound)) !== 0;
    const isThere = anywhere ? known(lives, pod, livesOf) : known(attached, pod, isEndpoint);
    if (isThere === false) return true;
    const byPod = (flags & (FlowFlag.outbound | FlowFlag.node)) === FlowFlag.outbound;
    return byPod && known(attached, client, isEndpoint) === false;
  }

  /** Why a flow is over that has these entries; undefined if it isn't. */
  #removal(halves: readonly Half[], reading: Reading): Removal | undefined {
    const flags = halves.reduce((all, { flow }) => all | flow.flags, 0);
    const ageMs = Math.min(...halves.map(({ flow }) => this.#ageMs(flow.seen, reading)));
    const [first] = halves;
    if (first === undefined) return undefined;
    if (this.#isGone(first.flow, reading)) return "pod-gone";
    const alone = halves.length === 1 && (flags & FlowFlag.remote) === 0;
    if (alone) return ageMs > YOUNG_MS ? "orphan" : undefined;
    return ageMs > flowTimeoutMs(first.key.protocol, flags, reading.limits) ? "expired" : undefined;
  }

  /**
   * Removes what was judged, and puts it back when a packet has come since: it may be the first one
   * of the next flow by these ports. False if the flow stays.
   */
  #remove(halves: readonly Half[], removal: Removal): boolean {
    const taken: Half[] = [];
    // REQUEST first: without REPLY the pod's packets go out as they are.
    for (const { key, flow } of halves.toSorted(byDirection)) {
      const now = this.map.take(key);
      if (now === undefined) continue;
      taken.push({ key, flow: now });
      if (isAsJudged(now, flow, removal, key)) continue;
      for (const half of taken.toReversed()) this.map.add(half.key, half.flow);
      return false;
    }
    if (taken.length > 0) this.#removed[removal]++;
    return true;
  }
}

/** Whether an entry is still what was judged to go. */
function isAsJudged(now: AnyFlow, flow: AnyFlow, removal: Removal, key: AnyFlowKey): boolean {
  if (removal === "pod-gone") return now.pod === flow.pod;
  if (removal !== "half-open") return now.seen === flow.seen;
  return now.created === flow.created && isHalfOpen(key.protocol, now.flags);
}

function byDirection(a: Half, b: Half): number {
  return a.key.direction - b.key.direction;
}

function known(
  answers: Map<Address, boolean | undefined>,
  address: Address,
  ask: (address: Address) => boolean | undefined,
): boolean | undefined {
  if (answers.has(address)) return answers.get(address);
  const answer = ask(address);
  answers.set(address, answer);
  return answer;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
