// SPDX-License-Identifier: Apache-2.0
// The kernel's type format (Documentation/bpf/btf.rst): bytes to types. Pure, no I/O.

/** BTF bytes that cannot be read: what was expected, and at which byte or type. */
export class BtfError extends Error {
  override readonly name = "BtfError";
}

/** A struct's or union's member; `bits` is 0 unless it is a bitfield. */
export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  readonly bits: number;
}

/** A value of an enum, as a bigint only where the enum is 64 bits wide. */
export interface BtfEnumerator {
  readonly name: string;
  readonly value: number | bigint;
}

/** Where a section's variable lies; offset and size are 0 in a file that libbpf has not opened. */
export interface BtfSectionVar {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

interface Named {
  readonly id: number;
  readonly name: string;
}

interface Wrapper extends Named {
  readonly type: number;
}

export interface BtfInt extends Named {
  readonly kind: "int";
  readonly size: number;
  readonly bits: number;
  readonly bitOffset: number;
  readonly encoding: "none" | "signed" | "char" | "bool";
}

export interface BtfStruct extends Named {
  readonly kind: "struct" | "union";
  readonly size: number;
  readonly members: readonly BtfMember[];
}

export interface BtfArray extends Named {
  readonly kind: "array";
  readonly type: number;
  readonly indexType: number;
  readonly length: number;
}

export interface BtfEnum extends Named {
  readonly kind: "enum" | "enum64";
  readonly size: number;
  readonly signed: boolean;
  readonly values: readonly BtfEnumerator[];
}

export interface BtfFuncProto extends Named {
  readonly kind: "func_proto";
  readonly type: number;
  readonly params: readonly { readonly name: string; readonly type: number }[];
}

export interface BtfDeclTag extends Wrapper {
  readonly kind: "decl_tag";
  /** The member or parameter it is on, -1 for the thing itself. */
  readonly component: number;
}

export interface BtfTypedef extends Wrapper {
  readonly kind: "typedef";
}

/** A type; `id` is its number, 0 is void. */
export type BtfType =
  | (Named & { readonly kind: "void" })
  | BtfInt
  | BtfStruct
  | BtfArray
  | BtfEnum
  | BtfFuncProto
  | BtfDeclTag
  | BtfTypedef
  | (Wrapper & { readonly kind: "ptr" | "volatile" | "const" | "restrict" | "type_tag" })
  | (Named & { readonly kind: "fwd"; readonly of: "struct" | "union" })
  | (Wrapper & { readonly kind: "func"; readonly linkage: number })
  | (Wrapper & { readonly kind: "var"; readonly linkage: number })
  | (Named & {
      readonly kind: "datasec";
      readonly size: number;
      readonly vars: readonly BtfSectionVar[];
    })
  | (Named & { readonly kind: "float"; readonly size: number });

/** A type of one kind. */
export type BtfOf<Kind extends BtfType["kind"]> = BtfType & { readonly kind: Kind };

const MAGIC = 0xeb9f;
const HEADER_BYTES = 24;
const POINTER_BYTES = 8;
/** The kernel stops at the same depth (BTF's MAX_RESOLVE_DEPTH). */
const MAX_DEPTH = 32;

/** Every type of one object, map or kernel. */
export class Btf {
  /** Types by id; the first is void. */
  readonly types: readonly BtfType[];
  readonly #tags = new Map<string, string[]>();

  constructor(types: readonly BtfType[]) {
    this.types = types;
    for (const type of types) {
      if (type.kind !== "decl_tag") continue;
      const place = `${type.type}:${type.component}`;
      const texts = this.#tags.get(place);
      if (texts === undefined) this.#tags.set(place, [type.name]);
      else texts.push(type.name);
    }
  }

  /** The type with this id; throws BtfError where there is none. */
  get(id: number): BtfType {
    const type = this.types[id];
    if (type === undefined) throw new BtfError(`no type ${id} among ${this.types.length}`);
    return type;
  }

  /** The first type of this kind and name. */
  find<K extends BtfType["kind"]>(kind: K, name: string): BtfOf<K> | undefined {
    for (const type of this.types) if (isKind(type, kind) && type.name === name) return type;
    return undefined;
  }

  /** The type below const, volatile, restrict and type tags; typedefs stay. */
  unqualified(id: number): BtfType {
    let type = this.get(id);
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      if (!isQualifier(type)) return type;
      type = this.get(type.type);
    }
    throw new BtfError(`type ${id}: more than ${MAX_DEPTH} qualifiers deep`);
  }

  /** The type below qualifiers and typedefs. */
  resolve(id: number): BtfType {
    let type = this.unqualified(id);
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      if (type.kind !== "typedef") return type;
      type = this.unqualified(type.type);
    }
    throw new BtfError(`type ${id}: more than ${MAX_DEPTH} typedefs deep`);
  }

  /** The names of the typedefs from `id` down, outermost first. */
  typedefs(id: number): string[] {
    const names: string[] = [];
    let type = this.unqualified(id);
    while (type.kind === "typedef" && names.length < MAX_DEPTH) {
      names.push(type.name);
      type = this.unqualified(type.type);
    }
    return names;
  }

  /** Bytes a value takes; throws BtfError for what has no size (functions, void, sections). */
  sizeOf(id: number): number {
    const type = this.resolve(id);
    switch (type.kind) {
      case "int":
      case "float":
      case "struct":
      case "union":
      case "enum":
      case "enum64":
        return type.size;
      case "ptr":
        return POINTER_BYTES;
      case "array":
        return type.length * this.sizeOf(type.type);
      default:
        throw new BtfError(`type ${id}: a ${type.kind} has no size`);
    }
  }

  /** The declaration tags on a type, or on its member `component`. */
  tags(id: number, component = -1): readonly string[] {
    return this.#tags.get(`${id}:${component}`) ?? [];
  }
}

/** Reads raw BTF (an ELF's .BTF section, /sys/kernel/btf/vmlinux, or BPF_OBJ_GET_INFO's bytes). */
export function parseBtf(bytes: Uint8Array): Btf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES) throw new BtfError(`${bytes.length} bytes are too few for BTF`);
  const magic = view.getUint16(0, true);
  if (magic === 0x9feb) throw new BtfError("big-endian BTF; expected little-endian");
  if (magic !== MAGIC) throw new BtfError(`not BTF: starts with 0x${magic.toString(16)}`);
  const version = view.getUint8(2);
  if (version !== 1) throw new BtfError(`BTF version ${version}; this reader knows 1`);
  const header = view.getUint32(4, true);
  const typesAt = header + view.getUint32(8, true);
  const typesEnd = typesAt + view.getUint32(12, true);
  const namesAt = header + view.getUint32(16, true);
  const namesEnd = namesAt + view.getUint32(20, true);
  if (typesEnd > bytes.length || namesEnd > bytes.length) {
    throw new BtfError(`BTF ends at byte ${bytes.length} before its own sections do`);
  }
  const names = Buffer.from(bytes.buffer, bytes.byteOffset + namesAt, namesEnd - namesAt);
  const reader = new TypeReader(view, typesAt, typesEnd, names);
  const types: BtfType[] = [{ kind: "void", id: 0, name: "" }];
  while (reader.at < typesEnd) types.push(reader.next(types.length));
  return new Btf(types);
}

class TypeReader {
  at: number;
  readonly #view: DataView;
  readonly #end: number;
  readonly #names: Buffer;

  constructor(view: DataView, start: number, end: number, names: Buffer) {
    this.#view = view;
    this.at = start;
    this.#end = end;
    this.#names = names;
  }

  next(id: number): BtfType {
    const name = this.#name();
    const info = this.#u32();
    const size = this.#u32();
    const count = info & 0xffff;
    const flag = info >>> 31 === 1;
    const common = { id, name };
    const kind = KINDS[(info >>> 24) & 0x1f];
    switch (kind) {
      case "int":
        return { ...common, kind, size, ...this.#int() };
      case "typedef":
        return { ...common, kind, type: size };
      case "ptr":
      case "volatile":
      case "const":
      case "restrict":
      case "type_tag":
        return { ...common, kind, type: size };
      case "array":
        return { ...common, kind, type: this.#u32(), indexType: this.#u32(), length: this.#u32() };
      case "struct":
      case "union":
        return { ...common, kind, size, members: this.#list(count, () => this.#member(flag)) };
      case "enum":
        return {
          ...common,
          kind,
          size,
          signed: flag,
          values: this.#list(count, () => this.#enumerator(flag)),
        };
      case "enum64":
        return {
          ...common,
          kind,
          size,
          signed: flag,
          values: this.#list(count, () => this.#wide(flag)),
        };
      case "fwd":
        return { ...common, kind, of: flag ? "union" : "struct" };
      case "func":
        return { ...common, kind, type: size, linkage: count };
      case "func_proto":
        return { ...common, kind, type: size, params: this.#list(count, () => this.#param()) };
      case "var":
        return { ...common, kind, type: size, linkage: this.#u32() };
      case "datasec":
        return { ...common, kind, size, vars: this.#list(count, () => this.#sectionVar()) };
      case "float":
        return { ...common, kind, size };
      case "decl_tag":
        return { ...common, kind, type: size, component: this.#u32() | 0 };
      case undefined:
        throw new BtfError(`type ${id}: kind ${(info >>> 24) & 0x1f} is newer than this reader`);
    }
  }

  #u32(): number {
    if (this.at + 4 > this.#end) throw new BtfError(`a type runs past byte ${this.#end}`);
    this.at += 4;
    return this.#view.getUint32(this.at - 4, true);
  }

  #name(): string {
    const start = this.#u32();
    const end = this.#names.indexOf(0, start);
    if (end < 0)
      throw new BtfError(`a name starts at ${start}, outside ${this.#names.length} bytes`);
    return this.#names.toString("utf8", start, end);
  }

  #list<T>(count: number, read: () => T): T[] {
    const list: T[] = [];
    for (let index = 0; index < count; index++) list.push(read());
    return list;
  }

  #int(): Pick<BtfInt, "bits" | "bitOffset" | "encoding"> {
    const info = this.#u32();
    const flags = (info >>> 24) & 0xf;
    const encoding = flags & 4 ? "bool" : flags & 2 ? "char" : flags & 1 ? "signed" : "none";
    return { bits: info & 0xff, bitOffset: (info >>> 16) & 0xff, encoding };
  }

  #member(bitfields: boolean): BtfMember {
    const name = this.#name();
    const type = this.#u32();
    const at = this.#u32();
    if (!bitfields) return { name, type, bitOffset: at, bits: 0 };
    return { name, type, bitOffset: at & 0xffffff, bits: at >>> 24 };
  }

  #enumerator(signed: boolean): BtfEnumerator {
    const name = this.#name();
    const value = this.#u32();
    return { name, value: signed ? value | 0 : value };
  }

  #wide(signed: boolean): BtfEnumerator {
    const name = this.#name();
    const low = BigInt(this.#u32());
    const value = (BigInt(this.#u32()) << 32n) | low;
    return { name, value: signed ? BigInt.asIntN(64, value) : value };
  }

  #param(): { name: string; type: number } {
    return { name: this.#name(), type: this.#u32() };
  }

  #sectionVar(): BtfSectionVar {
    return { type: this.#u32(), offset: this.#u32(), size: this.#u32() };
  }
}

const KINDS = [
  undefined,
  "int",
  "ptr",
  "array",
  "struct",
  "union",
  "enum",
  "fwd",
  "typedef",
  "volatile",
  "const",
  "restrict",
  "func",
  "func_proto",
  "var",
  "datasec",
  "float",
  "decl_tag",
  "type_tag",
  "enum64",
] as const;

function isKind<K extends BtfType["kind"]>(type: BtfType, kind: K): type is BtfOf<K> {
  return type.kind === kind;
}

function isQualifier(type: BtfType): type is BtfOf<"const" | "volatile" | "restrict" | "type_tag"> {
  return (
    type.kind === "const" ||
    type.kind === "volatile" ||
    type.kind === "restrict" ||
    type.kind === "type_tag"
  );
}
