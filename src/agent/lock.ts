// SPDX-License-Identifier: Apache-2.0
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ensurePinDirectory } from "../kernel/bpffs.ts";
import { check, errorCode } from "../kernel/error.ts";
import { lockFile } from "../kernel/ffi.ts";
import type { Log } from "../telemetry/log.ts";

/** For how long an agent waits for the last thread of one that was killed. */
const WAIT_MS = 10_000;
const POLL_MS = 20;
/** SIGKILL in a set of signals, as proc(5) writes them. */
const SIGKILL = 1n << 8n;

export interface LockOptions {
  readonly log: Log;
  /** In ms, for a holder that is ending: one that lives is not waited for. */
  readonly waitMs?: number;
}

/**
 * Makes sure that one agent runs per runtime directory, whatever namespaces it is in. The kernel
 * lets go of the lock when the process ends, however it ends. The file holds the owner's pid.
 */
export async function lockRuntime(directory: string, options: LockOptions): Promise<Disposable> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, "agent.lock");
  const fd = openSync(path, "a+", 0o600);
  const lock = await take(fd, path, options, (pid = readFileSync(path, "utf8").trim()) => {
    return `${anotherAgent(pid)} runs with ${directory}: stop it first, or set paths.runtime`;
  });
  ftruncateSync(fd);
  writeSync(fd, `${process.pid}\n`);
  return lock;
}

/**
 * Makes sure that no two agents write the tables pinned in one directory, as they would with
 * different runtime directories: each would take the other's rows for what nobody wants.
 */
export async function lockPins(directory: string, options: LockOptions): Promise<Disposable> {
  ensurePinDirectory(directory);
  return await take(openSync(directory, "r"), directory, options, (pid = "") => {
    const who = anotherAgent(pid);
    return `${who} uses the tables in ${directory}: stop it first, or set paths.bpffs`;
  });
}

const anotherAgent = (pid: string): string =>
  pid === "" ? "another agent" : `another agent (pid ${pid})`;

/**
 * Takes the lock of `fd`, which is closed with it or when it can't be had. A process that was
 * killed holds its locks until its last thread has ended: for seconds, where the machine is busy.
 */
async function take(
  fd: number,
  path: string,
  { log, waitMs = WAIT_MS }: LockOptions,
  refusal: (pid: string | undefined) => string,
): Promise<Disposable> {
  const endMs = performance.now() + waitMs;
  let [unseen, waited] = [false, false];
  try {
    for (;;) {
      const result = lockFile(fd);
      if (errorCode(-result) !== "EAGAIN") {
        check(result, "lock", path);
        return { [Symbol.dispose]: () => closeSync(fd) };
      }
      const pid = holderOf(fd);
      // Nobody is seen to have what was let go in the meantime: it is tried once more.
      if (pid === undefined ? unseen : !isEnding(pid)) throw new Error(refusal(pid));
      unseen = pid === undefined;
      if (unseen) continue;
      if (performance.now() > endMs) throw new Error(tooLong(pid, path, waitMs));
      if (!waited) log.info("waiting for an agent that is ending", { pid: Number(pid), path });
      waited = true;
      await delay(POLL_MS);
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function tooLong(pid: string | undefined, path: string, waitMs: number): string {
  const held = `still holds ${path} after ${waitMs / 1000} s`;
  return `an agent that is ending (pid ${pid}) ${held}: start this one once that one is gone`;
}

/** The pid of whoever has a lock on this file; undefined in another PID namespace. */
function holderOf(fd: number): string | undefined {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  // proc(5), and makedev(3) undone.
  const major = ((dev >> 32n) & ~0xfffn) | ((dev >> 8n) & 0xfffn);
  const minor = ((dev >> 12n) & ~0xffn) | (dev & 0xffn);
  const hex = (part: bigint): string => part.toString(16).padStart(2, "0");
  const file = `${hex(major)}:${hex(minor)}:${ino}`;
  for (const line of readFileSync("/proc/locks", "utf8").split("\n")) {
    const [, kind, , , pid, where] = line.split(/\s+/);
    if (kind === "FLOCK" && where === file) return pid;
  }
  return undefined;
}

/** Whether a process has been killed or its main thread has ended, while others go on. */
function isEnding(pid: string): boolean {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return true;
  }
  if (/^State:\s+[ZX]/m.test(status)) return true;
  const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s+([0-9a-f]+)$/gm)];
  return pending.some(([, signals]) => (BigInt(`0x${signals}`) & SIGKILL) !== 0n);
}
