// SPDX-License-Identifier: Apache-2.0
// Types as canonical text: the same text means the same bytes. Golden files, checks and digests
// are made of it. A block is a line that names a thing and indented lines about it.

import { type Btf, type BtfArray, BtfError, type BtfStruct, type BtfTypedef } from "./btf.ts";

/** Blocks by what they are about ("struct service"): the first line, then those about it. */
export type Blocks = ReadonlyMap<string, readonly string[]>;

/** The text of a type in one word: "ipv4_t", "struct frontend[4]", "__u8[6]". */
export function typeText(btf: Btf, id: number): string {
  const type = btf.unqualified(id);
  switch (type.kind) {
    case "void":
    case "int":
    case "float":
    case "typedef":
      return type.kind === "void" ? "void" : type.name;
    case "ptr":
      return `${typeText(btf, type.type)}*`;
    case "array":
      return arrayText(btf, type);
    case "struct":
    case "union":
    case "enum":
      return `${type.kind} ${type.name || NO_NAME}`;
    case "enum64":
      return `enum ${type.name || NO_NAME}`;
    case "fwd":
      return `${type.of} ${type.name}`;
    default:
      throw new BtfError(`type ${id}: a ${type.kind} has no place in a layout`);
  }
}

/**
 * The blocks of these types and all that they are made of; typedefs of the kernel's own end there.
 */
export function describeTypes(btf: Btf, ids: Iterable<number>): Blocks {
  const blocks = new Map<string, readonly string[]>();
  for (const id of ids) addBlocks(btf, id, blocks);
  return blocks;
}

/**
 * Blocks as text, sorted by kind and name so that their order in the object means nothing. An
 * empty line stands between kinds and above what has more than one line.
 */
export function formatBlocks(blocks: Blocks): string {
  const order = [...blocks.keys()].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  let text = "";
  let kind = 0;
  for (const head of order) {
    const lines = blocks.get(head) ?? [];
    if (text !== "" && (lines.length > 1 || kind !== rank(head))) text += "\n";
    text += `${lines.join("\n")}\n`;
    kind = rank(head);
  }
  return text;
}

/** Reads what formatBlocks wrote; lines that start with # are for people. */
export function parseBlocks(text: string): Blocks {
  const blocks = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    if (line.startsWith(" ")) {
      current.push(line);
      continue;
    }
    current = [line];
    blocks.set(line.split(" ").slice(0, 2).join(" "), current);
  }
  return blocks;
}

/**
 * The kernel's integer typedefs: their names say size, sign and byte order, so layouts end at them.
 */
export const BASE_TYPES: ReadonlySet<string> = new Set(
  ["__u", "__s", "__be", "__le"].flatMap((kind) => [8, 16, 32, 64].map((bits) => `${kind}${bits}`)),
);

const NO_NAME = "(anonymous)";

const KINDS = ["typedef", "enum", "struct", "union", "map", "config"];

function rank(head: string): number {
  const index = KINDS.indexOf(head.slice(0, head.indexOf(" ")));
  return index < 0 ? KINDS.length : index;
}

function addBlocks(btf: Btf, id: number, blocks: Map<string, readonly string[]>): void {
  const type = btf.unqualified(id);
  if (type.kind === "array") {
    addBlocks(btf, type.type, blocks);
    return;
  }
  if (type.kind === "typedef" && BASE_TYPES.has(type.name)) return;
  const head = type.kind === "typedef" ? `typedef ${type.name}` : typeText(btf, id);
  if (blocks.has(head)) return;
  switch (type.kind) {
    case "typedef":
      addTypedef(btf, type, blocks);
      return;
    case "struct":
    case "union":
      blocks.set(head, [`${head} ${type.size}`, ...memberLines(btf, type)]);
      for (const member of type.members) addBlocks(btf, member.type, blocks);
      return;
    case "enum":
    case "enum64":
      blocks.set(head, [
        `${head} ${type.size}`,
        ...type.values.map((v) => `  ${v.value} ${v.name}`),
      ]);
  }
}

/** What has no name of its own is described by the typedef that gives it one. */
function addTypedef(
  btf: Btf,
  { name, type }: BtfTypedef,
  blocks: Map<string, readonly string[]>,
): void {
  const target = btf.unqualified(type);
  const head = `typedef ${name}`;
  if ((target.kind === "struct" || target.kind === "union") && target.name === "") {
    blocks.set(head, [`${head} ${target.kind} ${target.size}`, ...memberLines(btf, target)]);
    for (const member of target.members) addBlocks(btf, member.type, blocks);
    return;
  }
  blocks.set(head, [`${head} ${typeText(btf, type)}`]);
  addBlocks(btf, type, blocks);
}

function memberLines(btf: Btf, type: BtfStruct): string[] {
  return type.members.map((member) => {
    const at = member.bits > 0 ? `${member.bitOffset}:${member.bits}` : `${member.bitOffset / 8}`;
    return `  ${at} ${typeText(btf, member.type)} ${member.name || NO_NAME}`;
  });
}

function arrayText(btf: Btf, type: BtfArray): string {
  let lengths = `[${type.length}]`;
  let element = btf.unqualified(type.type);
  while (element.kind === "array") {
    lengths += `[${element.length}]`;
    element = btf.unqualified(element.type);
  }
  return typeText(btf, element.id) + lengths;
}
