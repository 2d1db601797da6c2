// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Pace } from "./pace.ts";

const LIMIT = 2 ** 20;
const SWEEP_MS = 10_000;
/** What a reading takes by the entry. */
const ENTRY_MS = 0.0005;
const BUCKET_MS = 0.000_001;

/** Sweeps over a table whose buckets all have as many entries, with a clock of its own. */
class Walked {
  readonly pace = new Pace(LIMIT, LIMIT, 1);
  nowMs = 0;
  costMs = 0;
  longestMs = 0;
  longestWaitMs = 0;
  #at = 0;

  /** Goes on until the end of the table; what that took, and cost. */
  sweep(fill: number, removedShare = 0) {
    const beganMs = this.nowMs;
    const beganCostMs = this.costMs;
    do this.step(fill, removedShare);
    while (this.#at > 0);
    this.pace.swept(removedShare * fill * LIMIT, fill * LIMIT, beganMs);
    return { tookMs: this.nowMs - beganMs, costMs: this.costMs - beganCostMs };
  }

  step(fill: number, removedShare = 0): void {
    const wanted = this.pace.chunk(SWEEP_MS);
    const buckets = Math.min(LIMIT - this.#at, Math.ceil(fill === 0 ? LIMIT : wanted / fill));
    const entries = Math.round(buckets * fill);
    const costMs = entries * ENTRY_MS + buckets * BUCKET_MS;
    this.pace.readTook(entries, costMs);
    this.nowMs += costMs;
    const removed = entries * removedShare;
    const waitMs = this.pace.stepped({ entries, buckets, removed, costMs }, this.nowMs, SWEEP_MS);
    this.nowMs += waitMs;
    this.costMs += costMs;
    this.longestMs = Math.max(this.longestMs, costMs);
    this.longestWaitMs = Math.max(this.longestWaitMs, waitMs);
    this.#at = this.#at + buckets >= LIMIT ? 0 : this.#at + buckets;
  }
}

describe("the pace of a walk through flows", () => {
  test("is one at which many entries cost less than 1 % of a core", () => {
    const walked = new Walked();
    for (const fill of [0.3, 0.7]) {
      walked.sweep(fill);
      const { tookMs, costMs } = walked.sweep(fill);
      assert.ok(costMs <= tookMs * 0.01, `${costMs} ms of ${tookMs}`);
      assert.ok(tookMs < (LIMIT * fill * ENTRY_MS) / 0.0045, `${tookMs} ms`);
    }
    assert.ok(walked.longestMs < 1.5, `${walked.longestMs} ms at a time`);
  });

  test("is that of the interval while there are few entries, with a look every 2 s", () => {
    const walked = new Walked();
    for (const [fill, leastMs] of [
      [0, 0],
      [0.0001, 2000], // seen whole in each look
      [0.01, 9000],
    ] as const) {
      walked.sweep(fill);
      walked.longestWaitMs = 0;
      const { tookMs, costMs } = walked.sweep(fill);
      assert.ok(tookMs >= leastMs && tookMs < 11_000, `${tookMs} ms at ${fill}`);
      assert.ok(walked.longestWaitMs <= 2000, `${walked.longestWaitMs} ms at ${fill}`);
      assert.ok(costMs < tookMs * 0.01, `${costMs} ms of ${tookMs} at ${fill}`);
    }
  });

  test("rises with the fill, and falls again when that is clearly lower", () => {
    const walked = new Walked();
    for (const [fill, pressure, halfOpenMs] of [
      [0.7, "none", Number.POSITIVE_INFINITY],
      [0.76, "high", 5000],
      [0.7, "high", 5000],
      [0.92, "critical", 1000],
      [0.85, "critical", 1000],
      [0.79, "high", 5000],
      [0.64, "none", Number.POSITIVE_INFINITY],
      [0.95, "critical", 1000],
      [0.1, "none", Number.POSITIVE_INFINITY],
    ] as const) {
      walked.sweep(fill, 1);
      assert.deepEqual([walked.pace.pressure, walked.pace.halfOpenMs], [pressure, halfOpenMs]);
    }
  });

  test("notices within three seconds that an idle table fills", () => {
    const walked = new Walked();
    walked.sweep(0);
    walked.sweep(0.0001);
    const beganMs = walked.nowMs;
    while (walked.pace.pressure === "none") {
      walked.step(0.95);
      assert.ok(walked.nowMs < beganMs + 3000, `${walked.nowMs - beganMs} ms`);
    }
  });

  test("is a haste only for as long as that frees something", () => {
    const walked = new Walked();
    const sweeps = (removedShare: number): number => {
      const beganMs = walked.nowMs;
      let tookMs = 0;
      while (walked.nowMs < beganMs + 30_000) tookMs = walked.sweep(0.95, removedShare).tookMs;
      return tookMs;
    };
    assert.ok(sweeps(0.1) < 4000);
    assert.ok(sweeps(0.0001) > 30_000);
    assert.ok(sweeps(0.1) < 4000);
  });
});
