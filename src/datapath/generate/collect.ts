// SPDX-License-Identifier: Apache-2.0
// Objects, one after the other, into one picture of what user space shares with all of them.

import { type Btf, type BtfEnum, type BtfStruct, parseBtf } from "../../kernel/btf.ts";
import {
  CONFIG_SECTION,
  type ConfigDeclaration,
  declaredConfig,
  declaredMaps,
  docOf,
  exportedTypes,
  type MapDeclaration,
} from "../../kernel/btf-object.ts";
import { type Blocks, formatBlocks, typeText } from "../../kernel/btf-text.ts";
import type { ProgramSpec } from "../../kernel/codec.ts";
import { type Elf, parseElf, SECTION_EXECUTABLE } from "../../kernel/elf.ts";
import type { ProgramType } from "../../kernel/kinds.ts";
import { firstDifference, objectBlocks, sharedTypes } from "../layout.ts";
import { refusals } from "./refuse.ts";
import { shapeOf } from "./shape.ts";

/** What C asks for and user space cannot give: every reason at once, a line each. */
export class AbiRefusal extends Error {
  override readonly name = "AbiRefusal";
}

/** A thing and the object in which its types are looked up. */
export interface In<T> {
  readonly btf: Btf;
  readonly it: T;
}

/** A struct, its name in C ("struct service") and that in TypeScript. */
export interface SharedStruct extends BtfStruct {
  readonly c: string;
}

/** A constant and the value that C gives it. */
export interface ConfigInitial extends ConfigDeclaration {
  readonly bytes: Uint8Array;
}

/** What user space shares with the objects, each thing once. */
export interface Abi {
  readonly structs: readonly In<SharedStruct>[];
  readonly enums: readonly In<BtfEnum>[];
  readonly maps: readonly In<MapDeclaration>[];
  readonly config: readonly In<ConfigInitial>[];
  readonly programs: readonly ProgramSpec[];
  /** Sentences about an enum's values: "verdict" → "DROP_NO_BACKEND" → text. */
  readonly enumDocs: ReadonlyMap<string, ReadonlyMap<string, string>>;
  readonly blocks: Blocks;
}

/** An object file: its name is the file's without .bpf.o. */
export interface ObjectFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Libbpf's sections, by what they start with, and the type of program in them. */
const PROGRAM_SECTIONS: readonly (readonly [RegExp, ProgramType])[] = [
  [/^(tc|tcx\/(in|e)gress|classifier)$/, "sched_cls"],
  [/^xdp(\.frags)?$/, "xdp"],
  [/^cgroup\/(connect|sendmsg|recvmsg|getpeername|getsockname|bind)[46]$/, "cgroup_sock_addr"],
  [/^sockops$/, "sock_ops"],
  [/^iter\/\w+$/, "tracing"],
  [/^syscall$/, "syscall"],
];

/** Reads objects that were built together. Throws AbiRefusal, BtfError or ElfError. */
export function collectAbi(files: readonly ObjectFile[]): Abi {
  const objects = files.map((file) => {
    const elf = parseElf(file.bytes);
    const section = elf.sections.find(({ name }) => name === ".BTF");
    if (section === undefined) throw new AbiRefusal(`${file.name}: no .BTF; compile with -g`);
    return { name: file.name, elf, btf: parseBtf(section.bytes) };
  });
  const refused = objects.flatMap(({ btf }) => objectRefusals(btf));
  if (refused.length > 0) throw new AbiRefusal([...new Set(refused)].join("\n"));
  const structs = new Map<string, In<SharedStruct>>();
  const enums = new Map<string, In<BtfEnum>>();
  const maps = new Map<string, In<MapDeclaration>>();
  const config = new Map<string, In<ConfigInitial>>();
  const enumDocs = new Map<string, ReadonlyMap<string, string>>();
  const blocks = new Map<string, readonly string[]>();
  for (const { name, elf, btf } of objects) {
    mergeBlocks(blocks, objectBlocks(btf), name);
    for (const id of byName(btf, sharedTypes(btf))) collectTypes(btf, id, structs, enums);
    for (const it of declaredMaps(btf)) maps.set(it.name, { btf, it });
    for (const it of declaredConfig(btf)) addInitial(config, elf, { btf, it }, name);
    for (const [tag, docs] of docStructs(btf)) enumDocs.set(tag, docs);
  }
  const programs = objects.flatMap(({ name, elf }) => objectPrograms(name, elf));
  refuseTwins(programs);
  return {
    structs: [...structs.values()],
    enums: sorted(enums),
    maps: sorted(maps),
    config: [...config.values()],
    programs,
    enumDocs,
    blocks,
  };
}

/** The golden text: what is shared, then what else of the objects user space relies on. */
export function abiText(abi: Abi): string {
  const programs = abi.programs.map(
    ({ name, object, section, type }) => `program ${name} ${object} ${section} ${type}\n`,
  );
  return `${formatBlocks(abi.blocks)}\n${programs.join("")}`;
}

/** What is generated must not depend on the order in which C declares things. */
function byName(btf: Btf, ids: readonly number[]): number[] {
  return [...ids].sort((a, b) => (typeText(btf, a) < typeText(btf, b) ? -1 : 1));
}

function sorted<T>(things: ReadonlyMap<string, T>): T[] {
  return [...things].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, thing]) => thing);
}

function objectRefusals(btf: Btf): string[] {
  const found = exportedTypes(btf).flatMap((id) => refusals(btf, id, "export"));
  for (const { name, key, value } of declaredMaps(btf)) {
    if (key !== undefined) found.push(...refusals(btf, key, `key of map ${name}`));
    if (value !== undefined) found.push(...refusals(btf, value, `value of map ${name}`));
  }
  for (const { name, type } of declaredConfig(btf)) {
    found.push(...refusals(btf, type, `constant ${name}`));
  }
  return found;
}

function mergeBlocks(all: Map<string, readonly string[]>, blocks: Blocks, object: string): void {
  const known = new Map([...blocks].filter(([head]) => all.has(head)));
  const difference = firstDifference(known, all, object);
  if (difference !== undefined) {
    throw new AbiRefusal(`${difference.replace("this build", "another object")}; build all anew`);
  }
  for (const [head, lines] of blocks) all.set(head, lines);
}

/** Inner structs come first, so that generated code names nothing before it stands. */
function collectTypes(
  btf: Btf,
  id: number,
  structs: Map<string, In<SharedStruct>>,
  enums: Map<string, In<BtfEnum>>,
): void {
  const type = btf.resolve(id);
  if (type.kind === "array") collectTypes(btf, type.type, structs, enums);
  if (type.kind === "enum") enums.set(type.name, { btf, it: type });
  if (type.kind !== "struct") return;
  const shape = shapeOf(btf, id);
  if (shape.kind !== "struct" || structs.has(shape.c)) return;
  for (const member of type.members) collectTypes(btf, member.type, structs, enums);
  structs.set(shape.c, { btf, it: { ...type, c: shape.c, name: shape.name } });
}

function docStructs(btf: Btf): [string, ReadonlyMap<string, string>][] {
  return exportedTypes(btf).flatMap((id): [string, ReadonlyMap<string, string>][] => {
    const type = btf.resolve(id);
    if (type.kind !== "struct" || !type.name.endsWith("__docs")) return [];
    const texts = type.members.map(
      ({ name }, index) => [name, docOf(btf, type.id, index)] as const,
    );
    return [[type.name.slice(0, -"__docs".length), new Map(texts)]];
  });
}

function addInitial(
  config: Map<string, In<ConfigInitial>>,
  elf: Elf,
  { btf, it }: In<ConfigDeclaration>,
  object: string,
): void {
  const symbol = elf.symbols.find(({ name, type }) => name === it.name && type === "object");
  const section = symbol === undefined ? undefined : elf.sections[symbol.section];
  if (symbol === undefined || section?.name !== CONFIG_SECTION) {
    throw new AbiRefusal(
      `constant ${it.name}: ${object} has no symbol for it in ${CONFIG_SECTION}`,
    );
  }
  const bytes = section.bytes.subarray(symbol.offset, symbol.offset + symbol.size);
  const known = config.get(it.name);
  if (known !== undefined && Buffer.compare(known.it.bytes, bytes) !== 0) {
    throw new AbiRefusal(`constant ${it.name}: ${object} has another initial value than others`);
  }
  config.set(it.name, { btf, it: { ...it, bytes } });
}

function objectPrograms(object: string, elf: Elf): ProgramSpec[] {
  return elf.symbols.flatMap(({ name, type, global, section: index }): ProgramSpec[] => {
    const section = elf.sections[index];
    if (type !== "func" || !global || section === undefined) return [];
    if ((section.flags & SECTION_EXECUTABLE) === 0 || section.name === ".text") return [];
    const known = PROGRAM_SECTIONS.find(([pattern]) => pattern.test(section.name));
    if (known !== undefined) return [{ name, object, section: section.name, type: known[1] }];
    throw new AbiRefusal(
      `program ${name} of ${object}: section "${section.name}" is unknown to generate/collect.ts`,
    );
  });
}

function refuseTwins(programs: readonly ProgramSpec[]): void {
  const seen = new Map<string, string>();
  for (const { name, object } of programs) {
    const other = seen.get(name);
    if (other !== undefined)
      throw new AbiRefusal(`program ${name}: both in ${other} and ${object}`);
    seen.set(name, object);
  }
}

/** How a map's type reads in the generated file's documentation. */
export function mapDoc({ btf, it }: In<MapDeclaration>): string {
  if (it.keySize === 0) return "no keys";
  const key = it.key === undefined ? `${it.keySize} bytes` : typeText(btf, it.key);
  const value = it.value === undefined ? `${it.valueSize} bytes` : typeText(btf, it.value);
  return `${key} → ${value}`;
}
