// SPDX-License-Identifier: Apache-2.0
// Whole packets as the packet path met them and as they left it, from a node's pinned maps: no
// agent has a part in it.

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "../kernel/map.ts";
import type { MapMapping } from "../kernel/map-memory.ts";
import { listLinks } from "../kernel/netlink/link.ts";
import { openNetlink } from "../kernel/netlink/socket.ts";
import { RingReader } from "../kernel/ring.ts";
import { type RingBatch, RingStream } from "../kernel/ring-stream.ts";
import { type Ipv6, isIpv4 } from "../net/address.ts";
import { dissectFrame } from "../net/dissect.ts";
import type { Layer } from "../net/packet.ts";
import { type Filter, kernelPart, matches } from "./capture-filter.ts";
import {
  Capture,
  CapturedFlag,
  CapturedFrame,
  EventMask,
  maps,
  type Port,
  placeNames,
  type TimeNs,
  Verdict,
  verdictNames,
  verdictTexts,
} from "./gen/abi.ts";
import { openPinned } from "./pinned.ts";

/** A packet at one end of the packet path. */
export interface Frame {
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
  /** Its beginning, as long as the capture keeps. */
  readonly bytes: Uint8Array;
  readonly lengthBytes: number;
  /** Of a GSO packet, the payload of each packet that it will be on the wire; else 0. */
  readonly segmentBytes: number;
  readonly layers: readonly Layer[];
}

/** A packet that met a program. */
export interface CapturedPacket {
  /** From 1 on; numbers that the filter left out are missing. */
  readonly number: number;
  readonly place: string;
  readonly verdict: string;
  /** The verdict in a sentence. */
  readonly why: string;
  readonly isDrop: boolean;
  /** Device whose program it met. */
  readonly device: string;
  /** Id of its service port, 0 for none. */
  readonly service: number;
  readonly came: Frame;
  /** Undefined for what is dropped, what ends here, and what goes on as it came. */
  readonly left: Frame | undefined;
}

/** What a capture did not get. */
export interface Missing {
  /** Packets beyond its rate. */
  readonly beyondRate: number;
  /** Frames that came too fast to be read. */
  readonly lost: number;
}

export interface CaptureOptions {
  /** Directory of the node's pins. */
  readonly pins: string;
  readonly filter: Filter;
  /** Packets in a second at most. */
  readonly rate: number;
  /** Bytes kept of a frame, MIN_SNAP_BYTES to MAX_SNAP_BYTES. */
  readonly snapBytes: number;
  /** Called with packets in about the order in which they ended. */
  readonly receive: (packet: CapturedPacket) => void;
  /** Called once when reading has failed. */
  readonly fail: (error: Error) => void;
}

/** Headers are read from what is kept. */
export const MIN_SNAP_BYTES = 128;
/** CAPTURE_BYTES of bpf/abi/capture.h. */
export const MAX_SNAP_BYTES = 16_384;
/** How long programs go on telling once who captures has died. */
export const LEASE_MS = 2000;

const RENEW_MS = 500;
/** Nothing has come for so long: the ring is read, if a reader is not behind all the time. */
const QUIET_MS = 20;
const QUIET_LIMIT_MS = 2000;
const FIRST_DROP = 32;
const FIRST_SENT = 16;
const IPV4_SHIFT = 96n;
const NS_PER_MS = 1_000_000n;

/** The packet as it came waits for the one as it left, which comes from the same CPU. */
type Waiting = Map<number, { readonly head: CapturedFrame; readonly frame: Frame }>;

/** A capture at work, of which a node has one at a time. */
export class PacketCapture implements AsyncDisposable {
  readonly #options: CaptureOptions;
  readonly #row: MapMapping;
  readonly #runtime: MapMapping;
  readonly #session = randomInt(1, 2 ** 32);
  #devices = deviceNames();
  readonly #waiting: Waiting = new Map();
  // Programs stamp frames with the monotonic clock.
  readonly #sinceBootNs = BigInt(Date.now()) * NS_PER_MS - process.hrtime.bigint();
  readonly #stream: RingStream;
  readonly #timer: NodeJS.Timeout;
  #deadline = 0n;
  #batches = 0;
  /** In this process. */
  #lost = 0;
  /** Once it is closed. */
  #end: Missing | undefined;

  /** Throws KernelError without pins, and an Error while another capture runs. */
  constructor(options: CaptureOptions) {
    this.#options = options;
    using parts = new DisposableStack();
    this.#row = parts.use(mapped(options.pins, maps.captures));
    this.#runtime = parts.use(mapped(options.pins, maps.runtime));
    using ring = BpfMap.openPinned(join(options.pins, maps.capturedFrames.name));
    this.#claim();
    this.#ask();
    skip(ring);
    this.#stream = new RingStream(ring, {
      receive: (batch) => this.#receive(batch),
      fail: options.fail,
    });
    this.#tellPrograms(true);
    this.#timer = setInterval(() => this.#renew(), RENEW_MS);
    parts.move();
  }

  /** What is missing so far, or was when it was closed. */
  get missing(): Missing {
    if (this.#end !== undefined) return this.#end;
    const { leftOut, lost } = this.#read();
    return { beyondRate: Number(leftOut), lost: Number(lost) + this.#lost };
  }

  /** Ends it; what was told before is still received. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    // Another capture that has taken over goes on.
    const isOurs = this.#swapDeadline(newDeadline());
    if (isOurs) this.#tellPrograms(false);
    await this.#untilQuiet();
    await this.#stream.close();
    for (const cpu of [...this.#waiting.keys()]) this.#settle(cpu);
    this.#end = isOurs ? this.missing : { beyondRate: 0, lost: this.#lost };
    this.#swapDeadline(0n);
    this.#row.close();
    this.#runtime.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #read(): Capture {
    return Capture.decode(new DataView(this.#row.buffer), 0);
  }

  /** Takes the row from nobody, or from a capture that has died. */
  #claim(): void {
    const { deadline } = this.#read();
    this.#deadline = deadline;
    const isFree = deadline < process.hrtime.bigint();
    if (isFree && this.#swapDeadline(newDeadline())) return;
    throw new Error("another capture runs on this node: end it first");
  }

  /** false: the deadline isn't ours any more. */
  #swapDeadline(to: bigint): boolean {
    const word = new BigUint64Array(this.#row.buffer, 0, 1);
    if (Atomics.compareExchange(word, 0, this.#deadline, to) !== this.#deadline) return false;
    this.#deadline = to;
    return true;
  }

  /** Writes what is wanted, while programs don't look: one that died may have left them looking. */
  #ask(): void {
    const { filter, rate, snapBytes } = this.#options;
    const { verdicts, places, prefix, port, version } = kernelPart(filter);
    this.#tellPrograms(false);
    Capture.encode(new DataView(this.#row.buffer), 0, {
      deadline: this.#deadline as TimeNs,
      second: 0n as TimeNs,
      packets: 0n,
      leftOut: 0n,
      lost: 0n,
      verdicts,
      address: prefix === undefined ? NO_ADDRESS : wide(prefix.address),
      mask: prefix === undefined ? NO_ADDRESS : maskOf(prefix.address, prefix.length),
      session: this.#session,
      taken: 0,
      rate,
      snapBytes,
      places,
      port: (port ?? 0) as Port,
      version: version ?? 0,
    });
  }

  #tellPrograms(wanted: boolean): void {
    const word = new Uint32Array(this.#runtime.buffer, 0, 1);
    // The other bits are the agent's.
    if (wanted) Atomics.or(word, 0, EventMask.packets);
    else Atomics.and(word, 0, ~EventMask.packets);
  }

  #renew(): void {
    if (this.#swapDeadline(newDeadline())) {
      this.#tellPrograms(true);
      return;
    }
    clearInterval(this.#timer);
    this.#options.fail(new Error("another capture has taken over, as this one stood still"));
  }

  async #untilQuiet(): Promise<void> {
    const limit = performance.now() + QUIET_LIMIT_MS;
    for (let seen = -1; seen !== this.#batches && performance.now() < limit; ) {
      seen = this.#batches;
      await delay(QUIET_MS);
    }
  }

  #receive(batch: RingBatch): void {
    this.#batches += 1;
    this.#lost += batch.lost;
    batch.each((offset, length) => {
      const head = CapturedFrame.decode(batch.view, offset);
      if (head.session !== this.#session) return;
      const { buffer, byteOffset } = batch.view;
      const from = byteOffset + offset + CapturedFrame.size;
      const bytes = new Uint8Array(buffer, from, length - CapturedFrame.size).slice();
      this.#take(head, this.#frame(head, bytes));
    });
  }

  #frame({ time, frameBytes, segmentBytes }: CapturedFrame, bytes: Uint8Array): Frame {
    return {
      timeNs: time + this.#sinceBootNs,
      bytes,
      lengthBytes: frameBytes,
      segmentBytes,
      layers: dissectFrame(bytes).map(({ layer }) => layer),
    };
  }

  #take(head: CapturedFrame, frame: Frame): void {
    const waits = this.#waiting.get(head.cpu);
    if ((head.flags & CapturedFlag.left) === 0) {
      this.#settle(head.cpu);
      this.#waiting.set(head.cpu, { head, frame });
      if ((head.flags & CapturedFlag.more) === 0) this.#settle(head.cpu);
    } else if (waits?.head.packet === head.packet) {
      this.#settle(head.cpu, frame);
    }
  }

  /** Hands on what waits for its other half, which may have been lost. */
  #settle(cpu: number, left?: Frame): void {
    const waits = this.#waiting.get(cpu);
    if (waits === undefined) return;
    this.#waiting.delete(cpu);
    const { head, frame } = waits;
    const layers = [...frame.layers, ...(left?.layers ?? [])];
    const { verdict, place } = head;
    if (!matches(this.#options.filter, { verdict, place, layers })) return;
    this.#options.receive({
      number: Number(head.packet) + 1,
      place: placeNames[place] ?? String(place),
      verdict: verdictNames[verdict]?.replaceAll("_", " ") ?? String(verdict),
      why: verdictTexts[verdict] ?? "",
      isDrop: verdict >= FIRST_DROP,
      device: this.#deviceName(head.ifindex),
      service: head.service,
      came: frame,
      left: left !== undefined && isNews(verdict, frame, left) ? left : undefined,
    });
  }

  /** Devices come and go. */
  #deviceName(index: number): string {
    if (!this.#devices.has(index)) {
      this.#devices = new Map([[index, `device ${index}`], ...deviceNames()]);
    }
    return this.#devices.get(index) ?? "";
  }
}

/** Whether a packet leaves otherwise than it came, if at all. */
function isNews(verdict: Verdict, came: Frame, left: Frame): boolean {
  if (verdict === Verdict.sentNoted) return false;
  return verdict >= FIRST_SENT || Buffer.compare(came.bytes, left.bytes) !== 0;
}

const NO_ADDRESS = 0n as Ipv6;

/** An address as a capture's row has it: IPv4's in the first word. */
function wide(address: number | bigint): Ipv6 {
  return (typeof address === "number" ? BigInt(address) << IPV4_SHIFT : address) as Ipv6;
}

function maskOf(address: Parameters<typeof isIpv4>[0], length: number): Ipv6 {
  const bits = (1n << BigInt(length)) - 1n;
  const whole = isIpv4(address) ? 32 : 128;
  return (bits << BigInt(whole - length + (whole === 32 ? Number(IPV4_SHIFT) : 0))) as Ipv6;
}

function newDeadline(): bigint {
  return process.hrtime.bigint() + BigInt(LEASE_MS) * NS_PER_MS;
}

function mapped(pins: string, spec: Parameters<typeof openPinned>[1]): MapMapping {
  using map = openPinned(pins, spec);
  return map.raw.mmap();
}

/** Throws away what a capture that has died left in the ring. */
function skip(ring: BpfMap): void {
  using reader = new RingReader(ring);
  reader.skip();
}

/** Names of this namespace's devices, as they are now. */
function deviceNames(): ReadonlyMap<number, string> {
  using netlink = openNetlink();
  return new Map(listLinks(netlink).map(({ index, name }) => [index, name]));
}
