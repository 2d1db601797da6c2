// SPDX-License-Identifier: Apache-2.0

import { BpfMap } from "../../kernel/map.ts";
import { maps } from "../gen/abi.ts";
import type { HotMaps } from "../tables/memory.ts";

export interface HotRows {
  readonly buckets: number;
  readonly services: number;
  readonly rings: number;
  readonly backends: number;
}

/** The hot tables' maps with so many rows, closed together; with IPv6's where `wide` is set. */
export function createHotMaps(rows: HotRows, wide = false): HotMaps & Disposable {
  const make = (spec: Parameters<typeof BpfMap.create>[0], maxEntries: number): BpfMap =>
    BpfMap.create({ ...spec, maxEntries });
  const made = {
    frontends: make(maps.frontends, rows.buckets),
    services: make(maps.services, rows.services),
    rings: make(maps.rings, rows.rings),
    backends: make(maps.backends, rows.backends),
  };
  const six = wide
    ? {
        frontends: make(maps.frontends6, rows.buckets),
        backends: make(maps.backends6, rows.backends),
      }
    : undefined;
  return {
    ...made,
    wide: six,
    [Symbol.dispose]() {
      for (const map of [...Object.values(made), ...Object.values(six ?? {})]) map.close();
    },
  };
}
