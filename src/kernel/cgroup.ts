// SPDX-License-Identifier: Apache-2.0

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

let root: string | undefined;

/**
 * Where cgroup2 is mounted: /sys/fs/cgroup, or a directory in it on a hybrid hierarchy; undefined
 * when it is nowhere.
 */
export function findCgroupRoot(): string | undefined {
  if (root !== undefined) return root;
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    // proc(5): the file system's type is the first field after the " - ".
    const [mount, type] = line.split(" - ");
    const target = mount?.split(" ")[4];
    if (target !== undefined && type?.startsWith("cgroup2 ")) {
      root = target;
      return target;
    }
  }
  return undefined;
}

/** The same; throws when it is nowhere. */
export function cgroupRoot(): string {
  const found = findCgroupRoot();
  if (found !== undefined) return found;
  throw new Error("no cgroup2 file system is mounted: mount one with `mount -t cgroup2 none DIR`");
}

/** The directory of the cgroup with this path below the root, like `ciliate/node1`. */
export function cgroupPath(name: string): string {
  return join(cgroupRoot(), name);
}

/** Makes a cgroup with its parents, and returns its directory; one that is there is kept. */
export function createCgroup(name: string): string {
  const path = cgroupPath(name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** Moves a process into the cgroup at `path`. */
export function addToCgroup(path: string, pid: number): void {
  writeFileSync(join(path, "cgroup.procs"), String(pid));
}

/** The processes in the cgroup at `path` itself, as this process's PID namespace numbers them. */
export function cgroupPids(path: string): number[] {
  const text = readFileSync(join(path, "cgroup.procs"), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map(Number);
}

/** The id by which eBPF's bpf_get_current_cgroup_id knows the cgroup at `path`. */
export function cgroupId(path: string): bigint {
  return statSync(path, { bigint: true }).ino;
}

/**
 * Removes the cgroup at `path` with those below it. Throws EBUSY while a process is in one of them;
 * one that isn't there is no error.
 */
export function removeCgroup(path: string): void {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(join(path, entry.name));
  }
  rmdirSync(path);
}
