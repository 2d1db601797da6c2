// SPDX-License-Identifier: Apache-2.0

import type { Lab } from "../../../src/lab/lab.ts";

/** The kernel's counters of a place, such as "Tcp RetransSegs" and "Icmp InDestUnreachs". */
export async function netStats(lab: Lab, where: string): Promise<ReadonlyMap<string, number>> {
  const text = await lab.output(where, ["cat", "/proc/net/snmp", "/proc/net/netstat"]);
  const counters = new Map<string, number>();
  const lines = text.trim().split("\n");
  // Two lines each: names, then values.
  for (let index = 0; index + 1 < lines.length; index += 2) {
    const [group = "", ...names] = (lines[index] ?? "").split(" ");
    const values = (lines[index + 1] ?? "").split(" ").slice(1);
    for (const [place, name] of names.entries()) {
      counters.set(`${group.slice(0, -1)} ${name}`, Number(values[place]));
    }
  }
  return counters;
}
