// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ensurePinDirectory } from "../kernel/bpffs.ts";
import { check, errorCode } from "../kernel/error.ts";
import { lockFile } from "../kernel/ffi.ts";

/**
 * Makes sure that one agent runs per runtime directory, whatever namespaces it is in. The kernel
 * lets go of the lock when the process ends, however it ends. The file holds the owner's pid.
 */
export function lockRuntime(directory: string): Disposable {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, "agent.lock");
  const fd = openSync(path, "a+", 0o600);
  const result = lockFile(fd);
  if (errorCode(-result) === "EAGAIN") {
    closeSync(fd);
    const owner = readFileSync(path, "utf8").trim();
    const who = owner === "" ? "another agent" : `another agent (pid ${owner})`;
    throw new Error(`${who} runs with ${directory}: stop it first, or set paths.runtime`);
  }
  check(result, "lock", path);
  ftruncateSync(fd);
  writeSync(fd, `${process.pid}\n`);
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/**
 * Makes sure that no two agents write the tables pinned in one directory, as they would with
 * different runtime directories: each would take the other's rows for what nobody wants.
 */
export function lockPins(directory: string): Disposable {
  ensurePinDirectory(directory);
  const fd = openSync(directory, "r");
  const result = lockFile(fd);
  if (errorCode(-result) === "EAGAIN") {
    closeSync(fd);
    throw new Error(
      `another agent uses the tables in ${directory}: stop it first, or set paths.bpffs`,
    );
  }
  check(result, "lock", directory);
  return { [Symbol.dispose]: () => closeSync(fd) };
}
