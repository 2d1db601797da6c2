// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Verdict } from "../datapath/gen/abi.ts";
import { tcpFlagsText, verdictText } from "./words.ts";

test("TCP's flags are written as tcpdump writes them", () => {
  const texts = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0].map(tcpFlagsText);
  assert.deepEqual(texts, ["S", "S.", ".", "P.", "F.", "R", ""]);
});

test("a verdict is written in words, an unknown one by its number", () => {
  assert.equal(verdictText(Verdict.dropNotABackend), "drop not a backend");
  assert.equal(verdictText(63), "verdict 63");
});
