// SPDX-License-Identifier: Apache-2.0
// What a new map takes over from the pinned one whose place it takes.

import type { BpfMap } from "../kernel/map.ts";
import { BatchError } from "../kernel/map-batch.ts";
import type { MapMapping } from "../kernel/map-memory.ts";
import type { MapCheck } from "./check.ts";
import { migrateEntries } from "./migrate.ts";
import { IPV4_TABLES, IPV6_TABLES, type TableFamily } from "./tables/family.ts";
import { FrontendTable, TableFull } from "./tables/frontends.ts";
import { BUCKET_SLOTS, regionOf } from "./tables/memory.ts";
import { Quarantine } from "./tables/quarantine.ts";

/** Why a pinned map can't be used as it is, though what it holds can. */
export type Takeover = Extract<MapCheck, { readonly kind: "resize" | "migrate" }>;

/** Arrays whose rows lead to each other, so that they mean the same in a longer or shorter one. */
const BY_ROW: ReadonlySet<string> = new Set([
  "services",
  "rings",
  "backends",
  "backends6",
  "nexthops",
  "nexthops6",
]);

/** Fills `to` from `from`, and says in a sentence what was done. */
export function takeOver(from: BpfMap, to: BpfMap, how: Takeover): string {
  const what =
    how.kind === "resize"
      ? `map ${to.name} has room for ${how.to} entries now, ${how.from} before`
      : `map ${to.name} has a new layout: ${how.steps.map(({ name }) => name).join(", ")}`;
  const lost = copyEntries(from, to, how);
  return lost === "" ? what : `${what}; ${lost}`;
}

function copyEntries(from: BpfMap, to: BpfMap, how: Takeover): string {
  const { type } = from.info;
  if (type === "hash" || type === "lru_hash" || type === "lpm_trie") return copyHash(from, to, how);
  for (const family of [IPV4_TABLES, IPV6_TABLES]) {
    if (how.kind === "resize" && to.name === family.names.frontends)
      return rehash(family, from, to);
  }
  if (how.kind === "resize" && BY_ROW.has(to.name)) return copyRows(from, to);
  return "it begins empty";
}

function copyHash(from: BpfMap, to: BpfMap, how: Takeover): string {
  const entries =
    how.kind === "migrate" ? migrateEntries(from.entries(), how.steps) : from.entries();
  const CHUNK = 4096;
  let left = 0;
  let keys: Uint8Array[] = [];
  let values: Uint8Array[] = [];
  const write = (): void => {
    try {
      to.updateBatch(Buffer.concat(keys), Buffer.concat(values), keys.length);
    } catch (error) {
      if (!(error instanceof BatchError)) throw error;
      left += keys.length - error.applied;
    }
    [keys, values] = [[], []];
  };
  for (const [key, value] of entries) {
    keys.push(key);
    values.push(value);
    if (keys.length === CHUNK) write();
  }
  if (keys.length > 0) write();
  return left === 0 ? "" : `${left} entries found no room`;
}

function withMemory<Result>(
  from: BpfMap,
  to: BpfMap,
  use: (from: MapMapping, to: MapMapping) => Result,
): Result {
  using source = from.mmap({ readOnly: true });
  using target = to.mmap();
  return use(source, target);
}

function copyRows(from: BpfMap, to: BpfMap): string {
  return withMemory(from, to, (source, target) => {
    const bytes = Math.min(source.buffer.byteLength, target.buffer.byteLength);
    new Uint8Array(target.buffer).set(new Uint8Array(source.buffer, 0, bytes));
    return "";
  });
}

/** Keys stand elsewhere in a table of another size. */
function rehash(family: TableFamily, from: BpfMap, to: BpfMap): string {
  return withMemory(from, to, (source, target) => {
    const old = regionOf(source.buffer, from.info.maxEntries);
    const region = regionOf(target.buffer, to.info.maxEntries);
    const table = new FrontendTable(family, region, new Quarantine(), () => 0);
    const { words, rest, service } = family.frontend;
    let left = 0;
    for (let slot = 0; slot < old.rows * BUCKET_SLOTS; slot++) {
      if (old.words[slot * words + rest] === 0) continue;
      try {
        table.put(family.readKey(old, slot), 0, old.words[slot * words + service] ?? 0);
      } catch (error) {
        if (!(error instanceof TableFull)) throw error;
        left += 1;
      }
    }
    return left === 0 ? "" : `${left} frontends found no room`;
  });
}
