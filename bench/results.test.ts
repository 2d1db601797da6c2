// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type Figures, formatFigures, mergeFigures, type Run, readFigures } from "./results.ts";

const GROUPS = ["xdp", "tc"];

function runOf(group: string, commit: string): Run {
  return { group, commit, date: "2026-01-02", kernel: "6.1.0", cores: 2 };
}

function result(value: number) {
  return { value, unit: "ns", min: value, max: value, vs: "" };
}

const before: Figures = {
  "xdp.a": { ...result(1), run: runOf("xdp", "old") },
  "xdp.gone": { ...result(2), run: runOf("xdp", "old") },
  "tc.a": { ...result(3), run: runOf("tc", "old") },
  "attic.a": { ...result(4), run: runOf("attic", "old") },
};

test("a group's figures take the place of all that it had, and say of which run they are", () => {
  const own = new Map([["xdp.a", result(5)]]);
  const after = mergeFigures(before, own, runOf("xdp", "new"), GROUPS);
  assert.deepEqual(after["xdp.a"], { ...result(5), run: runOf("xdp", "new") });
  assert.equal(after["xdp.gone"], undefined, "its group wrote it no more");
});

test("figures of other groups stay with their own run, unless there is no such group", () => {
  const after = mergeFigures(before, new Map(), runOf("xdp", "new"), GROUPS);
  assert.deepEqual(Object.keys(after), ["tc.a"]);
  assert.deepEqual(after["tc.a"], before["tc.a"]);
});

test("every recorded figure says of which run it is, in the form in which the bench writes", () => {
  const figures = readFigures();
  for (const [name, { run }] of Object.entries(figures)) {
    assert.match(`${run.commit} ${run.date}`, /^[0-9a-f]{7,}\+? \d{4}-\d\d-\d\d$/, name);
    assert.ok(run.group !== "" && run.kernel !== "" && run.cores > 0, name);
  }
  const text = readFileSync(new URL("results.json", import.meta.url), "utf8");
  assert.equal(text, formatFigures(figures));
});

test("the page of figures names recorded figures, and the groups that measure them", () => {
  const page = readFileSync(new URL("../docs/figures.md", import.meta.url), "utf8");
  const figures = readFigures();
  const rows = [...page.matchAll(/^\|.*\| (`.*`) \| `(\w+)` \|$/gm)];
  assert.ok(rows.length > 20);
  for (const [row, names = "", group] of rows) {
    for (const [, name = ""] of names.matchAll(/`([^`]+)`/g)) {
      assert.equal(figures[name]?.run.group, group, `${name} in ${row}`);
    }
  }
});
