// SPDX-License-Identifier: Apache-2.0
// Network namespaces, named as `ip netns` names them: files under /run/netns.

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { check, KernelError } from "./error.ts";
import {
  close,
  getSocketOption,
  mount,
  O_RDONLY,
  open,
  setns,
  socket,
  unmount,
  unshare,
} from "./ffi.ts";

const DIRECTORY = "/run/netns";
const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 0x100000;
const MNT_DETACH = 2;
const EINVAL = 22;
const EEXIST = 17;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;
/** Of the calling thread: a Worker may be in another namespace than the main thread. */
const OWN = "/proc/thread-self/ns/net";

/** The file that stands for the namespace of this name. */
export function namespacePath(name: string): string {
  if (!/^[A-Za-z0-9_.-]{1,255}$/.test(name) || name.startsWith(".")) {
    throw new TypeError(`${JSON.stringify(name)} can't name a namespace: use letters, digits, -_.`);
  }
  return join(DIRECTORY, name);
}

/** Whether the file is a namespace and not the bare file that an interrupted removal left. */
export function isNamespace(path: string): boolean {
  // Namespaces are files of nsfs, which has a device of its own.
  return existsSync(path) && statSync(path).dev === statSync(OWN).dev;
}

/** The names of all named namespaces, sorted. */
export function listNamespaces(): string[] {
  if (!existsSync(DIRECTORY)) return [];
  return readdirSync(DIRECTORY)
    .filter((name) => isNamespace(join(DIRECTORY, name)))
    .sort();
}

/** Shares the directory's mounts, as `ip netns` does, so that other mount namespaces see them. */
function shareDirectory(): void {
  mkdirSync(DIRECTORY, { recursive: true });
  const shared = mount("", DIRECTORY, "none", MS_SHARED | MS_REC);
  if (shared !== -EINVAL) {
    check(shared, "share", DIRECTORY);
    return;
  }
  check(mount(DIRECTORY, DIRECTORY, "none", MS_BIND | MS_REC), "bind", DIRECTORY);
  check(mount("", DIRECTORY, "none", MS_SHARED | MS_REC), "share", DIRECTORY);
}

/**
 * Makes a named namespace, its loopback still down, and returns its path. Throws KernelError:
 * EEXIST when the name is taken, EPERM without CAP_SYS_ADMIN.
 */
export function createNamespace(name: string): string {
  const path = namespacePath(name);
  shareDirectory();
  if (isNamespace(path)) throw new KernelError("create namespace", name, EEXIST);
  writeFileSync(path, "");
  try {
    withNamespaceKept(() => {
      check(unshare(CLONE_NEWNET), "create namespace", name);
      check(mount(OWN, path, "none", MS_BIND), "mount namespace", path);
    });
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
  return path;
}

/**
 * Removes a named namespace; one that isn't there is no error. The namespace itself lives on while
 * a process or socket is in it.
 */
export function deleteNamespace(name: string): void {
  const path = namespacePath(name);
  if (!existsSync(path)) return;
  if (isNamespace(path)) check(unmount(path, MNT_DETACH), "unmount namespace", path);
  rmSync(path, { force: true });
}

function withNamespaceKept<T>(run: () => T): T {
  const home = check(open(OWN, O_RDONLY), "open", OWN);
  try {
    return run();
  } finally {
    const back = setns(home, CLONE_NEWNET);
    close(home);
    // A thread that stays in a foreign namespace would do all that follows in the wrong place.
    if (back < 0) process.abort();
  }
}

/**
 * Calls `run` with the thread in the namespace at `path` and comes back. What it opens (sockets,
 * files under /proc/sys/net, processes it spawns) stays in that namespace. It must not be async,
 * as by its first await the thread is back; nor start asynchronous I/O or a Worker, as threads
 * born meanwhile would stay in there.
 */
export function inNamespace<T>(path: string, run: () => T): T {
  const fd = check(open(path, O_RDONLY), "open namespace", path);
  try {
    return withNamespaceKept(() => {
      check(setns(fd, CLONE_NEWNET), "enter namespace", path);
      const result = run();
      if (result instanceof Promise) throw new TypeError("inNamespace got an async function");
      return result;
    });
  } finally {
    close(fd);
  }
}

/**
 * Starts a process in the namespace at `path`. Unlike `ip netns exec` it keeps the mounts, so that
 * pins under /sys/fs/bpf stay visible.
 */
export function spawnInNamespace(
  path: string,
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): ChildProcess {
  // libuv forks from this thread, and a child is born in its parent thread's namespace.
  return inNamespace(path, () => spawn(command, args, options));
}

/** The inode that identifies a namespace, as in `readlink /proc/PID/ns/net`. */
export function namespaceInode(path: string = OWN): number {
  return statSync(path).ino;
}

/** The cookie by which eBPF's bpf_get_netns_cookie knows a namespace (Linux 5.14 or newer). */
export function namespaceCookie(path: string = OWN): bigint {
  return inNamespace(path, () => {
    const fd = check(socket(AF_INET, SOCK_DGRAM, 0), "open socket in", path);
    try {
      const value = new Uint8Array(8);
      const result = getSocketOption(fd, SOL_SOCKET, SO_NETNS_COOKIE, value);
      check(result, "read the namespace cookie of", path);
      return new DataView(value.buffer).getBigUint64(0, true);
    } finally {
      close(fd);
    }
  });
}
