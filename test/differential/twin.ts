// SPDX-License-Identifier: Apache-2.0
// A node twice: in the model and in the kernel. Every change of state goes to both.

import type { Identity, Ifindex, Jiffies, Port, ServiceId } from "../../src/datapath/gen/abi.ts";
import type { DatapathOptions } from "../../src/datapath/load.ts";
import type { Limits } from "../../src/datapath/sizes.ts";
import type { MapMapping } from "../../src/kernel/map-memory.ts";
import { ANY_IPV4, ANY_IPV6, type Family, type Ipv4, type Ipv6 } from "../../src/net/address.ts";
import type { Mac } from "../../src/net/mac.ts";
import type { Prefix4 } from "../../src/net/prefix.ts";
import type { Address } from "../model/family.ts";
import { bucketFor } from "../model/hash.ts";
import { IPV4 } from "../model/ip4.ts";
import { IPV6 } from "../model/ip6.ts";
import { Node, type Surroundings } from "../model/node.ts";
import {
  type Affinity,
  type Backend,
  type Config,
  type Endpoint,
  type Flow,
  type FlowKey,
  type Frontend,
  flowKey,
  type LimitWindow,
  type Nexthop,
  type Piece,
  pairKey,
  parseFlowKey,
  parsePieceKey,
  type Service,
  type Target,
  type Trusted,
} from "../model/tables.ts";
import { widen, widenPrefix } from "../wide/address.ts";
import { abiFlow, abiKey, abiPieceKey, affinityKey } from "./abi.ts";
import { RealNode } from "./real.ts";

export interface TwinOptions {
  readonly family: Family;
  readonly objects: string;
  readonly limits: Limits;
  /** The node's address is of its family. */
  readonly config: Omit<Config, "frontendMask">;
  readonly around: Surroundings;
}

const EMPTY_SLOT: Omit<Frontend, "address"> = {
  port: 0,
  protocol: 0,
  kind: 0,
  service: 0,
  spill: 0,
};
const PROBES = 4;
const RING_ROW = 32;
const COUNTER_WORDS = 8;

export class Twin {
  readonly family: Family;
  readonly model: Node;
  readonly real: RealNode;
  #counters: MapMapping;

  constructor({ family, objects, limits, config, around }: TwinOptions) {
    this.family = family;
    this.real = new RealNode({ family, objects, limits, constants: constantsOf(config) });
    const { maps, sizes } = this.real;
    const rows = (name: "services" | "rings" | "backends" | "nexthops" | "conntrack"): number =>
      maps[name].raw.info.maxEntries;
    const modelLimits = {
      services: rows("services"),
      rings: rows("rings"),
      backends: rows("backends"),
      nexthops: rows("nexthops"),
      conntrack: rows("conntrack"),
    };
    const isWide = family === "ipv6";
    const frontendMask = isWide ? sizes.frontendMask6 : sizes.frontendMask;
    const outerHostMask = isWide ? 0 : config.outerHostMask;
    this.model = new Node(isWide ? IPV6 : IPV4, {
      config: { ...config, frontendMask, outerHostMask },
      limits: modelLimits,
      around,
    });
    this.#counters = maps.counters.raw.mmap();
  }

  /** An address of the world's, which are IPv4's, in the node's family. */
  address(narrow: Ipv4): Address {
    return this.family === "ipv4" ? narrow : widen(narrow);
  }

  /** A prefix of the world's in the node's family. */
  prefix({ address, length }: Prefix4): Omit<Trusted, "kind"> {
    if (this.family === "ipv4") return { address, prefixLength: length };
    const wide = widenPrefix({ address, length });
    return { address: wide.address, prefixLength: wide.length };
  }

  get nobody(): Address {
    return this.model.family.nobody;
  }

  get #emptySlot(): Frontend {
    return { ...EMPTY_SLOT, address: this.nobody };
  }

  /** Adds a frontend's key where a lookup finds it; false when there is no room. */
  putFrontend(frontend: Omit<Frontend, "spill">): boolean {
    const { address, port, protocol, kind } = frontend;
    const mask = this.model.config.frontendMask;
    const first = bucketFor(address, port, protocol, kind, mask);
    for (let probe = 0; probe < PROBES; probe++) {
      const index = (first + probe) & mask;
      const bucket = [0, 1, 2, 3].map((slot) => this.model.bucket(index)[slot] ?? this.#emptySlot);
      const free = bucket.findIndex((slot) => slot.kind === 0);
      if (free >= 0) {
        bucket[free] = { ...frontend, spill: bucket[free]?.spill ?? 0 };
        this.#putBucket(index, bucket);
        return true;
      }
      bucket[3] = { ...(bucket[3] ?? this.#emptySlot), spill: 1 };
      this.#putBucket(index, bucket);
    }
    return false;
  }

  removeFrontend({ address, port, protocol, kind }: Omit<Frontend, "spill" | "service">): void {
    for (const [index, bucket] of this.model.tables.frontends) {
      const slots = bucket.map((slot) => {
        const same = slot.address === address && slot.port === port && slot.kind === kind;
        return same && slot.protocol === protocol
          ? { ...this.#emptySlot, spill: slot.spill }
          : slot;
      });
      this.#putBucket(index, slots);
    }
  }

  #putBucket(index: number, slots: Frontend[]): void {
    this.model.tables.frontends.set(index, slots);
    const slot = (at: number) => {
      const one = slots[at] ?? this.#emptySlot;
      return { ...one, address: one.address as Ipv4, port: one.port as Port };
    };
    this.real.maps.frontends.update(index, { slot: [slot(0), slot(1), slot(2), slot(3)] });
  }

  putService(row: number, service: Service): void {
    this.model.tables.services.set(row, service);
    const { id, changed } = service;
    const value = {
      ...service,
      id: id as ServiceId,
      changed: (changed >>> 0) as Jiffies,
    };
    this.real.maps.services.update(row, value);
  }

  /** Fills rows of rings from `first` on with backends' indexes. */
  putRing(first: number, indexes: readonly number[]): void {
    for (let row = 0; row * RING_ROW < indexes.length; row++) {
      const backend = Array.from(
        { length: RING_ROW },
        (_, slot) => indexes[row * RING_ROW + slot] ?? 0,
      );
      this.model.tables.rings.set(first + row, backend);
      this.real.maps.rings.update(first + row, { backend });
    }
  }

  putBackend(row: number, backend: Backend): void {
    this.model.tables.backends.set(row, backend);
    const { address, port } = backend;
    this.real.maps.backends.update(row, {
      ...backend,
      address: address as Ipv4,
      port: port as Port,
    });
  }

  putNexthop(row: number, nexthop: Nexthop): void {
    this.model.tables.nexthops.set(row, nexthop);
    this.real.maps.nexthops.update(row, {
      ifindex: nexthop.ifindex as Ifindex,
      mtu: nexthop.mtu,
      flags: nexthop.flags,
      destination: nexthop.destination as Mac,
      source: nexthop.source as Mac,
      gateway: nexthop.gateway as Ipv4,
      outerSource: nexthop.outerSource as Ipv4,
      checksum: this.family === "ipv4" ? constantSum(Number(nexthop.outerSource)) : 0,
      peer: nexthop.peer as Ipv4,
    });
  }

  putTarget(service: number, pod: Address, target: Target | undefined): void {
    const key = { service: service as ServiceId, pod: pod as Ipv4 };
    const text = pairKey(service, pod);
    if (target === undefined) {
      this.model.tables.targets.delete(text);
      this.real.maps.targets.delete(key);
      return;
    }
    this.model.tables.targets.set(text, target);
    this.real.maps.targets.update(key, { ...target, port: target.port as Port });
  }

  putEndpoint(address: Address, endpoint: Endpoint | undefined): void {
    const key = { address: address as Ipv4 };
    if (endpoint === undefined) {
      this.model.tables.endpoints.delete(address);
      this.real.maps.endpoints.delete(key);
      return;
    }
    this.model.tables.endpoints.set(address, endpoint);
    this.real.maps.endpoints.update(key, {
      ifindex: endpoint.ifindex as Ifindex,
      netns: endpoint.netns,
      podMac: endpoint.podMac as Mac,
      nodeMac: endpoint.nodeMac as Mac,
      identity: 0 as Identity,
    });
  }

  /** The node of a pod elsewhere. */
  putPeer(pod: Address, peer: Address | undefined): void {
    const key = { address: pod as Ipv4 };
    if (peer === undefined) {
      this.model.tables.peers.delete(pod);
      this.real.maps.peers.delete(key);
      return;
    }
    this.model.tables.peers.set(pod, peer);
    this.real.maps.peers.update(key, { node: peer as Ipv4 });
  }

  putTrusted(prefixes: readonly Trusted[]): void {
    const keyOf = ({ prefixLength, address }: Trusted) => ({
      prefixLength,
      address: address as Ipv4,
    });
    for (const prefix of this.model.tables.trusted) this.real.maps.trusted.delete(keyOf(prefix));
    this.model.tables.trusted = [...prefixes];
    for (const prefix of prefixes) {
      this.real.maps.trusted.update(keyOf(prefix), { kind: prefix.kind });
    }
  }

  /** All ranges that a service lists. */
  putSourceRanges(service: number, ranges: readonly Omit<Trusted, "kind">[]): void {
    const { tables } = this.model;
    const { sourceRanges } = this.real.maps;
    const keyOf = (prefixLength: number, address: Address) => ({
      prefixLength: 32 + prefixLength,
      service: service as ServiceId,
      address: address as Ipv4,
    });
    for (const range of tables.sourceRanges) {
      if (range.service !== service) continue;
      sourceRanges.delete(keyOf(range.prefixLength, range.address));
    }
    const others = tables.sourceRanges.filter((range) => range.service !== service);
    const added = ranges.map((range) => ({ service, ...range }));
    tables.sourceRanges = [...others, ...added];
    for (const { address, prefixLength } of ranges) {
      sourceRanges.update(keyOf(prefixLength, address), { listed: 1 });
    }
  }

  putFormerOwners(service: number, slot: number, owners: readonly Address[] | undefined): void {
    const key = { service: service as ServiceId, slot };
    const text = pairKey(service, slot);
    if (owners === undefined) {
      this.model.tables.formerOwners.delete(text);
      this.real.maps.formerOwners.delete(key);
      return;
    }
    const { nobody } = this;
    const [first = nobody, second = nobody, third = nobody] = owners;
    const owner = [first as Ipv4, second as Ipv4, third as Ipv4] as const;
    this.model.tables.formerOwners.set(text, [...owner]);
    this.real.maps.formerOwners.update(key, { owner });
  }

  putFlow(key: FlowKey, flow: Flow | undefined): void {
    if (flow === undefined) {
      this.model.tables.conntrack.delete(flowKey(key));
      this.real.maps.conntrack.delete(abiKey(key));
      return;
    }
    this.model.tables.conntrack.set(flowKey(key), flow);
    this.real.maps.conntrack.update(abiKey(key), abiFlow(flow));
  }

  putLimitWindow(service: number, window: LimitWindow): void {
    this.model.tables.limitWindows.set(service, { ...window });
    const since = (window.since >>> 0) as Jiffies;
    this.real.maps.limits.update(service, { ...window, since });
  }

  #putAffinity(text: string, affinity: Affinity): void {
    this.model.tables.affinities.set(text, affinity);
    const { pod, backend, seen } = affinity;
    const value = { pod: pod as Ipv4, backend, seen: seen as Jiffies };
    this.real.maps.affinities.update(affinityKey(text), value);
  }

  #putPiece(text: string, piece: Piece): void {
    this.model.tables.pieces.set(text, piece);
    const { sourcePort, destinationPort, seen } = piece;
    this.real.maps.fragments.update(abiPieceKey(parsePieceKey(text)), {
      sourcePort: sourcePort as Port,
      destinationPort: destinationPort as Port,
      seen: seen as Jiffies,
    });
  }

  /** Of packets that come in pieces. */
  forgetPieces(): void {
    const { fragments } = this.real.maps;
    for (const [key] of [...fragments.entries()]) fragments.delete(key);
    this.model.tables.pieces.clear();
  }

  /** Makes everything that has a time older, so that what refreshes it can be seen. */
  age(jiffies: number): void {
    for (const [row, service] of this.model.tables.services) {
      this.putService(row, { ...service, changed: (service.changed - jiffies) >>> 0 });
    }
    for (const [service, window] of this.model.tables.limitWindows) {
      this.putLimitWindow(service, { ...window, since: (window.since - jiffies) >>> 0 });
    }
    for (const [text, affinity] of this.model.tables.affinities) {
      this.#putAffinity(text, { ...affinity, seen: (affinity.seen - jiffies) >>> 0 });
    }
    for (const [text, piece] of this.model.tables.pieces) {
      this.#putPiece(text, { ...piece, seen: (piece.seen - jiffies) >>> 0 });
    }
    for (const [text, flow] of this.model.tables.conntrack) {
      const [seen, created] = [flow.seen - jiffies, flow.created - jiffies];
      this.putFlow(parseFlowKey(text), { ...flow, seen: seen >>> 0, created: created >>> 0 });
    }
  }

  /** What the kernel's counters say, all CPUs added up; rows of zeros are left out. */
  realCounters(): ReadonlyMap<number, readonly number[]> {
    const words = new Uint32Array(this.#counters.buffer);
    const { counterStride } = this.real.sizes;
    const sums = new Map<number, number[]>();
    for (let row = 0; row * COUNTER_WORDS < words.length; row++) {
      for (let field = 0; field < 4; field++) {
        const value = words[row * COUNTER_WORDS + field * 2] ?? 0;
        if (value === 0) continue;
        const sum = sums.get(row % counterStride) ?? [0, 0, 0, 0];
        sum[field] = (sum[field] ?? 0) + value;
        sums.set(row % counterStride, sum);
      }
    }
    return sums;
  }

  /** Empties every table of both. */
  clear(): void {
    const { tables } = this.model;
    const { maps } = this.real;
    for (const index of tables.frontends.keys()) {
      this.#putBucket(index, []);
    }
    for (const row of tables.nexthops.keys()) {
      const none = this.nobody;
      this.putNexthop(row, { ...EMPTY_NEXTHOP, gateway: none, outerSource: none, peer: none });
    }
    // Frontends of others lead to rows that a sequence may never write.
    for (const row of tables.services.keys()) this.putService(row, EMPTY_SERVICE);
    this.putTrusted([]);
    for (const pod of [...tables.peers.keys()]) this.putPeer(pod, undefined);
    for (const { service } of [...tables.sourceRanges]) this.putSourceRanges(service, []);
    for (const address of [...tables.endpoints.keys()]) this.putEndpoint(address, undefined);
    for (const [key] of [...maps.targets.entries()]) maps.targets.delete(key);
    for (const [key] of [...maps.formerOwners.entries()]) maps.formerOwners.delete(key);
    for (const [key] of [...maps.affinities.entries()]) maps.affinities.delete(key);
    this.forgetPieces();
    for (const [key] of [...maps.conntrack.entries()]) maps.conntrack.delete(key);
    for (const service of tables.limitWindows.keys()) {
      this.putLimitWindow(service, { since: 0, passed: 0, told: 0 });
    }
    for (const table of Object.values(tables)) if (table instanceof Map) table.clear();
    new Uint32Array(this.#counters.buffer).fill(0);
  }

  close(): void {
    this.#counters.close();
    this.real.close();
  }
}

const EMPTY_SERVICE: Service = {
  id: 0,
  ring: 0,
  ringSize: 0,
  backends: 0,
  backendCount: 0,
  flags: 0,
  changed: 0,
  affinityAge: 0,
};

const EMPTY_NEXTHOP: Omit<Nexthop, "gateway" | "outerSource" | "peer"> = {
  ifindex: 0,
  mtu: 0,
  flags: 0,
  destination: 0,
  source: 0,
};

function constantsOf(config: TwinOptions["config"]): DatapathOptions["constants"] {
  const { nodeAddress } = config;
  return {
    ...config,
    nodeAddress: typeof nodeAddress === "number" ? (nodeAddress as Ipv4) : ANY_IPV4,
    nodeAddress6: typeof nodeAddress === "number" ? ANY_IPV6 : (nodeAddress as Ipv6),
    nodeNetns: 0n,
    outerPrefix: config.outerPrefix as Ipv4,
    fragmentsTrack: config.fragmentsTrack ? 1 : 0,
    acceptOption: config.acceptOption ? 1 : 0,
    fragmentsPass: config.fragmentsPass ? 1 : 0,
    nodeClients: config.nodeClients ? 1 : 0,
    socketLookup: config.socketLookup ? 1 : 0,
  };
}

/** nexthop.checksum: the sum of an outer header's constant words as they are stored. */
function constantSum(outerSource: number): number {
  const swap = (word: number): number => ((word & 255) << 8) | (word >>> 8);
  // Version and header length without TOS, DF, TTL 64 and protocol 4.
  const constant = swap(0x4500) + swap(0x4000) + swap(0x4004);
  return constant + swap(outerSource >>> 16) + swap(outerSource & 0xffff);
}
