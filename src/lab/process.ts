// SPDX-License-Identifier: Apache-2.0
// Processes in a lab's places: in the place's network namespace, with the host's file system, and
// in its cgroup from their first instruction, so that none can escape the lab's end.

import type { ChildProcess, SpawnOptions } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { createCgroup } from "../kernel/cgroup.ts";
import { namespacePath, spawnInNamespace } from "../kernel/netns.ts";
import { LabError, type Place } from "./plan.ts";

const DEFAULT_TIMEOUT_MS = 60_000;
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024;
const POLL_MS = 5;
const STOP_LIMIT_MS = 5000;
/** On a busy machine the kernel takes long to take a process down. */
const END_LIMIT_MS = 30_000;

/** Who a process is beyond its pid, which comes back one day. */
export interface ProcessId {
  readonly pid: number;
  /** In clock ticks since boot. */
  readonly startTime: number;
}

/**
 * When the process with this pid started; undefined when there is none, or only its zombie. One
 * that was killed is a zombie before its last thread has ended, and holds what it held until then.
 */
export function startTimeOf(pid: number): number | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // proc(5): the command, in parentheses, may hold anything; state is field 3, threads are 20,
  // start time 22.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" && Number(fields[17]) <= 1 ? undefined : Number(fields[19]);
}

/** Whether that very process still runs. */
export function isAlive({ pid, startTime }: ProcessId): boolean {
  return startTimeOf(pid) === startTime;
}

/** The process that has this pid now. */
export function identify(pid: number): ProcessId {
  return { pid, startTime: startTimeOf(pid) ?? 0 };
}

/** Waits until the condition holds; throws LabError naming it when that takes too long. */
export async function until(
  what: string,
  timeoutMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new LabError(`${what}: not within ${timeoutMs} ms`);
    await delay(POLL_MS);
  }
}

/** Ends a process: by the signal, and after 5 s by SIGKILL. */
export async function endProcess(id: ProcessId, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  const send = (which: NodeJS.Signals): void => {
    if (isAlive(id)) process.kill(id.pid, which);
  };
  send(signal);
  const killAt = performance.now() + STOP_LIMIT_MS;
  await until(`process ${id.pid} to end`, END_LIMIT_MS, () => {
    if (performance.now() > killAt) send("SIGKILL");
    return !isAlive(id);
  });
}

/**
 * Gives a new session the weight of ours. Every session has its own share of the processor
 * (sched(7): autogroup), and beside one of nice value -20 an agent would get one part in ninety.
 */
function inheritShare(pid: number): void {
  try {
    const [, nice = "0"] = /nice (-?\d+)/.exec(readFileSync("/proc/self/autogroup", "utf8")) ?? [];
    if (nice !== "0") writeFileSync(`/proc/${pid}/autogroup`, nice);
  } catch {
    // The kernel has no such shares, or the process has ended: it goes on, or not, without.
  }
}

/** Starts a command in a place that outlives this process, its output added to a file. */
export function startIn(
  place: Place,
  argv: readonly string[],
  options: { readonly logFile: string; readonly env?: NodeJS.ProcessEnv },
): ProcessId {
  const log = openSync(options.logFile, "a");
  try {
    const child = spawnIn(place, argv, {
      stdio: ["ignore", log, log],
      detached: true,
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    child.unref();
    if (child.pid === undefined) {
      throw new LabError(`cannot start ${argv.join(" ")} in ${place.name}: sh is missing`);
    }
    return identify(child.pid);
  } finally {
    closeSync(log);
  }
}

/** The command with what puts it into the place's cgroup before it begins. */
function entering(place: Place, argv: readonly string[]): string[] {
  const script = 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"';
  return ["-c", script, place.name, createCgroup(place.cgroup), ...argv];
}

/** Starts a command in a place, as child_process.spawn would. */
export function spawnIn(
  place: Place,
  argv: readonly string[],
  options: SpawnOptions = {},
): ChildProcess {
  const path = namespacePath(place.namespace);
  const child = spawnInNamespace(path, "sh", entering(place, argv), options);
  if (options.detached && child.pid !== undefined) inheritShare(child.pid);
  return child;
}

export interface RunOptions {
  readonly input?: string;
  /** A minute unless said otherwise. */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

export interface RunResult {
  /** The exit code; 128 plus the signal's number when a signal ended it, as in a shell. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in a place to its end; throws LabError when it takes too long. */
export async function runIn(
  place: Place,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = spawnIn(place, argv, {
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  child.stdin?.on("error", () => {}).end(options.input);
  const [stdout, stderr] = [collect(child, "stdout"), collect(child, "stderr")];
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  clearTimeout(timer);
  if (late) {
    throw new LabError(`${argv.join(" ")} in ${place.name} took longer than ${timeoutMs} ms`);
  }
  return { code: code ?? 128 + signalNumber(signal), stdout: stdout(), stderr: stderr() };
}

function collect(child: ChildProcess, stream: "stdout" | "stderr"): () => string {
  const chunks: Buffer[] = [];
  let length = 0;
  child[stream]?.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (length <= OUTPUT_LIMIT_BYTES) chunks.push(chunk);
    else child.kill("SIGKILL");
  });
  return () => Buffer.concat(chunks).toString();
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === null ? 0 : (constants.signals[signal] ?? 0);
}
