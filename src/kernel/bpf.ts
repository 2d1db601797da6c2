// SPDX-License-Identifier: Apache-2.0

import { readFileSync, readlinkSync } from "node:fs";
import { check, KernelError } from "./error.ts";
import * as sys from "./ffi.ts";

/** enum bpf_cmd, as far as it is used. */
export const Command = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  mapNextKey: 4,
  programLoad: 5,
  pin: 6,
  openPin: 7,
  testRun: 10,
  programNextId: 11,
  mapNextId: 12,
  programFdById: 13,
  mapFdById: 14,
  infoByFd: 15,
  programQuery: 16,
  btfLoad: 18,
  btfFdById: 19,
  mapTake: 21,
  mapFreeze: 22,
  mapLookupBatch: 24,
  mapUpdateBatch: 26,
  mapDeleteBatch: 27,
  linkCreate: 28,
  linkUpdate: 29,
  linkFdById: 30,
  linkNextId: 31,
  linkDetach: 34,
} as const;

/**
 * A union bpf_attr, or any struct that the kernel reads: little-endian fields and pointers at byte
 * offsets.
 */
export class Attr {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  // An address alone does not keep its memory alive: the collector would free it under the kernel's
  // hands.
  readonly #kept: Uint8Array[] = [];

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(new ArrayBuffer(sizeBytes));
    this.view = new DataView(this.bytes.buffer);
  }

  u32(offset: number, value: number): this {
    this.view.setUint32(offset, value, true);
    return this;
  }

  u64(offset: number, value: bigint): this {
    this.view.setBigUint64(offset, value, true);
    return this;
  }

  /** A pointer to `bytes`, which live as long as this struct does. */
  pointer(offset: number, bytes: Uint8Array): this {
    this.#kept.push(bytes);
    return this.u64(offset, sys.address(bytes));
  }

  /** A pointer to a NUL-terminated string. */
  string(offset: number, text: string): this {
    return this.pointer(offset, new TextEncoder().encode(`${text}\0`));
  }

  /** A NUL-padded name in the struct itself, cut to what fits. */
  name(offset: number, sizeBytes: number, text: string): this {
    const encoded = new TextEncoder().encode(text);
    this.bytes.set(encoded.subarray(0, sizeBytes - 1), offset);
    return this;
  }

  getU32(offset: number): number {
    return this.view.getUint32(offset, true);
  }

  getU64(offset: number): bigint {
    return this.view.getBigUint64(offset, true);
  }

  /** A NUL-padded name. */
  getName(offset: number, sizeBytes: number): string {
    const field = this.bytes.subarray(offset, offset + sizeBytes);
    const end = field.indexOf(0);
    return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  }
}

// What the kernel reads right now. An optimizer may otherwise find that nothing needs it any more.
let inFlight: Attr | undefined;

/** Runs a call that reads `attr` and what it points to, which all stay alive until it returns. */
export function holding<Result>(attr: Attr, call: () => Result): Result {
  inFlight = attr;
  const result = call();
  if (inFlight === attr) inFlight = undefined;
  return result;
}

/** bpf(2): the kernel's answer, >= 0 or -errno. `bytes` is for a part of `attr`. */
export function bpf(command: number, attr: Attr, bytes: Uint8Array = attr.bytes): number {
  inFlight = attr;
  const result = sys.bpf(command, bytes);
  inFlight = undefined;
  return result;
}

/**
 * What BPF_OBJ_GET_INFO_BY_FD says about a map, program, link or BTF; `info` may bring pointers for
 * its arrays.
 */
export function objectInfo(fd: number, object: string, info: Attr): Attr {
  const attr = new Attr(16).u32(0, fd).u32(4, info.bytes.byteLength).pointer(8, info.bytes);
  check(bpf(Command.infoByFd, attr), "read info of", object);
  return info;
}

/** Every id of a kind that is alive now: `command` is one of the NextId commands. */
export function listIds(command: number): number[] {
  const ids: number[] = [];
  const attr = new Attr(12);
  while (bpf(command, attr) === 0) {
    const id = attr.getU32(4);
    ids.push(id);
    attr.u32(0, id);
  }
  return ids;
}

/** An fd for what has this id: `command` is one of the FdById commands. */
export function openId(command: number, kind: string, id: number): number {
  return check(bpf(command, new Attr(12).u32(0, id)), "open", `${kind} with id ${id}`);
}

/** What a BPF file descriptor can name, as /proc/self/fd calls it. */
export type BpfKind = "map" | "prog" | "link";

/** An fd for what is pinned at `path`, refused when it is not of the kind asked for. */
export function openPin(path: string, kind: BpfKind): number {
  const attr = new Attr(16).string(0, path);
  const fd = bpf(Command.openPin, attr);
  if (fd < 0) throw new KernelError(`open pinned ${kind}`, path, fd);
  const found = readlinkSync(`/proc/self/fd/${fd}`).replace(/^anon_inode:\[?bpf[-_]?|\]$/g, "");
  if (found === kind) return fd;
  sys.close(fd);
  throw new Error(`cannot open pinned ${kind} ${path}: what is pinned there is a ${found}`);
}

let cpus: number | undefined;

/** How many values an element of a per-CPU map has: every CPU that could ever come online. */
export function possibleCpus(): number {
  cpus ??= countPossibleCpus();
  return cpus;
}

function countPossibleCpus(): number {
  const ranges = readFileSync("/sys/devices/system/cpu/possible", "utf8").trim().split(",");
  return ranges.reduce((sum, range) => {
    const [first, last] = range.split("-").map(Number);
    return first === undefined ? sum : sum + (last ?? first) - first + 1;
  }, 0);
}
