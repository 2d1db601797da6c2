// SPDX-License-Identifier: Apache-2.0
// Which program goes on where another one ends: the tables of tail calls.

import { join } from "node:path";
import { listPins, unpin } from "../kernel/bpffs.ts";
import type { BpfMap } from "../kernel/map.ts";
import type { BpfProgram } from "../kernel/program.ts";
import { EdgeProgram, HostProgram, PodProgram } from "./gen/abi.ts";

/** Tables of programs by the name of their map, and the programs by slot. */
export const PROGRAM_TABLES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  edge_programs: { [EdgeProgram.nat]: "edge_nat" },
  host_programs: {
    [HostProgram.nat]: "host_nat",
    [HostProgram.deliver]: "host_deliver",
    [HostProgram.icmp]: "host_icmp",
  },
  pod_programs: {
    [PodProgram.outbound]: "pod_outbound",
    [PodProgram.icmp]: "pod_icmp",
  },
};

/**
 * The kernel empties such a table when neither a descriptor nor a pin is left, whatever uses it, so
 * each load pins its own: `edge_programs_<map id>`.
 */
const PIN = /^(edge|host|pod)_programs6?_(\d+)$/;

/** Writes the programs into their tables. Throws when one is missing. */
export function connectPrograms(
  table: (name: string) => BpfMap,
  program: (name: string) => BpfProgram,
): void {
  for (const [name, slots] of Object.entries(PROGRAM_TABLES)) {
    for (const [slot, named] of Object.entries(slots)) {
      table(name).update(word(Number(slot)), word(program(named).fd));
    }
  }
}

/** Pins the tables, so that they outlive the agent. */
export function keepPrograms(pins: string, table: (name: string) => BpfMap): void {
  for (const name of Object.keys(PROGRAM_TABLES)) {
    const map = table(name);
    map.pinByRename(join(pins, `${name}_${map.info.id}`));
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
