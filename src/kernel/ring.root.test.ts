// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type LoadedObject, openObject } from "./object.ts";
import { RingReader } from "./ring.ts";
import { type RingBatch, RingStream } from "./ring-stream.ts";
import { buildObject, readU32, u32 } from "./testdata/build.ts";

const sample = buildObject("sample");
const packet = new Uint8Array(64);

function load(context: TestContext, ringBytes: number): LoadedObject {
  using object = openObject(sample);
  object.map("events").maxEntries = ringBytes;
  const loaded = object.load();
  context.after(() => loaded.close());
  return loaded;
}

function emit(loaded: LoadedObject, times: number, mark = 0): void {
  // Not by `repeat`, which begins again when it is interrupted.
  const program = loaded.program("emit");
  for (let run = 0; run < times; run += 1) program.testRun({ data: packet, skb: { mark } });
}

/** How many events were tried, and how many of them found the ring full. */
function emitted(loaded: LoadedObject): { tried: number; refused: number } {
  const row = loaded.map("rows").lookup(u32(0)) ?? new Uint8Array(12);
  return { tried: readU32(row), refused: readU32(row, 1) };
}

function readNumbers(ring: RingReader): number[] {
  const numbers: number[] = [];
  ring.read((view, offset, length) => {
    assert.equal(length, 16);
    numbers.push(view.getUint32(offset, true));
  });
  return numbers;
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `${what} did not happen in 10 s`);
    await delay(5);
  }
}

test("records come out as they went in, across the end of the ring", (context) => {
  const loaded = load(context, 4096);
  using ring = new RingReader(loaded.map("events"));
  assert.deepEqual(readNumbers(ring), []);
  // 24 bytes a record: 100 of them, again and again, cross the end of 4096 bytes everywhere.
  for (let round = 0; round < 20; round += 1) {
    emit(loaded, 100);
    assert.equal(ring.pendingBytes, 2400);
    assert.deepEqual(readNumbers(ring), range(round * 100 + 1, round * 100 + 100));
  }
});

test("discarded records are skipped", (context) => {
  const loaded = load(context, 4096);
  using ring = new RingReader(loaded.map("events"));
  emit(loaded, 10, 1);
  assert.deepEqual(readNumbers(ring), [2, 4, 6, 8, 10]);
  assert.equal(ring.pendingBytes, 0);
});

test("a full ring refuses records until it is read", (context) => {
  const loaded = load(context, 4096);
  using ring = new RingReader(loaded.map("events"));
  emit(loaded, 200);
  assert.deepEqual(emitted(loaded), { tried: 200, refused: 30 });
  assert.deepEqual(readNumbers(ring), range(1, 170));
  emit(loaded, 1);
  assert.deepEqual(readNumbers(ring), [201]);
});

test("copying takes what fits, and the next reader goes on from there", (context) => {
  const loaded = load(context, 4096);
  emit(loaded, 10);
  {
    using ring = new RingReader(loaded.map("events"));
    assert.deepEqual(ring.copy(new Uint8Array(100)), { bytes: 96, records: 4 });
    assert.throws(() => ring.copy(new Uint8Array(16)), /a record of 16 bytes, which does not fit/);
  }
  using ring = new RingReader(loaded.map("events"));
  assert.deepEqual(readNumbers(ring), range(5, 10));
});

test("what a throwing visitor has not seen is given up, not read twice", (context) => {
  const loaded = load(context, 4096);
  using ring = new RingReader(loaded.map("events"));
  emit(loaded, 3);
  const visit = () => {
    throw new Error("no");
  };
  assert.throws(() => ring.read(visit), /no/);
  assert.equal(ring.pendingBytes, 0);
});

test("waiting ends with the time or with a record, and a closed ring throws", (context) => {
  const loaded = load(context, 4096);
  const ring = new RingReader(loaded.map("events"));
  assert.equal(ring.wait(1), false);
  emit(loaded, 1);
  assert.equal(ring.wait(5000), true);
  ring.close();
  ring.close();
  assert.throws(() => ring.pendingBytes, TypeError);
  assert.throws(() => new RingReader(loaded.map("rows")), /it is of type array/);
});

test("a stream hands every record to the main thread, in order", async (context) => {
  const loaded = load(context, 1 << 22);
  const numbers: number[] = [];
  let lost = 0;
  const receive = (batch: RingBatch) => {
    lost += batch.lost;
    batch.each((offset) => numbers.push(batch.view.getUint32(offset, true)));
  };
  const fail = (error: Error) => assert.fail(error);
  const options = { receive, fail, batchBytes: 4096 };
  await using stream = new RingStream(loaded.map("events"), options);
  for (let round = 0; round < 50; round += 1) {
    emit(loaded, 1000);
    await delay(1);
  }
  await until("the last record", () => numbers.length + lost >= 50_000);
  await stream.close();
  assert.equal(lost, 0);
  assert.deepEqual(emitted(loaded), { tried: 50_000, refused: 0 });
  assert.deepEqual(numbers, range(1, 50_000));
});

test("a receiver that is behind is told how many records it lost", async (context) => {
  const loaded = load(context, 65536);
  let received = 0;
  let lost = 0;
  let last = 0;
  const receive = (batch: RingBatch) => {
    received += batch.records;
    lost += batch.lost;
    batch.each((offset) => {
      const number = batch.view.getUint32(offset, true);
      assert.ok(number > last);
      last = number;
    });
  };
  const fail = (error: Error) => assert.fail(error);
  const options = { receive, fail, batchBytes: 4096, batches: 2 };
  await using stream = new RingStream(loaded.map("events"), options);
  emit(loaded, 1);
  await until("the first record", () => received === 1);
  // The main thread does not receive while it emits.
  const until1s = Date.now() + 1000;
  while (Date.now() < until1s) emit(loaded, 1000);
  const { tried, refused } = emitted(loaded);
  await until("the last record", () => received + lost + refused >= tried);
  await stream.close();
  assert.equal(received + lost + refused, tried);
  assert.ok(lost > 0);
});

test("a stream that waits closes, and says which record fits no batch", async (context) => {
  const loaded = load(context, 4096);
  const receive = () => {};
  const idle = new RingStream(loaded.map("events"), { receive, fail: assert.fail });
  await idle.close();
  emit(loaded, 1);
  const failed = Promise.withResolvers<Error>();
  const options = { receive, fail: failed.resolve, batchBytes: 8 };
  await using stream = new RingStream(loaded.map("events"), options);
  assert.match((await failed.promise).message, /a record of 16 bytes, which does not fit into 8/);
  await stream.close();
});
