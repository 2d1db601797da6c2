// SPDX-License-Identifier: Apache-2.0
// How many flows of backends that stay change their slot's owner when one of N leaves. Exact, not a
// matter of time: it is here so that a change of the rings shows.

import { compareMembers, createRing, type RingMember, ringSizeFor } from "../src/lb/maglev.ts";
import type { Ipv4 } from "../src/net/address.ts";
import { printTable, type Results } from "./results.ts";
import { summarize } from "./statistics.ts";

const COUNTS = [10, 11, 40, 100, 1000] as const;
/** Backends that leave, one after the other, spread over all. */
const LEAVERS = 20;
const FIRST = 0x0a000001;

export function benchRings(results: Results): void {
  const rows = [["backends", "slots", "of others' slots move, %: median (min–max)"]];
  for (const count of COUNTS) {
    const members = Array.from(
      { length: count },
      (_, index): RingMember => ({ address: (FIRST + index * 7) as Ipv4, port: 8080, weight: 1 }),
    ).sort(compareMembers);
    const size = ringSizeFor(count);
    const ring = createRing(members, size);
    const moved = Array.from({ length: Math.min(LEAVERS, count) }, (_, index) =>
      movedBy(ring, members, Math.floor((index * count) / LEAVERS) % count),
    );
    const { value, min, max } = summarize(moved);
    rows.push([`${count}`, `${size}`, `${value.toFixed(1)} (${min.toFixed(1)}–${max.toFixed(1)})`]);
    results.add(`control.ring.moved_when_1_of_${count}_leaves`, "%", { value, min, max });
  }
  printTable("Slots that change hands though their backend stays", rows);
}

function movedBy(ring: Uint16Array, members: readonly RingMember[], leaver: number): number {
  const rest = members.filter((_, index) => index !== leaver);
  const after = createRing(rest, ring.length);
  let [staying, moved] = [0, 0];
  for (const [slot, owner] of ring.entries()) {
    if (owner === leaver) continue;
    staying++;
    if (members[owner] !== rest[after[slot] ?? 0]) moved++;
  }
  return (100 * moved) / staying;
}
