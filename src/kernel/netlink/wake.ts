// SPDX-License-Identifier: Apache-2.0
// Calls back when a netlink socket has something to read. libuv can't watch such sockets, and a
// thread that blocks on one costs 12 MB; so the kernel is asked to send SIGURG, whose default is
// to be ignored: a signal that comes after the last listener has gone harms nobody.

import { isMainThread } from "node:worker_threads";
import { check } from "../error.ts";
import { fileControl } from "../ffi.ts";

const F_GETFL = 3;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const O_ASYNC = 0o20000;
const SIGURG = 23;
/** Workers get no signals; they look by themselves. */
const WORKER_INTERVAL_MS = 50;

const listeners = new Set<() => void>();

function wakeAll(): void {
  for (const listener of [...listeners]) listener();
}

/**
 * Calls `listener` whenever data may have arrived on `fd`, and at times when none has. Returns a
 * function that ends it. Neither keeps the process alive.
 */
export function wakeOnData(fd: number, listener: () => void): () => void {
  if (!isMainThread) {
    const timer = setInterval(listener, WORKER_INTERVAL_MS).unref();
    return () => clearInterval(timer);
  }
  if (listeners.size === 0) process.on("SIGURG", wakeAll);
  listeners.add(listener);
  const end = (): void => {
    listeners.delete(listener);
    if (listeners.size === 0) process.off("SIGURG", wakeAll);
  };
  try {
    check(fileControl(fd, F_SETOWN, process.pid), "own", "netlink socket");
    check(fileControl(fd, F_SETSIG, SIGURG), "choose the signal of", "netlink socket");
    const flags = check(fileControl(fd, F_GETFL, 0), "read the flags of", "netlink socket");
    check(fileControl(fd, F_SETFL, flags | O_ASYNC), "ask for signals of", "netlink socket");
  } catch (error) {
    end();
    throw error;
  }
  return end;
}
