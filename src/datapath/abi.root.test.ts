// SPDX-License-Identifier: Apache-2.0
// What our codecs write, as the kernel reads it: bpftool prints entries by the map's own BTF.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { LoadedBtf } from "../kernel/btf-load.ts";
import type { MapShape, TypedMapSpec } from "../kernel/codec.ts";
import { BpfMap } from "../kernel/map.ts";
import { BpfObject } from "../kernel/object.ts";
import * as abi from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";
import { arbitraryOf, printed, readLayout } from "./testdata/arbitrary.ts";
import { compile } from "./testdata/compile.ts";
import * as shared from "./testdata/gen/shared.ts";

const ABI = join(import.meta.dirname, "../../bpf/abi");
const ENTRIES = 40;

/** All that the packet path of a family shares, in one object. */
function headersObject(family = ""): Uint8Array {
  const headers = readdirSync(ABI).filter((file) => file.endsWith(".h"));
  return compile(`${family}\n${headers.map((file) => `#include "abi/${file}"\n`).join("")}`);
}

interface Formatted {
  readonly formatted: { readonly key: unknown; readonly value: unknown };
}

/** The entries of a map by bpftool; 64-bit numbers are bigints, as in our values. */
function dump(map: BpfMap): Formatted[] {
  const text = execFileSync("bpftool", ["-j", "map", "dump", "id", `${map.id}`]).toString();
  return JSON.parse(text, (_, value, context?: { source: string }) => {
    if (typeof value !== "number") return value;
    return Number.isSafeInteger(value) ? value : BigInt(context?.source ?? value);
  });
}

/** Small and large numbers alike compare by their digits. */
function plain(value: unknown): unknown {
  const text = JSON.stringify(value, (_, it) =>
    typeof it === "bigint" || typeof it === "number" ? `${it}` : it,
  );
  return JSON.parse(text);
}

function typesOf(layout: ReadonlyMap<string, readonly string[]>, map: string) {
  const lines = layout.get(`map ${map}`) ?? [];
  const find = (what: string) =>
    lines.find((line) => line.startsWith(`${what} `))?.slice(what.length + 1);
  return { key: find("key") ?? "", value: find("value") ?? "" };
}

function isTyped(spec: MapShape): spec is TypedMapSpec<unknown, unknown> {
  return "layout" in spec;
}

const ofIpv6 = ({ name }: MapShape): boolean => name.endsWith("6");
const specs = Object.values<MapShape>(abi.maps).filter(isTyped);
const sharedSpecs = Object.values<MapShape>(shared.maps).filter(isTyped);

for (const [file, module, object, maps] of [
  ["gen/abi.ts", abi, headersObject(), specs.filter((spec) => !ofIpv6(spec))],
  ["gen/abi.ts for IPv6", abi, headersObject("#define FAMILY_IPV6"), specs.filter(ofIpv6)],
  ["the fixture", shared, compile(join(import.meta.dirname, "testdata/shared.bpf.c")), sharedSpecs],
] as const) {
  describe(`bpftool reads what the codecs of ${file} wrote`, () => {
    const layout = readLayout(module.abiText);
    for (const spec of maps) {
      test(`into ${spec.name}`, () => {
        using opened = new BpfObject(`${spec.name}.bpf.o`, object);
        using btf = new LoadedBtf(opened.btf);
        const { keyTypeId, valueTypeId } = opened.map(spec.name);
        const types = { fd: btf.fd, keyTypeId, valueTypeId };
        const { name, type, keySize, valueSize, flags } = spec;
        const maxEntries = Math.min(ENTRIES, spec.maxEntries);
        // A table that forgets does so before it is full.
        const room = type === "lru_hash" ? maxEntries * 32 : maxEntries;
        const shape = { name, type, keySize, valueSize, flags, maxEntries: room, btf: types };
        using map = new TypedMap(BpfMap.create(shape), spec);
        const { key: keyType, value: valueType } = typesOf(layout, name);
        const expected = new Map<string, unknown>();
        const values = fc.sample(arbitraryOf(layout, valueType), maxEntries);
        const keys = fc.sample(arbitraryOf(layout, keyType), maxEntries);
        for (const [index, value] of values.entries()) {
          const key = keyFor(spec, keys[index], index);
          map.update(key, value);
          const text = JSON.stringify(plain(printed(layout, keyType, key)));
          expected.set(text, plain(printed(layout, valueType, value)));
        }
        const found = new Map(
          dump(map.raw).map(({ formatted }) => [
            JSON.stringify(plain(formatted.key)),
            plain(formatted.value),
          ]),
        );
        assert.deepEqual(found, expected);
      });
    }
  });
}

/** Arrays have indexes, and a trie's prefix is no longer than its address. */
function keyFor(spec: MapShape, key: unknown, index: number): unknown {
  if (spec.type === "array") return index;
  if (spec.type !== "lpm_trie") return key;
  const bits = (spec.keySize - 4) * 8;
  return { ...(key as { prefixLength: number }), prefixLength: bits };
}
