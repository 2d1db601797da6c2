// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { MUTANTS } from "./list.ts";

const BPF = join(import.meta.dirname, "../../bpf");

test("every fault stands for one place of the packet path, and has a name of its own", () => {
  const lost = MUTANTS.flatMap(({ name, file, from, to }) => {
    const places = readFileSync(join(BPF, file), "utf8").split(from).length - 1;
    return places === 1 && from !== to ? [] : [`${name}: ${places} places in ${file}`];
  });
  assert.deepEqual(lost, []);
  assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
});
