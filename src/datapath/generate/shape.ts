// SPDX-License-Identifier: Apache-2.0
// What a C type becomes in TypeScript.

import type { Btf } from "../../kernel/btf.ts";
import { BASE_TYPES } from "../../kernel/btf-text.ts";

/** A type that TypeScript can hold; `c` is its name in C. */
export type Shape =
  | {
      readonly kind: "number";
      readonly c: string;
      readonly size: number;
      readonly signed: boolean;
      readonly bigEndian: boolean;
      /** The typedef or enum that says what the number means, as a TypeScript name. */
      readonly brand: string | undefined;
    }
  | { readonly kind: "bool"; readonly c: string; readonly size: 1 }
  | { readonly kind: "mac"; readonly c: string; readonly size: 6 }
  | { readonly kind: "ipv6"; readonly c: string; readonly size: 16 }
  | { readonly kind: "bytes"; readonly c: string; readonly size: number }
  | {
      readonly kind: "array";
      readonly c: string;
      readonly size: number;
      readonly element: Shape;
      readonly length: number;
    }
  | {
      readonly kind: "struct";
      readonly c: string;
      readonly size: number;
      readonly name: string;
    };

/** Typedefs whose TypeScript side is src/net's; paths are below src/. */
export const NET_TYPES: Readonly<Record<string, { readonly name: string; readonly from: string }>> =
  {
    ipv4_t: { name: "Ipv4", from: "net/address.ts" },
    ipv6_t: { name: "Ipv6", from: "net/address.ts" },
    mac_t: { name: "Mac", from: "net/mac.ts" },
  };

/** A struct's bytes that carry nothing: in C a member with such a name, in TypeScript none. */
export const PADDING = /^(reserved|pad)\d*$/;

/** The shape of a type that refuse.ts has let through without a word. */
export function shapeOf(btf: Btf, id: number): Shape {
  const names = btf.typedefs(id);
  const outer = names[0];
  const type = btf.resolve(id);
  const size = btf.sizeOf(id);
  const c = outer ?? type.name;
  if (outer === "mac_t" && size === 6) return { kind: "mac", c, size };
  if (outer === "ipv6_t" && size === 16) return { kind: "ipv6", c, size };
  switch (type.kind) {
    case "int":
      return type.encoding === "bool" ? { kind: "bool", c, size: 1 } : numberShape(names, size);
    case "enum":
      return {
        kind: "number",
        c: `enum ${type.name}`,
        size,
        signed: type.signed,
        bigEndian: false,
        brand: typeName(type.name),
      };
    case "array": {
      const element = shapeOf(btf, type.type);
      const { length } = type;
      const isBytes =
        element.kind === "number" && element.size === 1 && element.brand === undefined;
      if (isBytes) return { kind: "bytes", c: `${element.c}[${length}]`, size };
      return { kind: "array", c: `${element.c}[${length}]`, size, element, length };
    }
    case "struct": {
      if (type.name === "") return { kind: "struct", c, size, name: typeName(c) };
      return { kind: "struct", c: `struct ${type.name}`, size, name: typeName(type.name) };
    }
    default:
      throw new Error(`${c}: a ${type.kind} has no shape`);
  }
}

function numberShape(names: readonly string[], size: number): Shape {
  const base = names.find((name) => BASE_TYPES.has(name)) ?? "";
  const outer = names[0] ?? base;
  return {
    kind: "number",
    c: outer,
    size,
    signed: base.startsWith("__s"),
    bigEndian: base.startsWith("__be"),
    brand: outer === base ? undefined : typeName(outer),
  };
}

function pascal(name: string): string {
  return name.toLowerCase().split("_").map(capital).join("");
}

/** rev_nat_id → revNatId. */
export function camel(name: string): string {
  const text = pascal(name);
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}

/** service_key → ServiceKey, identity_t → Identity. */
export function typeName(name: string): string {
  return pascal(name.replace(/_t$/, ""));
}

function capital(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}
