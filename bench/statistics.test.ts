// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { interleave, median, quantile, summarize, trimmedMean } from "./statistics.ts";

test("the median is in the middle, the extremes beside it", () => {
  assert.deepEqual(summarize([3, 1, 2]), { value: 2, min: 1, max: 3 });
  assert.equal(median([4, 1, 2, 3]), 2.5);
});

test("a quantile has its part of the values below it", () => {
  const values = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(quantile(values, 0.99), 100);
  assert.equal(quantile(values, 0.5), 51);
});

test("the trimmed mean leaves a tenth out at both ends", () => {
  assert.equal(trimmedMean([1000, 1, 2, 3, 4, 5, 6, 7, 8, 0]), 4.5);
});

test("contenders take turns, and the baseline of a round is taken off its samples", () => {
  const taken: string[] = [];
  let round = 0;
  const contender = (name: string, value: number) => ({
    name,
    sample() {
      taken.push(name);
      if (name === "zero") round += 1;
      return value + round;
    },
  });
  const found = interleave([contender("a", 5), contender("b", 7)], 3, contender("zero", 1));
  assert.deepEqual(taken.slice(0, 6), ["zero", "a", "b", "zero", "a", "b"]);
  assert.equal(taken.length, 4 * 3, "one round more, which doesn't count");
  assert.deepEqual(found.get("a"), { value: 4, min: 4, max: 4 });
  assert.deepEqual(found.get("b"), { value: 6, min: 6, max: 6 });
});
