// SPDX-License-Identifier: Apache-2.0
// Services with their rings and backends in mapped memory. Nothing of an image changes in place,
// but for a backend's next hop, which is one aligned half word.

import type { Ipv4 } from "../../net/address.ts";
import {
  Backend,
  BackendFlag,
  type Jiffies,
  type Port,
  Service,
  type ServiceId,
} from "../gen/abi.ts";
import { type Extent, Extents } from "./extents.ts";
import type { FrontendTable } from "./frontends.ts";
import { TableFull } from "./frontends.ts";
import { BACKEND_NEXTHOP, RING_ROW_SLOTS, type TableMemory } from "./memory.ts";
import type { Quarantine } from "./quarantine.ts";

/** A backend as the hot tables have it. */
export interface BackendImage {
  readonly address: Ipv4;
  readonly port: number;
  /** A pod of this node. */
  readonly local: boolean;
  /** Row of counters, 0: not counted. */
  readonly counter: number;
}

/** One port of a service as programs see it. */
export interface ServiceImage {
  /** ServiceFlag, ORed. */
  readonly flags: number;
  /** For how long a client's backend is remembered, in jiffies. */
  readonly affinityAge: number;
  /** Slot → index into `backends`; empty when there are none. */
  readonly ring: Uint16Array;
  readonly backends: readonly BackendImage[];
}

/** Who knows how packets get to a backend on another node. */
export interface NexthopSource {
  /**
   * The row of nexthops for an address, 0 for none known; changes are told from now on. `before`:
   * the row that it had in an earlier process.
   */
  acquire(address: Ipv4, before?: number): number;
  /** As often as acquire: the last one ends it. */
  release(address: Ipv4): void;
  /** Calls `rerouted` when addresses have another row: address → row. One listener at a time. */
  follow(rerouted: (rows: ReadonlyMap<Ipv4, number>) => void): void;
}

/** Where a service's image is. */
interface Placed {
  readonly row: number;
  readonly ring: Extent;
  readonly backends: Extent;
}

const NOTHING: Extent = { start: 0, count: 0 };
const EMPTY: Placed = { row: 0, ring: NOTHING, backends: NOTHING };

/** Row 0 of services is a service without backends, for frontends whose service isn't there. */
export const NO_SERVICE_ROW = 0;

/** What the images need of the rest. */
export interface ImageContext {
  readonly memory: TableMemory;
  readonly quarantine: Quarantine;
  readonly nexthops: NexthopSource;
  /** The low half of the kernel's jiffies. */
  readonly now: () => number;
}

/** Knows where every service's image is, and what is free. */
export class ImageTable {
  readonly #context: ImageContext;
  readonly #rows: Extents;
  readonly #ringRows: Extents;
  readonly #backendRows: Extents;
  readonly #placed = new Map<number, Placed>();
  /** Older rows of a service that some frontend still led to when the predecessor died. */
  readonly #stale = new Map<number, Placed[]>();
  #idOfRow = new Map<number, number>();
  #frontends: FrontendTable | undefined;

  /** Takes what frontends lead to, the rows `live`, for what is there; all else is free. */
  constructor(context: ImageContext, live: Iterable<number>) {
    this.#context = context;
    const found = readLive(context.memory, live);
    for (const { id, placed } of found) {
      this.#idOfRow.set(placed.row, id);
      const kept = this.#placed.get(id);
      if (kept === undefined) this.#placed.set(id, placed);
      else this.#stale.set(id, [...(this.#stale.get(id) ?? []), without(placed, kept)]);
    }
    const { services, rings, backends } = context.memory;
    const rows = found.map(({ placed }) => ({ start: placed.row, count: 1 }));
    this.#rows = new Extents(services.rows, rows, NO_SERVICE_ROW + 1);
    this.#ringRows = new Extents(rings.rows, taken(found, "ring"));
    this.#backendRows = new Extents(backends.rows, taken(found, "backends"));
    services.words.fill(0, 0, Service.size / 4);
    for (const placed of this.#placed.values()) this.#acquireAll(placed.backends);
    context.nexthops.follow((moved) => this.reroute(moved));
  }

  /** The frontends are made later: they ask which service a row belongs to. */
  set frontends(frontends: FrontendTable) {
    this.#frontends = frontends;
    this.#idOfRow = new Map();
  }

  /** The service whose row this is, as found at the start. */
  idOfRow(row: number): number {
    return this.#idOfRow.get(row) ?? 0;
  }

  /** The row that a service's frontends shall lead to. */
  rowOf(id: number): number {
    return this.#placed.get(id)?.row ?? NO_SERVICE_ROW;
  }

  ids(): IterableIterator<number> {
    return this.#placed.keys();
  }

  /** Rows in use of each table. */
  get used(): { readonly services: number; readonly rings: number; readonly backends: number } {
    return {
      services: this.#rows.used,
      rings: this.#ringRows.used,
      backends: this.#backendRows.used,
    };
  }

  /** What programs see of a service now, read from their memory. */
  read(id: number): (ServiceImage & { readonly changed: number }) | undefined {
    const placed = this.#placed.get(id);
    if (placed === undefined) return undefined;
    const { services, rings } = this.#context.memory;
    const row = Service.decode(services.view, placed.row * Service.size);
    const first = placed.ring.start * RING_ROW_SLOTS;
    return {
      flags: row.flags,
      affinityAge: row.affinityAge,
      changed: row.changed,
      ring: rings.halves.slice(first, first + (placed.ring.count === 0 ? 0 : row.ringSize)),
      backends: this.#readBackends(placed.backends),
    };
  }

  /** Writes an image into free rows and makes the service's frontends lead there. */
  put(id: number, image: ServiceImage): void {
    const before = this.#placed.get(id);
    const old = before ?? EMPTY;
    const sameBackends = before !== undefined && this.#hasBackends(old.backends, image.backends);
    const sameRing = before !== undefined && this.#hasRing(old, image.ring);
    if (sameBackends && sameRing && this.#hasTerms(old.row, image)) {
      this.#settleStale(id);
      return;
    }
    const placed = this.#allocate(
      image,
      sameRing ? old.ring : undefined,
      sameBackends ? old.backends : undefined,
    );
    const sameOwners = before !== undefined && this.#sameOwners(old, image);
    const changed = sameOwners ? this.#changedOf(old.row) : this.#context.now();
    if (!sameBackends) this.#writeBackends(placed.backends.start, image.backends);
    if (!sameRing)
      this.#context.memory.rings.halves.set(image.ring, placed.ring.start * RING_ROW_SLOTS);
    this.#writeRow(id, placed, image, changed);
    this.#placed.set(id, placed);
    this.#frontends?.publish(id, placed.row);
    this.#retire({
      row: old.row,
      ring: sameRing ? NOTHING : old.ring,
      backends: sameBackends ? NOTHING : old.backends,
    });
    this.#settleStale(id);
  }

  /** Forgets a service; a frontend that still led to it has no backend from now on. */
  remove(id: number): void {
    const placed = this.#placed.get(id);
    if (placed === undefined) return;
    this.#placed.delete(id);
    this.#frontends?.publish(id, NO_SERVICE_ROW);
    this.#retire(placed);
    for (const stale of this.#stale.get(id) ?? []) this.#retire(stale);
    this.#stale.delete(id);
  }

  /** Gives every backend of these addresses another next hop: address → row. */
  reroute(rows: ReadonlyMap<Ipv4, number>): void {
    const { backends } = this.#context.memory;
    for (const { backends: extent } of this.#placed.values()) {
      for (let row = extent.start; row < extent.start + extent.count; row++) {
        const nexthop = rows.get(backends.view.getUint32(row * Backend.size) as Ipv4);
        if (nexthop === undefined || this.#isLocal(row)) continue;
        Atomics.store(backends.halves, row * (Backend.size / 2) + BACKEND_NEXTHOP, nexthop);
      }
    }
  }

  #allocate(
    { ring, backends }: ServiceImage,
    sameRing: Extent | undefined,
    sameBackends: Extent | undefined,
  ): Placed {
    const parts: [Extents, Extent][] = [];
    const take = (from: Extents, count: number, what: string, key: string): Extent => {
      if (count === 0) return NOTHING;
      const start = from.allocate(count);
      if (start === undefined) throw full(from, count, what, key, this.#context.quarantine.busy);
      const extent = { start, count };
      parts.push([from, extent]);
      return extent;
    };
    try {
      const ringCount = Math.ceil(ring.length / RING_ROW_SLOTS);
      return {
        backends:
          sameBackends ?? take(this.#backendRows, backends.length, "backends", "tables.backends"),
        ring: sameRing ?? take(this.#ringRows, ringCount, "rings", "tables.ringEntries"),
        row: take(this.#rows, 1, "services", "tables.services").start,
      };
    } catch (error) {
      for (const [from, extent] of parts) from.free(extent);
      throw error;
    }
  }

  #writeBackends(start: number, backends: readonly BackendImage[]): void {
    const { view } = this.#context.memory.backends;
    for (const [index, { address, port, local, counter }] of backends.entries()) {
      Backend.encode(view, (start + index) * Backend.size, {
        address,
        port: port as Port,
        nexthop: local ? 0 : this.#context.nexthops.acquire(address),
        counter,
        flags: local ? BackendFlag.local : 0,
      });
    }
  }

  #writeRow(id: number, placed: Placed, image: ServiceImage, changed: number): void {
    Service.encode(this.#context.memory.services.view, placed.row * Service.size, {
      id: id as ServiceId,
      ring: placed.ring.start,
      ringSize: image.ring.length,
      backends: placed.backends.start,
      backendCount: image.backends.length,
      flags: image.flags,
      changed: changed as Jiffies,
      affinityAge: image.affinityAge,
    });
  }

  #hasTerms(row: number, image: ServiceImage): boolean {
    const { view } = this.#context.memory.services;
    const { flags, affinityAge } = Service.decode(view, row * Service.size);
    return flags === image.flags && affinityAge === image.affinityAge;
  }

  #changedOf(row: number): number {
    return Service.decode(this.#context.memory.services.view, row * Service.size).changed;
  }

  #isLocal(row: number): boolean {
    const { words } = this.#context.memory.backends;
    return ((words[row * 4 + 3] ?? 0) & BackendFlag.local) !== 0;
  }

  #readBackends({ start, count }: Extent): BackendImage[] {
    const { view } = this.#context.memory.backends;
    return Array.from({ length: count }, (_, index) => {
      const row = Backend.decode(view, (start + index) * Backend.size);
      const local = (row.flags & BackendFlag.local) !== 0;
      return { address: row.address, port: row.port, local, counter: row.counter };
    });
  }

  #hasBackends({ start, count }: Extent, backends: readonly BackendImage[]): boolean {
    if (count !== backends.length) return false;
    const { view } = this.#context.memory.backends;
    return backends.every(({ address, port, local, counter }, index) => {
      const row = Backend.decode(view, (start + index) * Backend.size);
      const flags = local ? BackendFlag.local : 0;
      return (
        row.address === address &&
        row.port === port &&
        row.counter === counter &&
        row.flags === flags
      );
    });
  }

  #ringSize({ row }: Placed): number {
    return Service.decode(this.#context.memory.services.view, row * Service.size).ringSize;
  }

  #hasRing(placed: Placed, ring: Uint16Array): boolean {
    if (this.#ringSize(placed) !== ring.length) return false;
    const { buffer } = this.#context.memory.rings.halves;
    const there = Buffer.from(buffer, placed.ring.start * RING_ROW_SLOTS * 2, ring.byteLength);
    return there.equals(Buffer.from(ring.buffer, ring.byteOffset, ring.byteLength));
  }

  /** Whether every slot of the ring has the pod that it had. */
  #sameOwners(placed: Placed, { ring, backends }: ServiceImage): boolean {
    if (this.#ringSize(placed) !== ring.length) return false;
    const { halves } = this.#context.memory.rings;
    const { view } = this.#context.memory.backends;
    const first = placed.ring.start * RING_ROW_SLOTS;
    const owners = backends.map(({ address }) => address);
    const former = Array.from({ length: placed.backends.count }, (_, index) =>
      view.getUint32((placed.backends.start + index) * Backend.size),
    );
    return ring.every((backend, slot) => owners[backend] === former[halves[first + slot] ?? 0]);
  }

  #acquireAll(extent: Extent): void {
    const { backends } = this.#context.memory;
    for (let row = extent.start; row < extent.start + extent.count; row++) {
      if (this.#isLocal(row)) continue;
      const address = backends.view.getUint32(row * Backend.size) as Ipv4;
      const at = row * (Backend.size / 2) + BACKEND_NEXTHOP;
      const nexthop = this.#context.nexthops.acquire(address, backends.halves[at]);
      Atomics.store(backends.halves, row * (Backend.size / 2) + BACKEND_NEXTHOP, nexthop);
    }
  }

  #settleStale(id: number): void {
    const stale = this.#stale.get(id);
    if (stale === undefined) return;
    this.#stale.delete(id);
    this.#frontends?.publish(id, this.rowOf(id));
    for (const placed of stale) this.#retire(placed, false);
  }

  /** After the grace period the rows are free, and nobody needs the way to the backends. */
  #retire(placed: Placed, acquired = true): void {
    if (acquired) {
      const { view } = this.#context.memory.backends;
      const { start, count } = placed.backends;
      for (let row = start; row < start + count; row++) {
        if (this.#isLocal(row)) continue;
        this.#context.nexthops.release(view.getUint32(row * Backend.size) as Ipv4);
      }
    }
    this.#context.quarantine.retire(() => {
      if (placed.row !== NO_SERVICE_ROW) this.#rows.free({ start: placed.row, count: 1 });
      this.#ringRows.free(placed.ring);
      this.#backendRows.free(placed.backends);
    });
  }
}

interface Found {
  readonly id: number;
  readonly placed: Placed;
}

function full(from: Extents, count: number, table: string, key: string, mayHelp: boolean) {
  const rows = count === 1 ? "a row" : `${count} rows in a row`;
  return new TableFull(
    `no room in table ${table} for ${rows}: ${from.used} of its ${from.rows} are taken; raise ${key}`,
    mayHelp,
  );
}

function taken(found: readonly Found[], part: "ring" | "backends"): Extent[] {
  const extents = new Map<number, Extent>();
  for (const { placed } of found) {
    if (placed[part].count > 0) extents.set(placed[part].start, placed[part]);
  }
  return [...extents.values()];
}

/** Two rows of a service share what was the same in both images. */
function without(placed: Placed, kept: Placed): Placed {
  const rest = (part: "ring" | "backends"): Extent =>
    placed[part].start === kept[part].start ? NOTHING : placed[part];
  return { row: placed.row, ring: rest("ring"), backends: rest("backends") };
}

/** The images that rows lead to; one that leads outside of a table, or into another's, is none. */
function readLive(memory: TableMemory, live: Iterable<number>): Found[] {
  const { services, rings, backends } = memory;
  const found: Found[] = [];
  for (const row of new Set(live)) {
    if (row === NO_SERVICE_ROW || row >= services.rows) continue;
    const it = Service.decode(services.view, row * Service.size);
    const ring = { start: it.ring, count: Math.ceil(it.ringSize / RING_ROW_SLOTS) };
    const extent = { start: it.backends, count: it.backendCount };
    if (it.id === 0 || !fits(ring, rings.rows) || !fits(extent, backends.rows)) continue;
    found.push({ id: it.id, placed: { row, ring, backends: extent } });
  }
  return withoutOverlaps(withoutOverlaps(found, "ring"), "backends");
}

function fits({ start, count }: Extent, rows: number): boolean {
  return count <= rows && start <= rows - count;
}

/** Two rows of a service may share an extent whole; anything else is damage. */
function withoutOverlaps(found: readonly Found[], part: "ring" | "backends"): Found[] {
  let last: Found | undefined;
  const sorted = found.toSorted((a, b) => a.placed[part].start - b.placed[part].start);
  return sorted.filter((one) => {
    const { start, count } = one.placed[part];
    if (count === 0) return true;
    const before = last?.placed[part] ?? NOTHING;
    const shared = last?.id === one.id && before.start === start && before.count === count;
    if (shared) return true;
    if (start < before.start + before.count) return false;
    last = one;
    return true;
  });
}
