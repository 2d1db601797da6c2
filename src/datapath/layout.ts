// SPDX-License-Identifier: Apache-2.0
// The layouts of our objects and maps as text, and what differs between two of them.

import { createHash } from "node:crypto";
import type { Btf } from "../kernel/btf.ts";
import {
  type ConfigDeclaration,
  declaredConfig,
  declaredMaps,
  exportedTypes,
  type MapDeclaration,
} from "../kernel/btf-object.ts";
import { type Blocks, describeTypes, formatBlocks, typeText } from "../kernel/btf-text.ts";
import { mapTypeName } from "../kernel/kinds.ts";

/** EXPORT_ENUM's struct, which carries the sentences of an enum's values, is no layout. */
const DOCS = /^struct \w+__docs$/;

/** Ids of every type that user space shares with an object: keys, values, exports, constants. */
export function sharedTypes(btf: Btf): number[] {
  const ids = exportedTypes(btf).filter((id) => !DOCS.test(typeText(btf, id)));
  for (const map of declaredMaps(btf)) {
    if (map.key !== undefined) ids.push(map.key);
    if (map.value !== undefined) ids.push(map.value);
  }
  for (const constant of declaredConfig(btf)) ids.push(constant.type);
  return ids;
}

/** Everything that user space shares with an object, as text. */
export function objectBlocks(btf: Btf): Blocks {
  const blocks = new Map(describeTypes(btf, sharedTypes(btf)));
  for (const map of declaredMaps(btf)) blocks.set(`map ${map.name}`, mapLines(btf, map));
  for (const it of declaredConfig(btf)) blocks.set(`config ${it.name}`, [configLine(btf, it)]);
  return blocks;
}

/** The layout of a map's keys and values as text. Ids are those of bpf_map_info, 0 for none. */
export function mapBlocks(btf: Btf, key: number, value: number): Blocks {
  const ids = [key, value].filter((id) => id !== 0);
  return withEntryTypes(describeTypes(btf, ids), typeText(btf, key), typeText(btf, value));
}

/** Adds which types keys and values are, so that a map of other types altogether differs. */
export function withEntryTypes(blocks: Blocks, key: string, value: string): Blocks {
  return new Map([
    ...blocks,
    ["key type", [`key type ${key}`]],
    ["value type", [`value type ${value}`]],
  ]);
}

/** A name for a layout: equal for equal text. */
export function layoutDigest(blocks: Blocks): string {
  return createHash("sha256").update(formatBlocks(blocks)).digest("hex").slice(0, 16);
}

/** One way in which `theirs` differs from `ours`, or undefined. `who` is whose theirs is. */
export function firstDifference(theirs: Blocks, ours: Blocks, who: string): string | undefined {
  for (const [head, lines] of theirs) {
    const known = ours.get(head);
    if (known === undefined) return `${head}: ${who} has it, this build has not`;
    const difference = blockDifference(lines, known, who);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

function mapLines(btf: Btf, map: MapDeclaration): string[] {
  const { name, type, key, value, keySize, valueSize, maxEntries, flags } = map;
  return [
    `map ${name} ${mapTypeName(type)}`,
    `  key ${key === undefined ? `${keySize} bytes` : typeText(btf, key)}`,
    `  value ${value === undefined ? `${valueSize} bytes` : typeText(btf, value)}`,
    `  entries ${maxEntries}`,
    `  flags ${flags}`,
  ];
}

function configLine(btf: Btf, constant: ConfigDeclaration): string {
  return `config ${constant.name} ${typeText(btf, constant.type)}`;
}

/** Both have the same head. Members are compared by name, so that a moved one is named as such. */
function blockDifference(
  theirs: readonly string[],
  ours: readonly string[],
  who: string,
): string | undefined {
  const [head = "", ...lines] = theirs;
  const [kind, name] = head.split(" ");
  if (kind === "struct" || kind === "union") {
    const mine = new Map(ours.slice(1).map((line) => [memberName(line), line]));
    for (const line of lines) {
      const member = memberName(line);
      const known = mine.get(member);
      mine.delete(member);
      if (known === line) continue;
      return `${name}.${member}: ${memberDifference(line, known, who)}`;
    }
    for (const member of mine.keys())
      return `${name}.${member}: ${who} lacks it, this build has it`;
  }
  for (let index = 0; index < Math.max(theirs.length, ours.length); index++) {
    const [line, known] = [theirs[index]?.trim(), ours[index]?.trim()];
    if (line === known) continue;
    return `${kind} ${name}: ${who} has "${line ?? ""}", this build "${known ?? ""}"`;
  }
  return undefined;
}

function memberDifference(line: string, known: string | undefined, who: string): string {
  if (known === undefined) return `${who} has it, this build has not`;
  const [offset, ourOffset] = [line, known].map((text) => text.trim().split(" ")[0]);
  if (offset !== ourOffset) return `${who} has offset ${offset}, this build ${ourOffset}`;
  return `${who} has type ${memberType(line)}, this build ${memberType(known)}`;
}

function memberName(line: string): string {
  return line.slice(line.lastIndexOf(" ") + 1);
}

function memberType(line: string): string {
  return line.trim().split(" ").slice(1, -1).join(" ");
}
