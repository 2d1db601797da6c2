// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventMask, PacketEvent, Verdict } from "../datapath/gen/abi.ts";
import { createEventHub, type EventBatch } from "./hub.ts";
import { tcpFlagsText, verdictText } from "./words.ts";

function batchOf(verdicts: readonly Verdict[], lost = 0): EventBatch {
  const view = new DataView(new ArrayBuffer(PacketEvent.size * verdicts.length));
  for (const [index, verdict] of verdicts.entries()) {
    const empty = PacketEvent.decode(new DataView(new ArrayBuffer(PacketEvent.size)), 0);
    PacketEvent.encode(view, index * PacketEvent.size, { ...empty, verdict });
  }
  const each: EventBatch["each"] = (visit) => {
    for (const index of verdicts.keys()) visit(index * PacketEvent.size, PacketEvent.size);
  };
  return { view, lost, each };
}

function setUp() {
  const masks: number[] = [];
  const failures: string[] = [];
  const state = {
    open: 0,
    mostOpen: 0,
    receive: (_: EventBatch): void => assert.fail("no stream"),
    fail: (_: Error): void => {},
  };
  const hub = createEventHub({
    setEvents: (mask) => masks.push(mask),
    onFailure: (error) => failures.push(error.message),
    open: (receive, fail) => {
      state.open += 1;
      state.mostOpen = Math.max(state.mostOpen, state.open);
      state.receive = receive;
      state.fail = fail;
      return {
        async [Symbol.asyncDispose]() {
          await new Promise((done) => setTimeout(done, 5));
          state.open -= 1;
        },
      };
    },
  });
  const listen = () => {
    const got: string[] = [];
    return {
      got,
      event: ({ verdict }: PacketEvent) => got.push(verdictText(verdict)),
      overwritten: (count: number) => got.push(`${count} lost`),
    };
  };
  return { hub, masks, failures, state, listen };
}

test("events are made only while somebody listens, and traces only if asked for", async () => {
  const { hub, masks, state, listen } = setUp();
  const drops = listen();
  const all = listen();
  const stopDrops = hub.subscribe(false, drops);
  const stopAll = hub.subscribe(true, all);
  await Promise.resolve();
  state.receive(batchOf([Verdict.sentPod, Verdict.dropUntrusted], 3));
  assert.deepEqual(drops.got, ["3 lost", "drop untrusted"]);
  assert.deepEqual(all.got, ["3 lost", "sent pod", "drop untrusted"]);
  stopAll();
  stopAll();
  stopDrops();
  const { drops: d, traces: t } = EventMask;
  assert.deepEqual(masks, [d, d | t, d, 0]);
  await hub[Symbol.asyncDispose]();
  assert.equal(state.open, 0);
});

test("the ring never has two readers", async () => {
  const { hub, state, listen } = setUp();
  for (let round = 0; round < 5; round += 1) {
    const stop = hub.subscribe(false, listen());
    await new Promise((done) => setTimeout(done, round));
    stop();
  }
  hub.subscribe(false, listen());
  await new Promise((done) => setTimeout(done, 40));
  assert.deepEqual([state.open, state.mostOpen], [1, 1]);
  await hub[Symbol.asyncDispose]();
  assert.equal(state.open, 0);
});

test("a reader that dies is told once, and the next subscriber starts another", async () => {
  const { hub, state, failures, listen } = setUp();
  hub.subscribe(false, listen());
  await Promise.resolve();
  state.fail(new Error("the Worker died"));
  assert.deepEqual(failures, ["the Worker died"]);
  const next = listen();
  hub.subscribe(false, next);
  await new Promise((done) => setTimeout(done, 20));
  state.receive(batchOf([Verdict.dropTable]));
  assert.deepEqual(next.got, ["drop table"]);
  await hub[Symbol.asyncDispose]();
});

test("TCP's flags are written as tcpdump writes them", () => {
  const texts = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0].map(tcpFlagsText);
  assert.deepEqual(texts, ["S", "S.", ".", "P.", "F.", "R", ""]);
});
