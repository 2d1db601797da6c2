// SPDX-License-Identifier: Apache-2.0
import { type Address, ANY_IPV4 } from "../net/address.ts";
import { FORMER_WORDS, type FormerOwners, MAX_FORMER_OWNERS } from "./rows.ts";

// A flow's slot is (hash × size) >> 32, so a slot is a range of hashes. When the size changes, a
// slot's former owners are those of all slots whose ranges touch its own.

/** A ring with its owners: slot → index → address. */
export interface OwnedRing {
  readonly ring: Uint16Array;
  readonly owners: readonly Address[];
}

/** One ring takes the place of another. */
export interface RingChange {
  readonly from: OwnedRing;
  /** Not empty. */
  readonly to: OwnedRing;
  /** Former owners by the slots of `from`. */
  readonly before: FormerOwners | undefined;
  /** Whether a pod still has its connections. */
  readonly lives: (address: Address) => boolean;
  /** For owners that become former ones by this change. */
  readonly expiresAtMs: number;
}

/** Slots that are looked at between two yields. */
const STEP = 16_384;
/** The id of nobody. */
const DEAD = -1;

/** The former owners after a change; undefined when no slot has any. */
export function changeRing(change: RingChange): FormerOwners | undefined {
  const steps = changeRingInSteps(change);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same with pauses, for rings so large that they would hold the event loop. */
export function* changeRingInSteps(
  change: RingChange,
): Generator<undefined, FormerOwners | undefined> {
  const { from, to, before } = change;
  const size = to.ring.length;
  const slots = new PackedSlots(change.lives);
  const sides = {
    from: { ring: from.ring, ids: slots.idsOf(from.owners, true) },
    to: { ring: to.ring, ids: slots.idsOf(to.owners, false) },
    before: before && { ...before, ids: slots.idsOf(before.owners, true) },
    places: placesOf(before),
  };
  let gained = false;
  for (let start = 0; start < size; start += STEP) {
    if (start > 0) yield;
    gained = changeSlots(sides, slots, start, Math.min(start + STEP, size)) || gained;
  }
  const expiresAtMs = gained ? change.expiresAtMs : (before?.expiresAtMs ?? change.expiresAtMs);
  return slots.pack(size, expiresAtMs);
}

/** Both sides of a change, with the ids of their owners. */
interface Sides {
  readonly from: { readonly ring: Uint16Array; readonly ids: readonly number[] };
  readonly to: { readonly ring: Uint16Array; readonly ids: readonly number[] };
  readonly before:
    | { readonly size: number; readonly slots: Uint32Array; readonly ids: readonly number[] }
    | undefined;
  /** Slot → place in `before.slots`. */
  readonly places: Int32Array;
}

/**
 * Some slots, one by one; whether any has gained a former owner. Nothing is made anew for a slot:
 * a ring has thousands, and garbage makes later changes wait.
 */
function changeSlots(
  { from, to, before, places }: Sides,
  slots: PackedSlots,
  start: number,
  end: number,
): boolean {
  const size = to.ring.length;
  const others: number[] = [];
  let gained = false;
  for (let slot = start; slot < end; slot++) {
    slots.begin(slot, to.ids[to.ring[slot] ?? 0] ?? DEAD);
    const count = touching(slot, size, from.ring.length, others);
    for (let at = 0; at < count; at++) {
      const former = from.ids[from.ring[others[at] ?? 0] ?? 0] ?? DEAD;
      if (slots.add(former)) gained = true;
    }
    if (before === undefined) continue;
    const parts = touching(slot, size, before.size, others);
    for (let at = 0; at < parts; at++) {
      const place = places[others[at] ?? 0] ?? -1;
      if (place >= 0) slots.addAt(before, place);
    }
  }
  return gained;
}

/** Without the owners that don't live any more; the same object if all do. */
export function withoutDead(
  before: FormerOwners,
  lives: (address: Address) => boolean,
): FormerOwners | undefined {
  if (before.owners.every(lives)) return before;
  const slots = new PackedSlots(lives);
  const known = { slots: before.slots, ids: slots.idsOf(before.owners, true) };
  for (let place = 0; place < before.slots.length; place += FORMER_WORDS) {
    slots.begin(before.slots[place] ?? 0, DEAD);
    slots.addAt(known, place);
  }
  return slots.pack(before.size, before.expiresAtMs);
}

/** Slots that have former owners. */
export function countSlots(former: FormerOwners | undefined): number {
  return (former?.slots.length ?? 0) / FORMER_WORDS;
}

/** The slots one by one, with their owners, newest first. */
export function* eachSlot(
  former: FormerOwners,
): Generator<{ readonly slot: number; readonly owners: Address[] }> {
  for (let place = 0; place < former.slots.length; place += FORMER_WORDS) {
    yield { slot: former.slots[place] ?? 0, owners: formerAt(former, place) };
  }
}

/** Former owners from slots in any order; what is read back from the kernel. */
export function packSlots(
  size: number,
  list: readonly { readonly slot: number; readonly owners: readonly Address[] }[],
  expiresAtMs: number,
): FormerOwners | undefined {
  const slots = new PackedSlots(() => true);
  for (const { slot, owners } of list.toSorted((a, b) => a.slot - b.slot)) {
    slots.begin(slot, DEAD);
    for (const id of slots.idsOf(owners, true)) slots.add(id);
  }
  return slots.pack(size, expiresAtMs);
}

/** Gathers slots in their order. Owners have ids here, so that nothing is looked up for a slot. */
class PackedSlots {
  readonly #lives: (address: Address) => boolean;
  readonly #ids = new Map<Address, number>();
  readonly #known: Address[] = [];
  /** Of each id: its place in `owners` plus one, 0 before it has one. */
  readonly #numbers: number[] = [];
  readonly #owners: Address[] = [];
  #words = new Uint32Array(256 * FORMER_WORDS);
  #length = 0;
  #slot = 0;
  #owner = DEAD;
  #count = 0;

  constructor(lives: (address: Address) => boolean) {
    this.#lives = lives;
  }

  /** The ids of these addresses; where `living`, DEAD for those that don't live. */
  idsOf(addresses: readonly Address[], living: boolean): number[] {
    return addresses.map((address) => (living && !this.#lives(address) ? DEAD : this.#id(address)));
  }

  begin(slot: number, owner: number): void {
    this.#slot = slot;
    this.#owner = owner;
    this.#count = 0;
  }

  /** Whether it lives, there was room for it and it was new. */
  add(id: number): boolean {
    if (id === DEAD || id === this.#owner || this.#count === MAX_FORMER_OWNERS) return false;
    const number = this.#numberOf(id);
    if (this.#count === 0) {
      if (this.#length === this.#words.length) this.#grow();
      this.#words[this.#length] = this.#slot;
      this.#length += FORMER_WORDS;
    }
    const words = this.#words;
    const first = this.#length - MAX_FORMER_OWNERS;
    for (let index = 0; index < this.#count; index++) {
      if (words[first + index] === number) return false;
    }
    words[first + this.#count] = number;
    this.#count++;
    return true;
  }

  /** Adds those at a place of other packed slots. */
  addAt(
    { slots, ids }: { readonly slots: Uint32Array; readonly ids: readonly number[] },
    place: number,
  ): void {
    for (let index = 1; index <= MAX_FORMER_OWNERS; index++) {
      const number = slots[place + index] ?? 0;
      if (number > 0) this.add(ids[number - 1] ?? DEAD);
    }
  }

  /** Undefined without any slot. */
  pack(size: number, expiresAtMs: number): FormerOwners | undefined {
    if (this.#length === 0) return undefined;
    const slots = this.#words.slice(0, this.#length);
    return { size, owners: this.#owners, slots, expiresAtMs };
  }

  #id(address: Address): number {
    let id = this.#ids.get(address);
    if (id === undefined) {
      id = this.#known.push(address) - 1;
      this.#ids.set(address, id);
      this.#numbers.push(0);
    }
    return id;
  }

  #numberOf(id: number): number {
    const number = this.#numbers[id] ?? 0;
    if (number > 0) return number;
    this.#numbers[id] = this.#owners.push(this.#known[id] ?? ANY_IPV4);
    return this.#owners.length;
  }

  #grow(): void {
    const longer = new Uint32Array(this.#words.length * 2);
    longer.set(this.#words);
    this.#words = longer;
  }
}

/** The owners at a place of the packed slots. */
function formerAt({ owners, slots }: FormerOwners, place: number): Address[] {
  const found: Address[] = [];
  for (let index = 1; index <= MAX_FORMER_OWNERS; index++) {
    const owner = owners[(slots[place + index] ?? 0) - 1];
    if (owner !== undefined) found.push(owner);
  }
  return found;
}

/** Slot → place in the packed slots, -1 for none. */
function placesOf(former: FormerOwners | undefined): Int32Array {
  const places = new Int32Array(former?.size ?? 0).fill(-1);
  const words = former?.slots ?? [];
  for (let place = 0; place < words.length; place += FORMER_WORDS) {
    places[words[place] ?? 0] = place;
  }
  return places;
}

/**
 * Puts the slots of another size that share hashes with a slot into a list, those that share most
 * first, and tells how many they are.
 */
function touching(slot: number, size: number, otherSize: number, into: number[]): number {
  into[0] = slot;
  if (otherSize === size) return 1;
  const from = (slot * otherSize) / size;
  const to = ((slot + 1) * otherSize) / size;
  const others: number[] = [];
  for (let other = Math.floor(from); other < to; other++) others.push(other);
  const shared = (other: number): number => Math.min(other + 1, to) - Math.max(other, from);
  others.sort((a, b) => shared(b) - shared(a));
  for (const [index, other] of others.entries()) into[index] = other;
  return others.length;
}
