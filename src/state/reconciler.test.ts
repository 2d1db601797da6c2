// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createFakeTarget } from "./fake-target.ts";
import { createSyncGate } from "./gate.ts";
import { type Clock, Reconciler } from "./reconciler.ts";
import { createTable } from "./table.ts";
import type { Entry } from "./target.ts";

/** A house needs its address and everything in it; streets are shared. */
interface House {
  readonly name: string;
  readonly street: string;
  readonly rooms: readonly string[];
  readonly colour: string;
}

/** A clock that stands still until it is told otherwise. */
function handClock() {
  let nowMs = 0;
  const timers = new Set<{ atMs: number; call: () => void }>();
  const clock: Clock = {
    nowMs: () => nowMs,
    random: () => 0,
    after(delayMs, call) {
      const timer = { atMs: nowMs + delayMs, call };
      timers.add(timer);
      return () => timers.delete(timer);
    },
  };
  const advance = (ms: number): void => {
    nowMs += ms;
    for (const timer of [...timers]) {
      if (timer.atMs > nowMs || !timers.delete(timer)) continue;
      timer.call();
    }
  };
  return { clock, advance };
}

function town() {
  const log: string[] = [];
  const targets = {
    streets: createFakeTarget<string, string>("streets", log),
    rooms: createFakeTarget<string, string>("rooms", log),
    doors: createFakeTarget<string, string>("doors", log),
  };
  const gate = createSyncGate();
  const synced = gate.register("files");
  gate.complete();
  const { clock, advance } = handClock();
  const houses = createTable<string, House>({ name: "houses", key: (house) => house.name });
  const reconciler = new Reconciler({ targets, gate, clock });
  reconciler.add(houses, (house): Entry<typeof targets>[] => [
    { target: "streets", key: house.street, value: house.street },
    ...house.rooms.map((room) => ({
      target: "rooms" as const,
      key: `${house.name}/${room}`,
      value: house.colour,
    })),
    { target: "doors", key: house.name, value: house.street },
  ]);
  const house = (name: string, more: Partial<House> = {}): House => ({
    name,
    street: "elm",
    rooms: ["hall"],
    colour: "red",
    ...more,
  });
  return { log, targets, synced, advance, houses, reconciler, house };
}

test("entries are written in their order and removed in reverse", async () => {
  const { log, houses, reconciler, house } = town();
  houses.set(house("a", { rooms: ["hall", "attic"] }));
  await reconciler.idle();
  assert.deepEqual(log.splice(0), [
    "set streets elm",
    "set rooms a/hall",
    "set rooms a/attic",
    "set doors a",
  ]);
  houses.delete("a");
  await reconciler.idle();
  assert.deepEqual(log, [
    "remove doors a",
    "remove rooms a/attic",
    "remove rooms a/hall",
    "remove streets elm",
  ]);
});

test("only what changed is written, and new entries go before old ones are removed", async () => {
  const { log, houses, reconciler, house } = town();
  houses.set(house("a"));
  houses.set(house("b", { colour: "blue" }));
  await reconciler.idle();
  log.length = 0;
  houses.set(house("a", { rooms: ["cellar"] }));
  houses.set(house("b", { colour: "green" }));
  await reconciler.idle();
  assert.deepEqual(log, ["set rooms a/cellar", "set rooms b/hall", "remove rooms a/hall"]);
});

test("an entry that several rows want goes with the last of them", async () => {
  const { log, targets, houses, reconciler, house } = town();
  houses.set(house("a"));
  houses.set(house("b"));
  await reconciler.idle();
  houses.delete("a");
  await reconciler.idle();
  assert.deepEqual([...targets.streets.held.keys()], ["elm"]);
  houses.delete("b");
  await reconciler.idle();
  assert.equal(targets.streets.held.size, 0);
  assert.equal(log.filter((line) => line === "remove streets elm").length, 1);
  assert.equal(reconciler.figures().entries, 0);
});

test("a key that changes hands is never missing", async () => {
  const log: string[] = [];
  const targets = { doors: createFakeTarget<string, string>("doors", log) };
  const gate = createSyncGate();
  const owners = createTable<string, { name: string; door: string }>({
    name: "owners",
    key: (owner) => owner.name,
  });
  const reconciler = new Reconciler({ targets, gate });
  reconciler.add(owners, ({ name, door }) => [{ target: "doors", key: door, value: name }]);
  owners.set({ name: "ann", door: "1" });
  owners.set({ name: "bob", door: "2" });
  await reconciler.idle();
  log.length = 0;
  owners.set({ name: "ann", door: "3" });
  owners.delete("bob");
  owners.set({ name: "cid", door: "1" });
  await reconciler.idle();
  assert.deepEqual(log, ["set doors 3", "set doors 1", "remove doors 2"]);
  assert.deepEqual([...targets.doors.held].sort(), [
    ["1", "cid"],
    ["3", "ann"],
  ]);
});

test("what is wanted again before it was removed stays, until its next release", async () => {
  const { log, targets, houses, reconciler, house } = town();
  houses.set(house("a"));
  await reconciler.idle();
  log.length = 0;
  const { apply } = targets.rooms;
  targets.rooms.apply = async (batch) => {
    targets.rooms.apply = apply;
    houses.set(house("a"));
    return apply(batch);
  };
  houses.set(house("a", { rooms: ["attic"] }));
  await reconciler.idle();
  assert.deepEqual(log, ["set rooms a/attic", "remove rooms a/attic"]);
  houses.delete("a");
  await reconciler.idle();
  assert.deepEqual([targets.rooms.held.size, reconciler.figures().entries], [0, 0]);
});

test("a failed row keeps what it had, says why, and is tried again later and later", async () => {
  const { targets, houses, reconciler, house, advance } = town();
  houses.set(house("a"));
  await reconciler.idle();
  let attempts = 0;
  targets.rooms.refuse = () => {
    attempts++;
    return new Error("the map is full");
  };
  houses.set(house("a", { rooms: ["cellar"], street: "oak" }));
  houses.set(house("b", { rooms: [] }));
  await reconciler.idle();
  assert.deepEqual([...targets.doors.held.keys()], ["a", "b"], "other rows go on");
  assert.deepEqual([...targets.rooms.held.keys()], ["a/hall"]);
  const status = reconciler.status("houses", "a");
  assert.equal(status.state === "failed" && status.failure.error.message, "the map is full");
  assert.equal(targets.doors.held.get("a"), "elm", "what comes after the failure is not tried");
  const tried: number[] = [];
  for (const delayMs of [99, 1, 199, 1, 399, 1]) {
    advance(delayMs);
    await reconciler.idle();
    tried.push(attempts);
  }
  assert.deepEqual(tried, [1, 2, 2, 3, 3, 4], "after 100, 200 and 400 ms");
  assert.equal(reconciler.figures().lagMs, 99 + 1 + 199 + 1 + 399 + 1);
  targets.rooms.refuse = () => undefined;
  advance(800);
  await reconciler.idle();
  assert.deepEqual(reconciler.status("houses", "a"), { state: "applied" });
  assert.deepEqual([...targets.rooms.held.keys()], ["a/cellar"]);
  assert.equal(targets.doors.held.get("a"), "oak");
  const { failedRows, lagMs } = reconciler.figures();
  assert.deepEqual([failedRows, lagMs], [0, 0]);
});

test("a changed row is tried at once, whatever its backoff", async () => {
  const { targets, houses, reconciler, house } = town();
  targets.rooms.refuse = (verb) => (verb === "set" ? new Error("bad room") : undefined);
  houses.set(house("a", { rooms: ["bad"] }));
  await reconciler.idle();
  assert.equal(reconciler.status("houses", "a").state, "failed");
  houses.set(house("a", { rooms: ["worse"] }));
  await reconciler.idle();
  const status = reconciler.status("houses", "a");
  assert.equal(status.state === "failed" && status.failure.attempts, 1, "it counts anew");
  targets.rooms.refuse = () => undefined;
  houses.set(house("a"));
  await reconciler.idle();
  assert.equal(reconciler.status("houses", "a").state, "applied");
  assert.deepEqual([...targets.rooms.held.keys()], ["a/hall"]);
});

test("a failed removal is tried again, and written again if it is wanted meanwhile", async () => {
  const { targets, houses, reconciler, house, advance } = town();
  houses.set(house("a", { rooms: ["hall", "attic"] }));
  await reconciler.idle();
  targets.rooms.refuse = (verb, key) =>
    verb === "remove" && key === "a/hall" ? new Error("busy") : undefined;
  houses.delete("a");
  await reconciler.idle();
  assert.equal(reconciler.status("houses", "a").state, "failed");
  assert.deepEqual([...targets.rooms.held.keys()], ["a/hall"]);
  houses.set(house("a", { rooms: ["attic"] }));
  await reconciler.idle();
  assert.deepEqual([...targets.rooms.held.keys()], ["a/hall", "a/attic"]);
  targets.rooms.refuse = () => undefined;
  advance(60_000);
  await reconciler.idle();
  assert.deepEqual([...targets.rooms.held.keys()], ["a/attic"]);
  assert.equal(reconciler.status("houses", "a").state, "applied");
});

test("a target that throws fails the rows of its batch, with its error", async () => {
  const { targets, houses, reconciler, house, advance } = town();
  targets.doors.apply = () => Promise.reject(new Error("no such map"));
  houses.set(house("a"));
  await reconciler.idle();
  assert.deepEqual(
    [...reconciler.failures()].map(({ plan, key, error }) => [plan, key, error.message]),
    [["houses", "a", "no such map"]],
  );
  houses.delete("a");
  advance(100);
  await reconciler.idle();
  assert.equal(reconciler.figures().entries, 0, "a deleted row leaves no failure behind");
});

test("a row that changes while it is written and then fails is tried again", async () => {
  const { targets, houses, reconciler, house, advance } = town();
  houses.set(house("a"));
  await reconciler.idle();
  const { apply } = targets.rooms;
  targets.rooms.apply = async (batch) => {
    targets.rooms.apply = apply;
    houses.set(house("a", { rooms: ["cellar"] }));
    const refused = apply(batch);
    targets.rooms.refuse = (verb) => (verb === "set" ? new Error("the map is full") : undefined);
    return refused;
  };
  houses.set(house("a", { rooms: ["attic"] }));
  await reconciler.idle();
  assert.equal(reconciler.status("houses", "a").state, "failed");
  targets.rooms.refuse = () => undefined;
  advance(60_000);
  await reconciler.idle();
  assert.deepEqual([...targets.rooms.held.keys()], ["a/cellar"]);
  assert.equal(reconciler.status("houses", "a").state, "applied");
});

test("a row that goes while more retries are due than a chunk takes is let go once", async () => {
  const { targets, houses, reconciler, house, advance } = town();
  targets.doors.refuse = () => new Error("the map is full");
  for (let index = 0; index < 500; index++) houses.set(house(`h${index}`));
  await reconciler.idle();
  assert.equal(reconciler.figures().failedRows, 500);
  targets.doors.refuse = () => undefined;
  const { apply } = targets.doors;
  targets.doors.apply = async (batch) => {
    targets.doors.apply = apply;
    for (const key of [...houses.keys()]) houses.delete(key);
    return apply(batch);
  };
  advance(60_000);
  await reconciler.idle();
  assert.deepEqual([targets.rooms.held.size, targets.doors.held.size], [0, 0]);
  assert.equal(reconciler.figures().entries, 0);
});

test("two entries of a row for one key are an error of that row only", async () => {
  const { houses, reconciler, house, targets } = town();
  houses.set(house("a", { rooms: ["hall", "hall"] }));
  houses.set(house("b"));
  await reconciler.idle();
  const status = reconciler.status("houses", "a");
  assert.match(status.state === "failed" ? status.failure.error.message : "", /for one key/);
  assert.deepEqual([...targets.doors.held.keys()], ["b"]);
});

test("what no row wants is pruned, but only after every source is synced", async () => {
  const { targets, houses, reconciler, house, synced } = town();
  targets.doors.held.set("old", "elm");
  targets.doors.held.set("a", "elm");
  houses.set(house("a"));
  await reconciler.idle();
  assert.deepEqual([...targets.doors.held.keys()], ["old", "a"]);
  houses.set(house("b"));
  synced();
  await new Promise(setImmediate);
  await reconciler.idle();
  assert.deepEqual([...targets.doors.held.keys()], ["a", "b"]);
  assert.equal(reconciler.figures().pruned, 1);
});

test("a prune that fails is tried again and leaves rows that failed alone", async () => {
  const { targets, houses, reconciler, house, synced, advance } = town();
  targets.rooms.held.set("a/hall", "grey");
  targets.rooms.held.set("old", "grey");
  targets.rooms.refuse = () => new Error("busy");
  houses.set(house("a"));
  synced();
  await new Promise(setImmediate);
  await reconciler.idle();
  assert.equal(reconciler.pruneError?.message, "busy");
  targets.rooms.refuse = (verb) => (verb === "set" ? new Error("busy") : undefined);
  advance(1000);
  await reconciler.idle();
  assert.equal(reconciler.pruneError, undefined);
  assert.deepEqual([...targets.rooms.held.keys()], ["a/hall"]);
});

test("work comes in chunks, which get smaller when the target is slow", async () => {
  const { targets, houses, reconciler, house } = town();
  const { apply } = targets.doors;
  targets.doors.apply = (batch) => {
    const endMs = performance.now() + batch.length;
    while (performance.now() < endMs);
    return apply(batch);
  };
  let turns = 0;
  const count = (): void => {
    turns++;
    if (reconciler.figures().pendingRows > 0) setImmediate(count);
  };
  for (let index = 0; index < 500; index++) houses.set(house(`h${index}`));
  setImmediate(count);
  await reconciler.idle();
  assert.equal(targets.doors.held.size, 500);
  assert.ok(turns > 30, `${turns} turns of the event loop`);
  assert.ok((targets.doors.batches.at(-2) ?? 0) <= 16, `batches of ${targets.doors.batches}`);
});

test("a target that can do little at once gets little, with turns of the event loop", async () => {
  const { targets, houses, reconciler, house } = town();
  targets.doors.maxBatch = 2;
  const { apply, remove } = targets.doors;
  // Elements since the event loop last turned.
  let [count, most] = [0, 0];
  const slowly = (elements: number): void => {
    const endMs = performance.now() + 4 * elements;
    while (performance.now() < endMs);
    count += elements;
    most = Math.max(most, count);
  };
  const turn = (): void => {
    count = 0;
    if (reconciler.figures().pendingRows > 0 || targets.doors.held.size > 0) setImmediate(turn);
  };
  targets.doors.apply = (batch) => {
    slowly(batch.length);
    return apply(batch);
  };
  targets.doors.remove = (batch) => {
    slowly(batch.length);
    return remove(batch);
  };
  for (let index = 0; index < 12; index++) houses.set(house(`h${index}`));
  setImmediate(turn);
  await reconciler.idle();
  assert.deepEqual(targets.doors.batches, Array<number>(6).fill(2));
  for (const key of [...houses.keys()]) houses.delete(key);
  await reconciler.idle();
  assert.equal(targets.doors.held.size, 0);
  assert.ok(most <= 6, `${most} of 12 at once`);
});

test("whatever comes, goes and fails, targets end as the rows want them", async () => {
  const step = fc.record({
    name: fc.constantFrom("a", "b", "c"),
    kind: fc.constantFrom("set", "set", "delete", "wait", "fail", "heal"),
    street: fc.constantFrom("elm", "oak"),
    rooms: fc.subarray(["hall", "attic", "cellar"]),
    colour: fc.constantFrom("red", "blue"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const { targets, houses, reconciler, synced, advance } = town();
      for (const { kind, name, street, rooms, colour } of steps) {
        if (kind === "set") houses.set({ name, street, rooms, colour });
        if (kind === "delete") houses.delete(name);
        if (kind === "wait") await reconciler.idle();
        const fail = (_verb: string, key: string) =>
          key.length % 2 === 0 ? new Error("even") : undefined;
        if (kind === "fail") targets.rooms.refuse = fail;
        if (kind === "fail") targets.streets.refuse = fail;
        if (kind === "heal") targets.rooms.refuse = () => undefined;
        if (kind === "heal") targets.streets.refuse = () => undefined;
      }
      for (const target of Object.values(targets)) target.refuse = () => undefined;
      synced();
      for (let round = 0; round < 3; round++) {
        advance(120_000);
        await new Promise(setImmediate);
        await reconciler.idle();
      }
      const rows = [...houses.rows()];
      const wanted = rows.flatMap(({ name, rooms, colour }) =>
        rooms.map((room) => [`${name}/${room}`, colour] as const),
      );
      assert.deepEqual(new Map([...targets.rooms.held].sort()), new Map([...wanted].sort()));
      assert.deepEqual(
        new Set(targets.streets.held.keys()),
        new Set(rows.map(({ street }) => street)),
      );
      assert.deepEqual(new Set(targets.doors.held.keys()), new Set(houses.keys()));
      assert.deepEqual([...reconciler.failures()], []);
      reconciler.close();
    }),
    { numRuns: 200 },
  );
});
