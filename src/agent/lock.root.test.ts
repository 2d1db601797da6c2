// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Log } from "../telemetry/log.ts";
import { until } from "./fixture.ts";
import { lockPins, lockRuntime } from "./lock.ts";

/**
 * Locks each file. "end" ends its main thread alone, so that it is a zombie with a thread; "fill"
 * gives it memory that takes the kernel many ms to free before it closes files.
 */
const HOLDER = `
import ctypes, fcntl, os, platform, sys, threading
for path in sys.argv[1:]:
    flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDONLY | os.O_CREAT
    fcntl.flock(os.open(path, flags), fcntl.LOCK_EX)
print("held", flush=True)
def rest():
    sys.stdin.readline()
    os._exit(0)
word = sys.stdin.readline()
if word == "fill\\n":
    memory = b"x" * (256 << 20)
    print("full", flush=True)
    rest()
if word == "end\\n":
    threading.Thread(target=rest).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
`;

class Holder {
  readonly child: ChildProcessWithoutNullStreams;

  constructor(t: TestContext, ...paths: readonly string[]) {
    this.child = spawn("python3", ["-c", HOLDER, ...paths]);
    const ended = once(this.child, "close");
    t.after(() => {
      this.child.kill("SIGKILL");
      return ended;
    });
  }

  /** It has said that it holds its files, or is full. */
  async ready(): Promise<this> {
    await once(this.child.stdout, "data");
    return this;
  }

  say(word: string): this {
    this.child.stdin.write(`${word}\n`);
    return this;
  }
}

/** A directory, pins of our own, and what the log was told. */
function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-lock-"));
  const pins = `/sys/fs/bpf/ciliate-lock-${process.pid}`;
  t.after(() => {
    for (const path of [directory, pins]) rmSync(path, { recursive: true, force: true });
  });
  const said: unknown[] = [];
  const silent = (): void => undefined;
  const info = (...line: unknown[]): unknown => said.push(line);
  const log: Log = { debug: silent, info, warn: silent, error: silent };
  return { directory, pins, path: join(directory, "agent.lock"), said, log };
}

test("a lock whose holder lives is refused at once, with its pid", async (t) => {
  const { directory, pins, path, said, log } = place(t);
  const locks = [await lockRuntime(directory, { log }), await lockPins(pins, { log })];
  for (const lock of locks) lock[Symbol.dispose]();
  const { child } = await new Holder(t, path, pins).ready();
  const runs = `another agent (pid ${child.pid}) runs with ${directory}: `;
  await assert.rejects(lockRuntime(directory, { log }), {
    message: `${runs}stop it first, or set paths.runtime`,
  });
  const uses = `another agent (pid ${child.pid}) uses the tables in ${pins}: `;
  await assert.rejects(lockPins(pins, { log }), {
    message: `${uses}stop it first, or set paths.bpffs`,
  });
  assert.deepEqual(said, []);
});

test("the locks of a process whose main thread has ended are waited for", async (t) => {
  const { directory, pins, path, said, log } = place(t);
  (await lockPins(pins, { log }))[Symbol.dispose]();
  const holder = await new Holder(t, path, pins).ready();
  holder.say("end");
  const { pid } = holder.child;
  const taking = retried(() => lockRuntime(directory, { log }));
  await until(
    () => "it isn't waited for",
    () => said.length > 0,
  );
  assert.deepEqual(said, [["waiting for an agent that is ending", { pid, path }]]);
  await assert.rejects(lockPins(pins, { log, waitMs: 50 }), {
    message:
      `an agent that is ending (pid ${pid}) still holds ${pins} after 0.05 s: ` +
      "start this one once that one is gone",
  });
  holder.say("all");
  using _runtime = await taking;
  using _pins = await lockPins(pins, { log });
  await assert.rejects(lockRuntime(directory, { log }), /^Error: another agent \(pid \d+\) runs/);
});

test("the lock of a process that was killed just now is waited for", async (t) => {
  const { directory, path, log } = place(t);
  const holder = await new Holder(t, path).ready();
  await holder.say("fill").ready();
  holder.child.kill("SIGKILL");
  using _runtime = await lockRuntime(directory, { log });
});

/** The holder has been told to end its main thread, and lives until it has. */
async function retried(lock: () => Promise<Disposable>): Promise<Disposable> {
  for (const end = performance.now() + 10_000; ; ) {
    try {
      return await lock();
    } catch (error) {
      if (performance.now() > end) throw error;
    }
  }
}
