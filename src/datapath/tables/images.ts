// SPDX-License-Identifier: Apache-2.0
// Services with their rings and backends in mapped memory. Nothing of an image changes in place,
// but for a backend's next hop, which is one aligned half word.

import { type Address, type Family, familyOf } from "../../net/address.ts";
import { BackendFlag, type Jiffies, type Port, Service, type ServiceId } from "../gen/abi.ts";
import { type Extent, Extents } from "./extents.ts";
import type { BackendRow, TableFamily } from "./family.ts";
import type { FrontendTable } from "./frontends.ts";
import { TableFull } from "./frontends.ts";
import { type Region, RING_ROW_SLOTS, type TableMemory } from "./memory.ts";
import type { Quarantine } from "./quarantine.ts";

/** A backend as the hot tables have it. */
export interface BackendImage {
  readonly address: Address;
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
  /** All of one family. */
  readonly backends: readonly BackendImage[];
}

/** Who knows how packets get to a backend on another node. */
export interface NexthopSource {
  /**
   * The row of nexthops for an address, 0 for none known; changes are told from now on. `before`:
   * the row that it had in an earlier process.
   */
  acquire(address: Address, before?: number): number;
  /** As often as acquire: the last one ends it. */
  release(address: Address): void;
  /** Calls `rerouted` when addresses have another row: address → row. One listener at a time. */
  follow(rerouted: (rows: ReadonlyMap<Address, number>) => void): void;
}

/** Where a service's image is. */
interface Placed {
  readonly row: number;
  readonly ring: Extent;
  /** Whose table the backends are in. */
  readonly family: Family;
  readonly backends: Extent;
}

const NOTHING: Extent = { start: 0, count: 0 };
const EMPTY: Placed = { row: 0, ring: NOTHING, family: "ipv4", backends: NOTHING };

/** Row 0 of services is a service without backends, for frontends whose service isn't there. */
export const NO_SERVICE_ROW = 0;

/** What the images need of one family. */
export interface ImageFamily {
  readonly tables: TableFamily;
  readonly backends: Region;
  readonly nexthops: NexthopSource;
}

/** A row of services that some frontend of a family leads to. */
export interface LiveRow {
  readonly row: number;
  readonly family: Family;
}

/** What the images need of the rest. */
export interface ImageContext {
  readonly memory: Pick<TableMemory, "services" | "rings">;
  readonly families: readonly ImageFamily[];
  readonly quarantine: Quarantine;
  /** The low half of the kernel's jiffies. */
  readonly now: () => number;
}

/** Knows where every service's image is, and what is free. */
export class ImageTable {
  readonly #context: ImageContext;
  readonly #rows: Extents;
  readonly #ringRows: Extents;
  readonly #parts = new Map<Family, ImageFamily & { readonly rows: Extents }>();
  readonly #placed = new Map<number, Placed>();
  /** Older rows of a service that some frontend still led to when the predecessor died. */
  readonly #stale = new Map<number, Placed[]>();
  #idOfRow = new Map<number, number>();
  #frontends: readonly FrontendTable[] = [];

  /** Takes what frontends lead to, the rows `live`, for what is there; all else is free. */
  constructor(context: ImageContext, live: Iterable<LiveRow>) {
    this.#context = context;
    const found = readLive(context, live);
    for (const { id, placed } of found) {
      this.#idOfRow.set(placed.row, id);
      const kept = this.#placed.get(id);
      if (kept === undefined) this.#placed.set(id, placed);
      else this.#stale.set(id, [...(this.#stale.get(id) ?? []), without(placed, kept)]);
    }
    const { services, rings } = context.memory;
    const rows = found.map(({ placed }) => ({ start: placed.row, count: 1 }));
    this.#rows = new Extents(services.rows, rows, NO_SERVICE_ROW + 1);
    this.#ringRows = new Extents(rings.rows, taken(found, "ring"));
    for (const part of context.families) {
      const { family } = part.tables;
      const own = found.filter(({ placed }) => placed.family === family);
      const rows = new Extents(part.backends.rows, taken(own, "backends"));
      this.#parts.set(family, { ...part, rows });
      part.nexthops.follow((moved) => this.#reroute(family, moved));
    }
    services.words.fill(0, 0, Service.size / 4);
    for (const placed of this.#placed.values()) this.#acquireAll(placed);
  }

  /** The frontends are made later: they ask which service a row belongs to. */
  set frontends(frontends: readonly FrontendTable[]) {
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
  get used(): { readonly services: number; readonly rings: number } {
    return { services: this.#rows.used, rings: this.#ringRows.used };
  }

  /** Rows in use of a family's backends. */
  usedBackends(family: Family): number {
    return this.#part(family).rows.used;
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
      backends: this.#readBackends(placed),
    };
  }

  /** Writes an image into free rows and makes the service's frontends lead there. */
  put(id: number, image: ServiceImage): void {
    const before = this.#placed.get(id);
    const old = before ?? EMPTY;
    const sameBackends = before !== undefined && this.#hasBackends(old, image.backends);
    const sameRing = before !== undefined && this.#hasRing(old, image.ring);
    if (sameBackends && sameRing && this.#hasTerms(old.row, image)) {
      this.#settleStale(id);
      return;
    }
    const placed = this.#allocate(
      image,
      sameRing ? old.ring : undefined,
      sameBackends ? old : undefined,
    );
    const sameOwners = before !== undefined && this.#sameOwners(old, image);
    const changed = sameOwners ? this.#changedOf(old.row) : this.#context.now();
    if (!sameBackends) this.#writeBackends(placed, image.backends);
    if (!sameRing)
      this.#context.memory.rings.halves.set(image.ring, placed.ring.start * RING_ROW_SLOTS);
    this.#writeRow(id, placed, image, changed);
    this.#placed.set(id, placed);
    this.#publish(id, placed.row);
    this.#retire({
      row: old.row,
      family: old.family,
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
    this.#publish(id, NO_SERVICE_ROW);
    this.#retire(placed);
    for (const stale of this.#stale.get(id) ?? []) this.#retire(stale);
    this.#stale.delete(id);
  }

  #publish(id: number, row: number): void {
    for (const frontends of this.#frontends) frontends.publish(id, row);
  }

  #part(family: Family): ImageFamily & { readonly rows: Extents } {
    const part = this.#parts.get(family);
    if (part === undefined) throw new Error(`there are no tables of ${family} on this node`);
    return part;
  }

  /** Gives every backend of these addresses another next hop: address → row. */
  #reroute(family: Family, rows: ReadonlyMap<Address, number>): void {
    const part = this.#part(family);
    for (const placed of this.#placed.values()) {
      if (placed.family !== family) continue;
      const { start, count } = placed.backends;
      for (let row = start; row < start + count; row++) {
        const { address, flags } = readBackend(part, row);
        const nexthop = rows.get(address);
        if (nexthop === undefined || isLocal(flags)) continue;
        setNexthop(part, row, nexthop);
      }
    }
  }

  #allocate(
    { ring, backends }: ServiceImage,
    sameRing: Extent | undefined,
    same: Placed | undefined,
  ): Placed {
    const family = same?.family ?? familyOfBackends(backends);
    const part = this.#part(family);
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
      const { names } = part.tables;
      return {
        family,
        backends:
          same?.backends ?? take(part.rows, backends.length, names.backends, "tables.backends"),
        ring: sameRing ?? take(this.#ringRows, ringCount, "rings", "tables.ringEntries"),
        row: take(this.#rows, 1, "services", "tables.services").start,
      };
    } catch (error) {
      for (const [from, extent] of parts) from.free(extent);
      throw error;
    }
  }

  #writeBackends(placed: Placed, backends: readonly BackendImage[]): void {
    const { tables, nexthops, backends: region } = this.#part(placed.family);
    const { start } = placed.backends;
    for (const [index, { address, port, local, counter }] of backends.entries()) {
      tables.backend.encode(region.view, (start + index) * tables.backendBytes, {
        address,
        port: port as Port,
        nexthop: local ? 0 : nexthops.acquire(address),
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

  #readBackends({ family, backends: { start, count } }: Placed): BackendImage[] {
    const part = this.#part(family);
    return Array.from({ length: count }, (_, index) => {
      const { address, port, counter, flags } = readBackend(part, start + index);
      return { address, port, local: isLocal(flags), counter };
    });
  }

  #hasBackends(placed: Placed, backends: readonly BackendImage[]): boolean {
    const { start, count } = placed.backends;
    if (count !== backends.length) return false;
    const part = this.#part(placed.family);
    return backends.every(({ address, port, local, counter }, index) => {
      const row = readBackend(part, start + index);
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
    const first = placed.ring.start * RING_ROW_SLOTS;
    const owners = backends.map(({ address }) => address);
    const former = this.#readBackends(placed).map(({ address }) => address);
    return ring.every((backend, slot) => owners[backend] === former[halves[first + slot] ?? 0]);
  }

  #acquireAll({ family, backends: { start, count } }: Placed): void {
    const part = this.#part(family);
    for (let row = start; row < start + count; row++) {
      const { address, flags, nexthop } = readBackend(part, row);
      if (!isLocal(flags)) setNexthop(part, row, part.nexthops.acquire(address, nexthop));
    }
  }

  #settleStale(id: number): void {
    const stale = this.#stale.get(id);
    if (stale === undefined) return;
    this.#stale.delete(id);
    this.#publish(id, this.rowOf(id));
    for (const placed of stale) this.#retire(placed, false);
  }

  /** After the grace period the rows are free, and nobody needs the way to the backends. */
  #retire(placed: Placed, acquired = true): void {
    const part = this.#part(placed.family);
    if (acquired) {
      const { start, count } = placed.backends;
      for (let row = start; row < start + count; row++) {
        const { address, flags } = readBackend(part, row);
        if (!isLocal(flags)) part.nexthops.release(address);
      }
    }
    this.#context.quarantine.retire(() => {
      if (placed.row !== NO_SERVICE_ROW) this.#rows.free({ start: placed.row, count: 1 });
      this.#ringRows.free(placed.ring);
      part.rows.free(placed.backends);
    });
  }
}

function readBackend({ tables, backends }: ImageFamily, row: number): BackendRow {
  return tables.backend.decode(backends.view, row * tables.backendBytes);
}

function isLocal(flags: number): boolean {
  return (flags & BackendFlag.local) !== 0;
}

function setNexthop({ tables, backends }: ImageFamily, row: number, nexthop: number): void {
  Atomics.store(backends.halves, row * (tables.backendBytes / 2) + tables.nexthop, nexthop);
}

/** Without any it doesn't matter. */
function familyOfBackends([first]: readonly BackendImage[]): Family {
  return first === undefined ? "ipv4" : familyOf(first.address);
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
  const { row, family } = placed;
  return { row, family, ring: rest("ring"), backends: rest("backends") };
}

/** The images that rows lead to; one that leads outside of a table, or into another's, is none. */
function readLive({ memory, families }: ImageContext, live: Iterable<LiveRow>): Found[] {
  const { services, rings } = memory;
  const found: Found[] = [];
  const seen = new Set<number>([NO_SERVICE_ROW]);
  for (const { row, family } of live) {
    if (seen.has(row) || row >= services.rows) continue;
    seen.add(row);
    const backends = families.find(({ tables }) => tables.family === family)?.backends;
    const it = Service.decode(services.view, row * Service.size);
    const ring = { start: it.ring, count: Math.ceil(it.ringSize / RING_ROW_SLOTS) };
    const extent = { start: it.backends, count: it.backendCount };
    if (it.id === 0 || !fits(ring, rings.rows) || !fits(extent, backends?.rows ?? 0)) continue;
    found.push({ id: it.id, placed: { row, ring, family, backends: extent } });
  }
  const apart = withoutOverlaps(found, "ring");
  return families.flatMap(({ tables }) =>
    withoutOverlaps(
      apart.filter(({ placed }) => placed.family === tables.family),
      "backends",
    ),
  );
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
