// SPDX-License-Identifier: Apache-2.0

import { KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import { MapFlags } from "./kinds.ts";
import type { BpfMap } from "./map.ts";

/** How a map is mapped. */
export interface MappingOptions {
  /**
   * A store through a read-only mapping is a SIGSEGV, not an exception: hand it to readers only.
   */
  readonly readOnly?: boolean;
}

/**
 * The values of a mapped array: programs see a store at once, with no system call. close() detaches
 * every view that was made of `buffer`: typed arrays turn empty, Atomics and DataView throw, so
 * none can touch memory that is gone.
 */
export class MapMapping implements Disposable {
  readonly name: string;
  /** Bytes from one value to the next. */
  readonly stride: number;
  readonly readOnly: boolean;
  #buffer: ArrayBuffer | undefined;
  readonly #at: sys.Pointer;
  readonly #lengthBytes: number;

  constructor(map: BpfMap, at: sys.Pointer, readOnly: boolean) {
    this.name = map.name;
    this.stride = map.valueStride;
    this.readOnly = readOnly;
    this.#at = at;
    this.#lengthBytes = map.valueStride * map.info.maxEntries;
    this.#buffer = sys.viewMemory(at, this.#lengthBytes);
  }

  /** The mapped memory, `stride` times the map's max_entries bytes. Throws after close. */
  get buffer(): ArrayBuffer {
    if (this.#buffer === undefined) throw new Error(`the mapping of map ${this.name} is closed`);
    return this.#buffer;
  }

  /** Unmaps the memory; programs and other mappings of the map are not touched. */
  close(): void {
    if (this.#buffer === undefined) return;
    this.#buffer.transfer();
    this.#buffer = undefined;
    sys.munmap(this.#at, this.#lengthBytes);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** BpfMap.mmap. */
export function mapMemory(map: BpfMap, options: MappingOptions): MapMapping {
  if ((map.info.flags & MapFlags.mmapable) === 0) {
    throw new Error(`cannot map ${map.name} into memory: create it with MapFlags.mmapable`);
  }
  const readOnly = options.readOnly ?? false;
  const protection = readOnly ? sys.PROT_READ : sys.PROT_READ | sys.PROT_WRITE;
  const at = sys.mmap(map.valueStride * map.info.maxEntries, protection, sys.MAP_SHARED, map.fd);
  if (typeof at === "bigint") return new MapMapping(map, at, readOnly);
  const detail = at === -1 && !readOnly ? "it is frozen: map it read-only" : "";
  throw new KernelError("map into memory", map.name, at, { detail });
}
