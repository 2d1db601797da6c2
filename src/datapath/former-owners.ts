// SPDX-License-Identifier: Apache-2.0
// Former owners of slots: a row a service, an entry a slot.

import type { Ipv4 } from "../net/address.ts";
import type { FormerOwners as Entry, ServiceId, SlotKey } from "./gen/abi.ts";
import type { MapRefusal, TypedMap } from "./maps.ts";

/** Slots of one service that have former owners. */
export interface FormerSlots {
  /**
   * For each slot, in order of slots: its number and three addresses, newest first, 0 for none.
   */
  readonly slots: Uint32Array;
}

/** Former owners of one slot as the map has them. */
export interface FoundFormerOwners {
  readonly service: ServiceId;
  readonly slot: number;
  readonly owners: readonly Ipv4[];
}

/** The target (src/state/target.ts) with what was in the map at the start. */
export interface FormerOwnersTarget {
  readonly name: string;
  idOf(service: ServiceId): number;
  same(a: FormerSlots, b: FormerSlots): boolean;
  apply(
    batch: readonly { readonly key: ServiceId; readonly value: FormerSlots }[],
  ): readonly MapRefusal[];
  remove(batch: readonly { readonly key: ServiceId }[]): readonly MapRefusal[];
  keys(): Iterable<ServiceId>;
  /** What the map holds, slot by slot. */
  found(): Generator<FoundFormerOwners>;
  /** Slots in the map. */
  readonly used: number;
}

const WORDS = 4;
const NONE = new Uint32Array(0);

/** Reads the map once; from then on it writes only slots that differ. */
export function createFormerOwnersTarget(map: TypedMap<SlotKey, Entry>): FormerOwnersTarget {
  const held = readAll(map);
  const put = (service: ServiceId, wanted: Uint32Array): Error | undefined => {
    const { writes, deletes } = difference(service, held.get(service) ?? NONE, wanted);
    map.deleteAll(deletes);
    const [refusal] = map.updateAll(writes);
    if (refusal !== undefined) {
      // What got in is not told apart: the next attempt compares with what is there.
      held.set(service, readOne(map, service, held.get(service) ?? NONE, wanted));
      return new Error(`${refusal.error.message}; raise tables.formerOwners`, {
        cause: refusal.error,
      });
    }
    if (wanted.length === 0) held.delete(service);
    else held.set(service, wanted);
    return undefined;
  };
  return {
    name: map.spec.name,
    idOf: (service) => service,
    same: (a, b) => a.slots === b.slots || sameWords(a.slots, b.slots),
    apply(batch) {
      return batch.flatMap(({ key, value }, index) => {
        const error = put(key, value.slots);
        return error === undefined ? [] : [{ index, error }];
      });
    },
    remove(batch) {
      for (const { key } of batch) put(key, NONE);
      return [];
    },
    keys: () => held.keys(),
    *found() {
      for (const [service, slots] of held) {
        for (let at = 0; at < slots.length; at += WORDS) {
          const owners = [...slots.subarray(at + 1, at + WORDS)].filter((owner) => owner !== 0);
          yield { service, slot: slots[at] ?? 0, owners: owners as Ipv4[] };
        }
      }
    },
    get used() {
      let words = 0;
      for (const slots of held.values()) words += slots.length;
      return words / WORDS;
    },
  };
}

function readAll(map: TypedMap<SlotKey, Entry>): Map<ServiceId, Uint32Array> {
  const lists = new Map<ServiceId, [slot: number, entry: Entry][]>();
  for (const [{ service, slot }, entry] of map.entries()) {
    const list = lists.get(service);
    if (list === undefined) lists.set(service, [[slot, entry]]);
    else list.push([slot, entry]);
  }
  return new Map([...lists].map(([service, list]) => [service, pack(list)]));
}

function pack(list: [slot: number, entry: Entry][]): Uint32Array {
  const sorted = list.toSorted(([a], [b]) => a - b);
  return Uint32Array.from(sorted.flatMap(([slot, { owner }]) => [slot, ...owner]));
}

/** The slots of either list as the map has them. */
function readOne(
  map: TypedMap<SlotKey, Entry>,
  service: ServiceId,
  before: Uint32Array,
  wanted: Uint32Array,
): Uint32Array {
  const slots = new Set<number>();
  for (const words of [before, wanted]) {
    for (let at = 0; at < words.length; at += WORDS) slots.add(words[at] ?? 0);
  }
  const list: [number, Entry][] = [];
  for (const slot of slots) {
    const entry = map.lookup({ service, slot });
    if (entry !== undefined) list.push([slot, entry]);
  }
  return pack(list);
}

/** What leads from one list to another; both are in order of slots. */
function difference(service: ServiceId, from: Uint32Array, to: Uint32Array) {
  const writes: { key: SlotKey; value: Entry }[] = [];
  const deletes: SlotKey[] = [];
  let old = 0;
  for (let at = 0; at < to.length; at += WORDS) {
    const slot = to[at] ?? 0;
    for (; old < from.length && (from[old] ?? 0) < slot; old += WORDS) {
      deletes.push({ service, slot: from[old] ?? 0 });
    }
    const known = old < from.length && from[old] === slot;
    const same = known && sameWords(from.subarray(old, old + WORDS), to.subarray(at, at + WORDS));
    if (known) old += WORDS;
    if (!same) writes.push({ key: { service, slot }, value: entryAt(to, at) });
  }
  for (; old < from.length; old += WORDS) deletes.push({ service, slot: from[old] ?? 0 });
  return { writes, deletes };
}

function entryAt(slots: Uint32Array, at: number): Entry {
  const owner = (index: number): Ipv4 => (slots[at + index] ?? 0) as Ipv4;
  return { owner: [owner(1), owner(2), owner(3)] };
}

function sameWords(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((word, index) => word === b[index]);
}
