// SPDX-License-Identifier: Apache-2.0
// Targets for reconcilers whose keys and values are the features' own.

import { createMapTarget, type MapTarget } from "./map-target.ts";
import type { TypedMap } from "./maps.ts";

/** How a feature's keys and values become a map's. */
export interface Translation<K, V, MapKey, MapValue> {
  toKey(key: K): MapKey;
  fromKey(key: MapKey): K;
  toValue(value: V): MapValue;
}

/** A map as a target of other keys and values; equal are those that are equal in the map. */
export function translateTarget<K, V, MapKey, MapValue>(
  map: TypedMap<MapKey, MapValue>,
  { toKey, fromKey, toValue }: Translation<K, V, MapKey, MapValue>,
): MapTarget<K, V> {
  const target = createMapTarget(map);
  return {
    name: target.name,
    idOf: (key) => target.idOf(toKey(key)),
    same: (a, b) => target.same(toValue(a), toValue(b)),
    apply: (batch) =>
      target.apply(batch.map(({ key, value }) => ({ key: toKey(key), value: toValue(value) }))),
    remove: (batch) => target.remove(batch.map(({ key }) => ({ key: toKey(key) }))),
    *keys() {
      for (const key of target.keys()) yield fromKey(key);
    },
  };
}
