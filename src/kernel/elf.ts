// SPDX-License-Identifier: Apache-2.0
// As much of ELF as a BPF object's build-time readers need: sections, symbols and relocations.

/** Bytes that are not the 64-bit little-endian ELF that clang writes for BPF. */
export class ElfError extends Error {
  override readonly name = "ElfError";
}

/** A section; `bytes` is empty for one that takes no room in the file (.bss). */
export interface ElfSection {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly size: number;
  readonly bytes: Uint8Array;
}

/** A symbol: `offset` and `size` in bytes within section number `section`. */
export interface ElfSymbol {
  readonly name: string;
  readonly type: "none" | "object" | "func" | "other";
  readonly global: boolean;
  readonly section: number;
  readonly offset: number;
  readonly size: number;
}

/** A place in section number `section`, in bytes, that has to be filled in with a symbol. */
export interface ElfRelocation {
  readonly section: number;
  readonly offset: number;
  readonly symbol: ElfSymbol;
}

/** The parts of an object file. */
export interface Elf {
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
  readonly relocations: readonly ElfRelocation[];
}

/** The flag of a section that holds instructions (SHF_EXECINSTR). */
export const SECTION_EXECUTABLE = 4;

const HEADER_BYTES = 64;
const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 16;
const SYMTAB = 2;
const REL = 9;
const NOBITS = 8;
const MACHINE_BPF = 247;

/** Reads an object file; throws ElfError naming what is wrong. */
export function parseElf(bytes: Uint8Array): Elf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || view.getUint32(0) !== 0x7f454c46) {
    throw new ElfError("not an ELF file");
  }
  if (view.getUint16(4) !== 0x0201) throw new ElfError("not a 64-bit little-endian ELF file");
  if (view.getUint16(18, true) !== MACHINE_BPF) throw new ElfError("not an ELF file for BPF");
  try {
    const sections = readSections(bytes, view);
    const symbols = readSymbols(sections);
    return { sections, symbols, relocations: readRelocations(sections, symbols) };
  } catch (cause) {
    if (cause instanceof RangeError) throw new ElfError("cut short", { cause });
    throw cause;
  }
}

interface RawSection extends Omit<ElfSection, "name"> {
  readonly nameAt: number;
  readonly link: number;
  readonly info: number;
}

function readSections(bytes: Uint8Array, view: DataView): (RawSection & ElfSection)[] {
  const table = Number(view.getBigUint64(40, true));
  const raw: RawSection[] = [];
  for (let index = 0; index < view.getUint16(60, true); index++) {
    const at = table + index * SECTION_HEADER_BYTES;
    const type = view.getUint32(at + 4, true);
    const start = Number(view.getBigUint64(at + 24, true));
    const size = Number(view.getBigUint64(at + 32, true));
    if (type !== NOBITS && start + size > bytes.length) throw new ElfError("cut short");
    raw.push({
      index,
      nameAt: view.getUint32(at, true),
      type,
      flags: Number(view.getBigUint64(at + 8, true)),
      link: view.getUint32(at + 40, true),
      info: view.getUint32(at + 44, true),
      size,
      bytes: type === NOBITS ? new Uint8Array(0) : bytes.subarray(start, start + size),
    });
  }
  const names = raw[view.getUint16(62, true)]?.bytes ?? new Uint8Array(0);
  return raw.map((section) => ({ ...section, name: text(names, section.nameAt) }));
}

function readSymbols(sections: readonly (RawSection & ElfSection)[]): ElfSymbol[] {
  const table = sections.find((section) => section.type === SYMTAB);
  if (table === undefined) return [];
  const names = sections[table.link]?.bytes ?? new Uint8Array(0);
  const view = new DataView(table.bytes.buffer, table.bytes.byteOffset, table.bytes.byteLength);
  const symbols: ElfSymbol[] = [];
  for (let at = 0; at + SYMBOL_BYTES <= table.size; at += SYMBOL_BYTES) {
    const info = view.getUint8(at + 4);
    symbols.push({
      name: text(names, view.getUint32(at, true)),
      type: (["none", "object", "func"] as const)[info & 0xf] ?? "other",
      global: info >>> 4 === 1,
      section: view.getUint16(at + 6, true),
      offset: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
    });
  }
  return symbols;
}

function readRelocations(
  sections: readonly (RawSection & ElfSection)[],
  symbols: readonly ElfSymbol[],
): ElfRelocation[] {
  const found: ElfRelocation[] = [];
  for (const { type, info, bytes } of sections) {
    if (type !== REL) continue;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at + RELOCATION_BYTES <= bytes.length; at += RELOCATION_BYTES) {
      const symbol = symbols[view.getUint32(at + 12, true)];
      if (symbol === undefined) throw new ElfError("a relocation names no symbol");
      found.push({ section: info, offset: Number(view.getBigUint64(at, true)), symbol });
    }
  }
  return found;
}

function text(names: Uint8Array, start: number): string {
  const end = names.indexOf(0, start);
  return Buffer.from(names.subarray(start, end < 0 ? names.length : end)).toString("utf8");
}
