// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { possibleCpus } from "../kernel/bpf.ts";
import { BpfMap } from "../kernel/map.ts";
import { type Metric, maps, Place, type Traffic, Verdict } from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";
import { openCounters, openMetrics } from "./metrics.ts";

const cpus = possibleCpus();

test("verdicts are summed over CPUs, also beyond 2^32", () => {
  const spec = { ...maps.metrics, maxEntries: cpus * 8 * 64 };
  using map = new TypedMap<number, Metric>(BpfMap.create(spec), spec);
  for (let cpu = 0; cpu < cpus; cpu++) {
    const row = (cpu * 8 + Place.host) * 64 + Verdict.dropUntrusted;
    map.update(row, { packets: 3n, bytes: 2n ** 40n + 7n });
  }
  using metrics = openMetrics(map.raw);
  const counted = metrics.read().filter(({ packets }) => packets > 0);
  assert.deepEqual(counted, [
    {
      place: Place.host,
      verdict: Verdict.dropUntrusted,
      packets: 3 * cpus,
      bytes: (2 ** 40 + 7) * cpus,
    },
  ]);
});

test("a counter is summed over CPUs, and a new owner begins at zero", () => {
  const stride = 10;
  const spec = { ...maps.counters, maxEntries: cpus * stride };
  using map = new TypedMap<number, Traffic>(BpfMap.create(spec), spec);
  for (let cpu = 0; cpu < cpus; cpu++) {
    map.update(cpu * stride + 4, { packets: 1n, bytes: 100n, connections: 2n, adopted: 5n });
    map.update(cpu * stride + 5, { packets: 9n, bytes: 9n, connections: 9n, adopted: 9n });
  }
  using counters = openCounters(map.raw, stride);
  assert.deepEqual(counters.read(4), {
    packets: cpus,
    bytes: 100 * cpus,
    connections: 2 * cpus,
    adopted: 5 * cpus,
  });
  counters.reset(4);
  assert.deepEqual(counters.read(4), { packets: 0, bytes: 0, connections: 0, adopted: 0 });
  assert.equal(counters.read(5).packets, 9 * cpus);
  assert.throws(() => counters.read(10), /no counter 10 in table counters: it has 10/);
});
