// SPDX-License-Identifier: Apache-2.0
// The picture of what is shared, as TypeScript: straight-line codecs that an engine can inline.

import { createHash } from "node:crypto";
import type { Btf, BtfEnum } from "../../kernel/btf.ts";
import { docOf, type MapDeclaration } from "../../kernel/btf-object.ts";
import { mapTypeName } from "../../kernel/kinds.ts";
import { layoutDigest, mapBlocks } from "../layout.ts";
import {
  type Abi,
  AbiRefusal,
  abiText,
  type ConfigInitial,
  type In,
  mapDoc,
  type SharedStruct,
} from "./collect.ts";
import { camel, NET_TYPES, PADDING, type Shape, shapeOf, typeName } from "./shape.ts";

/** Says where the file is from; the first line of both files. */
export const NOTICE =
  "generated from build/bpf/*.bpf.o by src/datapath/generate.ts (make generate)";

/** Arrays up to this long are tuples, whose codec has no loop. */
const MAX_TUPLE = 8;
const MAX_TUPLE_COLUMNS = 70;

/** The text of gen/abi.ts; `src` leads from its folder to src/. */
export function emitAbi(abi: Abi, src = "../.."): string {
  const file = new Emitter(abi);
  const body = [
    ...abi.enums.map((it) => file.enumeration(it)),
    ...abi.structs.map((it) => file.struct(it)),
    file.maps(),
    file.config(),
    programs(abi),
    text(abi),
  ];
  return [file.head(src), ...body].join("\n");
}

class Emitter {
  readonly #abi: Abi;
  readonly #enums: ReadonlySet<string>;
  /** What has a name in the file already, and what C calls it. */
  readonly #names = new Map([["Config", "the type of all constants"]]);
  readonly #brands = new Map<string, { readonly c: string; readonly base: string }>();
  readonly #net = new Map<string, string>();
  readonly #scalars = new Map<string, string>();
  readonly #runtime = new Set<string>();
  readonly #types = new Set(["Codec", "ConfigVar", "MapShape", "ProgramSpec", "TypedMapSpec"]);

  constructor(abi: Abi) {
    this.#abi = abi;
    this.#enums = new Set(abi.enums.map(({ it }) => typeName(it.name)));
    for (const { it } of abi.enums) this.#claim(typeName(it.name), `enum ${it.name}`);
    for (const { it } of abi.structs) this.#claim(it.name, it.c);
  }

  /** Comes first in the file and is made last, when all that the rest needs is known. */
  head(src: string): string {
    if (this.#brands.size > 0) this.#types.add("Brand");
    const imports = [...[...this.#types].map((name) => `type ${name}`), ...this.#runtime].sort();
    const lines = [
      `// ${NOTICE}. Do not edit.`,
      "// SPDX-License-Identifier: Apache-2.0",
      "",
      "import {",
      ...imports.map((name) => `  ${name},`),
      `} from "${src}/kernel/codec.ts";`,
      ...[...this.#net]
        .sort()
        .map(([name, from]) => `import type { ${name} } from "${src}/${from}";`),
      "",
    ];
    for (const [name, { c, base }] of [...this.#brands].sort()) {
      lines.push(`/** ${c} */`, `export type ${name} = Brand<${base}, "${name}">;`);
    }
    lines.push("", ...this.#scalars.values());
    return lines.join("\n");
  }

  enumeration({ it }: In<BtfEnum>): string {
    const name = typeName(it.name);
    const docs = this.#abi.enumDocs.get(it.name);
    const prefix = sharedPrefix(it);
    const values = it.values.map(({ name, value }) => {
      const short = name.slice(prefix.length);
      const doc = docs?.get(name) ?? "";
      return { key: camel(short), text: short.toLowerCase(), value, doc };
    });
    const byValue = [
      ...new Map([...values].reverse().map((it) => [it.value, it])).values(),
    ].reverse();
    const lower = camel(it.name);
    const lines = [
      `/** enum ${it.name} */`,
      `export const ${name} = {`,
      ...values.flatMap(({ key, value, doc }) => [...comment(doc, "  "), `  ${key}: ${value},`]),
      "} as const;",
      `export type ${name} = (typeof ${name})[keyof typeof ${name}];`,
      `/** The names of enum ${it.name} for people, by value. */`,
      `export const ${lower}Names: { readonly [value: number]: string } = {`,
      ...byValue.map(({ value, text }) => `  "${value}": "${text}",`),
      "};",
    ];
    if (docs !== undefined) {
      lines.push(
        `/** What the values of enum ${it.name} mean, by value. */`,
        `export const ${lower}Texts: { readonly [value: number]: string } = {`,
        ...byValue.map(({ value, doc }) => `  "${value}": ${JSON.stringify(doc)},`),
        "};",
      );
    }
    return `${lines.join("\n")}\n`;
  }

  struct({ btf, it }: In<SharedStruct>): string {
    const { name } = it;
    const members = it.members.map((member, index) => {
      const shape = shapeOf(btf, member.type);
      const at = { offset: member.bitOffset / 8, field: `${it.c}.${member.name}` };
      const doc = docOf(btf, it.id, index);
      return { ...at, name: camel(member.name), padding: PADDING.test(member.name), shape, doc };
    });
    const fields = members.filter(({ padding }) => !padding);
    const doc = docOf(btf, it.id);
    return [
      ...comment(doc === "" ? it.c : `${it.c}: ${doc}`, ""),
      `export interface ${name} {`,
      ...fields.flatMap((field) => [
        ...comment(field.doc, "  "),
        `  readonly ${field.name}: ${this.#type(field.shape)};`,
      ]),
      "}",
      `export const ${name}: Codec<${name}> = {`,
      `  name: "${it.c}",`,
      `  size: ${it.size},`,
      "  decode: (view, offset) => ({",
      ...fields.map((field) => `    ${field.name}: ${this.#decode(field.shape, field.offset)},`),
      "  }),",
      "  encode: (view, offset, value) => {",
      ...members.map(({ shape, offset, padding, ...member }) => {
        if (padding) return `    ${this.#encodePadding(shape.size, offset)};`;
        return this.#encode(shape, offset, `value.${member.name}`, member.field, "    ");
      }),
      "  },",
      "};\n",
    ].join("\n");
  }

  maps(): string {
    const entries = this.#abi.maps.map((map) => {
      const { it, btf } = map;
      const lines = [
        `name: "${it.name}"`,
        `type: "${mapTypeName(it.type)}"`,
        `keySize: ${it.keySize}`,
        `valueSize: ${it.valueSize}`,
        `maxEntries: ${it.maxEntries}`,
        `flags: ${it.flags}`,
      ];
      let type = "MapShape";
      if (it.key !== undefined && it.value !== undefined) {
        const [key, value] = [shapeOf(btf, it.key), shapeOf(btf, it.value)];
        lines.push(`key: ${this.#codec(key)}`, `value: ${this.#codec(value)}`);
        lines.push(`layout: "${mapLayout(btf, it)}"`);
        type = `TypedMapSpec<${this.#type(key)}, ${this.#type(value)}>`;
      }
      const body = lines.map((line) => `    ${line},`).join("\n");
      return `  /** ${mapDoc(map)} */\n  ${camel(it.name)}: {\n${body}\n  } satisfies ${type},`;
    });
    return [
      "/** The maps that the objects declare. */",
      "export const maps = {",
      ...entries,
      "} as const;\n",
    ].join("\n");
  }

  config(): string {
    const constants = this.#abi.config.map(({ btf, it }) => {
      const shape = shapeOf(btf, it.type);
      return { ...it, shape, key: camel(it.name), ts: this.#type(shape) };
    });
    return [
      "/** Constants of the programs, set before load. */",
      "export interface Config {",
      ...constants.flatMap(({ key, ts, doc }) => [
        ...comment(doc, "  "),
        `  readonly ${key}: ${ts};`,
      ]),
      "}",
      "/** The constants by their names here: how C knows them, and what it says of them. */",
      "export const config: { readonly [Key in keyof Config]: ConfigVar<Config[Key]> } = {",
      ...constants.flatMap((constant) => [
        `  ${constant.key}: {`,
        `    name: "${constant.name}",`,
        `    codec: ${this.#codec(constant.shape)},`,
        `    initial: ${this.#initial(constant, constant.shape)},`,
        `    doc: ${JSON.stringify(constant.doc)},`,
        "  },",
      ]),
      "};\n",
    ].join("\n");
  }

  #claim(name: string, what: string): string {
    const other = this.#names.get(name);
    if (other !== undefined && other !== what) {
      throw new AbiRefusal(`${what} and ${other} would both be ${name}; rename one`);
    }
    this.#names.set(name, what);
    return name;
  }

  /** The type of a value in TypeScript. */
  #type(shape: Shape): string {
    switch (shape.kind) {
      case "bool":
        return "boolean";
      case "bytes":
        return "Uint8Array";
      case "mac":
        return this.#brand("mac_t", "Mac", "number");
      case "ipv6":
        return this.#brand("ipv6_t", "Ipv6", "bigint");
      case "struct":
        return shape.name;
      case "array": {
        const element = this.#type(shape.element);
        if (shape.length > MAX_TUPLE) return `readonly ${element}[]`;
        return `readonly [${Array(shape.length).fill(element).join(", ")}]`;
      }
      case "number": {
        const base = shape.size === 8 ? "bigint" : "number";
        return shape.brand === undefined ? base : this.#brand(shape.c, shape.brand, base);
      }
    }
  }

  #brand(c: string, name: string, base: string): string {
    if (this.#enums.has(name)) return name;
    const net = NET_TYPES[c];
    if (net !== undefined) {
      this.#net.set(net.name, net.from);
      return this.#claim(net.name, `typedef ${c}`);
    }
    this.#brands.set(this.#claim(name, `typedef ${c}`), { c, base });
    return name;
  }

  #decode(shape: Shape, offset: number): string {
    const at = place(offset);
    switch (shape.kind) {
      case "bool":
        return `view.getUint8(${at}) !== 0`;
      case "bytes":
        return `${this.#use("getBytes")}(view, ${at}, ${shape.size})`;
      case "mac":
        return `${this.#use("getUint48")}(view, ${at}) as ${this.#type(shape)}`;
      case "ipv6":
        return `${this.#use("getUint128")}(view, ${at}) as ${this.#type(shape)}`;
      case "struct":
        return `${shape.name}.decode(view, ${at})`;
      case "array": {
        const { element, length } = shape;
        if (length > MAX_TUPLE) {
          return `${this.#use("getArray")}(${this.#codec(element)}, view, ${at}, ${length})`;
        }
        const each = Array.from({ length }, (_, i) =>
          this.#decode(element, offset + i * element.size),
        );
        const line = `[${each.join(", ")}]`;
        if (line.length < MAX_TUPLE_COLUMNS) return line;
        return `[\n${each.map((item) => `      ${item},`).join("\n")}\n    ]`;
      }
      case "number": {
        const read = `view.get${accessor(shape)}(${at}${order(shape)})`;
        return shape.brand === undefined ? read : `${read} as ${this.#type(shape)}`;
      }
    }
  }

  #encode(shape: Shape, offset: number, value: string, field: string, indent: string): string {
    const at = place(offset);
    const quoted = JSON.stringify(field);
    switch (shape.kind) {
      case "bool":
        return `${indent}view.setUint8(${at}, ${value} ? 1 : 0);`;
      case "bytes":
        return (
          `${indent}${this.#use("setBytes")}` + `(view, ${at}, ${shape.size}, ${value}, ${quoted});`
        );
      case "mac":
        return `${indent}${this.#use("setUint48")}(view, ${at}, ${value});`;
      case "ipv6":
        return `${indent}${this.#use("setUint128")}(view, ${at}, ${value});`;
      case "struct":
        return `${indent}${shape.name}.encode(view, ${at}, ${value});`;
      case "array": {
        const { element, length } = shape;
        if (length > MAX_TUPLE) {
          const codec = this.#codec(element);
          const target = `${codec}, view, ${at}, ${length}`;
          return `${indent}${this.#use("setArray")}(${target}, ${value}, ${quoted});`;
        }
        const each = Array.from({ length }, (_, i) =>
          this.#encode(element, offset + i * element.size, `${value}[${i}]`, field, indent),
        );
        return each.join("\n");
      }
      case "number":
        return `${indent}view.set${accessor(shape)}(${at}, ${value}${order(shape)});`;
    }
  }

  #encodePadding(size: number, offset: number): string {
    const at = place(offset);
    if (size === 8) return `view.setBigUint64(${at}, 0n)`;
    if (size === 1 || size === 2 || size === 4) return `view.setUint${size * 8}(${at}, 0)`;
    return `${this.#use("setZeros")}(view, ${at}, ${size})`;
  }

  /** The name of a codec for a type; one for a number is written down at its first use. */
  #codec(shape: Shape): string {
    if (shape.kind === "struct") return shape.name;
    const name = `${camel(
      shape.c
        .replace(/_t$/, "")
        .replace(/[^a-z0-9]+/gi, "_")
        .replace(/^_+|_+$/g, ""),
    )}Codec`;
    if (!this.#scalars.has(name)) {
      const lines = [
        `const ${name}: Codec<${this.#type(shape)}> = {`,
        `  name: "${shape.c}",`,
        `  size: ${shape.size},`,
        `  decode: (view, offset) => ${this.#decode(shape, 0)},`,
        "  encode: (view, offset, value) => {",
        this.#encode(shape, 0, "value", shape.c, "    "),
        "  },",
        "};\n",
      ];
      this.#scalars.set(name, lines.join("\n"));
    }
    return name;
  }

  #initial({ name, bytes }: ConfigInitial, shape: Shape): string {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    switch (shape.kind) {
      case "bool":
        return `${view.getUint8(0) !== 0}`;
      case "mac":
        return `0x${Buffer.from(bytes).toString("hex")} as ${this.#type(shape)}`;
      case "ipv6":
        return `0x${Buffer.from(bytes).toString("hex")}n as ${this.#type(shape)}`;
      case "number": {
        const value = readNumber(view, shape);
        return shape.brand === undefined ? value : `${value} as ${this.#type(shape)}`;
      }
      default:
        throw new AbiRefusal(`constant ${name}: a constant is a number, a bool or an address`);
    }
  }

  #use(name: string): string {
    this.#runtime.add(name);
    return name;
  }
}

function programs(abi: Abi): string {
  const lines = abi.programs.map(
    ({ name, object, section, type }) =>
      `  ${camel(name)}: { name: "${name}", object: "${object}", section: "${section}", type: "${type}" },`,
  );
  return [
    "/** The programs of the objects. */",
    "export const programs = {",
    ...lines,
    "} as const satisfies { readonly [key: string]: ProgramSpec };\n",
  ].join("\n");
}

/** The golden text rides along, for a message can only name what it can look up. */
function text(abi: Abi): string {
  const golden = abiText(abi);
  const digest = createHash("sha256").update(golden).digest("hex");
  return [
    "/** The sha256 of bpf/abi.txt's text below its first line. */",
    `export const abiDigest = "${digest}";`,
    "/** That text. */",
    `export const abiText = \`\n${golden}\`;\n`,
  ].join("\n");
}

function mapLayout(btf: Btf, { key, value }: MapDeclaration): string {
  return layoutDigest(mapBlocks(btf, key ?? 0, value ?? 0));
}

/** The words that all values share with the enum's own name: TRUST_ of enum trust. */
function sharedPrefix(it: BtfEnum): string {
  let prefix = "";
  for (const word of it.name.toUpperCase().split("_")) {
    const longer = `${prefix}${word}_`;
    if (!it.values.every(({ name }) => name.startsWith(longer))) break;
    prefix = longer;
  }
  return prefix;
}

type NumberShape = Shape & { readonly kind: "number" };

function accessor({ size, signed }: NumberShape): string {
  return `${size === 8 ? "Big" : ""}${signed ? "Int" : "Uint"}${size * 8}`;
}

function order({ size, bigEndian }: NumberShape): string {
  return size === 1 || bigEndian ? "" : ", true";
}

function place(offset: number): string {
  return offset === 0 ? "offset" : `offset + ${offset}`;
}

function comment(doc: string, indent: string): string[] {
  return doc === "" ? [] : [`${indent}/** ${doc.replaceAll("*/", "*\\/")} */`];
}

function readNumber(view: DataView, { size, signed, bigEndian }: NumberShape): string {
  const little = !bigEndian;
  switch (size) {
    case 1:
      return `${signed ? view.getInt8(0) : view.getUint8(0)}`;
    case 2:
      return `${signed ? view.getInt16(0, little) : view.getUint16(0, little)}`;
    case 4:
      return `${signed ? view.getInt32(0, little) : view.getUint32(0, little)}`;
    default:
      return `${signed ? view.getBigInt64(0, little) : view.getBigUint64(0, little)}n`;
  }
}
