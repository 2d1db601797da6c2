// SPDX-License-Identifier: Apache-2.0

/** All numbers of an allocator are taken. */
export class OutOfIdsError extends Error {
  override readonly name = "OutOfIdsError";
}

/** Gives small numbers to things that come and go. */
export interface IdAllocator {
  /**
   * A number from `first` to `last` that is not in use: one that never was, else the one that was
   * released longest ago, so that what still carries an old number is not soon taken for the new
   * owner's. Throws OutOfIdsError when all are in use.
   */
  allocate(): number;
  /** Takes a number found in use at start; false if it is out of range or taken. */
  claim(id: number): boolean;
  release(id: number): void;
  readonly used: number;
  readonly limit: number;
}

/** Numbers that are released before any is given out again, while fresh ones last. */
const QUARANTINE = 256;

/**
 * How long a number rests in any case, while fresh ones last: what leads to its old owner must be
 * removed before it can have a new one, and a removal that fails is tried again.
 */
const REST_MS = 60_000;

/** An allocator of `first` to `last`, both included; `name` is for its errors. */
export function createIdAllocator(
  name: string,
  first: number,
  last: number,
  clock: () => number = () => performance.now(),
): IdAllocator {
  const limit = last - first + 1;
  /** A byte a number, 1 for those in use: a Set would take twenty. */
  const taken = new Uint8Array(limit);
  let used = 0;
  const isUsed = (id: number): boolean => taken[id - first] === 1;
  const use = (id: number): void => {
    taken[id - first] = 1;
    used++;
  };
  /** When each was released, oldest first. */
  const released = new Map<number, number>();
  let fresh = first;
  return {
    allocate() {
      while (fresh <= last && (isUsed(fresh) || released.has(fresh))) fresh++;
      const [oldest, sinceMs = 0] = released.entries().next().value ?? [];
      const isRested = released.size > QUARANTINE && clock() - sinceMs >= REST_MS;
      const id = isRested || fresh > last ? oldest : fresh;
      if (id === undefined) {
        throw new OutOfIdsError(`all ${limit} ${name} are in use`);
      }
      released.delete(id);
      use(id);
      return id;
    },
    claim(id) {
      if (!Number.isInteger(id) || id < first || id > last || isUsed(id)) return false;
      released.delete(id);
      use(id);
      return true;
    },
    release(id) {
      if (!isUsed(id)) throw new Error(`${name}: ${id} is released but not in use`);
      taken[id - first] = 0;
      used--;
      released.set(id, clock());
    },
    get used() {
      return used;
    },
    limit,
  };
}
