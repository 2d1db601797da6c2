// SPDX-License-Identifier: Apache-2.0
// Values of shared structs, made from abi.txt's text alone: it shares no code with the generator.

import fc from "fast-check";

type Layout = ReadonlyMap<string, readonly string[]>;

/** "struct service" → its line and those about it. */
export function readLayout(abiText: string): Layout {
  const layout = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of abiText.split("\n").filter((it) => it !== "" && !it.startsWith("#"))) {
    if (!line.startsWith(" ")) {
      current = [];
      layout.set(line.split(" ").slice(0, 2).join(" "), current);
    }
    current.push(line.trim());
  }
  return layout;
}

/** Which bytes of a struct carry nothing. */
export function paddingOf(layout: Layout, type: string): Set<number> {
  const found = new Set<number>();
  for (const { offset, type: member, name } of members(layout, type)) {
    const inner = isPadding(name) ? range(sizeOf(layout, member)) : innerPadding(layout, member);
    for (const at of inner) found.add(offset + at);
  }
  return found;
}

/** A value of a type as its codec decodes it. */
export function arbitraryOf(layout: Layout, type: string): fc.Arbitrary<unknown> {
  const array = /^(.*)\[(\d+)\]$/.exec(type);
  if (array !== null) {
    const [, element = "", count = ""] = array;
    const length = Number(count);
    if (element === "__u8") return fc.uint8Array({ minLength: length, maxLength: length });
    return fc.tuple(...range(length).map(() => arbitraryOf(layout, element)));
  }
  if (type === "mac_t") return fc.maxSafeNat().map((it) => it % 2 ** 48);
  if (type === "ipv6_t") return fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });
  const target = layout.get(`typedef ${type}`);
  const alias = target?.[0]?.split(" ").slice(2).join(" ") ?? "";
  if (target !== undefined && target.length === 1) return arbitraryOf(layout, alias);
  if (type.startsWith("struct ") || target !== undefined) return structOf(layout, type);
  if (type.startsWith("enum ")) return fc.integer({ min: 0, max: 2 ** 31 - 1 });
  return scalarOf(type);
}

/** A value as bpftool prints it: by C's names, each number as this machine reads its bytes. */
export function printed(layout: Layout, type: string, value: unknown): unknown {
  const array = /^(.*)\[(\d+)\]$/.exec(type);
  if (array !== null) {
    const [, element = ""] = array;
    return Array.from(value as Iterable<unknown>, (each) => printed(layout, element, each));
  }
  if (type === "mac_t") {
    const text = (value as number).toString(16).padStart(12, "0");
    const bytes = text.match(/../g)?.map((byte) => Number.parseInt(byte, 16));
    return layout.get("typedef mac_t")?.[0]?.endsWith("struct mac") ? { byte: bytes } : bytes;
  }
  if (type === "ipv6_t") {
    const text = (value as bigint).toString(16).padStart(32, "0");
    return { word: text.match(/.{8}/g)?.map((it) => printed(layout, "__be32", BigInt(`0x${it}`))) };
  }
  const target = layout.get(`typedef ${type}`);
  if (target?.length === 1) {
    return printed(layout, target[0]?.split(" ").slice(2).join(" ") ?? "", value);
  }
  if (type.startsWith("struct ") || target !== undefined) {
    const fields = value as Readonly<Record<string, unknown>>;
    const pairs = members(layout, type).map((it) => {
      if (isPadding(it.name)) return [it.name, printedPadding(it.type)];
      return [it.name, printed(layout, it.type, fields[camel(it.name)])];
    });
    return Object.fromEntries(pairs);
  }
  if (type.startsWith("enum ")) {
    const known = layout.get(type)?.find((line) => line.startsWith(`${value} `));
    return known === undefined ? value : known.split(" ")[1];
  }
  if (!type.startsWith("__be")) return value;
  const bits = Number(type.slice("__be".length));
  const hex = BigInt(value as number | bigint)
    .toString(16)
    .padStart(bits / 4, "0");
  const swapped = BigInt(`0x${hex.match(/../g)?.reverse().join("")}`);
  return bits === 64 ? swapped : Number(swapped);
}

/** The bytes that a type takes. */
export function sizeOf(layout: Layout, type: string): number {
  const array = /^(.*)\[(\d+)\]$/.exec(type);
  if (array !== null) return sizeOf(layout, array[1] ?? "") * Number(array[2]);
  const words = (layout.get(type) ?? layout.get(`typedef ${type}`))?.[0]?.split(" ") ?? [];
  const last = words.at(-1) ?? "";
  if (/^\d+$/.test(last)) return Number(last);
  if (words.length > 0) return sizeOf(layout, words.slice(2).join(" "));
  return type === "_Bool" ? 1 : Number(/\d+$/.exec(type)?.[0]) / 8;
}

function structOf(layout: Layout, type: string): fc.Arbitrary<unknown> {
  const fields = members(layout, type).filter(({ name }) => !isPadding(name));
  return fc.record(
    Object.fromEntries(fields.map((it) => [camel(it.name), arbitraryOf(layout, it.type)])),
    { noNullPrototype: true },
  );
}

function scalarOf(type: string): fc.Arbitrary<unknown> {
  if (type === "_Bool") return fc.boolean();
  const [, sign, digits] = /^__(u|s|be|le)(\d+)$/.exec(type) ?? [];
  if (sign === undefined) throw new Error(`no values for type "${type}"`);
  const bits = Number(digits);
  const low = sign === "s" ? -(2n ** BigInt(bits - 1)) : 0n;
  const high = low + 2n ** BigInt(bits) - 1n;
  if (bits === 64) return fc.bigInt({ min: low, max: high });
  return fc.integer({ min: Number(low), max: Number(high) });
}

function members(layout: Layout, type: string) {
  const lines = layout.get(type) ?? layout.get(`typedef ${type}`) ?? [];
  return lines.slice(1).map((line) => {
    const words = line.split(" ");
    const name = words.at(-1) ?? "";
    return { offset: Number(words[0]), type: words.slice(1, -1).join(" "), name };
  });
}

function innerPadding(layout: Layout, type: string): number[] {
  const array = /^(.*)\[(\d+)\]$/.exec(type);
  if (array !== null) {
    const [, element = "", count = ""] = array;
    const size = sizeOf(layout, element);
    const inner = innerPadding(layout, element);
    return range(Number(count)).flatMap((index) => inner.map((at) => at + index * size));
  }
  return [...paddingOf(layout, type)];
}

function printedPadding(type: string): unknown {
  const length = /\[(\d+)\]$/.exec(type)?.[1];
  if (length !== undefined) return new Array(Number(length)).fill(0);
  return type.endsWith("64") ? 0n : 0;
}

function isPadding(name: string): boolean {
  return /^(reserved|pad)\d*$/.test(name);
}

function camel(name: string): string {
  return name.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

function range(length: number): number[] {
  return Array.from({ length }, (_, index) => index);
}
