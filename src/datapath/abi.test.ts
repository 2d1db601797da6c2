// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Codec } from "../kernel/codec.ts";
import * as abi from "./gen/abi.ts";
import { arbitraryOf, paddingOf, readLayout, sizeOf } from "./testdata/arbitrary.ts";
import * as shared from "./testdata/gen/shared.ts";

const GUARD = 8;

function isCodec(value: unknown): value is Codec<unknown> {
  return typeof value === "object" && value !== null && "decode" in value && "size" in value;
}

for (const [file, module] of [
  ["gen/abi.ts", abi],
  ["the fixture", shared],
] as const) {
  describe(`every struct of ${file}`, () => {
    const layout = readLayout(module.abiText);
    const codecs = Object.values(module).filter(isCodec);

    test("has a codec", () => {
      const structs = [...layout.keys()].filter(
        (it) => it.startsWith("struct ") && it !== "struct mac",
      );
      const anonymous = module === shared ? ["range_t"] : [];
      assert.deepEqual(codecs.map(({ name }) => name).sort(), [...structs, ...anonymous].sort());
    });

    for (const codec of codecs) {
      const { name, size } = codec;
      const padding = paddingOf(layout, name);

      test(`${name}: decode(encode(x)) is x, padding is 0, and nothing outside is touched`, () => {
        assert.equal(size, sizeOf(layout, name));
        const property = fc.property(arbitraryOf(layout, name), (value) => {
          const bytes = new Uint8Array(size + 2 * GUARD).fill(0xa5);
          const view = new DataView(bytes.buffer);
          codec.encode(view, GUARD, value);
          assert.deepEqual(codec.decode(view, GUARD), value);
          for (const at of padding) assert.equal(bytes[GUARD + at], 0, `padding at ${at}`);
          for (let at = 0; at < GUARD; at++) {
            assert.equal(bytes[at], 0xa5);
            assert.equal(bytes[GUARD + size + at], 0xa5);
          }
        });
        fc.assert(property);
      });

      test(`${name}: encode(decode(bytes)) is bytes, so no byte is left out`, () => {
        const bytes = fc.uint8Array({ minLength: size, maxLength: size });
        const property = fc.property(bytes, (input) => {
          for (const at of padding) input[at] = 0;
          if (name === "struct many") input[45] = (input[45] ?? 0) & 1; // a bool
          const output = new Uint8Array(size).fill(0xa5);
          const value = codec.decode(new DataView(input.buffer), 0);
          codec.encode(new DataView(output.buffer), 0, value);
          assert.deepEqual(output, input);
        });
        fc.assert(property);
      });
    }
  });
}

test("abi.txt is the text that the generated file carries, and the digest is that text's", () => {
  const golden = readFileSync(join(import.meta.dirname, "../../bpf/abi.txt"), "utf8");
  const text = golden.slice(golden.indexOf("\n") + 1);
  assert.equal(text, abi.abiText.slice(1));
  assert.equal(createHash("sha256").update(text).digest("hex"), abi.abiDigest);
});
