// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { createMetricRegistry, type MetricRegistry } from "./metrics.ts";

const fail = (name: string, error: unknown): never => {
  throw new Error(name, { cause: error });
};

async function textOf(registry: MetricRegistry): Promise<string> {
  let text = "";
  for await (const chunk of registry.text()) text += chunk;
  return text;
}

test("counters, gauges and histograms are written as Prometheus reads them", async () => {
  const registry = createMetricRegistry(fail);
  const drops = registry.counter("ciliate_drops_total", "Packets dropped.");
  drops.add(1, { reason: "a" });
  drops.add(2, { reason: "a" });
  drops.add();
  registry.gauge("ciliate_up", "Line one\nand \\ two.").set(Number.POSITIVE_INFINITY);
  const lag = registry.histogram("ciliate_lag_seconds", "Lag.", [0.1, 1]);
  for (const value of [0.05, 0.1, 0.5, 3]) lag.observe(value);
  assert.equal(
    await textOf(registry),
    [
      "# HELP ciliate_drops_total Packets dropped.",
      "# TYPE ciliate_drops_total counter",
      'ciliate_drops_total{reason="a"} 3',
      "ciliate_drops_total 1",
      "# HELP ciliate_up Line one\\nand \\\\ two.",
      "# TYPE ciliate_up gauge",
      "ciliate_up +Inf",
      "# HELP ciliate_lag_seconds Lag.",
      "# TYPE ciliate_lag_seconds histogram",
      'ciliate_lag_seconds_bucket{le="0.1"} 2',
      'ciliate_lag_seconds_bucket{le="1"} 3',
      'ciliate_lag_seconds_bucket{le="+Inf"} 4',
      "ciliate_lag_seconds_sum 3.65",
      "ciliate_lag_seconds_count 4",
      "",
    ].join("\n"),
  );
});

test("a collector is asked at every scrape; labels are escaped, big numbers whole", async () => {
  const registry = createMetricRegistry(fail);
  let value = 2n ** 63n;
  registry.collect({ name: "ciliate_bytes_total", type: "counter", help: "B." }, () => [
    { labels: { a: 'q"\\\n', b: "x" }, value: value++ },
  ]);
  assert.match(await textOf(registry), /\{a="q\\"\\\\\\n",b="x"\} 9223372036854775808\n$/);
  assert.match(await textOf(registry), / 9223372036854775809\n$/);
});

test("a collector that throws is told and leaves the others whole", async () => {
  const failed: string[] = [];
  const registry = createMetricRegistry((name) => failed.push(name));
  registry.collect({ name: "ciliate_a", type: "gauge", help: "" }, () => {
    throw new Error("gone");
  });
  registry.gauge("ciliate_b", "B.").set(1);
  assert.match(await textOf(registry), /\nciliate_b 1\n$/);
  assert.deepEqual(failed, ["ciliate_a"]);
});

test("a large scrape lets other work run between its chunks", async () => {
  const registry = createMetricRegistry(fail);
  const samples = function* () {
    for (let id = 0; id < 50_000; id += 1) yield { labels: { id: String(id) }, value: id };
  };
  registry.collect({ name: "ciliate_many", type: "gauge", help: "" }, samples);
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  });
  const text = await textOf(registry);
  clearInterval(timer);
  assert.equal(text.split("\n").length, 50_003);
  assert(turns > 2, `${turns} turns of a timer during the scrape`);
});

test("a name twice, a name of others, and labels without end are refused", () => {
  const registry = createMetricRegistry(fail);
  const counter = registry.counter("ciliate_a_total", "A.");
  assert.throws(() => registry.gauge("ciliate_a_total", "A."), /ciliate_a_total exists already/);
  assert.throws(() => registry.gauge("node_a", "A."), /not a name of ours/);
  assert.throws(() => {
    for (let id = 0; id < 2000; id += 1) counter.add(1, { id: String(id) });
  }, /metric ciliate_a_total has 1000 series/);
});
