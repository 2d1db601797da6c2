// SPDX-License-Identifier: Apache-2.0

import { renameSync, unlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Attr, bpf, Command } from "./bpf.ts";
import { listPins, unpin } from "./bpffs.ts";
import { errorCode, KernelError } from "./error.ts";

const REASONS: Readonly<Record<string, string>> = {
  EPERM: "the path is not on a bpffs, or its name has a dot, or root is needed",
  ENOENT: "its directory does not exist",
  EEXIST: "something is pinned there already",
};

/** On its way to the name that it ends with. */
const TEMPORARY = /^new-\d+-\d+-(.+)$/;

let serial = 0;

/** Pins a map, program or link at `path` of a bpffs, which must be free. */
export function pin(fd: number, object: string, path: string): void {
  const result = bpf(Command.pin, new Attr(16).string(0, path).u32(8, fd));
  if (result === 0) return;
  const detail = REASONS[errorCode(-result)] ?? "";
  throw new KernelError(`pin ${object} at`, path, result, { detail });
}

/**
 * Pins at `path` and takes the place of what is pinned there: whoever opens `path` meets the old or
 * the new, never nothing. What was there lives on as long as something else holds it.
 */
export function pinByRename(fd: number, object: string, path: string): void {
  serial += 1;
  const temporary = join(dirname(path), `new-${process.pid}-${serial}-${basename(path)}`);
  pin(fd, object, temporary);
  try {
    renameSync(temporary, path);
  } catch (cause) {
    unlinkSync(temporary);
    throw new Error(`cannot pin ${object} at ${path}: ${String(cause)}`, { cause });
  }
}

/**
 * Ends what a process that was killed had begun by `pinByRename`: moves to its place what `keeps`
 * says of, and lets go of the rest. Nobody else may be pinning in this directory.
 */
export function finishPins(directory: string, keeps: (name: string) => boolean): void {
  for (const temporary of listPins(directory)) {
    const name = TEMPORARY.exec(temporary)?.[1];
    if (name === undefined) continue;
    const path = join(directory, temporary);
    if (keeps(name)) renameSync(path, join(directory, name));
    else unpin(path);
  }
}
