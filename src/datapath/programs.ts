// SPDX-License-Identifier: Apache-2.0
// Which program goes on where another one ends: the tables of tail calls.

import { join } from "node:path";
import { listPins, unpin } from "../kernel/bpffs.ts";
import type { BpfMap } from "../kernel/map.ts";
import type { BpfProgram } from "../kernel/program.ts";
import { EdgeProgram, HostProgram, NodeProgram, PodProgram } from "./gen/abi.ts";

type Slots = Readonly<Record<number, string>>;

const EDGE: Slots = {
  [EdgeProgram.nat]: "edge_nat",
  [EdgeProgram.natNew]: "edge_nat_new",
  [EdgeProgram.natBack]: "edge_nat_back",
  [EdgeProgram.balance]: "edge_balance",
};
const HOST: Slots = {
  [HostProgram.nat]: "host_nat",
  [HostProgram.natNew]: "host_nat_new",
  [HostProgram.natBack]: "host_nat_back",
  [HostProgram.answer]: "host_answer",
  [HostProgram.plain]: "host_plain",
  [HostProgram.fragment]: "host_fragment",
  [HostProgram.icmpNat]: "host_icmp_nat",
  [HostProgram.told]: "host_told",
  [HostProgram.foreign]: "host_foreign",
  [HostProgram.deliver]: "host_deliver",
  [HostProgram.icmp]: "host_icmp",
  [HostProgram.balance]: "host_balance",
};
const POD: Slots = {
  [PodProgram.outbound]: "pod_outbound",
  [PodProgram.icmp]: "pod_icmp",
  [PodProgram.outboundNew]: "pod_new",
  [PodProgram.answer]: "pod_answer",
  [PodProgram.fragment]: "pod_fragment",
};
const NODE: Slots = {
  [NodeProgram.outbound]: "from_node",
  [NodeProgram.outboundNew]: "node_new",
  [NodeProgram.answer]: "node_answer",
  [NodeProgram.icmp]: "node_icmp",
  [NodeProgram.fragment]: "node_fragment",
};

function wide(slots: Slots): Slots {
  return Object.fromEntries(Object.entries(slots).map(([slot, name]) => [slot, `${name}6`]));
}

/** Tables of programs by the name of their map, and the programs by slot. */
export const PROGRAM_TABLES: Readonly<Record<string, Slots>> = {
  edge_programs: { ...EDGE, [EdgeProgram.ipv6]: "edge_ingress6" },
  host_programs: { ...HOST, [HostProgram.ipv6]: "from_network6" },
  pod_programs: { ...POD, [PodProgram.ipv6]: "from_pod6" },
  node_programs: { ...NODE, [NodeProgram.ipv6]: "from_node6" },
  edge_programs6: wide(EDGE),
  host_programs6: wide(HOST),
  pod_programs6: wide(POD),
  node_programs6: wide(NODE),
};

/**
 * The kernel empties such a table when neither a descriptor nor a pin is left, whatever uses it, so
 * each load pins its own: `edge_programs_<map id>`.
 */
const PIN = /^(edge|host|pod|node)_programs6?_(\d+)$/;

/** Writes the programs that are loaded into their tables. Without IPv6, its slots stay empty. */
export function connectPrograms(
  maps: ReadonlyMap<string, BpfMap>,
  programs: ReadonlyMap<string, BpfProgram>,
): void {
  for (const [name, slots] of Object.entries(PROGRAM_TABLES)) {
    for (const [slot, named] of Object.entries(slots)) {
      const program = programs.get(named);
      if (program !== undefined) maps.get(name)?.update(word(Number(slot)), word(program.fd));
    }
  }
}

/** Pins the tables, so that they outlive the agent. */
export function keepPrograms(pins: string, maps: ReadonlyMap<string, BpfMap>): void {
  for (const name of Object.keys(PROGRAM_TABLES)) {
    const map = maps.get(name);
    map?.pinByRename(join(pins, `${name}_${map.info.id}`));
  }
}

/** Lets go of the tables of earlier loads, once no device has their programs any more. */
export function dropOtherPrograms(pins: string, ids: ReadonlySet<number>): void {
  for (const name of listPins(pins)) {
    const id = PIN.exec(name)?.[2];
    if (id !== undefined && !ids.has(Number(id))) unpin(join(pins, name));
  }
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
