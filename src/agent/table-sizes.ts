// SPDX-License-Identifier: Apache-2.0

// How many flows, clients and sockets a node remembers when its file leaves that to us.

import { totalmem } from "node:os";
import type { Config } from "../config/schema.ts";
import type { Limits } from "../datapath/sizes.ts";

/** Of the memory: one part in so many is set aside for flows. */
const MEMORY_PARTS = 64;
/** Both entries of a flow in each family's table, with what the kernel adds. */
const FLOW_BYTES = 768;
const FLOWS = { least: 16_384, most: 1_048_576 };
/** Fewer clients are remembered than flows, and fewer sockets. */
const FLOWS_PER_OTHER = 4;
const OTHERS = { least: 16_384, most: 262_144 };

interface Bounds {
  readonly least: number;
  readonly most: number;
}

/** Memory that this process may count on, in bytes: the machine's, or its container's if less. */
export function usableMemory(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

/** The limits of all tables; a number in the file wins over `auto`. */
export function tableLimits(
  { tables, conntrack, socket }: Pick<Config, "tables" | "conntrack" | "socket">,
  memoryBytes: number,
): Limits {
  const flows = within(FLOWS, memoryBytes / MEMORY_PARTS / FLOW_BYTES);
  const others = within(OTHERS, flows / FLOWS_PER_OTHER);
  const or = (size: number | "auto", auto: number): number => (size === "auto" ? auto : size);
  return {
    ...tables,
    flows: or(conntrack.maxEntries, flows),
    sockets: or(socket.maxEntries, others),
    affinities: or(tables.affinities, others),
  };
}

/** A power of two, so that a little more or less memory at the next start changes nothing. */
function within({ least, most }: Bounds, count: number): number {
  return Math.min(most, Math.max(least, 2 ** Math.floor(Math.log2(count))));
}
