// SPDX-License-Identifier: Apache-2.0

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { Attr, holding } from "./bpf.ts";
import { check, KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import {
  type MapType,
  mapTypeName,
  PROGRAM_TYPES,
  type ProgramType,
  programTypeName,
} from "./kinds.ts";
import { libbpf, listenToLibbpf } from "./libbpf.ts";
import { BpfMap } from "./map.ts";
import { lastWords, loadFailure } from "./object-failure.ts";
import { BpfProgram } from "./program.ts";
import { holdingSignals } from "./signals.ts";

type Handle = sys.Pointer;

/** A map as its object declares it. What is set here counts at load(). */
export class ObjectMap {
  readonly name: string;
  readonly type: MapType | "unspec";
  readonly keySize: number;
  readonly valueSize: number;
  readonly flags: number;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
  maxEntries: number;
  /**
   * For the maps behind global variables (".rodata" and its like): what they begin with, to be
   * overwritten. Offsets of variables are in the object's BTF.
   */
  readonly initialValue: Uint8Array | undefined;
  #reused: BpfMap | undefined;

  constructor(name: string, map: Handle) {
    const lib = libbpf();
    this.name = name;
    this.type = mapTypeName(lib.mapType(map));
    this.keySize = lib.mapKeySize(map);
    this.valueSize = lib.mapValueSize(map);
    this.flags = lib.mapFlags(map);
    this.keyTypeId = lib.mapKeyTypeId(map);
    this.valueTypeId = lib.mapValueTypeId(map);
    this.maxEntries = lib.mapMaxEntries(map);
    this.initialValue = readInitialValue(map);
  }

  get reused(): BpfMap | undefined {
    return this.#reused;
  }

  /** Makes the programs use `map`, which stays the caller's to close, instead of a new one. */
  reuse(map: BpfMap): void {
    const { type, keySize, valueSize } = map.info;
    const differences = [
      type === this.type ? "" : `type ${type} instead of ${this.type}`,
      keySize === this.keySize ? "" : `keys of ${keySize} bytes instead of ${this.keySize}`,
      valueSize === this.valueSize
        ? ""
        : `values of ${valueSize} bytes instead of ${this.valueSize}`,
    ].filter((difference) => difference !== "");
    if (differences.length > 0) {
      throw new Error(`cannot reuse map ${map.name} as ${this.name}: ${differences.join(", ")}`);
    }
    this.#reused = map;
  }
}

/** A program as its object declares it. What is set here counts at load(). */
export class ObjectProgram {
  readonly name: string;
  readonly section: string;
  type: ProgramType;
  /** enum bpf_attach_type. */
  expectedAttachType: number;
  /** Whether load() loads it. */
  autoload: boolean;

  constructor(name: string, program: Handle) {
    const lib = libbpf();
    this.name = name;
    this.section = lib.programSection(program);
    this.type = programTypeName(lib.programType(program));
    this.expectedAttachType = lib.programAttachType(program);
    this.autoload = lib.programAutoload(program);
  }
}

/** An ELF object of BPF programs, open and not yet loaded. */
export class BpfObject implements Disposable {
  readonly path: string;
  /** The file's name up to its first dot. */
  readonly name: string;
  readonly maps: ReadonlyMap<string, ObjectMap>;
  readonly programs: ReadonlyMap<string, ObjectProgram>;
  /** The raw .BTF section, with the sizes and offsets of variables filled in by libbpf. */
  readonly btf: Uint8Array;
  readonly #elf: Uint8Array;
  #handle: Handle | undefined;

  constructor(path: string, elf: Uint8Array) {
    this.path = path;
    this.name = objectName(path);
    this.#elf = elf;
    const handle = openHandle(this.name, path, elf);
    this.#handle = handle;
    this.maps = new Map(
      listMaps(handle).map(({ name, map }) => [name, new ObjectMap(name, map)] as const),
    );
    this.programs = new Map(
      listPrograms(handle).map(({ name, program }) => [name, new ObjectProgram(name, program)]),
    );
    this.btf = readObjectBtf(handle);
  }

  /**
   * The map of this name; maps of global variables are called by their section, such as ".rodata".
   */
  map(name: string): ObjectMap {
    return member(this.maps, "map", name, this.path);
  }

  program(name: string): ObjectProgram {
    return member(this.programs, "program", name, this.path);
  }

  /**
   * Creates the maps, has the programs verified, and returns both. The object can be loaded again.
   * Blocks for the time that the verifier takes.
   */
  load(): LoadedObject {
    const handle = this.#handle ?? openHandle(this.name, this.path, this.#elf);
    this.#handle = undefined;
    try {
      this.#apply(handle);
      const result = holdingSignals(() => libbpf().objectLoad(handle));
      if (result === 0) return takeLoaded(handle, this.path);
    } finally {
      libbpf().objectClose(handle);
    }
    return this.#loadListening();
  }

  /** Frees what was open; loaded maps and programs stay. */
  close(): void {
    if (this.#handle !== undefined) libbpf().objectClose(this.#handle);
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * The second attempt, after a failure, is the one that asks for logs: they cost time and memory.
   */
  #loadListening(): LoadedObject {
    const lib = libbpf();
    const lines: string[] = [];
    // The kernels before 6.4 refuse a log that does not fit. One buffer serves all: the first
    // failure ends the load.
    const log = new Uint8Array(new ArrayBuffer(MAX_LOG_BYTES));
    const handle = openHandle(this.name, this.path, this.#elf);
    try {
      this.#apply(handle);
      for (const { program } of listPrograms(handle)) {
        lib.programSetLogBuffer(program, sys.address(log), log.byteLength);
      }
      const heard = (line: string): void => void lines.push(line);
      const result = listenToLibbpf(heard, () => holdingSignals(() => lib.objectLoad(handle)));
      if (result === 0) return takeLoaded(handle, this.path);
      const text = new TextDecoder().decode(log.subarray(0, log.indexOf(0)));
      throw loadFailure(this, result, lines, text);
    } finally {
      lib.objectClose(handle);
    }
  }

  #apply(handle: Handle): void {
    const lib = libbpf();
    const refuse = (result: number, what: string): void => {
      if (result < 0) throw new KernelError("prepare", `${what} of ${this.path}`, result);
    };
    for (const { name, map } of listMaps(handle)) {
      const wanted = this.map(name);
      refuse(lib.mapSetPinPath(map, null), name); // pins are the caller's business
      if (wanted.reused !== undefined) {
        refuse(lib.mapReuseFd(map, wanted.reused.fd), name);
      } else if (wanted.maxEntries !== lib.mapMaxEntries(map)) {
        refuse(lib.mapSetMaxEntries(map, wanted.maxEntries), name);
      }
      const value = wanted.initialValue;
      if (value !== undefined && wanted.reused === undefined) {
        refuse(lib.mapSetInitialValue(map, value, value.byteLength), name);
      }
    }
    for (const { name, program } of listPrograms(handle)) {
      const wanted = this.program(name);
      refuse(lib.programSetType(program, PROGRAM_TYPES[wanted.type]), name);
      refuse(lib.programSetAttachType(program, wanted.expectedAttachType), name);
      refuse(lib.programSetAutoload(program, wanted.autoload), name);
    }
  }
}

/** The maps and programs of an object, in the kernel. */
export class LoadedObject implements Disposable {
  readonly path: string;
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** Those that were autoloaded. */
  readonly programs: ReadonlyMap<string, BpfProgram>;

  constructor(
    path: string,
    maps: ReadonlyMap<string, BpfMap>,
    programs: ReadonlyMap<string, BpfProgram>,
  ) {
    this.path = path;
    this.maps = maps;
    this.programs = programs;
  }

  map(name: string): BpfMap {
    return member(this.maps, "map", name, this.path);
  }

  program(name: string): BpfProgram {
    return member(this.programs, "program", name, this.path);
  }

  /** Gives every descriptor back; what is pinned, attached or mapped stays. */
  close(): void {
    for (const map of this.maps.values()) map.close();
    for (const program of this.programs.values()) program.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens an ELF object of BPF programs: nothing reaches the kernel before load(). */
export function openObject(path: string): BpfObject {
  return new BpfObject(path, readElf(path));
}

function readElf(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new Error(`cannot open object ${path}: ${String(cause)}`, { cause });
  }
}

const MAX_LOG_BYTES = (1 << 24) - 1;

function objectName(path: string): string {
  const file = basename(path);
  const dot = file.indexOf(".");
  return dot < 0 ? file : file.slice(0, dot);
}

function openHandle(name: string, path: string, elf: Uint8Array): Handle {
  const lib = libbpf();
  const options = new Attr(16).u64(0, 16n).string(8, name); // struct bpf_object_open_opts
  const open = () =>
    holding(options, () => lib.objectOpenMemory(elf, elf.byteLength, options.bytes));
  const handle = open();
  if (handle !== null) return handle;
  const errno = sys.lastErrno();
  const lines: string[] = [];
  listenToLibbpf((line) => void lines.push(line), open);
  throw new KernelError("open object", path, errno, { detail: lastWords(lines) });
}

function listMaps(handle: Handle): { name: string; map: Handle }[] {
  const lib = libbpf();
  const maps: { name: string; map: Handle }[] = [];
  for (let map = lib.nextMap(handle, null); map !== null; map = lib.nextMap(handle, map)) {
    const name = lib.mapName(map);
    const dot = name.indexOf("."); // libbpf puts the object's name before some sections
    maps.push({ name: dot < 0 ? name : name.slice(dot), map });
  }
  return maps;
}

function listPrograms(handle: Handle): { name: string; program: Handle }[] {
  const lib = libbpf();
  const programs: { name: string; program: Handle }[] = [];
  let program = lib.nextProgram(handle, null);
  while (program !== null) {
    programs.push({ name: lib.programName(program), program });
    program = lib.nextProgram(handle, program);
  }
  return programs;
}

function readInitialValue(map: Handle): Uint8Array | undefined {
  const size = new Uint8Array(8);
  const value = libbpf().mapInitialValue(map, size);
  if (value === null) return undefined;
  return copyMemory(value, Number(new DataView(size.buffer).getBigUint64(0, true)));
}

function readObjectBtf(handle: Handle): Uint8Array {
  const lib = libbpf();
  const btf = lib.objectBtf(handle);
  if (btf === null) return new Uint8Array(0);
  const size = new Uint8Array(4);
  const bytes = lib.btfRawData(btf, size);
  if (bytes === null) return new Uint8Array(0);
  return copyMemory(bytes, new DataView(size.buffer).getUint32(0, true));
}

function copyMemory(at: sys.Pointer, lengthBytes: number): Uint8Array {
  return new Uint8Array(sys.viewMemory(at, lengthBytes)).slice();
}

/** Second descriptors, so that libbpf's own memory can go at once. */
function takeLoaded(handle: Handle, path: string): LoadedObject {
  const lib = libbpf();
  const own = (fd: number, what: string) => check(sys.duplicate(fd), "keep", `${what} of ${path}`);
  const maps = listMaps(handle).map(
    ({ name, map }) => [name, new BpfMap(own(lib.mapFd(map), name))] as const,
  );
  const programs = listPrograms(handle)
    .filter(({ program }) => lib.programFd(program) >= 0)
    .map(({ name, program }) => [name, new BpfProgram(own(lib.programFd(program), name))] as const);
  return new LoadedObject(path, new Map(maps), new Map(programs));
}

function member<Value>(
  of: ReadonlyMap<string, Value>,
  kind: string,
  name: string,
  path: string,
): Value {
  const value = of.get(name);
  if (value !== undefined) return value;
  throw new Error(`no ${kind} ${name} in ${path}: it has ${[...of.keys()].join(", ") || "none"}`);
}
