// SPDX-License-Identifier: Apache-2.0
// `make generate`: the built objects → src/datapath/gen/abi.ts and bpf/abi.txt.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { abiText, collectAbi, type ObjectFile } from "./generate/collect.ts";
import { emitAbi, NOTICE } from "./generate/emit.ts";

const root = join(import.meta.dirname, "../..");

/** What is left in build/ of a source that is gone is not looked at. */
function readObjects(): ObjectFile[] {
  const sources = readdirSync(join(root, "bpf")).filter((file) => file.endsWith(".bpf.c"));
  if (sources.length === 0) throw new Error("bpf/ has no .bpf.c");
  return sources.sort().map((source) => {
    const name = source.slice(0, -".bpf.c".length);
    return { name, bytes: readFileSync(join(root, "build/bpf", `${name}.bpf.o`)) };
  });
}

try {
  const abi = collectAbi(readObjects());
  mkdirSync(join(root, "src/datapath/gen"), { recursive: true });
  writeFileSync(join(root, "src/datapath/gen/abi.ts"), emitAbi(abi));
  writeFileSync(join(root, "bpf/abi.txt"), `# ${NOTICE}\n${abiText(abi)}`);
} catch (cause) {
  const error = cause as Error;
  process.stderr.write(`cannot generate the ABI: ${error.message}\n`);
  process.exitCode = 1;
}
