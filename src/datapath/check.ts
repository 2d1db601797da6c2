// SPDX-License-Identifier: Apache-2.0
// Does what the kernel is about to run, or holds already, have the layout that this build's
// TypeScript was generated from?

import { parseBtf } from "../kernel/btf.ts";
import { type Blocks, parseBlocks } from "../kernel/btf-text.ts";
import type { MapShape, TypedMapSpec } from "../kernel/codec.ts";
import type { MapInfo } from "../kernel/map.ts";
import { abiText } from "./gen/abi.ts";
import {
  firstDifference,
  layoutDigest,
  mapBlocks,
  objectBlocks,
  withEntryTypes,
} from "./layout.ts";
import { type MigrationStep, migrations, planMigration } from "./migrate.ts";

/** An object that was not built from what this build was generated from. */
export class AbiError extends Error {
  override readonly name = "AbiError";
}

/** What to do with a map that was there before us. */
export type MapCheck =
  /** It is the map we would make. */
  | { readonly kind: "reuse" }
  /** Same layout, other capacity: make a new one and copy. */
  | { readonly kind: "resize"; readonly from: number; readonly to: number }
  /** An older layout that these steps, in their order, turn into ours. */
  | { readonly kind: "migrate"; readonly steps: readonly MigrationStep[] }
  /** Nothing we know; the reason names map, member and way out. */
  | { readonly kind: "refuse"; readonly reason: string };

/** Map types that the kernel gives no BTF: their layouts are their sizes. */
const WITHOUT_BTF: ReadonlySet<string> = new Set([
  "ringbuf",
  "prog_array",
  "perf_event_array",
  "cgroup_array",
  "stack_trace",
  "array_of_maps",
  "hash_of_maps",
  "devmap",
  "devmap_hash",
  "cpumap",
  "xskmap",
  "sockmap",
  "sockhash",
]);

let parsed: Blocks | undefined;

function thisBuild(): Blocks {
  parsed ??= parseBlocks(abiText);
  return parsed;
}

/**
 * Compares an object about to be loaded, by its raw BTF, with this build. Throws AbiError that
 * names the first difference: "service_key.port: object has offset 18, this build 16".
 */
export function checkObject(object: string, btf: Uint8Array, build: Blocks = thisBuild()): void {
  const difference = firstDifference(objectBlocks(parseBtf(btf)), build, "object");
  if (difference === undefined) return;
  throw new AbiError(`object ${object} is of another build: ${difference}; run make generate`);
}

/**
 * Says what to do with a map that is pinned or live already. `btf` is the raw BTF whose id is
 * `info.btfId`, undefined where that is 0.
 */
export function checkMap(
  spec: MapShape | TypedMapSpec<unknown, unknown>,
  info: MapInfo,
  btf: Uint8Array | undefined,
  steps: readonly MigrationStep[] = migrations,
  build: Blocks = thisBuild(),
): MapCheck {
  const refuse = (why: string): MapCheck => ({
    kind: "refuse",
    reason: `map ${spec.name}: ${why}; remove its pin to start anew`,
  });
  if (info.type !== spec.type) return refuse(`it is a ${info.type}, this build's a ${spec.type}`);
  const capacity = sameCapacity(spec, info);
  if (!("layout" in spec) || WITHOUT_BTF.has(spec.type)) {
    const difference = sizeDifference(spec, info);
    return difference === undefined ? capacity : refuse(difference);
  }
  if (btf === undefined || info.btfKeyTypeId === 0 || info.btfValueTypeId === 0) {
    return refuse("the kernel has no types for it, so its layout is unknown");
  }
  const blocks = mapBlocks(parseBtf(btf), info.btfKeyTypeId, info.btfValueTypeId);
  const layout = layoutDigest(blocks);
  if (layout === spec.layout) {
    const difference = sizeDifference(spec, info);
    return difference === undefined ? capacity : refuse(difference);
  }
  const path = planMigration(spec.name, layout, spec.layout, steps);
  if (path !== undefined) return { kind: "migrate", steps: path };
  const difference = firstDifference(
    blocks,
    withEntryTypes(build, spec.key.name, spec.value.name),
    "the map",
  );
  return refuse(difference ?? `its layout ${layout} is not this build's ${spec.layout}`);
}

function sameCapacity(spec: MapShape, info: MapInfo): MapCheck {
  if (info.maxEntries === spec.maxEntries) return { kind: "reuse" };
  return { kind: "resize", from: info.maxEntries, to: spec.maxEntries };
}

function sizeDifference(spec: MapShape, info: MapInfo): string | undefined {
  for (const what of ["keySize", "valueSize", "flags"] as const) {
    if (info[what] !== spec[what])
      return `${WORDS[what]} ${info[what]}, this build's ${spec[what]}`;
  }
  return undefined;
}

const WORDS = {
  keySize: "its key size is",
  valueSize: "its value size is",
  flags: "its flags are",
} as const;
