// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { placeNames, verdictNames } from "../../src/datapath/gen/abi.ts";
import { parseIpv4 } from "../../src/net/address.ts";
import { checksumFor, sum16 } from "./bytes.ts";
import { bucketOf, flowHash, slotOf } from "./hash.ts";
import { PLACE, VERDICT } from "./numbers.ts";

const byNumber = (names: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(names).map(([name, value]) => [value, name.toLowerCase()]));

test("the model's verdicts and places are the programs'", () => {
  assert.deepEqual(byNumber(VERDICT), verdictNames);
  assert.deepEqual(byNumber(PLACE), placeNames);
});

test("flow hash, slot and bucket are as worked out elsewhere", () => {
  // By a script of a few lines in another language, from the words of docs/packet-path.md.
  const tuple = {
    client: parseIpv4("198.51.100.7"),
    clientPort: 40_000,
    service: parseIpv4("192.0.2.1"),
    servicePort: 80,
    protocol: 6,
  };
  const hash = flowHash(tuple, 42n);
  assert.deepEqual(hash, { low: 0xa9bddfbc, high: 0xf93c98e5 });
  assert.equal(slotOf(hash, 1021), Math.floor((0xa9bddfbc / 2 ** 32) * 1021));
  assert.equal(bucketOf(tuple.service, 80, 6, 1, 1023), 48);
});

test("checksums are those of RFC 1071's example", () => {
  const words = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  assert.equal(checksumFor(sum16(words, 0, words.length)), 0x220d);
  assert.equal(checksumFor(sum16(words, 0, 7)), 0x2304);
});
