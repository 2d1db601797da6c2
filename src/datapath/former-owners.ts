// SPDX-License-Identifier: Apache-2.0
// Former owners of slots: a row a service, an entry a slot.

import type { Address } from "../net/address.ts";
import type { ServiceId, SlotKey } from "./gen/abi.ts";
import { withWayOut } from "./map-target.ts";
import type { MapRefusal, TypedMap } from "./maps.ts";

/** Slots of one service that have former owners. */
export interface FormerSlots {
  readonly owners: readonly Address[];
  /**
   * For each slot, in order of slots: its number and three indexes into `owners` plus one, newest
   * first, 0 for none.
   */
  readonly slots: Uint32Array;
}

/** Former owners of one slot as the map has them. */
export interface FoundFormerOwners {
  readonly service: ServiceId;
  readonly slot: number;
  readonly owners: readonly Address[];
}

/** The target (src/state/target.ts) with what was in the map at the start. */
export interface FormerOwnersTarget {
  readonly name: string;
  /** One service, as its ring may have thousands of slots. */
  readonly maxBatch: 1;
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

/** The map's value, of either family. */
interface Entry<A extends Address> {
  readonly owner: readonly [A, A, A];
}

const WORDS = 4;
const NOT_IN_B = 0xffff_ffff;
const NONE: FormerSlots = { owners: [], slots: new Uint32Array(0) };

/** Reads the map once; from then on it writes only slots that differ. `none` is 0.0.0.0 or ::. */
export function createFormerOwnersTarget<A extends Address>(
  map: TypedMap<SlotKey, Entry<A>>,
  none: A,
): FormerOwnersTarget {
  const held = readAll(map, none);
  const put = (service: ServiceId, wanted: FormerSlots): Error | undefined => {
    const before = held.get(service) ?? NONE;
    const { writes, deletes } = difference(service, before, wanted, none);
    map.deleteAll(deletes);
    const [refusal] = map.updateAll(writes);
    if (refusal !== undefined) {
      // What got in is not told apart: the next attempt compares with what is there.
      held.set(service, readOne(map, service, [before, wanted], none));
      return withWayOut(refusal.error, "tables.formerOwners");
    }
    if (wanted.slots.length === 0) held.delete(service);
    else held.set(service, wanted);
    return undefined;
  };
  return {
    name: map.spec.name,
    maxBatch: 1,
    idOf: (service) => service,
    same: (a, b) => a.slots === b.slots || sameSlots(a, b),
    apply(batch) {
      return batch.flatMap(({ key, value }, index) => {
        const error = put(key, value);
        return error === undefined ? [] : [{ index, error }];
      });
    },
    remove(batch) {
      for (const { key } of batch) put(key, NONE);
      return [];
    },
    keys: () => held.keys(),
    *found() {
      for (const [service, found] of held) {
        for (let at = 0; at < found.slots.length; at += WORDS) {
          const owners = ownersAt(found, at).filter((owner) => owner !== undefined);
          yield { service, slot: found.slots[at] ?? 0, owners };
        }
      }
    },
    get used() {
      let words = 0;
      for (const { slots } of held.values()) words += slots.length;
      return words / WORDS;
    },
  };
}

function readAll<A extends Address>(
  map: TypedMap<SlotKey, Entry<A>>,
  none: A,
): Map<ServiceId, FormerSlots> {
  const lists = new Map<ServiceId, [slot: number, entry: Entry<A>][]>();
  for (const [{ service, slot }, entry] of map.entries()) {
    const list = lists.get(service);
    if (list === undefined) lists.set(service, [[slot, entry]]);
    else list.push([slot, entry]);
  }
  return new Map([...lists].map(([service, list]) => [service, pack(list, none)]));
}

function pack<A extends Address>(list: [slot: number, entry: Entry<A>][], none: A): FormerSlots {
  const numbers = new Map<A, number>();
  const numberOf = (owner: A): number => {
    if (owner === none) return 0;
    const number = numbers.get(owner) ?? numbers.size + 1;
    numbers.set(owner, number);
    return number;
  };
  const sorted = list.toSorted(([a], [b]) => a - b);
  const slots = Uint32Array.from(
    sorted.flatMap(([slot, { owner }]) => [slot, ...owner.map(numberOf)]),
  );
  return { owners: [...numbers.keys()], slots };
}

/** The slots of these lists as the map has them. */
function readOne<A extends Address>(
  map: TypedMap<SlotKey, Entry<A>>,
  service: ServiceId,
  known: readonly FormerSlots[],
  none: A,
): FormerSlots {
  const found = new Set<number>();
  for (const { slots } of known) {
    for (let at = 0; at < slots.length; at += WORDS) found.add(slots[at] ?? 0);
  }
  const list: [number, Entry<A>][] = [];
  for (const slot of found) {
    const entry = map.lookup({ service, slot });
    if (entry !== undefined) list.push([slot, entry]);
  }
  return pack(list, none);
}

/** What leads from one list to another; both are in order of slots. */
function difference<A extends Address>(
  service: ServiceId,
  from: FormerSlots,
  to: FormerSlots,
  none: A,
) {
  const writes: number[] = [];
  const deletes: number[] = [];
  const isSame = sameOwners(from, to);
  const slotAt = (at: number): number => from.slots[at] ?? 0;
  let old = 0;
  for (let at = 0; at < to.slots.length; at += WORDS) {
    const slot = to.slots[at] ?? 0;
    for (; old < from.slots.length && slotAt(old) < slot; old += WORDS) deletes.push(slotAt(old));
    const known = old < from.slots.length && slotAt(old) === slot;
    const same = known && isSame(old, at);
    if (known) old += WORDS;
    if (!same) writes.push(at);
  }
  for (; old < from.slots.length; old += WORDS) deletes.push(slotAt(old));
  return { writes: elements(service, to, writes, none), deletes: keys(service, deletes) };
}

/** One object after the other is the same one: a change has hundreds. */
function* keys(service: ServiceId, slots: readonly number[]): Generator<SlotKey> {
  const key = { service, slot: 0 };
  for (const slot of slots) {
    key.slot = slot;
    yield key;
  }
}

/** The slots at these places of a list; likewise. */
function* elements<A extends Address>(
  service: ServiceId,
  list: FormerSlots,
  places: readonly number[],
  none: A,
): Generator<{ readonly key: SlotKey; readonly value: Entry<A> }> {
  // A service has addresses of one family alone.
  const ownerOf = (place: number): A => (ownerAt(list, place) as A | undefined) ?? none;
  const owner: [A, A, A] = [none, none, none];
  const key = { service, slot: 0 };
  const element = { key, value: { owner } };
  for (const at of places) {
    key.slot = list.slots[at] ?? 0;
    for (let index = 0; index < owner.length; index++) owner[index] = ownerOf(at + 1 + index);
    yield element;
  }
}

function ownerAt({ owners, slots }: FormerSlots, place: number): Address | undefined {
  return owners[(slots[place] ?? 0) - 1];
}

function ownersAt(list: FormerSlots, at: number): (Address | undefined)[] {
  return [ownerAt(list, at + 1), ownerAt(list, at + 2), ownerAt(list, at + 3)];
}

/** Tells whether a place of one list has the owners of a place of the other. */
function sameOwners(a: FormerSlots, b: FormerSlots): (atA: number, atB: number) => boolean {
  const numbers = new Map(b.owners.map((owner, index) => [owner, index + 1]));
  // No owner is 0 in both.
  const inB = Uint32Array.of(0, ...a.owners.map((owner) => numbers.get(owner) ?? NOT_IN_B));
  return (atA, atB) => {
    for (let index = 1; index < WORDS; index++) {
      if (inB[a.slots[atA + index] ?? 0] !== b.slots[atB + index]) return false;
    }
    return true;
  };
}

function sameSlots(a: FormerSlots, b: FormerSlots): boolean {
  if (a.slots.length !== b.slots.length) return false;
  const isSame = sameOwners(a, b);
  for (let at = 0; at < a.slots.length; at += WORDS) {
    if (a.slots[at] !== b.slots[at] || !isSame(at, at)) return false;
  }
  return true;
}
