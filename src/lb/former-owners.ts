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
  const lives = remember(change.lives);
  const places = placesOf(before);
  const slots = new PackedSlots();
  let gained = false;
  // Nothing is made anew for each slot: a ring has thousands, and garbage makes later changes wait.
  const others: number[] = [];
  for (let slot = 0; slot < size; slot++) {
    if (slot % STEP === STEP - 1) yield;
    const owner = ownerOf(to, slot);
    slots.begin(slot, owner);
    for (let at = 0, end = touching(slot, size, from.ring.length, others); at < end; at++) {
      const former = ownerOf(from, others[at] ?? 0);
      if (former !== owner && lives(former)) gained = slots.add(former) || gained;
    }
    if (before === undefined) continue;
    for (let at = 0, end = touching(slot, size, before.size, others); at < end; at++) {
      const place = places[others[at] ?? 0] ?? -1;
      if (place >= 0) addLiving(slots, before, place, lives);
    }
  }
  const expiresAtMs = gained ? change.expiresAtMs : (before?.expiresAtMs ?? change.expiresAtMs);
  return slots.pack(size, expiresAtMs);
}

/** Without the owners that don't live any more; the same object if all do. */
export function withoutDead(
  before: FormerOwners,
  lives: (address: Address) => boolean,
): FormerOwners | undefined {
  const dead = new Set(before.owners.filter((owner) => !lives(owner)));
  if (dead.size === 0) return before;
  const slots = new PackedSlots();
  for (const { slot, owners } of eachSlot(before)) {
    slots.begin(slot, undefined);
    for (const former of owners) if (!dead.has(former)) slots.add(former);
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
  const slots = new PackedSlots();
  for (const { slot, owners } of list.toSorted((a, b) => a.slot - b.slot)) {
    slots.begin(slot, undefined);
    for (const owner of owners) slots.add(owner);
  }
  return slots.pack(size, expiresAtMs);
}

/** Gathers slots in their order. */
class PackedSlots {
  readonly #words: number[] = [];
  readonly #owners: Address[] = [];
  /** Of each owner: its index plus one. */
  readonly #numbers = new Map<Address, number>();
  #slot = 0;
  #owner: Address | undefined;
  #count = 0;

  begin(slot: number, owner: Address | undefined): void {
    this.#slot = slot;
    this.#owner = owner;
    this.#count = 0;
  }

  /** Whether there was room for it and it was new. */
  add(former: Address): boolean {
    if (former === this.#owner || this.#count === MAX_FORMER_OWNERS) return false;
    const number = this.#numberOf(former);
    const words = this.#words;
    const first = words.length - MAX_FORMER_OWNERS;
    if (this.#count === 0) {
      words.push(this.#slot, number);
      for (let spare = 1; spare < MAX_FORMER_OWNERS; spare++) words.push(0);
    } else {
      for (let index = 0; index < this.#count; index++) {
        if (words[first + index] === number) return false;
      }
      words[first + this.#count] = number;
    }
    this.#count++;
    return true;
  }

  /** Undefined without any slot. */
  pack(size: number, expiresAtMs: number): FormerOwners | undefined {
    if (this.#words.length === 0) return undefined;
    return { size, owners: this.#owners, slots: new Uint32Array(this.#words), expiresAtMs };
  }

  #numberOf(owner: Address): number {
    let number = this.#numbers.get(owner);
    if (number === undefined) {
      number = this.#owners.push(owner);
      this.#numbers.set(owner, number);
    }
    return number;
  }
}

function ownerOf({ ring, owners }: OwnedRing, slot: number): Address {
  return owners[ring[slot] ?? 0] ?? ANY_IPV4;
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

/** Adds those of the owners at a place that live. */
function addLiving(
  slots: PackedSlots,
  before: FormerOwners,
  place: number,
  lives: (address: Address) => boolean,
): void {
  for (let index = 1; index <= MAX_FORMER_OWNERS; index++) {
    const former = before.owners[(before.slots[place + index] ?? 0) - 1];
    if (former !== undefined && lives(former)) slots.add(former);
  }
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

/** Asks once for each address. */
function remember(lives: (address: Address) => boolean): (address: Address) => boolean {
  const known = new Map<Address, boolean>();
  return (address) => {
    let answer = known.get(address);
    if (answer === undefined) {
      answer = lives(address);
      known.set(address, answer);
    }
    return answer;
  };
}
