// SPDX-License-Identifier: Apache-2.0
import { type Address, compareAddress, isIpv4 } from "../net/address.ts";

// Maglev hashing (Eisenbud et al., NSDI 2016): every backend walks the slots in an order of its
// own and takes the next free one in turn. A ring depends on its members and its size only, so
// all nodes make the same one, and a member that leaves moves few slots of the others.
//
// Rings of different sizes agree: a larger one is the next smaller one with each slot cut in four,
// evened out. So a service that grows by a backend into the next size keeps its flows in place;
// docs/decisions/ring-size.md has the figures.

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
  const base = new Turns(ring, hashes, sharesOf(members, hashes, BASE));
  while (!base.take(STEP)) yield;
  while (ring.length < size) {
    const coarse = ring;
    ring = new Uint16Array(coarse.length * CUT);
    for (let slot = 0; slot < ring.length; slot++) ring[slot] = coarse[slot >> 2] ?? FREE;
    yield;
    const missing = sharesOf(members, hashes, ring.length);
    for (const owner of ring) missing[owner] = (missing[owner] ?? 0) - 1;
    release(ring, missing);
    yield;
    const finer = new Turns(ring, hashes, missing);
    while (!finer.take(STEP)) yield;
  }
  return ring;
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

/** Frees slots of members that have too many (`missing` is below 0), spread over the ring. */
function release(ring: Uint16Array, missing: Int32Array): void {
  const size = ring.length;
  let over = 0;
  for (const count of missing) if (count < 0) over -= count;
  // About the golden section of 1021; odd, so it has no factor in common with any size.
  const by = 631;
  for (let slot = 0; over > 0; slot = (slot + by) % size) {
    const owner = ring[slot] ?? FREE;
    if (owner === FREE || (missing[owner] ?? 0) >= 0) continue;
    ring[slot] = FREE;
    missing[owner] = (missing[owner] ?? 0) + 1;
    over--;
  }
}

/** Gives out the free slots: members take the next one of their walk in turn, up to `missing`. */
class Turns {
  readonly #ring: Uint16Array;
  readonly #missing: Int32Array;
  readonly #place: Int32Array;
  readonly #skip: Int32Array;
  /** Members that still get slots, and whose turn it is among them. */
  #waiting: number[] = [];
  #next = 0;
  /** Whether one of them has all that it shall have. */
  #done = false;

  constructor(ring: Uint16Array, hashes: Uint32Array, missing: Int32Array) {
    const size = ring.length;
    this.#ring = ring;
    this.#missing = missing;
    this.#place = new Int32Array(hashes.length);
    this.#skip = new Int32Array(hashes.length);
    for (const [index, hash] of hashes.entries()) {
      this.#place[index] = hash % size;
      this.#skip[index] = skipOf(hash, size);
      if ((missing[index] ?? 0) > 0) this.#waiting.push(index);
    }
  }

  /** Looks at about `looks` slots; true when all have what they shall have. */
  take(looks: number): boolean {
    const [ring, place, skip, missing] = [this.#ring, this.#place, this.#skip, this.#missing];
    const size = ring.length;
    let left = looks;
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting;
      for (let turn = this.#next; turn < waiting.length; turn++) {
        const index = waiting[turn] as number;
        const by = skip[index] as number;
        let slot = place[index] as number;
        while (ring[slot] !== FREE) {
          slot += by;
          if (slot >= size) slot -= size;
          left--;
        }
        ring[slot] = index;
        place[index] = slot;
        const wants = (missing[index] as number) - 1;
        missing[index] = wants;
        if (wants === 0) this.#done = true;
        if (left > 0) continue;
        this.#next = turn + 1;
        return false;
      }
      this.#next = 0;
      if (!this.#done) continue;
      this.#done = false;
      this.#waiting = waiting.filter((index) => (missing[index] as number) > 0);
    }
    return true;
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
