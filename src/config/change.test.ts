// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { compareConfigs, mergeLive } from "./change.ts";
import { defaultConfig, parseConfig } from "./load.ts";

const changed = parseConfig(
  "mtu: 1400\ntrustedSources: [10.0.0.0/8]\nconntrack: {udp: 30s, maxEntries: 2048}\n" +
    "log: {levels: {lb: debug}}\n",
  "c.yaml",
).config;

test("changes are told with both values and what they need", () => {
  assert.deepEqual(compareConfigs(defaultConfig(), changed), [
    { path: "trustedSources", from: [], to: ["10.0.0.0/8"], change: "live" },
    { path: "mtu", from: "auto", to: 1400, change: "restart" },
    { path: "conntrack.udp", from: "1m", to: "30s", change: "live" },
    { path: "conntrack.maxEntries", from: "auto", to: 2048, change: "restart" },
    { path: "log.levels", from: {}, to: { lb: "debug" }, change: "live" },
  ]);
  assert.deepEqual(compareConfigs(changed, changed), []);
});

test("a reload takes over the live keys only", () => {
  const merged = mergeLive(defaultConfig(), changed);
  assert.deepEqual(merged.trustedSources, changed.trustedSources);
  assert.equal(merged.conntrack.udp, 30_000);
  assert.equal(merged.conntrack.maxEntries, "auto");
  assert.equal(merged.mtu, "auto");
  const left = compareConfigs(merged, changed).map(({ change }) => change);
  assert.deepEqual(left, ["restart", "restart"]);
});
