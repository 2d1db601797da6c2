// SPDX-License-Identifier: Apache-2.0
// The hot tables as targets of a reconciler (src/state/target.ts), restored from what is in memory.

import { type Family, familyOf } from "../../net/address.ts";
import type { MapRefusal } from "../maps.ts";
import { IPV4_TABLES, IPV6_TABLES, type TableFamily } from "./family.ts";
import { FrontendTable, TableFull } from "./frontends.ts";
import { type FrontendKey, frontendId, leadsToService } from "./hash.ts";
import {
  type BackendImage,
  type ImageFamily,
  ImageTable,
  type LiveRow,
  type NexthopSource,
  type ServiceImage,
} from "./images.ts";
import { type FamilyMemory, type HotMaps, mapTables, type Region } from "./memory.ts";
import { type Grace, Quarantine } from "./quarantine.ts";

/** The part of Target that a hot table is; src/state knows no kernel and is not known here. */
export interface TableTarget<K, V> {
  readonly name: string;
  idOf(key: K): number | string;
  same(a: V, b: V): boolean;
  apply(
    batch: readonly { readonly key: K; readonly value: V }[],
  ): readonly MapRefusal[] | Promise<readonly MapRefusal[]>;
  remove(batch: readonly { readonly key: K }[]): readonly MapRefusal[];
  keys(): Iterable<K>;
}

/** A service found in the tables. */
export interface FoundService {
  readonly id: number;
  /** Of the kinds that lead to services. */
  readonly frontends: readonly FrontendKey[];
  /** Backends, their counters, and slot → index of a backend: who owned each slot. */
  readonly image: ServiceImage;
  /** Jiffies of the ring's last change. */
  readonly changed: number;
}

/** How full a table is. */
export interface TableFill {
  readonly table: string;
  readonly used: number;
  readonly limit: number;
  /** The key of the node's file that makes it larger. */
  readonly key: string;
}

export interface HotTablesOptions {
  readonly maps: HotMaps;
  readonly nexthops: NexthopSource;
  /** Of IPv6, where there are tables of it. */
  readonly wideNexthops?: NexthopSource | undefined;
  /** The low half of the kernel's jiffies. */
  readonly now: () => number;
  /** For tests: what is waited for before rows are used again. */
  readonly grace?: Grace;
}

/** Services by id with their rings and backends, and the frontends that lead to them. */
export interface HotTables extends Disposable {
  /** Key: service id. Written before, and removed after, the frontends that lead there. */
  readonly images: TableTarget<number, ServiceImage>;
  /** Value: service id; for the kinds of addresses, what programs read there. */
  readonly frontends: TableTarget<FrontendKey, number>;
  /** What was there at the start, or is now. */
  found(): Generator<FoundService>;
  fill(): readonly TableFill[];
  /** Why rows are not used again, undefined while they are. */
  readonly error: Error | undefined;
  /** Settles when what was unpublished is free again. */
  settled(): Promise<void>;
}

/** The tables of one family. */
interface Part extends ImageFamily {
  readonly keys: Region;
}

/**
 * Maps the tables and takes over what is in them: services that frontends lead to keep their ids
 * and places, everything else is free after a grace period, for which this waits.
 */
export async function openTables(options: HotTablesOptions): Promise<HotTables> {
  const memory = mapTables(options.maps);
  const quarantine = new Quarantine(options.grace);
  const { nexthops, wideNexthops, now } = options;
  const parts = [partOf(IPV4_TABLES, memory.ipv4, nexthops)];
  if (memory.ipv6 !== undefined && wideNexthops !== undefined) {
    parts.push(partOf(IPV6_TABLES, memory.ipv6, wideNexthops));
  }
  try {
    const images = new ImageTable({ memory, families: parts, quarantine, now }, liveRows(parts));
    const idOf = (row: number): number => images.idOfRow(row);
    const frontends = new Map<Family, FrontendTable>();
    for (const { tables, keys } of parts) {
      frontends.set(tables.family, new FrontendTable(tables, keys, quarantine, idOf));
    }
    images.frontends = [...frontends.values()];
    quarantine.retire(() => undefined);
    await quarantine.settled();
    if (quarantine.error !== undefined) throw quarantine.error;
    return {
      images: imageTarget(images, quarantine),
      frontends: frontendTarget(frontends, images, quarantine),
      found: () => findServices(images, frontends),
      fill: () => {
        const [frontendFill, backendFill, ...wide] = parts.flatMap((part) =>
          fillOfFamily(part, images, frontends),
        );
        return [frontendFill, ...fillOf(memory, images), backendFill, ...wide].filter(
          (one) => one !== undefined,
        );
      },
      get error() {
        return quarantine.error;
      },
      settled: () => quarantine.settled(),
      [Symbol.dispose]: () => {
        for (const part of parts) part.nexthops.follow(() => undefined);
        memory[Symbol.dispose]();
      },
    };
  } catch (error) {
    memory[Symbol.dispose]();
    throw error;
  }
}

function partOf(tables: TableFamily, memory: FamilyMemory, nexthops: NexthopSource): Part {
  return { tables, keys: memory.frontends, backends: memory.backends, nexthops };
}

/** Rows of services that some frontend leads to. */
function* liveRows(parts: readonly Part[]): Generator<LiveRow> {
  for (const { tables, keys } of parts) {
    const { words: slotWords, rest, service } = tables.frontend;
    const { words } = keys;
    for (let at = 0; at < words.length; at += slotWords) {
      if (!leadsToService((words[at + rest] ?? 0) >>> 24)) continue;
      yield { row: words[at + service] ?? 0, family: tables.family };
    }
  }
}

function imageTarget(
  images: ImageTable,
  quarantine: Quarantine,
): TableTarget<number, ServiceImage> {
  return {
    name: "images",
    idOf: (id) => id,
    same: sameImage,
    apply: (batch) => putAll(batch, quarantine, (id, image) => images.put(id, image)),
    remove(batch) {
      for (const { key } of batch) images.remove(key);
      return [];
    },
    keys: () => images.ids(),
  };
}

/** Each key stands in the table of its address's family. */
function frontendTarget(
  frontends: ReadonlyMap<Family, FrontendTable>,
  images: ImageTable,
  quarantine: Quarantine,
): TableTarget<FrontendKey, number> {
  const tableOf = ({ address }: FrontendKey): FrontendTable => {
    const table = frontends.get(familyOf(address));
    if (table === undefined) throw new Error(`there is no table of ${familyOf(address)} frontends`);
    return table;
  };
  return {
    name: "frontends",
    idOf: frontendId,
    same: (a, b) => a === b,
    apply: (batch) =>
      putAll(batch, quarantine, (key, value) => {
        if (leadsToService(key.kind)) tableOf(key).put(key, value, images.rowOf(value));
        else tableOf(key).put(key, 0, value);
      }),
    remove(batch) {
      for (const { key } of batch) tableOf(key).remove(key);
      return [];
    },
    *keys() {
      for (const table of frontends.values()) yield* table.keys();
    },
  };
}

/** Puts each; what finds no room while other rows wait for their grace period is tried again. */
function putAll<K, V>(
  batch: readonly { readonly key: K; readonly value: V }[],
  quarantine: Quarantine,
  put: (key: K, value: V) => void,
): readonly MapRefusal[] | Promise<readonly MapRefusal[]> {
  const refused: MapRefusal[] = [];
  const again: number[] = [];
  const attempt = (index: number, retry: boolean): void => {
    const element = batch[index];
    if (element === undefined) return;
    try {
      put(element.key, element.value);
    } catch (error) {
      if (!(error instanceof TableFull)) throw error;
      if (retry && error.mayHelp) again.push(index);
      else refused.push({ index, error });
    }
  };
  for (const index of batch.keys()) attempt(index, true);
  if (again.length === 0) return refused;
  return quarantine.settled().then(() => {
    for (const index of again) attempt(index, false);
    return refused;
  });
}

function sameImage(a: ServiceImage, b: ServiceImage): boolean {
  return (
    a === b ||
    (a.flags === b.flags &&
      a.affinityAge === b.affinityAge &&
      (a.ring === b.ring || sameSlots(a.ring, b.ring)) &&
      (a.backends === b.backends ||
        (a.backends.length === b.backends.length &&
          a.backends.every((one, index) => sameBackend(one, b.backends[index])))))
  );
}

function sameSlots(a: Uint16Array, b: Uint16Array): boolean {
  if (a.length !== b.length) return false;
  const bytes = (ring: Uint16Array): Buffer =>
    Buffer.from(ring.buffer, ring.byteOffset, ring.byteLength);
  return bytes(a).equals(bytes(b));
}

function sameBackend(a: BackendImage, b: BackendImage | undefined): boolean {
  return (
    b !== undefined &&
    a.address === b.address &&
    a.port === b.port &&
    a.local === b.local &&
    a.counter === b.counter
  );
}

function* findServices(
  images: ImageTable,
  frontends: ReadonlyMap<Family, FrontendTable>,
): Generator<FoundService> {
  const keys = new Map<number, FrontendKey[]>();
  for (const table of frontends.values()) {
    for (const [key, id] of table.entries()) {
      if (!leadsToService(key.kind)) continue;
      const list = keys.get(id);
      if (list === undefined) keys.set(id, [key]);
      else list.push(key);
    }
  }
  for (const id of images.ids()) {
    const image = images.read(id);
    if (image === undefined) continue;
    yield { id, frontends: keys.get(id) ?? [], image, changed: image.changed };
  }
}

function fillOf(
  { services, rings }: { readonly services: Region; readonly rings: Region },
  { used }: ImageTable,
): readonly TableFill[] {
  return [
    { table: "services", used: used.services, limit: services.rows, key: "tables.services" },
    { table: "rings", used: used.rings, limit: rings.rows, key: "tables.ringEntries" },
  ];
}

function fillOfFamily(
  { tables, backends }: Part,
  images: ImageTable,
  frontends: ReadonlyMap<Family, FrontendTable>,
): readonly TableFill[] {
  const { family, names } = tables;
  const { size = 0, slots = 0 } = frontends.get(family) ?? {};
  const used = images.usedBackends(family);
  return [
    { table: names.frontends, used: size, limit: slots, key: "tables.services" },
    { table: names.backends, used, limit: backends.rows, key: "tables.backends" },
  ];
}
