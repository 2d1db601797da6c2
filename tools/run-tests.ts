// SPDX-License-Identifier: Apache-2.0

// Usage: tools/run-tests.ts [--name PATTERN] [FILE|GLOB]...   Runs node:test over the tests (all of
// them without arguments), then says what was skipped and why, which files took longest, and what
// was left on the machine. With --name, only tests whose name matches, with the tests inside them.
// Fails on a failed test, on a leak, when no name matches and, with CI=true, on a skipped test.

import { globSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { relative, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { parseArgs } from "node:util";
import { newRemains, processesOf, RUN_VARIABLE, remains, removeDead } from "./leaks.ts";

const ROOT = resolve(import.meta.dirname, "..");
const DEFAULT_GLOBS = ["src", "bpf", "test", "bench", "tools"].map((top) => `${top}/**/*.test.ts`);
/** What an emulated machine may take longer; beside other work it is slower than that. */
const PATIENCE = process.env.CILIATE_EMULATED ? 3 : 1;
const TEST_LIMIT_MS = PATIENCE * 180_000;
const RUN_LIMIT_MS = PATIENCE * 20 * 60_000;
const MAX_FILES_AT_ONCE = 4;
const SLOWEST_SHOWN = 5;

interface Skip {
  readonly where: string;
  readonly reason: string;
}

/** What node adds to the error of a test that is a file's process. */
interface ProcessEnd {
  readonly signal?: string | null;
  readonly exitCode?: number | null;
}

interface Outcome {
  passed: number;
  failed: number;
  readonly skips: Skip[];
  /** Processes of test files that ended by themselves, which node tells without saying how. */
  readonly ended: string[];
  readonly fileMs: Map<string, number>;
}

const isRoot = process.getuid?.() === 0;

function needsRoot(file: string): boolean {
  return file.endsWith(".root.test.ts");
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Most of a lab test is waiting; more at once only stretches every timeout. */
function filesAtOnce(): number {
  if (process.env.CILIATE_EMULATED) return 1; // as slow as it is, limits are met sooner
  return Math.min(Math.max(availableParallelism(), 2), MAX_FILES_AT_ONCE);
}

function runFiles(files: readonly string[], outcome: Outcome): Promise<void> {
  const events = run({
    files,
    concurrency: filesAtOnce(),
    timeout: TEST_LIMIT_MS,
    execArgv: [`--import=${resolve(import.meta.dirname, "open-handles.ts")}`],
    ...(name === undefined ? {} : { testNamePatterns: name }),
  });
  events.on("test:fail", ({ todo, name, details: { error } }) => {
    if (todo !== undefined) return;
    outcome.failed++;
    const { signal, exitCode }: Error & ProcessEnd = error;
    const how = signal ?? exitCode;
    if (how !== undefined && how !== null) outcome.ended.push(`${relative(ROOT, name)} (${how})`);
  });
  events.on("test:pass", ({ skip, file, name }) => {
    // A file without any test of that name passes as one by itself.
    if (name !== file) outcome.passed++;
    if (skip === undefined) return;
    const reason = typeof skip === "string" ? skip : "no reason given";
    outcome.skips.push({ where: `${relative(ROOT, file ?? "")}: ${name}`, reason });
  });
  events.on("test:summary", ({ file, duration_ms }) => {
    if (file !== undefined) outcome.fileMs.set(relative(ROOT, file), duration_ms);
  });
  return new Promise((done, failed) => {
    events.on("error", failed);
    events.compose(new spec()).on("end", done).on("error", failed).pipe(process.stdout);
  });
}

function reportSlowest(fileMs: ReadonlyMap<string, number>): void {
  const slowest = [...fileMs].sort(([, a], [, b]) => b - a).slice(0, SLOWEST_SHOWN);
  say(`slowest: ${slowest.map(([file, ms]) => `${file} ${(ms / 1000).toFixed(1)} s`).join(", ")}`);
}

function leftIn(directory: string): string[] {
  const left = readdirSync(directory).map((name) => `file ${directory}/${name}`);
  rmSync(directory, { recursive: true });
  return left;
}

process.chdir(ROOT);
const {
  values: { name },
  positionals: patterns,
} = parseArgs({ options: { name: { type: "string" } }, allowPositionals: true });
const files = globSync(patterns.length > 0 ? patterns : DEFAULT_GLOBS).sort();
if (files.length === 0) {
  say(`no test file matches ${patterns.join(" ")}`);
  process.exit(2);
}

const runId = `${process.pid}-${Date.now()}`;
const temporary = `/tmp/ciliate-test-${process.pid}`;
mkdirSync(temporary);
process.env[RUN_VARIABLE] = runId;
process.env.TMPDIR = temporary;
process.env.NODE_COMPILE_CACHE ??= resolve(ROOT, "build/compile-cache");
if (isRoot) for (const name of removeDead()) say(`removed what a killed run left: ${name}`);
const before = remains();
const outcome: Outcome = { passed: 0, failed: 0, skips: [], ended: [], fileMs: new Map() };

if (!isRoot) {
  const reason = "needs root: run make test as root";
  for (const file of files.filter(needsRoot)) outcome.skips.push({ where: file, reason });
}
const limit = setTimeout(() => {
  say(`failed: not over after ${RUN_LIMIT_MS / 60_000} minutes; ending:`);
  for (const { pid, text } of processesOf(runId)) {
    say(text);
    process.kill(pid, "SIGKILL");
  }
}, RUN_LIMIT_MS);
await runFiles(
  files.filter((file) => isRoot || !needsRoot(file)).map((file) => resolve(file)),
  outcome,
);

clearTimeout(limit);

const leaks = [
  ...newRemains(before, remains()),
  ...processesOf(runId).map(({ text }) => text),
  ...leftIn(temporary),
];
const skipsFail = process.env.CI === "true";
reportSlowest(outcome.fileMs);
for (const { where, reason } of outcome.skips) say(`skipped: ${where} (${reason})`);
for (const end of outcome.ended) say(`ended: ${end}`);
for (const leak of leaks) say(`leaked: ${leak}`);
if (outcome.failed > 0) say(`failed: ${outcome.failed} tests`);
if (outcome.skips.length > 0 && skipsFail) say("failed: nothing may be skipped with CI=true");
const unmet = name !== undefined && outcome.passed + outcome.failed === 0;
if (unmet) say(`failed: no test's name matches ${name}`);
const failed =
  outcome.failed > 0 || leaks.length > 0 || (outcome.skips.length > 0 && skipsFail) || unmet;
process.exitCode = failed ? 1 : 0;
