// SPDX-License-Identifier: Apache-2.0

// What a test run can leave on a machine. Names of ours start with `cil`; a name that carries the
// id of a live process belongs to something that still runs, ours or a neighbour's.

import { type Dirent, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Marks the processes of one test run, in their environment. */
export const RUN_VARIABLE = "CILIATE_TEST_RUN";

const OURS = /^cil/;

function list(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return []; // not mounted here, or gone since its parent was read
  }
}

function found(kind: string, directory: string): string[] {
  return list(directory)
    .filter(({ name }) => OURS.test(name))
    .map(({ name }) => `${kind} ${join(directory, name)}`);
}

function foundBelow(kind: string, directory: string, depth: number): string[] {
  if (depth === 0) return [];
  const below = list(directory)
    .filter((entry) => entry.isDirectory() && !OURS.test(entry.name))
    .flatMap(({ name }) => foundBelow(kind, join(directory, name), depth - 1));
  return [...found(kind, directory), ...below];
}

/** Names of everything of ours that outlives a process, found on this machine now. */
export function remains(): Set<string> {
  return new Set([
    ...found("namespace", "/run/netns"),
    ...found("device", "/sys/class/net"),
    ...foundBelow("pin", "/sys/fs/bpf", 3),
    ...foundBelow("cgroup", "/sys/fs/cgroup", 4),
    ...found("directory", "/run"),
  ]);
}

/** Shorter numbers count nodes and pods; a kernel thread, which has no program, owns nothing. */
function hasLiveOwner(name: string): boolean {
  const numbers = name.match(/\d{3,}/g) ?? [];
  return numbers.some((number) => existsSync(`/proc/${number}/exe`));
}

/** What `after` holds that `before` did not and no live process owns, sorted. */
export function newRemains(
  before: ReadonlySet<string>,
  after: ReadonlySet<string>,
  owned: (name: string) => boolean = hasLiveOwner,
): string[] {
  return [...after].filter((name) => !before.has(name) && !owned(name)).sort();
}

/** A live process, and `process 12: its command`. */
export interface Process {
  readonly pid: number;
  readonly text: string;
}

/** Processes that a run with this id started and that still live. */
export function processesOf(run: string): Process[] {
  const mark = `${RUN_VARIABLE}=${run}`;
  return list("/proc")
    .filter(({ name }) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap(({ name }) => {
      try {
        const environment = readFileSync(`/proc/${name}/environ`, "latin1").split("\0");
        if (!environment.includes(mark)) return [];
        const command = readFileSync(`/proc/${name}/cmdline`, "latin1").replaceAll("\0", " ");
        return [{ pid: Number(name), text: `process ${name}: ${command.trim()}` }];
      } catch {
        return []; // it ended meanwhile, or is not ours to read
      }
    });
}
