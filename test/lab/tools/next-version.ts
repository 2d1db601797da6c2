// SPDX-License-Identifier: Apache-2.0
// The next version of Ciliate, as far as its tables go: a member of every flow has another name, so
// that those of before must be migrated.

import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { maps } from "../../../src/datapath/gen/abi.ts";
import { layoutDigest, mapBlocks } from "../../../src/datapath/layout.ts";
import type { MigrationStep } from "../../../src/datapath/migrate.ts";
import { parseBtf } from "../../../src/kernel/btf.ts";
import { declaredMaps } from "../../../src/kernel/btf-object.ts";
import { openObject } from "../../../src/kernel/object.ts";
import type { AgentCommand } from "../../../src/lab/agent.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
/** Names of the same length: they are replaced in the objects. */
const [BEFORE, AFTER] = ["claimed", "awarded"];
const STEP = "what was claimed is awarded";
const LAYOUT = "export const migrations: readonly MigrationStep[] = []";

/** Puts that version into a directory; what starts its agent. */
export function makeNextVersion(directory: string): AgentCommand {
  for (const name of ["bin", "src"])
    cpSync(join(ROOT, name), join(directory, name), { recursive: true });
  for (const name of ["node_modules", "toolchain", "package.json"]) {
    symlinkSync(join(ROOT, name), join(directory, name));
  }
  const objects = join(directory, "build/bpf");
  mkdirSync(objects, { recursive: true });
  for (const name of readdirSync(join(ROOT, "build/bpf"))) {
    if (!name.endsWith(".o")) continue;
    const bytes = readFileSync(join(ROOT, "build/bpf", name), "latin1");
    const text = bytes.replaceAll(`\0${BEFORE}\0`, `\0${AFTER}\0`);
    writeFileSync(join(objects, name), text, "latin1");
  }
  const steps = [
    stepOf(maps.conntrack, objects, "host"),
    stepOf(maps.conntrack6, objects, "host6"),
  ];
  edit(join(directory, "src/datapath/gen/abi.ts"), (text) =>
    steps.reduce(
      (all, { from, to }) => all.replaceAll(`layout: "${from}"`, `layout: "${to}"`),
      text.replaceAll(`__u32 ${BEFORE}\n`, `__u32 ${AFTER}\n`),
    ),
  );
  edit(join(directory, "src/datapath/migrate.ts"), (text) => {
    const list = steps.map(
      (step) => `${JSON.stringify(step).slice(0, -1)}, convert: (...e) => e }`,
    );
    return text.replace(LAYOUT, `export const migrations: readonly MigrationStep[] = [${list}]`);
  });
  return (_plan, node) => [join(directory, "bin/ciliate"), "agent", "--config", node.paths.config];
}

/** What an agent of that version says of a table that it has migrated. */
export const migrated = (map: string): string => `map ${map} has a new layout: ${STEP}`;

function stepOf(
  { name, layout }: { readonly name: string; readonly layout: string },
  objects: string,
  object: string,
): Omit<MigrationStep, "convert"> {
  using opened = openObject(join(objects, `${object}.bpf.o`));
  const btf = parseBtf(opened.btf);
  const map = declaredMaps(btf).find((one) => one.name === name);
  const to = layoutDigest(mapBlocks(btf, map?.key ?? 0, map?.value ?? 0));
  return { name: STEP, map: name, from: layout, to };
}

function edit(path: string, change: (text: string) => string): void {
  const before = readFileSync(path, "utf8");
  const after = change(before);
  if (after === before) throw new Error(`${path} has not what the next version changes`);
  writeFileSync(path, after);
}
