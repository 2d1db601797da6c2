// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Cursor, createTable } from "./table.ts";

interface Pet {
  readonly name: string;
  readonly owners: readonly string[];
}

function petTable() {
  return createTable<string, Pet, "owner">({
    name: "pets",
    key: (pet) => pet.name,
    indexes: { owner: (pet) => pet.owners },
  });
}

function takeAll<Row>(cursor: Cursor<string, Row>): [string, Row | undefined][] {
  const taken: [string, Row | undefined][] = [];
  for (let change = cursor.take(); change !== undefined; change = cursor.take()) {
    taken.push([change.key, change.row]);
  }
  return taken;
}

test("a row is found by its key and by every value of an index", () => {
  const pets = petTable();
  pets.set({ name: "rex", owners: ["ann", "bob"] });
  pets.set({ name: "tom", owners: ["bob"] });
  assert.deepEqual(pets.get("rex")?.owners, ["ann", "bob"]);
  assert.deepEqual(
    pets.by("owner", "bob").map((pet) => pet.name),
    ["rex", "tom"],
  );
  pets.set({ name: "rex", owners: ["ann"] });
  assert.deepEqual(
    pets.by("owner", "bob").map((pet) => pet.name),
    ["tom"],
  );
  pets.delete("tom");
  assert.equal(pets.hasBy("owner", "bob"), false);
});

test("a reader takes each changed key once, with the row of now", () => {
  const pets = petTable();
  pets.set({ name: "old", owners: [] });
  const cursor = pets.cursor();
  pets.set({ name: "rex", owners: [] });
  pets.set({ name: "rex", owners: ["ann"] });
  pets.set({ name: "gone", owners: [] });
  pets.delete("gone");
  assert.equal(cursor.pending, 3);
  assert.deepEqual(takeAll(cursor), [
    ["old", { name: "old", owners: [] }],
    ["rex", { name: "rex", owners: ["ann"] }],
    ["gone", undefined],
  ]);
  assert.equal(cursor.pending, 0);
  assert.equal(cursor.oldestMs, undefined);
});

test("a key that changes again keeps its place in the queue", () => {
  const pets = petTable();
  const cursor = pets.cursor();
  for (const name of ["a", "b", "a", "c", "a"]) pets.set({ name, owners: [] });
  assert.equal(cursor.isPending("a"), true);
  assert.deepEqual(
    takeAll(cursor).map(([name]) => name),
    ["a", "b", "c"],
  );
  assert.equal(cursor.isPending("a"), false);
});

test("readers are woken once per turn, after the code that wrote has finished", async () => {
  const pets = petTable();
  const seen: number[] = [];
  const cursor = pets.cursor(() => seen.push(cursor.pending));
  pets.set({ name: "a", owners: [] });
  pets.set({ name: "b", owners: [] });
  assert.deepEqual(seen, []);
  await Promise.resolve();
  assert.deepEqual(seen, [2]);
});

test("several readers don't disturb each other, and a closed one is forgotten", () => {
  const pets = petTable();
  const first = pets.cursor();
  const second = pets.cursor();
  pets.set({ name: "a", owners: [] });
  assert.equal(takeAll(first).length, 1);
  assert.equal(second.pending, 1);
  second.close();
  pets.set({ name: "b", owners: [] });
  assert.equal(first.pending, 1);
  assert.equal(second.pending, 0);
});

test("the same object again is no change, and a key that isn't there can't be deleted", () => {
  const pets = petTable();
  const rex = { name: "rex", owners: [] };
  pets.set(rex);
  pets.set(rex);
  assert.equal(pets.delete("tom"), false);
  assert.equal(pets.revision, 1);
});

test("under test, rows are frozen all the way down", () => {
  const pets = petTable();
  const owners = ["ann"];
  pets.set({ name: "rex", owners });
  assert.throws(() => owners.push("bob"), TypeError);
});

test("whatever is written and whenever readers look, each ends with the table's rows", () => {
  const step = fc.record({
    kind: fc.constantFrom("set", "delete", "read"),
    name: fc.constantFrom("a", "b", "c", "d"),
    owner: fc.constantFrom("x", "y"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const pets = petTable();
      const cursor = pets.cursor();
      const copy = new Map<string, Pet>();
      const catchUp = () => {
        for (const [name, pet] of takeAll(cursor)) {
          if (pet === undefined) copy.delete(name);
          else copy.set(name, pet);
        }
      };
      for (const { kind, name, owner } of steps) {
        if (kind === "set") pets.set({ name, owners: [owner] });
        else if (kind === "delete") pets.delete(name);
        else catchUp();
      }
      catchUp();
      assert.deepEqual(new Set(copy.values()), new Set(pets.rows()));
      for (const owner of ["x", "y"]) {
        const found = pets.by("owner", owner).map((pet) => pet.name);
        const expected = [...pets.rows()].filter((pet) => pet.owners[0] === owner);
        assert.deepEqual(new Set(found), new Set(expected.map((pet) => pet.name)));
      }
    }),
  );
});
