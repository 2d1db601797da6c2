// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fromBytes, toBytes } from "../kernel/codec.ts";
import { parseIpv4 } from "../net/address.ts";
import { parseMac } from "../net/mac.ts";
import { AbiRefusal, collectAbi } from "./generate/collect.ts";
import { emitAbi } from "./generate/emit.ts";
import { compile } from "./testdata/compile.ts";
import * as shared from "./testdata/gen/shared.ts";

const GOLDEN = join(import.meta.dirname, "testdata/gen/shared.ts");
const HEAD = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "abi/abi.h"
`;

/** Set to write the golden file anew; the diff is the review. */
const UPDATE = process.env["UPDATE_GOLDEN"] !== undefined;

function collect(...sources: string[]) {
  const names = ["one", "two", "three"];
  return collectAbi(
    sources.map((c, i) => ({ name: names[i] ?? "more", bytes: compile(HEAD + c) })),
  );
}

function refusal(...sources: string[]): string {
  try {
    collect(...sources);
  } catch (error) {
    assert.ok(error instanceof Error);
    return error.message;
  }
  return assert.fail("not refused");
}

describe("the generated file", () => {
  test("is the golden one", () => {
    const source = join(import.meta.dirname, "testdata/shared.bpf.c");
    const text = emitAbi(collectAbi([{ name: "shared", bytes: compile(source) }]), "../../..");
    if (UPDATE) writeFileSync(GOLDEN, text);
    assert.equal(text, readFileSync(GOLDEN, "utf8"));
  });

  test("does not depend on the order of declarations in C", () => {
    const types = "struct a { __u32 x; }; struct b { struct a a; }; struct c { __u32 x; };";
    const one = collect(`${types}EXPORT(struct b);EXPORT(struct c);`);
    const other = collect(`${types}EXPORT(struct c);EXPORT(struct b);`);
    assert.equal(emitAbi(one), emitAbi(other));
  });

  test("decodes each member at its offset, in its byte order and sign", () => {
    const bytes = Uint8Array.from({ length: shared.Numbers.size }, (_, i) => 0xf0 - i);
    assert.deepEqual(fromBytes(shared.Numbers, bytes), {
      u8: 0xf0,
      s8: -0x11,
      u16: 0xedee,
      s32: 0xe9eaebec - 2 ** 32,
      s64: 0xe1e2e3e4e5e6e7e8n - (1n << 64n),
      u64: 0xd9dadbdcdddedfe0n,
      s16: 0xd7d8 - 2 ** 16,
      be16: 0xd6d5,
      be32: 0xd4d3d2d1,
      be64: 0xd0cfcecdcccbcac9n,
      u32: 0xc5c6c7c8,
    });
  });

  test("encodes addresses in network order and padding as zeros", () => {
    const peer = { address: parseIpv4("10.0.0.1"), port: 443 as shared.Port };
    assert.deepEqual([...toBytes(shared.Peer, peer)], [10, 0, 0, 1, 1, 187, 0, 0]);
  });

  test("refuses an array that has another length than C's", () => {
    const many = fromBytes(shared.Many, new Uint8Array(shared.Many.size));
    assert.throws(
      () => toBytes(shared.Many, { ...many, slots: [1, 2, 3] }),
      new RangeError("struct many.slots: 3 values for 12 places"),
    );
    assert.throws(
      () => toBytes(shared.Many, { ...many, bytes: new Uint8Array(6) }),
      new RangeError("struct many.bytes: 6 bytes for 5"),
    );
  });

  test("has what C says of constants: text, byte order and initial value", () => {
    const { gateway, enabled, big, offset, router, unset } = shared.config;
    assert.equal(gateway.initial, parseIpv4("10.0.0.1"));
    assert.equal(gateway.doc, "where packets leave");
    assert.equal(enabled.initial, true);
    assert.equal(big.initial, 0x8000000000000001n);
    assert.equal(offset.initial, -2);
    assert.equal(router.initial, parseMac("02:00:00:00:00:07"));
    assert.equal(unset.initial, 0);
  });

  test("names values of enums for people, with their texts", () => {
    assert.equal(shared.Colour.deepBlue, 200);
    assert.equal(shared.colourNames[200], "deep_blue");
    assert.equal(shared.colourTexts[200], 'of the sea, and "more"');
    assert.equal(shared.mixedNames[-1], "pass_all");
  });

  test("names programs with their section and type", () => {
    assert.deepEqual(shared.programs.fromTest, {
      name: "from_test",
      object: "shared",
      section: "tc",
      type: "sched_cls",
    });
  });
});

describe("the generator refuses", () => {
  test("what C and TypeScript cannot share, all at once and each by its name", () => {
    const source = `
      struct gap { __u8 a; __u32 b; __u8 c; };
      struct bits { __u8 low : 4; __u8 high : 4; };
      union either { __u32 a; __u16 b; };
      struct has_union { union either either; };
      struct nameless { struct { __u32 a; }; };
      struct points { struct gap *gap; };
      struct vague { long a; int b; char c[4]; unsigned char d[8]; };
      struct grid { __u16 cells[2][2]; };
      struct tail { __u32 count; __u32 rest[]; };
      struct real { double number; };
      enum wide { WIDE = 0x100000000 };
      struct has_wide { enum wide wide; };
      struct inner { struct gap gap; };
      EXPORT(struct bits); EXPORT(struct has_union); EXPORT(struct nameless);
      EXPORT(struct points); EXPORT(struct vague); EXPORT(struct grid); EXPORT(struct tail);
      EXPORT(struct real); EXPORT(struct has_wide); EXPORT(struct inner);
      struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, 1);
        __type(key, int);
        __type(value, __u32);
      } things SEC(".maps");
      CONFIG(long, wait, "how long");`;
    const way = "use __u8 to __u64, __s8 to __s64, __be16 to __be64, bool, or a typedef of these";
    assert.deepEqual(refusal(source).split("\n"), [
      "struct bits.low: a bitfield; use a __u8 or wider with named bits",
      "struct bits.high: a bitfield; use a __u8 or wider with named bits",
      "struct has_union.either: a union",
      "struct nameless.(no name): a member without a name",
      "struct points.gap: a pointer means nothing on the other side",
      `struct vague.a: long has no fixed meaning; ${way}`,
      `struct vague.b: int has no fixed meaning; ${way}`,
      `struct vague.c: char has no fixed meaning; ${way}`,
      `struct vague.d: unsigned char has no fixed meaning; ${way}`,
      "struct grid.cells: an array of arrays",
      "struct tail.rest: an array without a length",
      "struct real.number: a float",
      "struct has_wide.wide: enum wide needs 64 bits; keep its values below 2^32",
      'struct gap: 3 bytes of unnamed padding before b; add a member "reserved" there',
      'struct gap: 3 bytes of unnamed padding at its end; add a member "reserved" there',
      `key of map things: int has no fixed meaning; ${way}`,
      `constant wait: long has no fixed meaning; ${way}`,
    ]);
  });

  test("a constant that is not declared by CONFIG", () => {
    const source = `volatile const __u32 bare = 1;`;
    assert.equal(refusal(source), "constant bare has no text; declare it with CONFIG");
  });

  test("a constant that is more than a number", () => {
    const source = `struct pair { __u32 a; __u32 b; }; CONFIG(struct pair, both, "two");`;
    const abi = collect(source);
    assert.throws(
      () => emitAbi(abi),
      new AbiRefusal("constant both: a constant is a number, a bool or an address"),
    );
  });

  test("two types that would have one name in TypeScript", () => {
    const abi = collect(
      "struct flow_key { __u32 a; }; struct flowKey { __u32 a; }; typedef __u32 Flow_Key_t;" +
        "struct x { Flow_Key_t k; }; EXPORT(struct flow_key); EXPORT(struct x);",
    );
    assert.throws(
      () => emitAbi(abi),
      new AbiRefusal("typedef Flow_Key_t and struct flow_key would both be FlowKey; rename one"),
    );
  });

  test("objects of different builds, naming the member", () => {
    const one = "struct a { __u32 x; __u32 y; }; EXPORT(struct a);";
    const two = "struct a { __u32 y; __u32 x; }; EXPORT(struct a);";
    assert.equal(refusal(one, two), "a.y: two has offset 0, another object 4; build all anew");
  });

  test("objects that give a constant different values", () => {
    const one = 'CONFIG(__u32, limit, "most") = 1;';
    const two = 'CONFIG(__u32, limit, "most") = 2;';
    assert.equal(refusal(one, two), "constant limit: two has another initial value than others");
  });

  test("a program of the same name in two objects, and one in a section it does not know", () => {
    const source = 'SEC("xdp") int twin(struct xdp_md *x) { return 2; }';
    assert.equal(refusal(source, source), "program twin: both in one and two");
    assert.equal(
      refusal('SEC("kprobe/x") int odd(void *x) { return 0; }'),
      'program odd of one: section "kprobe/x" is unknown to generate/collect.ts',
    );
  });
});
