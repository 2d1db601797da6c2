// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { openObject } from "../kernel/object.ts";
import { formatAddress, parseIpv4 } from "../net/address.ts";
import { type EventBatch, openEvents } from "./events.ts";
import { EventMask, type Ifindex, maps, Verdict } from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";

/** An IPIP packet of nobody for a pod, in a frame for the loopback device: dropped as untrusted. */
const STRANGER = Buffer.from(
  "0000000000000200000000020800" + // Ethernet
    "4500003c0000400040040000c0000209" +
    "0a000001" + // outer IPv4
    "45000028000040004006000001010101" +
    "02020202" + // inner IPv4
    "0400005000000000000000005002ffff00000000",
  "hex",
);

test("events are told while somebody listens, and to each what it wants", async () => {
  using object = openObject(join(import.meta.dirname, "../../build/bpf/host.bpf.o"));
  for (const map of object.maps.values()) {
    if (!map.name.startsWith(".") && map.name !== "events" && map.name !== "frontends") {
      map.maxEntries = Math.min(map.maxEntries, 1024);
    }
  }
  using loaded = object.load();
  using runtime = new TypedMap(loaded.map("runtime"), maps.runtime);
  using endpoints = new TypedMap(loaded.map("endpoints"), maps.endpoints);
  const endpoint = maps.endpoints.value.decode(new DataView(new ArrayBuffer(24)), 0);
  endpoints.update({ address: parseIpv4("10.0.0.1") }, { ...endpoint, ifindex: 1 as Ifindex });
  const ring = loaded.map("events");
  let isOutOfFiles = true;
  const busy: typeof ring = Object.create(ring, {
    fd: { get: () => (isOutOfFiles ? assert.fail("out of files") : ring.fd) },
    name: { value: ring.name },
  });
  const failures: Error[] = [];
  await using events = openEvents(busy, runtime, (error) => failures.push(error));
  const early = events.listen("drops", () => assert.fail());
  await nextTurn();
  early();
  isOutOfFiles = false;
  const run = (): void => {
    loaded.program("host_deliver").testRun({ data: STRANGER });
  };
  const seen: EventBatch["events"][number][] = [];
  run();
  assert.equal(runtime.lookup(0)?.events, 0);
  const end = events.listen("drops", (batch) => seen.push(...batch.events));
  assert.equal(runtime.lookup(0)?.events, EventMask.drops);
  // As if somebody began to capture: that bit isn't the agent's.
  runtime.update(0, { events: EventMask.drops | EventMask.packets });
  run();
  const limit = performance.now() + 30_000;
  while (seen.length === 0 && performance.now() < limit) await delay(2);
  assert.equal(seen.length, 1, "what was before nobody wrote down");
  const [event] = seen;
  assert.equal(event?.verdict, Verdict.dropUntrusted);
  assert.equal(formatAddress(event?.outerSource ?? assert.fail()), "192.0.2.9");
  assert.equal(event?.length, STRANGER.length);
  assert.equal(failures.length, 1, "what went wrong once is tried again");
  end();
  assert.equal(runtime.lookup(0)?.events, EventMask.packets);
});
