// SPDX-License-Identifier: Apache-2.0

import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { spawnInNamespace } from "../src/kernel/netns.ts";

/**
 * Puts a process, and what it starts in its session, ahead of what else runs on the machine. A nice
 * value alone only counts within a session where sched_autogroup_enabled is set (sched(7)).
 */
export function goAhead(pid: number = process.pid): void {
  setPriority(pid, constants.priority.PRIORITY_HIGHEST);
  try {
    writeFileSync(`/proc/${pid}/autogroup`, `${constants.priority.PRIORITY_HIGHEST}`);
  } catch {
    // A kernel without autogroups weighs all processes by their nice values.
  }
}

/** CPU seconds that the machine has spent on anything but idling, by /proc/stat's 10 ms. */
export function busySeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    readFileSync("/proc/stat", "utf8").split("\n")[0] ?? ""
  )
    .split(/ +/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq) / 100;
}

/** Starts a command in a namespace and waits for its first output; what it gives ends it. */
export async function startIn(path: string, argv: readonly string[]): Promise<() => Promise<void>> {
  const [command = "", ...rest] = argv;
  const child = spawnInNamespace(path, command, rest, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  if (child.stdout === null) throw new Error(`${command} has no output`);
  await Promise.race([once(child.stdout, "data"), closed]);
  if (child.exitCode !== null) throw new Error(`${argv.join(" ")} ended with ${child.exitCode}`);
  return async () => {
    child.kill();
    await closed;
  };
}

/** Runs a command in a namespace to its end and gives its output; throws when it fails. */
export async function runIn(
  path: string,
  argv: readonly string[],
  input?: string,
): Promise<string> {
  const [command = "", ...rest] = argv;
  const child = spawnInNamespace(path, command, rest, { stdio: ["pipe", "pipe", "pipe"] });
  const chunks: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => errors.push(chunk));
  child.stdin?.on("error", () => undefined).end(input);
  const [code] = await once(child, "close");
  const output = Buffer.concat(chunks).toString();
  if (code === 0) return output;
  const said = Buffer.concat(errors).toString().slice(0, 500);
  throw new Error(`${argv.join(" ")} ended with ${code}: ${output}${said}`);
}
