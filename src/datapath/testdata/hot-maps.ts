// SPDX-License-Identifier: Apache-2.0

import { BpfMap } from "../../kernel/map.ts";
import { maps } from "../gen/abi.ts";
import type { HotMaps } from "../tables/memory.ts";

/** The hot tables' maps with so many rows, closed together. */
export function createHotMaps(rows: {
  readonly buckets: number;
  readonly services: number;
  readonly rings: number;
  readonly backends: number;
}): HotMaps & Disposable {
  const make = (spec: Parameters<typeof BpfMap.create>[0], maxEntries: number): BpfMap =>
    BpfMap.create({ ...spec, maxEntries });
  const made = {
    frontends: make(maps.frontends, rows.buckets),
    services: make(maps.services, rows.services),
    rings: make(maps.rings, rows.rings),
    backends: make(maps.backends, rows.backends),
  };
  return {
    ...made,
    [Symbol.dispose]() {
      for (const map of Object.values(made)) map.close();
    },
  };
}
