// SPDX-License-Identifier: Apache-2.0
// The hot tables as this process sees them: mapped memory, of which programs see every store.

import type { BpfMap } from "../../kernel/map.ts";
import type { MapMapping } from "../../kernel/map-memory.ts";

/** Slots of one bucket of frontends. */
export const BUCKET_SLOTS = 4;
/** FRONTEND_PROBES of bpf/abi/maps.h: how many buckets a key may stand in. */
export const PROBES = 4;
/** RING_ROW_SLOTS of bpf/abi/maps.h. */
export const RING_ROW_SLOTS = 32;

/** The maps with addresses of one family. */
export interface FamilyMaps {
  readonly frontends: BpfMap;
  readonly backends: BpfMap;
}

/** The maps of the hot tables; IPv6's where the node has it. */
export interface HotMaps extends FamilyMaps {
  readonly services: BpfMap;
  readonly rings: BpfMap;
  readonly wide?: FamilyMaps | undefined;
}

/** One mapped table. */
export interface Region {
  readonly rows: number;
  readonly view: DataView;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly halves: Uint16Array<ArrayBuffer>;
  /** For aligned stores of eight bytes. */
  readonly pairs: BigUint64Array<ArrayBuffer>;
}

/** Tables of one family, mapped. */
export interface FamilyMemory {
  readonly frontends: Region;
  readonly backends: Region;
}

/** The hot tables, mapped. */
export interface TableMemory extends Disposable {
  readonly services: Region;
  readonly rings: Region;
  readonly ipv4: FamilyMemory;
  readonly ipv6: FamilyMemory | undefined;
}

/** A table of so many rows in this memory. */
export function regionOf(buffer: ArrayBuffer, rows: number): Region {
  return {
    rows,
    view: new DataView(buffer),
    words: new Uint32Array(buffer),
    halves: new Uint16Array(buffer),
    pairs: new BigUint64Array(buffer),
  };
}

/** Maps the tables for reading and writing; close it by Symbol.dispose. */
export function mapTables(maps: HotMaps): TableMemory {
  const mappings: MapMapping[] = [];
  const region = (map: BpfMap): Region => {
    const mapping = map.mmap();
    mappings.push(mapping);
    return regionOf(mapping.buffer, map.info.maxEntries);
  };
  const close = (): void => {
    for (const mapping of mappings) mapping.close();
  };
  try {
    const family = ({ frontends, backends }: FamilyMaps): FamilyMemory => ({
      frontends: region(frontends),
      backends: region(backends),
    });
    return {
      services: region(maps.services),
      rings: region(maps.rings),
      ipv4: family(maps),
      ipv6: maps.wide && family(maps.wide),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
