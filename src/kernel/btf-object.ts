// SPDX-License-Identifier: Apache-2.0
// What an object of ours declares, read from its types: maps, exported types, constants.

import { type Btf, BtfError, type BtfStruct, type BtfType } from "./btf.ts";

/** A map as declared in section .maps. Types are BTF ids, undefined where only a size is given. */
export interface MapDeclaration {
  readonly name: string;
  /** The kernel's number (enum bpf_map_type). */
  readonly type: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly key: number | undefined;
  readonly value: number | undefined;
  readonly keySize: number;
  readonly valueSize: number;
}

/** A constant declared by CONFIG. */
export interface ConfigDeclaration {
  readonly name: string;
  readonly type: number;
  readonly doc: string;
  /** Bytes from the section's start; right only in an object that libbpf has opened. */
  readonly offset: number;
}

/** Where CONFIG puts constants. */
export const CONFIG_SECTION = ".rodata";

/** The maps of an object, in the order in which it declares them. */
export function declaredMaps(btf: Btf): MapDeclaration[] {
  return sectionVars(btf, ".maps").map(({ variable }) => {
    const type = btf.resolve(variable.type);
    if (type.kind !== "struct") throw new BtfError(`map ${variable.name}: not a struct`);
    return declaredMap(btf, variable.name, type);
  });
}

/** The types named by EXPORT, as BTF ids. */
export function exportedTypes(btf: Btf): number[] {
  return sectionVars(btf, ".abi").map(({ variable }) => {
    const type = btf.resolve(variable.type);
    if (type.kind !== "ptr") throw new BtfError(`${variable.name}: not declared by EXPORT`);
    return type.type;
  });
}

/**
 * The constants of an object. Throws BtfError for a `volatile const` without a sentence about it:
 * CONFIG is the one way to declare them.
 */
export function declaredConfig(btf: Btf): ConfigDeclaration[] {
  const found: ConfigDeclaration[] = [];
  for (const { variable, offset } of sectionVars(btf, CONFIG_SECTION)) {
    if (!isVolatile(btf, variable.type)) continue;
    const doc = docOf(btf, variable.id);
    if (doc === "") {
      throw new BtfError(`constant ${variable.name} has no text; declare it with CONFIG`);
    }
    found.push({ name: variable.name, type: btf.unqualified(variable.type).id, doc, offset });
  }
  return found;
}

/** The sentence that DOC put on a type, a variable or a member, or "". */
export function docOf(btf: Btf, id: number, member = -1): string {
  return btf.tags(id, member)[0] ?? "";
}

function sectionVars(btf: Btf, name: string) {
  const section = btf.find("datasec", name);
  return (section?.vars ?? []).map(({ type, offset }) => {
    const variable = btf.get(type);
    if (variable.kind !== "var") throw new BtfError(`${name}: type ${type} is no variable`);
    return { variable, offset };
  });
}

function declaredMap(btf: Btf, name: string, type: BtfStruct): MapDeclaration {
  const members = new Map(type.members.map((member) => [member.name, member.type]));
  const number = (member: string): number => {
    const id = members.get(member);
    return id === undefined ? 0 : arrayLength(btf, id, `map ${name}.${member}`);
  };
  const pointed = (member: string): number | undefined => {
    const id = members.get(member);
    return id === undefined ? undefined : pointee(btf, id, `map ${name}.${member}`);
  };
  const key = pointed("key");
  const value = pointed("value");
  return {
    name,
    type: number("type"),
    maxEntries: number("max_entries"),
    flags: number("map_flags"),
    key,
    value,
    keySize: key === undefined ? number("key_size") : btf.sizeOf(key),
    valueSize: value === undefined ? number("value_size") : btf.sizeOf(value),
  };
}

/** __uint(name, n) is a pointer to an array of n. */
function arrayLength(btf: Btf, id: number, what: string): number {
  const array = btf.resolve(pointee(btf, id, what));
  if (array.kind !== "array") throw new BtfError(`${what}: not declared by __uint`);
  return array.length;
}

function pointee(btf: Btf, id: number, what: string): number {
  const pointer = btf.resolve(id);
  if (pointer.kind !== "ptr") throw new BtfError(`${what}: not declared by __uint or __type`);
  return pointer.type;
}

function isVolatile(btf: Btf, id: number): boolean {
  let type: BtfType = btf.get(id);
  while (type.kind === "const" || type.kind === "volatile") {
    if (type.kind === "volatile") return true;
    type = btf.get(type.type);
  }
  return false;
}
