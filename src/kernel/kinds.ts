// SPDX-License-Identifier: Apache-2.0

// The kernel's numbers for kinds of maps, programs and hooks, with the names that bpftool uses.

/** enum bpf_map_type. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  prog_array: 3,
  perf_event_array: 4,
  percpu_hash: 5,
  percpu_array: 6,
  stack_trace: 7,
  cgroup_array: 8,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  devmap: 14,
  sockmap: 15,
  cpumap: 16,
  xskmap: 17,
  sockhash: 18,
  cgroup_storage: 19,
  reuseport_sockarray: 20,
  percpu_cgroup_storage: 21,
  queue: 22,
  stack: 23,
  sk_storage: 24,
  devmap_hash: 25,
  struct_ops: 26,
  ringbuf: 27,
  inode_storage: 28,
  task_storage: 29,
  bloom_filter: 30,
  user_ringbuf: 31,
  cgrp_storage: 32,
  arena: 33,
} as const;
export type MapType = keyof typeof MAP_TYPES;

/** map_flags of BPF_MAP_CREATE. */
export const MapFlags = {
  noPrealloc: 1 << 0,
  noCommonLru: 1 << 1,
  numaNode: 1 << 2,
  readOnlyForPrograms: 1 << 7,
  mmapable: 1 << 10,
} as const;

/** enum bpf_prog_type. */
export const PROGRAM_TYPES = {
  unspec: 0,
  socket_filter: 1,
  kprobe: 2,
  sched_cls: 3,
  sched_act: 4,
  tracepoint: 5,
  xdp: 6,
  perf_event: 7,
  cgroup_skb: 8,
  cgroup_sock: 9,
  lwt_in: 10,
  lwt_out: 11,
  lwt_xmit: 12,
  sock_ops: 13,
  sk_skb: 14,
  cgroup_device: 15,
  sk_msg: 16,
  raw_tracepoint: 17,
  cgroup_sock_addr: 18,
  lwt_seg6local: 19,
  lirc_mode2: 20,
  sk_reuseport: 21,
  flow_dissector: 22,
  cgroup_sysctl: 23,
  raw_tracepoint_writable: 24,
  cgroup_sockopt: 25,
  tracing: 26,
  struct_ops: 27,
  ext: 28,
  lsm: 29,
  sk_lookup: 30,
  syscall: 31,
  netfilter: 32,
} as const;
export type ProgramType = keyof typeof PROGRAM_TYPES;

/** enum bpf_attach_type, as far as it is used. */
export const AttachType = {
  bind4: 8,
  bind6: 9,
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
  xdp: 37,
  tcxIngress: 46,
  tcxEgress: 47,
} as const;

/** enum bpf_link_type. */
export const LINK_TYPES = {
  unspec: 0,
  raw_tracepoint: 1,
  tracing: 2,
  cgroup: 3,
  iter: 4,
  netns: 5,
  xdp: 6,
  perf_event: 7,
  kprobe_multi: 8,
  struct_ops: 9,
  netfilter: 10,
  tcx: 11,
  uprobe_multi: 12,
  netkit: 13,
  sockmap: 14,
} as const;
export type LinkType = keyof typeof LINK_TYPES;

function reversed<Name extends string>(numbers: Readonly<Record<Name, number>>) {
  return new Map<number, Name>(
    (Object.entries(numbers) as [Name, number][]).map(([name, number]) => [number, name]),
  );
}

const mapTypes = reversed(MAP_TYPES);
const programTypes = reversed(PROGRAM_TYPES);
const linkTypes = reversed(LINK_TYPES);

/** The name of a map type; "unspec" for one that is newer than this table. */
export function mapTypeName(type: number): MapType | "unspec" {
  return mapTypes.get(type) ?? "unspec";
}

/** The name of a program type; "unspec" for one that is newer than this table. */
export function programTypeName(type: number): ProgramType {
  return programTypes.get(type) ?? "unspec";
}

/** The name of a link type; "unspec" for one that is newer than this table. */
export function linkTypeName(type: number): LinkType {
  return linkTypes.get(type) ?? "unspec";
}
