// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { type Btf, parseBtf } from "../kernel/btf.ts";
import { declaredConfig, declaredMaps } from "../kernel/btf-object.ts";
import { formatBlocks, parseBlocks } from "../kernel/btf-text.ts";
import { parseElf } from "../kernel/elf.ts";
import type { MapInfo } from "../kernel/map.ts";
import { BpfObject } from "../kernel/object.ts";
import { AbiError, checkMap, checkObject } from "./check.ts";
import { writeConstants } from "./constants.ts";
import { type Config, config } from "./gen/abi.ts";
import { layoutDigest, mapBlocks, objectBlocks } from "./layout.ts";
import type { MigrationStep } from "./migrate.ts";
import { migrateEntries, planMigration } from "./migrate.ts";
import { compile } from "./testdata/compile.ts";
import { abiText, maps } from "./testdata/gen/shared.ts";

const SOURCE = join(import.meta.dirname, "testdata/shared.bpf.c");
const build = parseBlocks(abiText);
const text = readFileSync(SOURCE, "utf8");

/** The raw BTF of the fixture after a change of its text. */
function changed(from: string, to: string): Uint8Array {
  assert.ok(text.includes(from), `the fixture has no "${from}"`);
  return btfOf(compile(text.replace(from, to)));
}

function btfOf(object: Uint8Array): Uint8Array {
  const section = parseElf(object).sections.find(({ name }) => name === ".BTF");
  assert.ok(section !== undefined);
  return section.bytes;
}

function refused(btf: Uint8Array): string {
  try {
    checkObject("shared", btf, build);
  } catch (error) {
    assert.ok(error instanceof AbiError);
    return error.message;
  }
  return assert.fail("not refused");
}

describe("an object about to be loaded", () => {
  test("passes when it is the one that this build was generated from", () => {
    checkObject("shared", btfOf(compile(SOURCE)), build);
  });

  test("passes as libbpf opens it, with offsets filled in", () => {
    using object = new BpfObject("shared.bpf.o", compile(SOURCE));
    checkObject("shared", object.btf, build);
  });

  test("is refused with the first member that lies elsewhere", () => {
    const message = refused(changed("__u8 u8;\n\t__s8 s8;", "__s8 s8;\n\t__u8 u8;"));
    assert.equal(
      message,
      "object shared is of another build: " +
        "numbers.s8: object has offset 0, this build 1; run make generate",
    );
  });

  test("is refused with the member that has another type, is new, or is gone", () => {
    const cases = [
      ["__s32 s32;", "__u32 s32;", "numbers.s32: object has type __u32, this build __s32"],
      ["__u8 reserved[2];", "__u16 flags;", "peer.flags: object has it, this build has not"],
      ["__u32 reserved;\n", "", "numbers.reserved: object lacks it, this build has it"],
    ] as const;
    for (const [from, to, message] of cases) {
      assert.ok(refused(changed(from, to)).includes(`: ${message};`), message);
    }
  });

  test("is refused for a typedef, an enum, a map or a constant that is another", () => {
    const cases = [
      ["typedef __u32 identity_t", "typedef __s32 identity_t", "typedef identity_t"],
      ["DEEP_BLUE, 200", "DEEP_BLUE, 201", "enum colour"],
      ["max_entries, 16)", "max_entries, 17)", "map peers"],
      ["TYPE_HASH", "TYPE_LRU_HASH", "map peers"],
      ["CONFIG(__s16, offset", "CONFIG(__s32, offset", "config offset"],
      [" number_rows SEC", " rows SEC", "map rows: object has it, this build has not"],
    ] as const;
    for (const [from, to, message] of cases) {
      assert.ok(refused(changed(from, to)).includes(`: ${message}`), message);
    }
  });

  test("passes when only sentences or the order of declarations changed", () => {
    checkObject("shared", changed("where it answers", "where it listens"), build);
    const [a, b] = ["EXPORT(struct numbers);\n", "EXPORT(enum mixed);\n"];
    checkObject("shared", changed(a + b, b + a), build);
  });

  test("has a text that reads back as it was written", () => {
    const blocks = objectBlocks(parseBtf(btfOf(compile(SOURCE))));
    assert.equal(formatBlocks(parseBlocks(formatBlocks(blocks))), formatBlocks(blocks));
  });
});

describe("a map that was there before", () => {
  let bytes: Uint8Array;
  before(() => {
    bytes = btfOf(compile(SOURCE));
  });

  /** What the kernel would say of the map `name` of an object with these types. */
  function info(btf: Btf, name: string, changes: Partial<MapInfo> = {}): MapInfo {
    const map = declaredMaps(btf).find((it) => it.name === name);
    assert.ok(map !== undefined);
    const { keySize, valueSize, maxEntries, flags } = map;
    return {
      ...{ id: 1, name, keySize, valueSize, maxEntries, flags, btfId: 1 },
      type: name === "peers" ? "hash" : name === "events" ? "ringbuf" : "array",
      btfKeyTypeId: map.key ?? 0,
      btfValueTypeId: map.value ?? 0,
      ...changes,
    };
  }

  function check(name: "peers" | "numberRows" | "events", btf: Uint8Array, changes = {}) {
    const spec = maps[name];
    return checkMap(spec, info(parseBtf(btf), spec.name, changes), btf, [], build);
  }

  test("is reused when keys and values are the same", () => {
    for (const name of ["peers", "numberRows", "events"] as const) {
      assert.deepEqual(check(name, bytes), { kind: "reuse" });
    }
  });

  test("is resized when only its capacity differs", () => {
    const expected = { kind: "resize", from: 8, to: 16 };
    assert.deepEqual(check("peers", bytes, { maxEntries: 8 }), expected);
  });

  test("is refused with the first difference, and the way out", () => {
    const other = changed("port_t port;\n\t__u8 reserved[2];", "__u8 reserved[2];\n\tport_t port;");
    assert.deepEqual(check("peers", other), {
      kind: "refuse",
      reason:
        "map peers: peer.reserved: the map has offset 4, this build 6; remove its pin to start anew",
    });
  });

  test("is refused when its keys are another type of the same layout", () => {
    const other = changed("__type(key, __u32)", "__type(key, identity_t)");
    assert.deepEqual(check("numberRows", other), {
      kind: "refuse",
      reason:
        'map number_rows: key type: the map has "key type identity_t", ' +
        'this build "key type __u32"; remove its pin to start anew',
    });
  });

  test("is refused when its type, flags or sizes differ or its types are unknown", () => {
    const reasons: readonly (readonly [Partial<MapInfo>, string])[] = [
      [{ type: "lru_hash" }, "it is a lru_hash, this build's a hash"],
      [{ flags: 0 }, "its flags are 0, this build's 1"],
      [{ btfKeyTypeId: 0 }, "the kernel has no types for it, so its layout is unknown"],
    ];
    for (const [changes, reason] of reasons) {
      const expected = {
        kind: "refuse",
        reason: `map peers: ${reason}; remove its pin to start anew`,
      };
      assert.deepEqual(check("peers", bytes, changes), expected);
    }
    const rings = {
      kind: "refuse",
      reason: "map events: its value size is 8, this build's 0; remove its pin to start anew",
    };
    assert.deepEqual(check("events", bytes, { valueSize: 8 }), rings);
  });

  test("of a known older layout is migrated by the steps that lead here", () => {
    const older = changed("__s64 s64;\n\t__u64 u64;", "__u64 u64;\n\t__s64 s64;");
    const refusal = check("numberRows", older);
    assert.equal(refusal.kind, "refuse");
    const spec = maps.numberRows;
    const btf = parseBtf(older);
    const swap: MigrationStep = {
      name: "s64 before u64",
      map: spec.name,
      from: "cafe",
      to: spec.layout,
      convert: (key, value) => [key, value],
    };
    const probe = checkMap(spec, info(btf, spec.name), older, [swap], build);
    assert.equal(probe.kind, "refuse", "a step from another layout does not help");
    const from = layoutOf(btf, spec.name);
    const step = { ...swap, from };
    const found = checkMap(spec, info(btf, spec.name), older, [step], build);
    assert.deepEqual(found, { kind: "migrate", steps: [step] });
  });

  function layoutOf(btf: Btf, name: string): string {
    const map = declaredMaps(btf).find((it) => it.name === name);
    return layoutDigest(mapBlocks(btf, map?.key ?? 0, map?.value ?? 0));
  }
});

describe("migration", () => {
  const step = (from: string, to: string, map = "flows"): MigrationStep => ({
    name: `${from} to ${to}`,
    map,
    from,
    to,
    convert: (key, value) =>
      value[0] === 0 ? undefined : [key, Uint8Array.from([...value, to.charCodeAt(0)])],
  });
  const steps = [step("a", "b"), step("b", "c"), step("c", "d"), step("b", "d"), step("d", "a")];

  test("takes the shortest way, never a circle, and only steps of the map", () => {
    const names = (from: string, to: string, map = "flows") =>
      planMigration(map, from, to, steps)?.map(({ name }) => name);
    assert.deepEqual(names("a", "d"), ["a to b", "b to d"]);
    assert.deepEqual(names("a", "a"), []);
    assert.equal(names("a", "z"), undefined);
    assert.equal(names("a", "d", "others"), undefined);
  });

  test("turns entries step by step and leaves behind what a step refuses", () => {
    const entries = [
      [Uint8Array.of(1), Uint8Array.of(7)],
      [Uint8Array.of(2), Uint8Array.of(0)],
    ] as const;
    const path = planMigration("flows", "a", "c", steps);
    assert.ok(path !== undefined);
    const migrated = [...migrateEntries(entries, path)];
    assert.deepEqual(migrated, [[Uint8Array.of(1), Uint8Array.of(7, 98, 99)]]);
  });
});

test("writeConstants() writes each where libbpf says, and nothing else", () => {
  const declared = Object.values(config).map(
    ({ name, codec }) => `CONFIG(${codec.name}, ${name}, "x");`,
  );
  const source = `
    #include "abi/abi.h"
    #include "abi/types.h"
    CONFIG(__u32, not_ours, "stays") = 0x01020304;
    ${declared.join("\n")}
    SEC("xdp") int pass(struct xdp_md *x) { return 2; }
    char LICENSE[] SEC("license") = "GPL";`;
  using object = new BpfObject("constants.bpf.o", compile(source));
  const bytes = object.map(".rodata").initialValue;
  assert.ok(bytes !== undefined);
  const before = Uint8Array.from(bytes);
  // Every constant but one gets bytes that no initial value has.
  const [left, ...others] = Object.keys(config) as (keyof Config)[];
  assert.ok(left !== undefined);
  const noise = new DataView(new Uint8Array(16).fill(0xa5).buffer);
  const values = Object.fromEntries(others.map((key) => [key, config[key].codec.decode(noise, 0)]));
  const names = others.map((key) => config[key].name);
  assert.deepEqual(writeConstants(object.btf, bytes, values), names);
  for (const { name, offset, type } of declaredConfig(parseBtf(object.btf))) {
    const size = parseBtf(object.btf).sizeOf(type);
    const expected = names.includes(name)
      ? new Uint8Array(size).fill(0xa5)
      : before.subarray(offset, offset + size);
    assert.deepEqual(bytes.slice(offset, offset + size), expected.slice(), name);
    bytes.set(before.subarray(offset, offset + size), offset);
  }
  assert.deepEqual(bytes.slice(), before, "what lies between constants is left alone");
});
