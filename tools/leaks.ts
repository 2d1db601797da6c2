// SPDX-License-Identifier: Apache-2.0

// What a test run can leave on a machine. Names of ours start with `cil`; a name that carries the
// id of a live process belongs to something that still runs, ours or a neighbour's.

import { type Dirent, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deleteNamespace } from "../src/kernel/netns.ts";

/** Marks the processes of one test run, in their environment. */
export const RUN_VARIABLE = "CILIATE_TEST_RUN";

const OURS = /^cil/;
/** What only tests and benches name so, with their process: labs have a dash, then a letter. */
const OF_PROCESS = /^(?:ciliate-[a-z0-9]+-|cil[a-z]+)(\d{3,})(?:x\d+)?(?=$|-)/;
const OF_A_RUN = /^ciliate-test-/;

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

/** Removes what tests of processes that are dead have left, and answers with its names. */
export function removeDead(): string[] {
  const isDead = ({ name }: Dirent): boolean => {
    const [, id] = OF_PROCESS.exec(name) ?? [];
    return id !== undefined && !existsSync(`/proc/${id}/exe`);
  };
  const namespaces = list("/run/netns").filter(isDead);
  for (const { name } of namespaces) deleteNamespace(name);
  const below = (parent: string, which: RegExp): string[] =>
    list(parent)
      .filter((entry) => entry.isDirectory() && which.test(entry.name) && isDead(entry))
      .map(({ name }) => join(parent, name));
  const directories = [...below("/sys/fs/bpf", OURS), ...below(tmpdir(), OF_A_RUN)];
  for (const path of directories) rmSync(path, { recursive: true, force: true });
  return [...namespaces.map(({ name }) => `namespace ${name}`), ...directories];
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
