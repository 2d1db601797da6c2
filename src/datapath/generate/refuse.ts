// SPDX-License-Identifier: Apache-2.0
// What C and user space cannot share safely: bytes without a name, types without a fixed size.

import type { Btf, BtfStruct } from "../../kernel/btf.ts";
import { BASE_TYPES, typeText } from "../../kernel/btf-text.ts";

const WAY_OUT = "__u8 to __u64, __s8 to __s64, __be16 to __be64, bool, or a typedef of these";

/** What stands against sharing this type, a sentence each; `where` is who shares it. */
export function refusals(btf: Btf, id: number, where: string): string[] {
  const found: string[] = [];
  refuseType(btf, id, where, found, new Set());
  return found;
}

function refuseType(btf: Btf, id: number, where: string, found: string[], seen: Set<number>): void {
  const type = btf.resolve(id);
  switch (type.kind) {
    case "struct":
      if (!seen.has(type.id)) refuseStruct(btf, type, structName(btf, id), found, seen);
      return;
    case "array":
      if (type.length === 0) found.push(`${where}: an array without a length`);
      if (btf.resolve(type.type).kind === "array") found.push(`${where}: an array of arrays`);
      else refuseType(btf, type.type, where, found, seen);
      return;
    case "enum":
      if (type.name === "") found.push(`${where}: an enum without a name`);
      return;
    case "enum64":
      found.push(`${where}: ${typeText(btf, id)} needs 64 bits; keep its values below 2^32`);
      return;
    case "int":
      if (type.encoding === "bool" || btf.typedefs(id).some((name) => BASE_TYPES.has(name))) return;
      found.push(`${where}: ${typeText(btf, id)} has no fixed meaning; use ${WAY_OUT}`);
      return;
    case "ptr":
      found.push(`${where}: a pointer means nothing on the other side`);
      return;
    default:
      found.push(`${where}: a ${type.kind === "fwd" ? "type declared elsewhere" : type.kind}`);
  }
}

function refuseStruct(
  btf: Btf,
  type: BtfStruct,
  name: string,
  found: string[],
  seen: Set<number>,
): void {
  seen.add(type.id);
  let end = 0;
  for (const member of type.members) {
    const where = `${name}.${member.name || "(no name)"}`;
    if (member.bits > 0) {
      found.push(`${where}: a bitfield; use a __u8 or wider with named bits`);
      end = Math.ceil((member.bitOffset + member.bits) / 8);
      continue;
    }
    const offset = member.bitOffset / 8;
    refusePadding(offset - end, `before ${member.name}`, name, found);
    end = offset + btf.sizeOf(member.type);
    if (member.name === "") found.push(`${where}: a member without a name`);
    else refuseType(btf, member.type, where, found, seen);
  }
  refusePadding(type.size - end, "at its end", name, found);
}

function refusePadding(bytes: number, place: string, name: string, found: string[]): void {
  if (bytes <= 0) return;
  const unit = bytes === 1 ? "byte" : "bytes";
  found.push(
    `${name}: ${bytes} ${unit} of unnamed padding ${place}; add a member "reserved" there`,
  );
}

function structName(btf: Btf, id: number): string {
  const type = btf.resolve(id);
  return type.name === "" ? (btf.typedefs(id)[0] ?? "struct") : `struct ${type.name}`;
}
