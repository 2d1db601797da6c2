// SPDX-License-Identifier: Apache-2.0
// A typed map as something that a reconciler keeps as rows want it (src/state/target.ts).

import { KernelError } from "../kernel/error.ts";
import type { MapRefusal, TypedMap } from "./maps.ts";

/** What the kernel says of a full map; the second is a trie's. */
const FULL = new Set(["E2BIG", "ENOSPC"]);

/** The part of Target that a map can be; src/state knows no kernel and is not known here. */
export interface MapTarget<K, V> {
  readonly name: string;
  idOf(key: K): string;
  same(a: V, b: V): boolean;
  apply(batch: readonly { readonly key: K; readonly value: V }[]): readonly MapRefusal[];
  remove(batch: readonly { readonly key: K }[]): readonly MapRefusal[];
  keys(): Generator<K>;
}

/** With the way out where a map is full: the key of the node's file that makes room. */
export function withWayOut(error: Error, key: string): Error {
  if (!(error instanceof KernelError && FULL.has(error.code))) return error;
  return new Error(`${error.message}; raise ${key}`, { cause: error });
}

/**
 * Keys and values are the same when their bytes are. A full map refuses element by element, so that
 * those which are there already are still kept up to date; its errors name `raise`, the key of the
 * node's file that makes room.
 */
export function createMapTarget<K, V>(map: TypedMap<K, V>, raise: string): MapTarget<K, V> {
  const { name, key: keyCodec, value: valueCodec } = map.spec;
  const keyBytes = Buffer.alloc(keyCodec.size);
  const keyView = new DataView(keyBytes.buffer, keyBytes.byteOffset, keyBytes.length);
  const [a, b] = [Buffer.alloc(valueCodec.size), Buffer.alloc(valueCodec.size)];
  const viewA = new DataView(a.buffer, a.byteOffset, a.length);
  const viewB = new DataView(b.buffer, b.byteOffset, b.length);
  return {
    name,
    idOf(key) {
      keyCodec.encode(keyView, 0, key);
      return keyBytes.toString("latin1");
    },
    same(left, right) {
      valueCodec.encode(viewA, 0, left);
      valueCodec.encode(viewB, 0, right);
      return a.equals(b);
    },
    apply: (batch) =>
      map.updateAll(batch).map(({ index, error }) => ({ index, error: withWayOut(error, raise) })),
    remove(batch) {
      map.deleteAll(batch.map(({ key }) => key));
      return [];
    },
    *keys() {
      for (const [key] of map.entries()) yield key;
    },
  };
}
