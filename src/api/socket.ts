// SPDX-License-Identifier: Apache-2.0
import { constants, lstatSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";

interface Failed {
  readonly kind: "failed";
  readonly code: string;
  readonly message: string;
}

/** What a connection attempt met. */
export type SocketState =
  | { readonly kind: "answers" }
  /** Nobody listens: there is no file, or it is what a dead process left. */
  | { readonly kind: "dead"; readonly code: string }
  | Failed;

/** Tries the unix socket at `path`; never rejects. A listener that never accepts still answers. */
export function probeSocket(path: string): Promise<SocketState> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve({ kind: "answers" });
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      const code = error.code ?? "unknown";
      const dead = code === "ENOENT" || code === "ECONNREFUSED";
      resolve(dead ? { kind: "dead", code } : { kind: "failed", code, message: error.message });
    });
  });
}

/** A place where a new socket can be bound and then moved to its path in one step. */
export interface SocketPlace {
  /** Where to bind. */
  readonly temporary: string;
  /** Moves what was bound to its path; what stood there is replaced. */
  publish(): void;
  /** Removes the published socket, unless another has taken its path. */
  remove(): void;
}

/**
 * Makes room for a socket at `path`. Throws when a live process answers there, or when something
 * stands there that isn't a socket: neither is ever replaced.
 */
export async function claimSocket(path: string): Promise<SocketPlace> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && (there.mode & constants.S_IFMT) !== constants.S_IFSOCK) {
    throw new Error(`${path} is not a socket: move it away, or set paths.socket`);
  }
  const state = await probeSocket(path);
  if (state.kind === "answers") {
    throw new Error(`another process answers at ${path}: stop it first, or set paths.runtime`);
  }
  if (state.kind === "failed") throw new Error(`cannot look at ${path}: ${state.message}`);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}`;
  rmSync(temporary, { force: true });
  let inode: number | undefined;
  return {
    temporary,
    publish() {
      inode = lstatSync(temporary).ino;
      renameSync(temporary, path);
    },
    remove() {
      rmSync(temporary, { force: true });
      const now = lstatSync(path, { throwIfNoEntry: false })?.ino;
      if (inode !== undefined && now === inode) rmSync(path, { force: true });
    },
  };
}
