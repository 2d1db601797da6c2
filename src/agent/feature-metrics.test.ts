// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sample } from "../telemetry/metrics.ts";
import { addSourceMetrics, waysUse } from "./feature-metrics.ts";

test("ways out that fill their table are told with the key to raise", () => {
  assert.equal(waysUse("nexthops", 1022, 1024).problem, "");
  assert.match(waysUse("nexthops", 1023, 1024).problem, /^full, .*; raise tables\.nodes$/);
});

test("a scrape walks over the problems of manifests once", () => {
  let walks = 0;
  const figures = () => {
    walks += 1;
    return { files: walks, objects: walks, errors: walks, warnings: 0, lastLoadMs: walks * 1000 };
  };
  const metrics: (() => Iterable<Sample>)[] = [];
  const sources = { manifests: { figures }, api: { size: 3 }, complete: { open: true } };
  addSourceMetrics((_name, _type, _help, samples) => metrics.push(samples), sources);
  const before = walks;
  const scrape = () => metrics.flatMap((samples) => [...samples()].map(({ value }) => value));
  assert.deepEqual(scrape(), [before + 1, before + 1, before + 1, before + 1, 3, 1]);
  assert.deepEqual(scrape(), [before + 2, before + 2, before + 2, before + 2, 3, 1]);
});
