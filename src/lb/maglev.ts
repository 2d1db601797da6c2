// SPDX-License-Identifier: Apache-2.0
import { type Address, compareAddress, isIpv4 } from "../net/address.ts";

// As in Maglev hashing (Eisenbud et al., NSDI 2016), every backend walks the slots in an order of
// its own. Unlike there, it goes one step in each round, whether the slot is free or not: who has a
// slot is a matter of who comes by first, however others fare elsewhere. A ring depends on its
// members and its size only, so all nodes make the same one, and a member that leaves moves few
// slots of the others.
//
// Rings of different sizes agree: a larger one is the next smaller one with each slot cut in four,
// evened out; those on the way are evened out the less, the fewer slots a member has. So a service
// that grows by a backend into the next size keeps its flows in place; docs/decisions/ring-size.md
// has the figures.

/** Slots of the smallest ring: a prime, so that every step but 0 walks all of them. */
const BASE = 1021;

/** Into how many each slot is cut for the next larger ring. */
const CUT = 4;

/** The sizes that a ring can have. */
export const RING_SIZES: readonly number[] = [0, 1, 2, 3, 4, 5].map((level) => BASE * CUT ** level);

/** Slots per backend at least, so that shares are even to about a percent. */
const SLOTS_PER_BACKEND = 100;

/** What a slot's two bytes can tell apart; the last value marks a free slot meanwhile. */
export const MAX_RING_MEMBERS = 0xffff;
const FREE = 0xffff;

/** Weights are whole numbers up to this. */
export const MAX_WEIGHT = 1000;

/** From so many slots of one member on, shares are exact. */
const EXACT = 92;

/** Of a ring with few free slots, members take the next free one: nearly all steps would miss. */
const RARE = 1024;

/** Slots that are looked at between two yields: about 1 ms. */
const STEP = 65_536;

/** A backend as far as the ring cares. */
export interface RingMember {
  readonly address: Address;
  readonly port: number;
  /** Share of flows relative to the other members', 1 to MAX_WEIGHT. */
  readonly weight: number;
}

/** The size of the ring of a service with so many backends, unless an annotation names another. */
export function ringSizeFor(backends: number): number {
  const size = RING_SIZES.find((candidate) => candidate >= backends * SLOTS_PER_BACKEND);
  return size ?? BASE * CUT ** (RING_SIZES.length - 1);
}

/** Orders members as every node does: by address, then port. */
export function compareMembers(a: RingMember, b: RingMember): number {
  return compareAddress(a.address, b.address) || a.port - b.port;
}

/**
 * The ring of `members`, which are in the order of `compareMembers`: slot → index of a member. No
 * members, no slots. `size` is one of RING_SIZES.
 */
export function createRing(members: readonly RingMember[], size: number): Uint16Array {
  const steps = createRingInSteps(members, size);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same with pauses, for rings so large that they would hold the event loop. */
export function* createRingInSteps(
  members: readonly RingMember[],
  size: number,
): Generator<undefined, Uint16Array> {
  if (members.length > MAX_RING_MEMBERS) {
    throw new RangeError(`${members.length} members of a ring: at most ${MAX_RING_MEMBERS}`);
  }
  if (members.length === 0) return new Uint16Array(0);
  const hashes = new Uint32Array(members.length);
  for (const [index, { address, port }] of members.entries()) {
    hashes[index] = mix(fold(address) ^ Math.imul(port, 0x9e3779b1));
  }
  let ring: Uint16Array = new Uint16Array(BASE).fill(FREE);
  const base = new Walks(ring, BASE, hashes, roomOf(members, hashes, BASE, size));
  while (!base.take(STEP)) yield;
  while (ring.length < size) {
    const coarse = ring;
    ring = new Uint16Array(coarse.length * CUT);
    for (let slot = 0; slot < ring.length; slot++) ring[slot] = coarse[slot >> 2] ?? FREE;
    yield;
    const room = roomOf(members, hashes, ring.length, size);
    for (const owner of ring) room[owner] = (room[owner] ?? 0) - 1;
    const free = release(ring, room);
    yield;
    const finer = new Walks(ring, free, hashes, room);
    while (!finer.take(STEP)) yield;
  }
  return ring;
}

/**
 * How many slots each member may have. On the way to a ring of `wanted` slots, members of few slots
 * may have more than their share: to even out there would move slots whenever a member leaves.
 */
function roomOf(
  members: readonly RingMember[],
  hashes: Uint32Array,
  size: number,
  wanted: number,
): Int32Array {
  const room = sharesOf(members, hashes, size);
  if (size === wanted) return room;
  let sum = 0;
  for (const { weight } of members) sum += weight;
  for (const [index, { weight }] of members.entries()) {
    const share = (size * weight) / sum;
    if (share < EXACT) room[index] = Math.ceil(share * (1 + 2 * (1 - share / EXACT) ** 2));
  }
  return room;
}

/** How many slots each member shall have: to less than one slot what its weight says. */
function sharesOf(members: readonly RingMember[], hashes: Uint32Array, size: number): Int32Array {
  let sum = 0;
  for (const { weight } of members) sum += weight;
  let spare = size;
  const shares = new Int32Array(members.length);
  for (const [index, { weight }] of members.entries()) {
    const share = Math.floor((size * weight) / sum);
    shares[index] = share;
    spare -= share;
  }
  const rest = (index: number): number => (size * (members[index]?.weight ?? 0)) % sum;
  // Who gets one more: nearest to it first; among equals it must not depend on who else is there.
  const order = Array.from(members.keys()).sort(
    (a, b) => rest(b) - rest(a) || (hashes[a] ?? 0) - (hashes[b] ?? 0) || a - b,
  );
  for (const index of order.slice(0, spare)) shares[index] = (shares[index] ?? 0) + 1;
  return shares;
}

/** Frees slots of members that have too many (`room` is below 0), over all the ring; how many. */
function release(ring: Uint16Array, room: Int32Array): number {
  const size = ring.length;
  let over = 0;
  for (const count of room) if (count < 0) over -= count;
  const free = over;
  // About the golden section of 1021; odd, so it has no factor in common with any size.
  const by = 631;
  for (let slot = 0; over > 0; slot = (slot + by) % size) {
    const owner = ring[slot] ?? FREE;
    if (owner === FREE || (room[owner] ?? 0) >= 0) continue;
    ring[slot] = FREE;
    room[owner] = (room[owner] ?? 0) + 1;
    over--;
  }
  return free;
}

/** Gives out the free slots to members that have room. */
class Walks {
  readonly #ring: Uint16Array;
  readonly #room: Int32Array;
  readonly #place: Int32Array;
  readonly #skip: Int32Array;
  #free: number;
  /** Members that have room, and whose turn it is among them. */
  readonly #waiting: Int32Array;
  #count = 0;
  #next = 0;
  /** Whether one of them has no more room. */
  #full = false;

  constructor(ring: Uint16Array, free: number, hashes: Uint32Array, room: Int32Array) {
    const size = ring.length;
    this.#ring = ring;
    this.#free = free;
    this.#room = room;
    this.#place = new Int32Array(hashes.length);
    this.#skip = new Int32Array(hashes.length);
    this.#waiting = new Int32Array(hashes.length);
    for (const [index, hash] of hashes.entries()) {
      this.#place[index] = hash % size;
      this.#skip[index] = skipOf(hash, size);
      if ((room[index] ?? 0) > 0) this.#waiting[this.#count++] = index;
    }
  }

  /** Looks at about `looks` slots; true when none is free any more. */
  take(looks: number): boolean {
    const [ring, place, skip, room] = [this.#ring, this.#place, this.#skip, this.#room];
    const waiting = this.#waiting;
    const size = ring.length;
    let [left, free] = [looks, this.#free];
    while (free > 0) {
      const [seeks, count] = [free * RARE <= size, this.#count];
      let full = this.#full;
      for (let turn = this.#next; turn < count && free > 0; turn++) {
        const index = waiting[turn] as number;
        const by = skip[index] as number;
        let slot = place[index] as number;
        for (; seeks && ring[slot] !== FREE; left--) {
          slot += by;
          if (slot >= size) slot -= size;
        }
        if (ring[slot] === FREE) {
          ring[slot] = index;
          free--;
          const more = (room[index] as number) - 1;
          room[index] = more;
          if (more === 0) full = true;
        }
        slot += by;
        place[index] = slot >= size ? slot - size : slot;
        left--;
        if (left > 0) continue;
        [this.#next, this.#free, this.#full] = [turn + 1, free, full];
        return free === 0;
      }
      this.#next = 0;
      if (full) this.#dismiss();
    }
    return true;
  }

  /** Those without more room wait no longer. */
  #dismiss(): void {
    let count = 0;
    for (let turn = 0; turn < this.#count; turn++) {
      const index = this.#waiting[turn] as number;
      if ((this.#room[index] as number) > 0) this.#waiting[count++] = index;
    }
    this.#count = count;
    this.#full = false;
  }
}

/** A step that leads through all slots: it has no factor in common with 1021 × 4^n. */
function skipOf(hash: number, size: number): number {
  const bits = mix(hash ^ 0x85ebca6b);
  if (size === BASE) return (bits % (BASE - 1)) + 1;
  const odd = (bits % (size / 2)) * 2 + 1;
  return odd % BASE === 0 ? odd - 2 : odd;
}

/** An address as 32 bits. */
function fold(address: Address): number {
  if (isIpv4(address)) return address;
  let bits = 0;
  for (let shift = 96n; shift >= 0n; shift -= 32n) {
    bits = mix(bits ^ Number((address >> shift) & 0xffffffffn));
  }
  return bits;
}

/** Spreads 32 bits over 32 bits (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
