// SPDX-License-Identifier: Apache-2.0

import { existsSync, mkdirSync, readdirSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { check } from "./error.ts";
import * as sys from "./ffi.ts";

const BPF_FS_MAGIC = 0xcafe4a11;

/** Whether `path` is on a bpffs. */
export function isBpffs(path: string): boolean {
  return sys.fileSystemType(path) === BPF_FS_MAGIC;
}

/** Makes the directory `path` if need be and mounts a bpffs on it unless it is on one. */
export function ensureBpffs(path: string): void {
  makeDirectories(path);
  if (isBpffs(path)) return;
  check(sys.mount("bpf", path, "bpf", 0, "mode=0700"), "mount a bpffs at", path);
}

/** Makes a directory for pins, parents included, and refuses one that is not on a bpffs. */
export function ensurePinDirectory(path: string): void {
  makeDirectories(path);
  if (isBpffs(path)) return;
  throw new Error(`cannot keep pins in ${path}: it is not on a bpffs; mount one there`);
}

/**
 * One by one: sysfs, which /sys/fs/bpf is on as long as no bpffs is mounted there, answers ENOENT
 * to mkdir(2), and Node's recursive mkdir then asks again for ever.
 */
function makeDirectories(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  makeDirectories(parent);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return;
    const way = "if a bpffs is missing: mount -t bpf bpf /sys/fs/bpf";
    throw new Error(`cannot make ${path} in ${parent}: ${messageOf(error)}; ${way}`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * The names of what is pinned in a directory, sorted; empty when there is no such directory. Names
 * with a dot are left out: only the kernel's own pins have one.
 */
export function listPins(directory: string): string[] {
  try {
    const names = readdirSync(directory);
    return names.filter((name) => !name.includes(".")).sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/**
 * Removes one pin; false when it was not there. What was pinned lives on while something else holds
 * it.
 */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
