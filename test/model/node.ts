// SPDX-License-Identifier: Apache-2.0
// The datapath of one node as docs/packet-path.md has it, for a reader who compares the two. Speed
// and clever data structures are the real one's business.

import { balance } from "./balance.ts";
import type { Ip } from "./family.ts";
import { type Address, type Family, samePrefix } from "./family.ts";
import { bucketFor } from "./hash.ts";
import {
  KIND,
  NODE_ADDRESS,
  PLACE,
  type Place,
  PROTOCOL,
  SERVICE,
  VERDICT,
  type Verdict,
} from "./numbers.ts";
import { fromNode } from "./own.ts";
import type { L4 } from "./packet.ts";
import { fromPod } from "./pod.ts";
import {
  type Config,
  emptyTables,
  type Flow,
  type FlowKey,
  type Frontend,
  flowKey,
  type Limits,
  type LimitWindow,
  pairKey,
  type Service,
  type Tables,
} from "./tables.ts";

/** What routing says of a destination. */
export interface Route {
  readonly ifindex: number;
  readonly mtu: number;
  /** Undefined: the neighbour's address isn't known. */
  readonly macs?: { readonly destination: number; readonly source: number };
}

export type SocketState = "listening" | "other";

export interface SocketQuery {
  readonly netns: number | "own";
  readonly protocol: number;
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

/** What the kernel around the programs knows. */
export interface Surroundings {
  /** Routing for a frame that came in at a device. */
  route(query: {
    readonly source: Address;
    readonly destination: Address;
    readonly input: Input;
    /** What the kernel compares with the route's MTU; undefined: it isn't told. */
    readonly bytes: number | undefined;
  }): Route | undefined;
  /** Whether the frame's destination is the MAC of the device that it came in by. */
  isForDevice(input: Input): boolean;
  /** Whether the kernel refuses to make room in a frame, or to take it away. */
  refusesRoom(input: Input): boolean;
  /**
   * A TCP socket of a namespace, or a connected UDP one, for a packet from `source` to
   * `destination`.
   */
  socket(query: SocketQuery): SocketState | undefined;
  /** Whether the node's own namespace has a socket for a packet from `source` to `destination`. */
  hasOwnSocket(query: {
    readonly protocol: number;
    readonly source: Address;
    readonly sourcePort: number;
    readonly destination: Address;
    readonly destinationPort: number;
  }): boolean;
}

/** A frame that meets a program. */
export interface Input {
  readonly frame: Uint8Array;
  /** The device that it came from. */
  readonly ifindex: number;
  readonly jiffies: number;
  /** 0: not a GSO packet. */
  readonly gsoSize: number;
  /** One of a ring's slots by chance; those that are given have a backend each, every other. */
  readonly draw?: (slots: readonly number[]) => number;
  /** Bytes that it had more when it came. */
  readonly taken?: number;
}

/** Where a frame goes. */
export type Way =
  | { readonly to: "kernel" | "nowhere" | "where it came from" }
  /** The frame has its MACs. */
  | { readonly to: "device"; readonly ifindex: number }
  /** The kernel fills in the MACs. */
  | { readonly to: "neighbour"; readonly ifindex: number }
  | { readonly to: "pod"; readonly ifindex: number };

/** A frame that leaves besides the one that came. */
export interface Note {
  readonly ifindex: number;
  readonly frame: Uint8Array;
}

export interface Outcome {
  readonly verdict: Verdict;
  readonly way: Way;
  /** As it leaves; of no meaning after a drop. */
  readonly frame: Uint8Array;
  readonly note?: Note;
}

const PROBES = 4;

export class Node {
  readonly family: Family;
  readonly config: Config;
  readonly limits: Limits;
  tables: Tables;
  readonly around: Surroundings;

  constructor(
    family: Family,
    { config, limits, around }: { config: Config; limits: Limits; around: Surroundings },
    tables = emptyTables(),
  ) {
    this.family = family;
    this.config = config;
    this.limits = limits;
    this.around = around;
    this.tables = tables;
  }

  /** Takes a frame through the program of a place. */
  run(place: Place, input: Input): Outcome {
    const outcome = this.#through(place, input);
    const key = pairKey(PLACE[place], VERDICT[outcome.verdict]);
    const metric = this.tables.metrics.get(key) ?? { packets: 0, bytes: 0 };
    metric.packets += 1;
    metric.bytes += input.frame.length;
    this.tables.metrics.set(key, metric);
    return outcome;
  }

  #through(place: Place, input: Input): Outcome {
    if (place === "pod") return fromPod(this, input);
    return place === "node" ? fromNode(this, input) : balance(this, place, input);
  }

  /** The four slots of a bucket. */
  bucket(index: number): Frontend[] {
    return this.tables.frontends.get(index) ?? [];
  }

  /** What the FIB says. */
  route(input: Input, source: Address, destination: Address, bytes?: number): Route | undefined {
    return this.around.route({ source, destination, input, bytes });
  }

  /** What a service did in the present window. */
  limitWindow(service: number, now: number): LimitWindow {
    const { limitWindows } = this.tables;
    const window = limitWindows.get(service) ?? { since: 0, passed: 0, told: 0 };
    limitWindows.set(service, window);
    if (elapsed(now, window.since) < this.config.limitWindow) return window;
    return Object.assign(window, { since: now, passed: 0, told: 0 });
  }

  /**
   * *Service lookup*: the row of services to which a frontend leads; one beyond the table is none.
   * `inner`: the packet came in IPIP.
   */
  findService(ip: Ip, l4: L4, { inner }: { readonly inner: boolean }): number | undefined {
    const { destination, protocol } = ip;
    const port = l4.destinationPort;
    const frontend =
      this.frontend(destination, port, protocol, KIND.service) ??
      this.#nodePort(destination, port, protocol, inner);
    const row = frontend?.service;
    return row !== undefined && row < this.limits.services ? row : undefined;
  }

  #nodePort(
    address: Address,
    port: number,
    protocol: number,
    inner: boolean,
  ): Frontend | undefined {
    if (port < this.config.nodePortMin || port > this.config.nodePortMax) return undefined;
    const whose = this.frontend(address, 0, 0, KIND.node)?.service;
    const served = inner ? whose !== undefined : whose === NODE_ADDRESS.own;
    return served ? this.frontend(this.family.nobody, port, protocol, KIND.nodePort) : undefined;
  }

  /** Whether an address is a service's own. */
  isServiceAddress(address: Address): boolean {
    const has = (kind: number): boolean => this.frontend(address, 0, 0, kind) !== undefined;
    return has(KIND.address) && !has(KIND.node);
  }

  /** Whether a packet's source may be a client of a service. */
  mayBeClient({ source, protocol }: Ip, { sourcePort }: L4): boolean {
    if (!this.family.isHost(source)) return false;
    // Two services that answer whatever comes would answer each other for ever.
    if (protocol !== PROTOCOL.udp) return true;
    return this.frontend(source, sourcePort, protocol, KIND.service) === undefined;
  }

  frontend(address: Address, port: number, protocol: number, kind: number): Frontend | undefined {
    const mask = this.config.frontendMask;
    const first = bucketFor(address, port, protocol, kind, mask);
    for (let probe = 0; probe < PROBES; probe++) {
      const bucket = this.bucket((first + probe) & mask);
      const found = bucket.find(
        (slot) =>
          slot.address === address &&
          slot.port === port &&
          slot.protocol === protocol &&
          slot.kind === kind,
      );
      if (found !== undefined) return found;
      if ((bucket[3]?.spill ?? 0) === 0) return undefined;
    }
    return undefined;
  }

  flow(key: FlowKey): Flow | undefined {
    return this.tables.conntrack.get(flowKey(key));
  }

  /** Stores an entry; false when there is no room. */
  store(key: FlowKey, flow: Flow): boolean {
    const { conntrack } = this.tables;
    const text = flowKey(key);
    if (!conntrack.has(text) && conntrack.size >= this.limits.conntrack) return false;
    conntrack.set(text, flow);
    return true;
  }

  remove(key: FlowKey): void {
    this.tables.conntrack.delete(flowKey(key));
  }

  count(
    counter: number,
    more: { packets?: number; bytes?: number; connections?: number; adopted?: number },
  ): void {
    const { counters } = this.tables;
    const row = counters.get(counter) ?? { packets: 0, bytes: 0, connections: 0, adopted: 0 };
    row.packets += more.packets ?? 0;
    row.bytes += more.bytes ?? 0;
    row.connections += more.connections ?? 0;
    row.adopted += more.adopted ?? 0;
    counters.set(counter, row);
  }

  /** Whether a prefix holds an address, and the longest one's kind; none holds nobody. */
  trust(address: Address): number | undefined {
    if (address === this.family.nobody) return undefined;
    let longest = -1;
    let kind: number | undefined;
    for (const prefix of this.tables.trusted) {
      const { prefixLength } = prefix;
      if (!isIn(address, prefix) || prefixLength <= longest) continue;
      longest = prefixLength;
      kind = prefix.kind;
    }
    return kind;
  }

  /** *Source ranges*: whether a service's clients may have an address. */
  admits(service: Service, client: Address): boolean {
    if ((service.flags & SERVICE.sourceRanges) === 0) return true;
    const isListed = this.tables.sourceRanges.some(
      (range) => range.service === service.id && isIn(client, range),
    );
    return isListed !== ((service.flags & SERVICE.sourceDeny) !== 0);
  }
}

function isIn(
  address: Address,
  prefix: { readonly address: Address; readonly prefixLength: number },
): boolean {
  return samePrefix(address, prefix.address, prefix.prefixLength);
}

const AHEAD = 1000;

/** *Age*: jiffies from `then` to `now`, which count modulo 2^32; 0 if `then` is just ahead. */
export function elapsed(now: number, then: number): number {
  const age = (now - then) >>> 0;
  return 2 ** 32 - age < AHEAD ? 0 : age;
}

/** Bytes of a frame as it came. */
export function bytesOf({ frame, taken = 0 }: Input): number {
  return frame.length + taken;
}

export function pass(verdict: Verdict, frame: Uint8Array): Outcome {
  return { verdict, way: { to: "kernel" }, frame };
}

export function drop(verdict: Verdict, frame: Uint8Array): Outcome {
  return { verdict, way: { to: "nowhere" }, frame };
}
