// SPDX-License-Identifier: Apache-2.0
// Any pinned map, entry by entry, as its types say.

import { join } from "node:path";
import { listPins } from "../kernel/bpffs.ts";
import { type Blocks, parseBlocks } from "../kernel/btf-text.ts";
import type { MapShape, TypedMapSpec } from "../kernel/codec.ts";
import { BpfMap } from "../kernel/map.ts";
import { formatIpv4, formatIpv6, type Ipv4, type Ipv6 } from "../net/address.ts";
import { formatMac, type Mac } from "../net/mac.ts";
import { abiText, maps } from "./gen/abi.ts";
import { camel } from "./generate/shape.ts";
import { openPinned } from "./pinned.ts";

/** A key or a value for people: addresses as text, structs as objects, flags as numbers. */
export type Plain =
  | string
  | number
  | bigint
  | boolean
  | readonly Plain[]
  | { readonly [field: string]: Plain };

/** One element of a map. */
export interface MapEntry {
  readonly key: Plain;
  readonly value: Plain;
}

type AnySpec = TypedMapSpec<unknown, unknown>;

const SPECS: ReadonlyMap<string, MapShape | AnySpec> = new Map(
  Object.values<MapShape | AnySpec>(maps).map((spec) => [spec.name, spec]),
);

/** The names of all maps that the packet path has, in order. */
export function mapNames(): string[] {
  return [...SPECS.keys()].sort();
}

/**
 * Every element of a pinned map; of an array, those that aren't all zero unless `zeros` says so.
 * Throws KernelError, ENOENT without a pin, and an Error for what has no elements.
 */
export function* dumpMap(directory: string, name: string, zeros: boolean): Generator<MapEntry> {
  const spec = SPECS.get(name);
  if (spec === undefined) throw new RangeError(`the packet path has no map ${name}`);
  if (!("layout" in spec)) {
    using map = BpfMap.openPinned(join(directory, name));
    throw new Error(`map ${name} is a ${map.info.type}, which has no elements to list`);
  }
  using map = openPinned(directory, spec);
  const skipsZeros = spec.type === "array" && !zeros;
  for (const { keys, values, count } of map.raw.lookupBatches()) {
    if (skipsZeros && isZero(values.subarray(0, count * spec.value.size))) continue;
    const [keyView, valueView] = [viewOf(keys), viewOf(values)];
    for (let index = 0; index < count; index++) {
      const at = index * spec.value.size;
      if (skipsZeros && isZero(values.subarray(at, at + spec.value.size))) continue;
      const key = spec.key.decode(keyView, index * spec.key.size);
      yield {
        key: plain(spec.key.name, key),
        value: plain(spec.value.name, spec.value.decode(valueView, at)),
      };
    }
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** The maps that are pinned in `directory`, and whether they have elements to list. */
export function pinnedMaps(directory: string): { name: string; hasElements: boolean }[] {
  const pins = new Set(listPins(directory));
  return [...SPECS.values()]
    .filter(({ name }) => pins.has(name))
    .map((spec) => ({ name: spec.name, hasElements: "layout" in spec }));
}

/** Types whose numbers have a spelling of their own. */
const SPELLINGS: Readonly<Record<string, (value: never) => string>> = {
  ipv4_t: (value: Ipv4) => formatIpv4(value),
  ipv6_t: (value: Ipv6) => formatIpv6(value),
  mac_t: (value: Mac) => formatMac(value),
};

let blocks: Blocks | undefined;

/** Types of a struct's fields, by their names in TypeScript. */
function fieldTypes(struct: string): ReadonlyMap<string, string> {
  blocks ??= parseBlocks(abiText);
  const [, ...lines] = blocks.get(struct) ?? [];
  return new Map(
    lines.map((line) => {
      const words = line.trim().split(" ");
      return [camel(words.at(-1) ?? ""), words.slice(1, -1).join(" ")];
    }),
  );
}

/** A decoded value whose C type is `type`, such as "struct frontend[4]" or "ipv4_t". */
function plain(type: string, value: unknown): Plain {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) {
    const element = type.replace(/\[\d+\]$/, "");
    return value.map((one) => plain(element, one));
  }
  if (typeof value === "object" && value !== null) {
    const types = fieldTypes(type);
    const fields = Object.entries(value);
    return Object.fromEntries(
      fields.map(([name, field]) => [name, plain(types.get(name) ?? "", field)]),
    );
  }
  const spelling = SPELLINGS[type];
  if (spelling !== undefined) return spelling(value as never);
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") {
    return value;
  }
  return String(value);
}
