// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Btf, BtfError, type BtfType, parseBtf } from "./btf.ts";
import { parseElf } from "./elf.ts";

const VMLINUX = "/sys/kernel/btf/vmlinux";
const MAX_DUMP_BYTES = 512 << 20;

describe("types of an object", () => {
  let directory: string;
  let object: string;
  let raw: Uint8Array;
  let btf: Btf;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "ciliate-btf-"));
    object = join(directory, "types.o");
    const source = join(import.meta.dirname, "testdata/types.bpf.c");
    const include = `-I/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
    execFileSync("clang-19", ["-O2", "-g", "-target", "bpf", include, "-c", source, "-o", object]);
    const section = parseElf(readFileSync(object)).sections.find((s) => s.name === ".BTF");
    assert.ok(section !== undefined);
    raw = section.bytes;
    btf = parseBtf(raw);
  });
  after(() => rmSync(directory, { recursive: true }));

  test("every type is the one bpftool prints", () => {
    assert.deepEqual(format(btf), bpftool(object));
  });

  test("the fixture has every kind, so that the comparison means something", () => {
    const kinds = new Set(btf.types.map((type) => type.kind));
    assert.equal(kinds.size, 20, [...kinds].join(" "));
  });

  test("typedefs() names them outermost first and resolve() ends below them", () => {
    const peer = btf.find("typedef", "peer_t");
    assert.ok(peer !== undefined);
    assert.deepEqual(btf.typedefs(peer.id), ["peer_t", "address_t", "__be32", "__u32"]);
    assert.equal(btf.resolve(peer.id).name, "unsigned int");
  });

  test("tags() finds those of a member, a type and a variable", () => {
    const all = btf.find("struct", "all");
    const gateway = btf.find("var", "gateway");
    const everything = btf.find("var", "everything");
    assert.ok(all !== undefined && gateway !== undefined && everything !== undefined);
    assert.deepEqual(btf.tags(all.id), ["everything"]);
    assert.deepEqual(btf.tags(all.id, 0), ["who it is"]);
    assert.deepEqual(btf.tags(all.id, 1), []);
    assert.deepEqual(btf.tags(gateway.id), ["where packets leave"]);
    assert.deepEqual([...btf.tags(everything.id)].sort(), ["first", "second"]);
  });

  test("sizeOf() multiplies arrays and refuses what has no size", () => {
    const all = btf.find("struct", "all");
    const pair = all?.members.find((member) => member.name === "pair");
    assert.ok(all !== undefined && pair !== undefined);
    assert.equal(btf.sizeOf(pair.type), 12);
    assert.equal(btf.sizeOf(all.id), all.size);
    assert.throws(() => btf.sizeOf(0), new BtfError("type 0: a void has no size"));
  });

  test("parseBtf() refuses bytes cut anywhere with a BtfError, never with another", () => {
    for (let length = 0; length < raw.length; length++) {
      assert.throws(() => parseBtf(raw.subarray(0, length)), BtfError);
    }
  });

  test("parseBtf() refuses types and names that run past their section", () => {
    const view = new DataView(raw.buffer, raw.byteOffset);
    const shortened = (at: number) => {
      const copy = Uint8Array.from(raw);
      const size = view.getUint32(at, true);
      new DataView(copy.buffer).setUint32(at, size - 4, true);
      return () => parseBtf(copy);
    };
    assert.throws(shortened(12), /^BtfError: a type runs past byte \d+$/);
    assert.throws(shortened(20), /^BtfError: a name starts at \d+, outside \d+ bytes$/);
  });

  test("parseBtf() refuses a foreign magic, a foreign version and the other byte order", () => {
    const changed = (at: number, ...bytes: number[]) => {
      const copy = Uint8Array.from(raw);
      copy.set(bytes, at);
      return () => parseBtf(copy);
    };
    assert.throws(changed(0, 1, 2), new BtfError("not BTF: starts with 0x201"));
    assert.throws(changed(0, 0xeb, 0x9f), /big-endian BTF/);
    assert.throws(changed(2, 2), new BtfError("BTF version 2; this reader knows 1"));
  });
});

test("every type of the running kernel is the one bpftool prints", () => {
  const ours = format(parseBtf(readFileSync(VMLINUX)));
  const theirs = bpftool(VMLINUX);
  assert.equal(ours.length, theirs.length);
  for (let line = 0; line < ours.length; line++) assert.equal(ours[line], theirs[line]);
});

function bpftool(file: string): string[] {
  const options = { maxBuffer: MAX_DUMP_BYTES };
  return execFileSync("bpftool", ["btf", "dump", "file", file, "format", "raw"], options)
    .toString("utf8")
    .trimEnd()
    .split("\n");
}

function format(btf: Btf): string[] {
  const lines: string[] = [];
  for (const type of btf.types.slice(1)) {
    const [head, ...rest] = formatType(btf, type);
    const name =
      type.kind === "decl_tag" || type.kind === "type_tag" ? type.name : type.name || "(anon)";
    lines.push(`[${type.id}] ${type.kind.toUpperCase()} '${name}'${head}`);
    for (const line of rest) lines.push(`\t${line}`);
  }
  return lines;
}

function formatType(btf: Btf, type: BtfType): string[] {
  switch (type.kind) {
    case "int": {
      const encoding = type.encoding === "none" ? "(none)" : type.encoding.toUpperCase();
      return [
        ` size=${type.size} bits_offset=${type.bitOffset} nr_bits=${type.bits} encoding=${encoding}`,
      ];
    }
    case "array":
      return [` type_id=${type.type} index_type_id=${type.indexType} nr_elems=${type.length}`];
    case "struct":
    case "union":
      return [
        ` size=${type.size} vlen=${type.members.length}`,
        ...type.members.map((m) => {
          const bits = m.bits > 0 ? ` bitfield_size=${m.bits}` : "";
          return `'${m.name || "(anon)"}' type_id=${m.type} bits_offset=${m.bitOffset}${bits}`;
        }),
      ];
    case "enum":
    case "enum64": {
      const encoding = type.signed ? "SIGNED" : "UNSIGNED";
      const suffix = type.kind === "enum64" ? (type.signed ? "LL" : "ULL") : "";
      return [
        ` encoding=${encoding} size=${type.size} vlen=${type.values.length}`,
        ...type.values.map((value) => `'${value.name}' val=${value.value}${suffix}`),
      ];
    }
    case "fwd":
      return [` fwd_kind=${type.of}`];
    case "func":
      return [` type_id=${type.type} linkage=${LINKAGE[type.linkage]}`];
    case "func_proto":
      return [
        ` ret_type_id=${type.type} vlen=${type.params.length}`,
        ...type.params.map((p) => `'${p.name || "(anon)"}' type_id=${p.type}`),
      ];
    case "var":
      return [` type_id=${type.type}, linkage=${LINKAGE[type.linkage]}`];
    case "datasec":
      return [
        ` size=${type.size} vlen=${type.vars.length}`,
        ...type.vars.map((v) => {
          const name = btf.get(v.type).name;
          return `type_id=${v.type} offset=${v.offset} size=${v.size} (VAR '${name}')`;
        }),
      ];
    case "float":
      return [` size=${type.size}`];
    case "decl_tag":
      return [` type_id=${type.type} component_idx=${type.component}`];
    case "void":
      return [""];
    default:
      return [` type_id=${type.type}`];
  }
}

const LINKAGE = ["static", "global", "extern"];
