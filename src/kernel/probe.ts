// SPDX-License-Identifier: Apache-2.0

// A probe says whether the kernel has a feature: before, where there is another way (tcx), and
// otherwise once something has failed, to say whether the kernel is too old for it.

import { release } from "node:os";
import { Attr, bpf, Command } from "./bpf.ts";
import { errorCode } from "./error.ts";
import * as sys from "./ffi.ts";
import { AttachType, MAP_TYPES, MapFlags, type MapType, PROGRAM_TYPES } from "./kinds.ts";

interface Probe {
  readonly since: string;
  readonly otherwise: string;
  readonly test: () => boolean;
}

const EINVAL = -22;
const LOOPBACK = 1; // in every network namespace
const NOT_AN_FD = 0x7fff_ffff;

const probes = {
  tcx: {
    since: "6.6",
    otherwise: "attach through clsact instead",
    test: () => query(AttachType.tcxIngress) !== EINVAL,
  },
  xdpLink: {
    since: "5.9",
    otherwise: "a newer kernel is needed",
    test: () => linkCreate(AttachType.xdp) !== EINVAL,
  },
  ringbuf: {
    since: "5.8",
    otherwise: "a newer kernel is needed",
    test: () => mapWorks("ringbuf", 0),
  },
  mmapableArray: {
    since: "5.5",
    otherwise: "a newer kernel is needed",
    test: () => mapWorks("array", MapFlags.mmapable),
  },
  loopHelper: {
    since: "5.17",
    otherwise: "a newer kernel is needed",
    test: () => helperWorks(PROGRAM_TYPES.sched_cls, 181),
  },
  liveFrames: {
    since: "5.18",
    otherwise: "run without liveFrames",
    test: () => helperWorks(PROGRAM_TYPES.xdp, 189), // bpf_xdp_load_bytes came with it
  },
} satisfies Record<string, Probe>;

/** A thing that not every kernel has. */
export type Feature = keyof typeof probes;

const known = new Map<Feature, boolean>();

/** Whether the running kernel has it. Tried once, then remembered. */
export function hasFeature(feature: Feature): boolean {
  const before = known.get(feature);
  if (before !== undefined) return before;
  const answer = probes[feature].test();
  known.set(feature, answer);
  return answer;
}

/**
 * After a failure: a sentence when the kernel lacks the feature, "" when that was not the reason.
 */
export function explainFeature(feature: Feature): string {
  if (hasFeature(feature)) return "";
  const { since, otherwise } = probes[feature];
  return `${feature} came with Linux ${since} and this is ${release()}: ${otherwise}`;
}

/** After bpf(2) refused a map: why, as far as that can be told. */
export function explainMap(
  spec: { readonly type: MapType; readonly maxEntries: number; readonly flags?: number },
  result: number,
): string {
  const code = errorCode(-result);
  if (code === "EPERM") return "root, or CAP_BPF and CAP_NET_ADMIN, are needed";
  if (code === "ENOMEM" || code === "E2BIG") return "its size is beyond what the kernel can give";
  if (code !== "EINVAL") return "";
  if (!mapWorks(spec.type, 0)) return `this kernel (${release()}) has no maps of type ${spec.type}`;
  if (((spec.flags ?? 0) & MapFlags.mmapable) !== 0 && spec.type !== "array") {
    return "only an array can be mapped into memory";
  }
  return RULES[spec.type] ?? "";
}

const RULES: Partial<Record<MapType, string>> = {
  hash: "it must have keys of 1 byte at least and one entry at least",
  lru_hash: "it must have keys of 1 byte at least and one entry at least",
  ringbuf: "its size must be a power of two and whole pages, with keys and values of 0 bytes",
  array: "its keys must have 4 bytes and it must have at least one entry",
  percpu_array: "its keys must have 4 bytes and its values at most 32 KiB",
  lpm_trie: "it needs MapFlags.noPrealloc and keys of 5 to 260 bytes",
  hash_of_maps: "it needs `inner`",
  array_of_maps: "it needs `inner`",
};

/** The smallest map of each type that is not 4 bytes to 4 bytes with one entry. */
const SMALLEST: Partial<Record<MapType, readonly [key: number, value: number, flags: number]>> = {
  lpm_trie: [8, 4, MapFlags.noPrealloc],
  ringbuf: [0, 0, 0],
  user_ringbuf: [0, 0, 0],
  queue: [0, 4, 0],
  stack: [0, 4, 0],
  bloom_filter: [0, 4, 0],
  stack_trace: [4, 8, 0],
};

// Of maps of maps, storages and arenas the smallest is not small: the kernels promised all have
// them.
const UNTRIED = /_of_maps$|storage$|^struct_ops$|^arena$/;

function mapWorks(type: MapType, flags: number): boolean {
  if (UNTRIED.test(type)) return true;
  const [keySize, valueSize, needed] = SMALLEST[type] ?? [4, 4, 0];
  const attr = new Attr(72)
    .u32(0, MAP_TYPES[type])
    .u32(4, keySize)
    .u32(8, valueSize)
    .u32(12, type.endsWith("ringbuf") ? sys.pageSize() : 1)
    .u32(16, flags | needed);
  return closed(bpf(Command.mapCreate, attr)) !== EINVAL;
}

function query(attachType: number): number {
  return bpf(Command.programQuery, new Attr(64).u32(0, LOOPBACK).u32(4, attachType));
}

/** With a program that does not exist a known hook answers EBADF, an unknown one EINVAL. */
function linkCreate(attachType: number): number {
  const attr = new Attr(48).u32(0, NOT_AN_FD).u32(4, LOOPBACK).u32(8, attachType);
  return closed(bpf(Command.linkCreate, attr));
}

/** The verifier names an unknown helper before it looks at arguments. */
function helperWorks(programType: number, helper: number): boolean {
  const instructions = new Uint8Array(16);
  const view = new DataView(instructions.buffer);
  view.setUint8(0, 0x85); // call
  view.setInt32(4, helper, true);
  view.setUint8(8, 0x95); // exit
  const log = new Uint8Array(4096);
  const attr = new Attr(128)
    .u32(0, programType)
    .u32(4, instructions.byteLength / 8)
    .pointer(8, instructions)
    .string(16, "GPL")
    .u32(24, 1)
    .u32(28, log.byteLength)
    .pointer(32, log);
  closed(bpf(Command.programLoad, attr));
  return !/unknown func|invalid func|cannot use helper/.test(new TextDecoder().decode(log));
}

function closed(result: number): number {
  return result >= 0 ? sys.close(result) : result;
}
