// SPDX-License-Identifier: Apache-2.0

// Imported first by every Node of a booted machine, from among the sources without types that
// sources.ts has written: gives modules of the checkout as they stand there.

import { existsSync, readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SOURCES = import.meta.dirname;
const ROOT = resolve(SOURCES, "../../..");

registerHooks({
  load(url, context, next) {
    if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
    const file = join(SOURCES, relative(ROOT, fileURLToPath(url)));
    if (!existsSync(file)) return next(url, context);
    return { format: "module", source: readFileSync(file), shortCircuit: true };
  },
});
