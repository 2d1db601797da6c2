// SPDX-License-Identifier: Apache-2.0

// Node takes types out of sources by WebAssembly. In an emulated machine this takes a second or
// two of each process's start, in which V8 compiles from other threads and one process in some
// tens runs into what isn't written yet: SIGSEGV, or a check that fails ("it->second.Size() >
// offset"; https://github.com/nodejs/node/issues/64500). So types are taken out before it boots.

import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join } from "node:path";

const TOPS = ["bench", "bpf", "src", "test", "tools"];
const LOADER = "test/kernels/load-sources.ts";

/**
 * Writes the checkout's modules without types into `directory`, three levels below `root`, and
 * answers with the path of the module that has Node load them.
 */
export function writeSources(root: string, directory: string): string {
  rmSync(directory, { recursive: true, force: true });
  const files = globSync(
    TOPS.map((top) => `${top}/**/*.ts`),
    { cwd: root },
  );
  for (const file of files) {
    const to = join(directory, file);
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, stripTypeScriptTypes(readFileSync(join(root, file), "utf8")));
  }
  const loader = join(directory, "load-sources.mjs");
  writeFileSync(loader, readFileSync(join(directory, LOADER)));
  return loader;
}
