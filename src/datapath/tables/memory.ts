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

/** Words of 4 bytes that a row takes. */
export const WORDS = { frontend: 4, service: 8, backend: 4 } as const;
/** Words of struct frontend. */
export const FRONTEND = { address: 0, portProtocolKind: 1, service: 2, spill: 3 } as const;
/** struct backend's nexthop, in half words. */
export const BACKEND_NEXTHOP = 3;

/** The maps of the hot tables. */
export interface HotMaps {
  readonly frontends: BpfMap;
  readonly services: BpfMap;
  readonly rings: BpfMap;
  readonly backends: BpfMap;
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

/** The hot tables, mapped. */
export interface TableMemory extends Disposable {
  readonly frontends: Region;
  readonly services: Region;
  readonly rings: Region;
  readonly backends: Region;
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
    return {
      frontends: region(maps.frontends),
      services: region(maps.services),
      rings: region(maps.rings),
      backends: region(maps.backends),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
