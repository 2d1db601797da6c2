// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FlowDirection, FlowFlag, type Jiffies } from "../datapath/gen/abi.ts";
import {
  collectorOf,
  createMap,
  flowOf,
  NOW_MS,
  portsIn,
  requestKey,
  type Wish,
} from "./fixture.ts";

const { confirmed, reset } = FlowFlag;

/** A table, and what is left of it. */
interface Fill {
  readonly what: string;
  /** Established flows, others, and the others' age in seconds. */
  readonly wishes: readonly [old: number, half: number, age: number];
  /** Of the others. */
  readonly flags?: number;
  readonly left: readonly [old: number, half: number];
  readonly pressure: string;
}

describe("a table of flows that fills", () => {
  const halfOpen = (count: number, age: number, flags = 0): Wish[] =>
    Array.from({ length: count }, (_, index) => ({
      port: 20_001 + index,
      flags,
      requestAge: age,
      replyAge: age,
      created: age,
    }));
  const established = (count: number): Wish[] =>
    Array.from({ length: count }, (_, index) => ({
      port: 1 + index,
      flags: confirmed,
      requestAge: 30,
      replyAge: 30,
      created: 30,
    }));

  for (const { what, wishes, flags = 0, left, pressure } of [
    {
      what: "half full keeps half-open flows",
      wishes: [100, 156, 20],
      left: [100, 156],
      pressure: "none",
    },
    {
      what: "nearly full keeps young half-open flows",
      wishes: [100, 300, 4],
      left: [100, 300],
      pressure: "high",
    },
    {
      what: "nearly full loses older ones",
      wishes: [100, 300, 6],
      left: [100, 0],
      pressure: "high",
    },
    {
      what: "full loses all but new ones",
      wishes: [100, 400, 2],
      left: [100, 0],
      pressure: "critical",
    },
    {
      what: "full loses those that the pod has reset before both sides had them",
      wishes: [100, 400, 2],
      flags: reset,
      left: [100, 0],
      pressure: "critical",
    },
    {
      what: "full keeps established ones that were reset",
      wishes: [100, 400, 2],
      flags: confirmed | reset,
      left: [100, 400],
      pressure: "critical",
    },
    {
      what: "full keeps established ones",
      wishes: [511, 1, 6],
      left: [511, 0],
      pressure: "critical",
    },
  ] satisfies Fill[]) {
    test(what, async () => {
      const [old, half, age] = wishes;
      // 512 flows fill it.
      using map = createMap([...established(old), ...halfOpen(half, age, flags)]);
      // On a slow machine smaller readings would judge the fill more often, and end the haste.
      await using collector = collectorOf(map, { clock: { nowMs: () => 0, cpuMs: () => 0 } });
      let takes = 0;
      map.interrupt = () => {
        takes++;
      };
      // By the first sweep it is known how full the table is.
      await collector.collect();
      assert.equal(collector.figures().tables[0]?.pressure, pressure);
      await collector.collect();
      const ports = portsIn(map, FlowDirection.request);
      assert.deepEqual(
        [ports.filter((port) => port <= 20_000), ports.filter((port) => port > 20_000)].map(
          ({ length }) => length,
        ),
        left,
      );
      assert.equal(collector.figures().removed["half-open"], half - left[1]);
      // Two for each flow, and now and then one of an entry that has just gone.
      assert.ok(takes <= 3 * (half - left[1]), `${takes} taken`);
      assert.equal(portsIn(map, FlowDirection.reply).length, left[0] + left[1]);
    });
  }

  test("keeps a half-open flow whose client goes on while it is removed", async () => {
    const wishes = halfOpen(480, 3);
    using map = createMap(wishes);
    await using collector = collectorOf(map);
    map.interrupt = () => {
      for (const wish of wishes) {
        const now = { ...flowOf({ ...wish, flags: confirmed }, 3), seen: NOW_MS as Jiffies };
        map.update(requestKey(wish), now, "replace");
      }
      map.interrupt = () => undefined;
    };
    for (let sweep = 0; sweep < 2; sweep++) await collector.collect();
    assert.equal(portsIn(map, FlowDirection.request).length, 480);
    assert.equal(collector.figures().removed["half-open"], 0);
  });
});
