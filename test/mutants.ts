// SPDX-License-Identifier: Apache-2.0

// Usage: mutants.ts [NAME]...   Plants faults into a copy of bpf/, one by one, and expects the
// packet tests or the comparison with the model to fail. Ends with 1 when a fault is not caught,
// or can't be planted because the source is another by now.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { removeDead } from "../tools/leaks.ts";
import { MUTANTS, type Mutant } from "./mutants/list.ts";

const ROOT = resolve(import.meta.dirname, "..");
const NODE = "toolchain/node";
const COPIED = [
  "bin",
  "bpf",
  "src",
  "test",
  "tools",
  "build/bpf",
  "Makefile",
  "package.json",
] as const;
const LINKED = ["node_modules", "toolchain", ".stamps"] as const;
/** Packets that a fault has to be met by. */
const PACKETS = 400_000;
/** Most faults are met by the first few packets, which cost less than the packet tests. */
const FIRST_PACKETS = 20_000;
/** By which the tests are tried without a fault. */
const SOUND_PACKETS = 10_000;
const SECONDS = 120;
const STEP_LIMIT_MS = 400_000;

/** What became of a fault. */
type Fate =
  | { readonly kind: "caught"; readonly by: string; readonly how: string }
  | { readonly kind: "survived" }
  | { readonly kind: "not planted"; readonly why: string };

interface Done {
  readonly mutant: Mutant;
  readonly fate: Fate;
  readonly seconds: number;
}

interface Ended {
  readonly code: number;
  readonly output: string;
}

/** A step that ended in no way that says anything about a fault. */
class StepError extends Error {
  override readonly name = "StepError";
}

const running = new Set<ChildProcess>();

async function run(directory: string, command: string, ...args: string[]): Promise<Ended> {
  const child = spawn(command, args, { cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const limit = setTimeout(() => child.kill("SIGKILL"), STEP_LIMIT_MS);
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  }
  const [code, signal]: (number | string | null)[] = await once(child, "close");
  clearTimeout(limit);
  running.delete(child);
  if (typeof code !== "number") throw new StepError(`${command} ended by ${signal}`);
  return { code, output: Buffer.concat(chunks).toString() };
}

/** A copy of what is needed to compile and to test, in a directory of its own. */
function makeWorkspace(): string {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-mutants-"));
  mkdirSync(join(directory, "build"));
  for (const path of COPIED) {
    cpSync(join(ROOT, path), join(directory, path), { recursive: true, preserveTimestamps: true });
  }
  for (const path of LINKED) symlinkSync(join(ROOT, path), join(directory, path));
  return directory;
}

async function judge(directory: string, { file, from, to }: Mutant): Promise<Fate> {
  const path = join(directory, "bpf", file);
  const before = readFileSync(path, "utf8");
  const places = before.split(from).length - 1;
  if (places !== 1) return { kind: "not planted", why: `${file} has its place ${places} times` };
  writeFileSync(
    path,
    before.replace(from, () => to),
  );
  try {
    const compiled = await run(directory, "make", "bpf");
    if (compiled.code !== 0) return { kind: "not planted", why: lastLines(compiled.output) };
    return await test(directory);
  } finally {
    writeFileSync(path, before);
  }
}

async function test(directory: string, packets = PACKETS): Promise<Fate> {
  const first = await compare(directory, Math.min(packets, FIRST_PACKETS));
  if (first !== undefined) return first;
  const rows = await run(directory, NODE, "--test", "test/packets/*.root.test.ts");
  if (rows.code !== 0) {
    return { kind: "caught", by: "packet tests", how: failedRows(rows.output) };
  }
  return (await compare(directory, packets)) ?? { kind: "survived" };
}

/** Lets the model and the kernel meet so many packets; undefined: there was no difference. */
async function compare(directory: string, packets: number): Promise<Fate | undefined> {
  const budget = ["--packets", String(packets), "--seconds", String(SECONDS)];
  const model = await run(directory, NODE, "test/differential/main.ts", "--brief", ...budget);
  if (model.code === 0) return undefined;
  const refused = refusal(model.output);
  if (refused !== undefined) return { kind: "not planted", why: refused };
  return { kind: "caught", by: "the model", how: difference(model.output) };
}

/** Why the kernel didn't load the programs at all, which is no test of ours. */
function refusal(output: string): string | undefined {
  return /cannot load program .*/.exec(output)?.[0].slice(0, 200);
}

/** Which tests of packets failed; one that could not begin is none. */
function failedRows(output: string): string {
  const failed = [...output.matchAll(/✖ (.*) \(\d/g)].map(([, title = ""]) => title);
  const titles = [...new Set(failed)].filter((title) => !/^a node (as|with) /.test(title));
  const [first] = titles;
  if (first === undefined || /hook failed|change of services didn't happen/.test(output)) {
    throw new StepError(`packet tests could not run: ${lastLines(output)}`);
  }
  return `${titles.length} tests, first: ${first}`;
}

function difference(output: string): string {
  const lines = output.split("\n");
  const at = lines.findIndex((line) => line.startsWith("model and kernel part"));
  if (at < 0) throw new StepError(`the comparison failed: ${lastLines(output)}`);
  const [where = "", what = ""] = lines.slice(at + 1);
  return / frame /.test(where) ? what : where;
}

function lastLines(output: string): string {
  return output.trim().split("\n").slice(-3).join(" / ").slice(0, 300);
}

async function work(queue: Mutant[], done: Done[]): Promise<void> {
  const directory = makeWorkspace();
  try {
    const sound = await test(directory, SOUND_PACKETS);
    if (sound.kind !== "survived")
      throw new Error(`tests fail without a fault: ${JSON.stringify(sound)}`);
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const start = performance.now();
      const fate = await judge(directory, mutant).catch(stepFate);
      const one = { mutant, fate, seconds: (performance.now() - start) / 1000 };
      done.push(one);
      process.stdout.write(`${describe(one)}\n`);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function stepFate(error: unknown): Fate {
  if (error instanceof StepError) return { kind: "not planted", why: error.message };
  throw error;
}

function describe({ mutant, fate, seconds }: Done): string {
  const took = `${seconds.toFixed(0).padStart(4)} s`;
  const name = mutant.name.padEnd(44);
  if (fate.kind === "survived") return `${took}  ${name}  SURVIVED`;
  if (fate.kind === "not planted") return `${took}  ${name}  NOT PLANTED: ${fate.why}`;
  return `${took}  ${name}  ${fate.by}: ${fate.how}`.slice(0, 180);
}

const asked = process.argv.slice(2);
const queue = MUTANTS.filter(({ name }) => asked.length === 0 || asked.includes(name));
if (queue.length === 0) throw new Error(`no mutant is called ${asked.join(" or ")}`);
const total = queue.length;
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    queue.length = 0;
    for (const child of running) child.kill();
  });
}
removeDead();
const done: Done[] = [];
const workers = Math.min(availableParallelism(), total);
await Promise.all(Array.from({ length: workers }, () => work(queue, done)));
const caught = done.filter(({ fate }) => fate.kind === "caught");
process.stdout.write(`${caught.length} of ${total} faults were caught\n`);
if (caught.length < total) process.exitCode = 1;
