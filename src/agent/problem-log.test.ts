// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ManifestProblem } from "../lb/yaml/file.ts";
import type { LogFields } from "../telemetry/log.ts";
import { createProblemLog } from "./problem-log.ts";

function setUp() {
  const lines: string[] = [];
  const note =
    (level: string) =>
    (message: string, fields: LogFields = {}): void => {
      lines.push(`${level} ${message}: ${Object.values(fields).join(" ")}`);
    };
  const log = {
    debug: note("debug"),
    info: note("info"),
    warn: note("warn"),
    error: note("error"),
  };
  return { tell: createProblemLog(log), take: () => lines.splice(0) };
}

function problem(file: string, line: number, text = "expected a port"): ManifestProblem {
  const object = "Service default/web";
  return { severity: "error", file, line, object, field: "spec", text, kept: false };
}

test("a fault is told once when it comes and once when it goes", () => {
  const { tell, take } = setUp();
  tell([problem("a", 1)]);
  assert.deepEqual(take(), [
    "warn a manifest has a fault: a 1 Service default/web spec expected a port false",
  ]);
  tell([problem("a", 1)]);
  assert.deepEqual(take(), []);
  tell([problem("a", 1, "expected a name"), problem("b", 2)]);
  assert.deepEqual(take(), [
    "warn a manifest has a fault: a 1 Service default/web spec expected a name false",
    "warn a manifest has a fault: b 2 Service default/web spec expected a port false",
    "info a manifest's fault is gone: a 1 Service default/web spec expected a port false",
  ]);
  tell([problem("b", 2), problem("a", 1, "expected a name")]);
  assert.deepEqual(take(), []);
});

test("of very many faults most are only counted, and once", () => {
  const { tell, take } = setUp();
  const many = Array.from({ length: 300 }, (_, index) => problem("a", index));
  tell(many);
  const lines = take();
  assert.equal(lines.length, 201);
  assert.match(lines.at(-1) ?? "", /more faults than are logged: see ciliate status: 100$/);
  tell(many);
  assert.deepEqual(take(), []);
});
