// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createLogger, describeError, type Logger, type LogSettings } from "./log.ts";

const NOON = Date.UTC(2026, 0, 2, 12, 0, 0, 5);

function setUp(t: TestContext, settings: Partial<LogSettings> = {}) {
  t.mock.timers.enable({ apis: ["Date", "setTimeout"], now: NOON });
  const lines: string[] = [];
  const logger: Logger = createLogger({
    settings: { level: "info", levels: {}, format: "json", ...settings },
    write: (line) => lines.push(line),
  });
  return { logger, lines };
}

test("a line is one JSON object with time, level, subsystem, message and fields", (t) => {
  const { logger, lines } = setUp(t);
  logger
    .for("lb")
    .warn("a service\nhas no backends", { service: "a/b", count: 3, bytes: 2n ** 60n });
  assert.deepEqual(lines, [
    '{"time":"2026-01-02T12:00:00.005Z","level":"warn","subsystem":"lb",' +
      '"message":"a service\\nhas no backends","service":"a/b","count":3,' +
      '"bytes":"1152921504606846976"}\n',
  ]);
});

test("a line for people has its fields as name=value", (t) => {
  const { logger, lines } = setUp(t, { format: "text" });
  logger.for("agent").info("started", { node: "lb-1", file: "a b", list: [1, 2] });
  assert.deepEqual(lines, ['12:00:00.005 INFO  agent: started node=lb-1 file="a b" list=[1,2]\n']);
});

test("levels hold by subsystem and change at run time", (t) => {
  const { logger, lines } = setUp(t, { levels: { lb: "debug", api: "error" } });
  logger.for("lb").debug("1");
  logger.for("api").warn("no");
  logger.for("agent").debug("no");
  logger.configure({ level: "debug", levels: { lb: "warn" }, format: "text" });
  logger.for("lb").info("no");
  logger.for("agent").debug("2");
  assert.deepEqual(
    lines.map((line) => /[12](?="|\n|$)/.exec(line)?.[0]),
    ["1", "2"],
  );
});

test("repeats are held back after ten, and told with their count", (t) => {
  const { logger, lines } = setUp(t);
  for (let index = 0; index < 15; index += 1) logger.for("lb").warn("again", { index });
  logger.for("lb").warn("another");
  assert.equal(lines.length, 11);
  t.mock.timers.tick(10_000);
  assert.equal(lines.length, 12);
  const last = JSON.parse(lines.at(-1) ?? "");
  assert.deepEqual([last.message, last.index, last.repeated], ["again", 14, 5]);
  logger.for("lb").warn("again");
  assert.equal(lines.length, 13);
});

test("repeats are held back for no longer when the clock is set back", (t) => {
  const { logger, lines } = setUp(t);
  for (let index = 0; index < 10; index += 1) logger.for("lb").warn("again");
  t.mock.timers.setTime(NOON - 3_600_000);
  logger.for("lb").warn("again");
  assert.equal(lines.length, 10);
  t.mock.timers.tick(10_000);
  assert.equal(lines.length, 11);
});

test("flush() tells of what is still held back", (t) => {
  const { logger, lines } = setUp(t);
  for (let index = 0; index < 12; index += 1) logger.for("lb").warn("again");
  logger.flush();
  assert.equal(JSON.parse(lines.at(-1) ?? "").repeated, 2);
  t.mock.timers.tick(10_000);
  assert.equal(lines.length, 11);
});

test("secrets, oversized values and names of the line's own never damage a line", (t) => {
  const { logger, lines } = setUp(t);
  logger.for("api").info("call", {
    authToken: "abc",
    nested: { password: "abc", user: "u" },
    text: "x".repeat(10_000),
    time: "mine",
    nothing: undefined,
  });
  const line = JSON.parse(lines[0] ?? "");
  assert.equal(lines[0]?.includes("abc"), false);
  assert.deepEqual(line.nested, { password: "(hidden)", user: "u" });
  assert.match(line.text, /^x{8192}… \(10000 characters\)$/);
  assert.equal(line.time_, "mine");
  assert.equal("nothing" in line, false);
});

test("an error is told with its causes, each once", (t) => {
  const { logger, lines } = setUp(t);
  const cause = new Error("ENOENT");
  logger.for("lb").error("reading failed", { error: new Error("cannot read a.yaml", { cause }) });
  assert.equal(JSON.parse(lines[0] ?? "").error, "cannot read a.yaml: ENOENT");
  assert.equal(describeError(new Error("cannot read: ENOENT", { cause })), "cannot read: ENOENT");
  assert.equal(describeError("text"), "text");
});
