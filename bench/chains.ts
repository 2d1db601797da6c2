// SPDX-License-Identifier: Apache-2.0
// How much stack a program's deepest chain of calls takes. Linux up to 6.8 gives 512 bytes to a
// chain and rounds each frame up to 32; a newer kernel, which rounds less, loads what is deeper.

import { type Elf, type ElfSymbol, SECTION_EXECUTABLE } from "../src/kernel/elf.ts";

/** MAX_BPF_STACK of the kernel. */
export const MOST_STACK = 512;
const FRAME_STEP = 32;
const INSTRUCTION_BYTES = 8;
const FRAME_POINTER = 10;

/** Classes of instructions, in the low bits of the first byte (RFC 9669, 3.1). */
const CLASS = {
  mask: 7,
  loadImmediate: 0,
  loadMemory: 1,
  store: 2,
  storeRegister: 3,
  jump: 5,
  alu64: 7,
};
const MOVE_REGISTER = 0xbf;
const ADD_IMMEDIATE = 0x07;
const CALL = 0x85;
const LOAD_WIDE = 0x18;
/** What the source register of a call or of a wide load says: a function of the program. */
const OWN_FUNCTION = 1;
const FUNCTION_ADDRESS = 4;

/** The deepest chain from a function on. */
export interface Chain {
  /** Bytes, each frame rounded up. */
  readonly bytes: number;
  /** The functions of it, outermost first, with what each adds. */
  readonly path: readonly string[];
}

interface Calls {
  readonly symbol: ElfSymbol;
  /** Bytes of its frame, rounded up. */
  readonly frame: number;
  readonly callees: readonly ElfSymbol[];
}

/** The deepest chain of calls from each function of an object, by its name. */
export function chainsOf(elf: Elf): ReadonlyMap<string, Chain> {
  const code = new Set(
    elf.sections
      .filter(({ flags }) => (flags & SECTION_EXECUTABLE) !== 0)
      .map(({ index }) => index),
  );
  const functions = elf.symbols.filter(({ type, section }) => type === "func" && code.has(section));
  const calls = new Map(functions.map((symbol) => [symbol, callsOf(elf, functions, symbol)]));
  const chains = new Map<ElfSymbol, Chain>();
  for (const symbol of functions) deepest(symbol, calls, chains, []);
  return new Map([...chains].map(([{ name }, chain]) => [name, chain]));
}

function deepest(
  symbol: ElfSymbol,
  calls: ReadonlyMap<ElfSymbol, Calls>,
  chains: Map<ElfSymbol, Chain>,
  above: readonly ElfSymbol[],
): Chain {
  const known = chains.get(symbol);
  if (known !== undefined) return known;
  if (above.includes(symbol)) throw new Error(`${symbol.name} calls itself`);
  const { frame, callees } = calls.get(symbol) ?? { frame: 0, callees: [] };
  let below: Chain = { bytes: 0, path: [] };
  for (const callee of callees) {
    const chain = deepest(callee, calls, chains, [...above, symbol]);
    if (chain.bytes > below.bytes) below = chain;
  }
  const own = `${symbol.name} ${frame}`;
  const chain = { bytes: frame + below.bytes, path: [own, ...below.path] };
  chains.set(symbol, chain);
  return chain;
}

function callsOf(elf: Elf, functions: readonly ElfSymbol[], symbol: ElfSymbol): Calls {
  const bytes = elf.sections[symbol.section]?.bytes ?? new Uint8Array();
  const end = symbol.offset + symbol.size;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const relocations = new Map(
    elf.relocations
      .filter(({ section }) => section === symbol.section)
      .map((relocation) => [relocation.offset, relocation.symbol]),
  );
  const callees = new Set<ElfSymbol>();
  const frame = new Frame();
  for (let at = symbol.offset; at < end; at += INSTRUCTION_BYTES) {
    const opcode = view.getUint8(at);
    const source = view.getUint8(at + 1) >>> 4;
    const immediate = view.getInt32(at + 4, true);
    frame.follow(opcode, view.getUint8(at + 1), view.getInt16(at + 2, true), immediate);
    const isWide = opcode === LOAD_WIDE;
    const calls = opcode === CALL ? source === OWN_FUNCTION : isWide && source === FUNCTION_ADDRESS;
    const place = calledAt(symbol, relocations.get(at), at, opcode === CALL, immediate);
    const callee = functions.find(
      ({ section, offset }) => section === place?.section && offset === place.offset,
    );
    if (callee !== undefined && (calls || isWide)) callees.add(callee);
    if (isWide) at += INSTRUCTION_BYTES;
  }
  const rounded = Math.max(1, Math.ceil(frame.bytes / FRAME_STEP)) * FRAME_STEP;
  return { symbol, frame: rounded, callees: [...callees] };
}

/** Where a call, or a wide load of an address, leads. */
function calledAt(
  caller: ElfSymbol,
  relocation: ElfSymbol | undefined,
  at: number,
  isCall: boolean,
  immediate: number,
): { readonly section: number; readonly offset: number } | undefined {
  if (!isCall) {
    if (relocation === undefined) return undefined;
    return { section: relocation.section, offset: relocation.offset + immediate };
  }
  // Of a call counts the distance from the next instruction.
  const distance = (immediate + 1) * INSTRUCTION_BYTES;
  if (relocation === undefined) return { section: caller.section, offset: at + distance };
  return { section: relocation.section, offset: relocation.offset + distance };
}

/** How deep a function reaches into its frame. */
class Frame {
  bytes = 0;
  /** Registers that are the frame pointer still. */
  readonly #copies = new Set([FRAME_POINTER]);

  follow(opcode: number, registers: number, offset: number, immediate: number): void {
    const target = registers & 15;
    const source = registers >>> 4;
    const kind = opcode & CLASS.mask;
    if (kind === CLASS.loadMemory) this.#reach(source, offset);
    if (kind === CLASS.store || kind === CLASS.storeRegister) {
      this.#reach(target, offset);
      return;
    }
    if (opcode === MOVE_REGISTER && this.#copies.has(source)) {
      this.#copies.add(target);
      return;
    }
    if (opcode === ADD_IMMEDIATE) this.#reach(target, immediate);
    const isWriting = kind !== CLASS.jump && kind !== CLASS.jump + 1;
    if (isWriting && target !== FRAME_POINTER) this.#copies.delete(target);
  }

  #reach(register: number, offset: number): void {
    if (this.#copies.has(register)) this.bytes = Math.max(this.bytes, -offset);
  }
}
