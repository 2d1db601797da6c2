// SPDX-License-Identifier: Apache-2.0
import { type FSWatcher, watch } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";

/** A file that is there. */
export interface SeenFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly inode: number;
  /** Differs when the file was written again. */
  readonly stamp: string;
}

/** What a look at the directory found. */
export interface Listing {
  /** By path, in order of names. */
  readonly files: ReadonlyMap<string, SeenFile>;
  /** Why the directory could not be read: then nothing is known of its files. */
  readonly error: NodeJS.ErrnoException | undefined;
}

const NAMES = /^[^.].*\.(ya?ml|json)$/;

/** The manifests of a directory: `*.yaml`, `*.yml` and `*.json`, not below it, nothing hidden. */
export async function listManifests(directory: string): Promise<Listing> {
  const files = new Map<string, SeenFile>();
  try {
    const names = (await readdir(directory)).filter((name) => NAMES.test(name)).sort();
    for (let from = 0; from < names.length; from += 64) {
      const batch = names.slice(from, from + 64).map((name) => look(join(directory, name)));
      for (const file of await Promise.all(batch)) {
        if (file !== undefined) files.set(file.path, file);
      }
    }
    return { files, error: undefined };
  } catch (error) {
    return { files, error: error as NodeJS.ErrnoException };
  }
}

/** Undefined when it isn't there, or is no file. */
async function look(path: string): Promise<SeenFile | undefined> {
  try {
    const found = await stat(path);
    if (!found.isFile()) return undefined;
    const { size, mtimeMs, ctimeMs, ino } = found;
    const stamp = `${ino}:${size}:${mtimeMs}:${ctimeMs}`;
    return { path, sizeBytes: size, inode: ino, stamp };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    // It is there, but closed to us: reading it will say why.
    return { path, sizeBytes: 0, inode: 0, stamp: "unreadable" };
  }
}

/** Calls when a directory has been quiet for a while after something happened in it. */
export interface DirectoryWatch {
  /** Whether changes are noticed at once; else only a regular look finds them. */
  readonly watching: boolean;
  close(): void;
}

/**
 * Watches a directory: `changed` comes once it has been quiet for `settleMs`, so that a file is
 * not read while it is written, but at the latest after ten times that. `lost` comes when the
 * watch ends, as the directory has gone.
 */
export function watchDirectory(
  directory: string,
  settleMs: number,
  changed: () => void,
  lost: () => void,
): DirectoryWatch {
  let watcher: FSWatcher | undefined;
  let quiet: NodeJS.Timeout | undefined;
  let sinceMs = 0;
  const close = (): void => {
    clearTimeout(quiet);
    watcher?.close();
    watcher = undefined;
  };
  const end = (): void => {
    close();
    lost();
  };
  const settle = (_event: string, name: string | null): void => {
    // The directory itself was moved or removed: inotify stays with the old one.
    if (name === basename(directory)) {
      end();
      return;
    }
    const nowMs = performance.now();
    if (quiet === undefined) sinceMs = nowMs;
    clearTimeout(quiet);
    const delayMs = Math.max(0, Math.min(settleMs, sinceMs + 10 * settleMs - nowMs));
    quiet = setTimeout(() => {
      quiet = undefined;
      changed();
    }, delayMs);
    quiet.unref();
  };
  try {
    watcher = watch(directory, { persistent: false }, settle);
    watcher.on("error", end);
  } catch {
    watcher = undefined;
  }
  return {
    get watching() {
      return watcher !== undefined;
    },
    close,
  };
}
