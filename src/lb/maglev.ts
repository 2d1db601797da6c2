// SPDX-License-Identifier: Apache-2.0
import type { Ipv4 } from "../net/address.ts";

// Maglev hashing (Eisenbud et al., NSDI 2016): every backend walks the slots in an order of its
// own and takes the next free one in turn. A ring depends on its members and its size only, so
// all nodes make the same one, and a member that leaves moves few slots of the others.

/** The sizes that a ring can have: primes, each about four times the one before. */
export const RING_SIZES: readonly number[] = [1021, 4093, 16381, 65521, 262139, 1048573];

/** Slots per backend at least, so that shares are even to about a percent. */
const SLOTS_PER_BACKEND = 100;

/** What a slot's two bytes can tell apart; 0xffff marks a free slot while a ring is filled. */
export const MAX_RING_MEMBERS = 0xffff;

/** Weights are whole numbers up to this. */
export const MAX_WEIGHT = 1000;

/** A backend as far as the ring cares. */
export interface RingMember {
  readonly address: Ipv4;
  readonly port: number;
  /** Share of flows relative to the other members', 1 to MAX_WEIGHT. */
  readonly weight: number;
}

/** The size of the ring of a service with so many backends, unless an annotation names another. */
export function ringSizeFor(backends: number): number {
  const size = RING_SIZES.find((candidate) => candidate >= backends * SLOTS_PER_BACKEND);
  return size ?? (RING_SIZES.at(-1) as number);
}

/** Orders members as every node does: by address, then port. */
export function compareMembers(a: RingMember, b: RingMember): number {
  return a.address - b.address || a.port - b.port;
}

/** The ring of `members`, which are in the order of `compareMembers`: slot → index of a member. */
export function createRing(members: readonly RingMember[], size: number): Uint16Array<ArrayBuffer> {
  const fill = startRing(members, size);
  fill.step(Number.POSITIVE_INFINITY);
  return fill.ring;
}

/** A ring on its way: large ones take longer than the event loop should be held. */
export interface RingFill {
  /** Whole once `step` has said so. */
  readonly ring: Uint16Array<ArrayBuffer>;
  /** Gives out about `slots` more slots; true when none is left. */
  step(slots: number): boolean;
}

const FREE = 0xffff;

/** Starts a ring; see `createRing`. No members, no slots. */
export function startRing(members: readonly RingMember[], size: number): RingFill {
  const count = members.length;
  if (count > MAX_RING_MEMBERS) {
    throw new RangeError(`a ring of ${count} members: expected at most ${MAX_RING_MEMBERS}`);
  }
  if (count === 0) return { ring: new Uint16Array(0), step: () => true };
  const ring = new Uint16Array(size).fill(FREE);
  const place = new Int32Array(count);
  const skip = new Int32Array(count);
  const weight = new Int32Array(count);
  for (const [index, member] of members.entries()) {
    const mixed = mix(member.address ^ Math.imul(member.port, 0x9e3779b1));
    place[index] = mixed % size;
    skip[index] = (mix(mixed ^ 0x85ebca6b) % (size - 1)) + 1;
    weight[index] = member.weight;
  }
  const heaviest = weight.reduce((most, one) => Math.max(most, one), 0);
  const credit = new Int32Array(count);
  let free = size;

  /** One turn for everybody; a lighter member sits out as many turns as its weight says. */
  const turn = (): void => {
    for (let index = 0; index < count; index++) {
      const due = (credit[index] as number) + (weight[index] as number);
      if (due < heaviest) {
        credit[index] = due;
        continue;
      }
      credit[index] = due - heaviest;
      const by = skip[index] as number;
      let slot = place[index] as number;
      while (ring[slot] !== FREE) {
        slot += by;
        if (slot >= size) slot -= size;
      }
      ring[slot] = index;
      place[index] = slot;
      if (--free === 0) return;
    }
  };
  return {
    ring,
    step(slots) {
      const until = Math.max(0, free - slots);
      while (free > until) turn();
      return free === 0;
    },
  };
}

/** Spreads 32 bits over 32 bits (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
