// SPDX-License-Identifier: Apache-2.0
// The hash table from address, port and protocol to a row of services, in mapped memory.

import { formatAddressPort } from "../../net/address.ts";
import type { TableFamily } from "./family.ts";
import { type FrontendKey, frontendId, leadsToService } from "./hash.ts";
import { BUCKET_SLOTS, PROBES, type Region } from "./memory.ts";
import type { Quarantine } from "./quarantine.ts";

/** No room for a key; `mayHelp` when slots near it only wait for their grace period. */
export class TableFull extends Error {
  override readonly name = "TableFull";
  readonly mayHelp: boolean;

  constructor(message: string, mayHelp: boolean) {
    super(message);
    this.mayHelp = mayHelp;
  }
}

/** A key that is there: its slot, and the service that it leads to, 0 for none. */
interface Placed {
  readonly key: FrontendKey;
  readonly slot: number;
  service: number;
}

const SLOT = { free: 0, used: 1, quarantined: 2 } as const;

/** Knows which slot has which key, and which slots lead to which service. */
export class FrontendTable {
  readonly #family: TableFamily;
  readonly #memory: Region;
  readonly #mask: number;
  readonly #quarantine: Quarantine;
  readonly #placed = new Map<number | string, Placed>();
  readonly #slotsOf = new Map<number, Set<number>>();
  readonly #state: Uint8Array;
  /** Of each bucket: how many of its passers-by stand in a later one. */
  readonly #passed = new Map<number, number>();

  /** `idOf` says which service a row of services belongs to: for what memory holds already. */
  constructor(
    family: TableFamily,
    memory: Region,
    quarantine: Quarantine,
    idOf: (row: number) => number,
  ) {
    if ((memory.rows & (memory.rows - 1)) !== 0) {
      const table = `table ${family.names.frontends}`;
      throw new Error(`${table} has ${memory.rows} buckets, which is no power of two`);
    }
    this.#family = family;
    this.#memory = memory;
    this.#mask = memory.rows - 1;
    this.#quarantine = quarantine;
    this.#state = new Uint8Array(memory.rows * BUCKET_SLOTS);
    this.#restore(idOf);
  }

  get size(): number {
    return this.#placed.size;
  }

  /** Slots altogether. */
  get slots(): number {
    return this.#state.length;
  }

  *keys(): Generator<FrontendKey> {
    for (const { key } of this.#placed.values()) yield key;
  }

  /** Keys with the service that they lead to. */
  *entries(): Generator<readonly [FrontendKey, number]> {
    for (const { key, service } of this.#placed.values()) yield [key, service];
  }

  /** Makes every frontend of a service lead to `row`. */
  publish(service: number, row: number): void {
    for (const slot of this.#slotsOf.get(service) ?? []) this.#lead(slot, row);
  }

  /** Makes a key lead to a service, whose row this is; of service 0, say this. Throws TableFull. */
  put(key: FrontendKey, service: number, row: number): void {
    const id = frontendId(key);
    const placed = this.#placed.get(id);
    if (placed === undefined) {
      this.#insert(id, key, service, row);
      return;
    }
    if (placed.service !== service) {
      this.#unlink(placed);
      placed.service = service;
      this.#link(placed);
    }
    this.#lead(placed.slot, row);
  }

  /** Removes a key; its slot is used again only after a grace period. */
  remove(key: FrontendKey): void {
    const id = frontendId(key);
    const placed = this.#placed.get(id);
    if (placed === undefined) return;
    const { slot } = placed;
    this.#family.clearKey(this.#memory, slot);
    this.#placed.delete(id);
    this.#unlink(placed);
    this.#pass(placed.key, slot, -1);
    this.#state[slot] = SLOT.quarantined;
    this.#quarantine.retire(() => {
      this.#state[slot] = SLOT.free;
    });
  }

  #lead(slot: number, row: number): void {
    const { words, service } = this.#family.frontend;
    Atomics.store(this.#memory.words, slot * words + service, row);
  }

  #insert(id: number | string, key: FrontendKey, service: number, row: number): void {
    const slot = this.#findFree(this.#family.bucketOf(key, this.#mask), key);
    const placed = { key, slot, service };
    this.#state[slot] = SLOT.used;
    this.#placed.set(id, placed);
    this.#link(placed);
    this.#lead(slot, row);
    this.#pass(key, slot, 1);
    // Last: with the key, everything behind it can be read.
    this.#family.publishKey(this.#memory, slot, key);
  }

  #findFree(home: number, key: FrontendKey): number {
    let mayHelp = false;
    for (let probe = 0; probe < PROBES; probe++) {
      const first = ((home + probe) & this.#mask) * BUCKET_SLOTS;
      for (let slot = first; slot < first + BUCKET_SLOTS; slot++) {
        if (this.#state[slot] === SLOT.free) return slot;
        mayHelp ||= this.#state[slot] === SLOT.quarantined;
      }
    }
    throw new TableFull(
      `no room in table ${this.#family.names.frontends} for ` +
        `${formatAddressPort(key.address, key.port)}: ` +
        `${this.size} of its ${this.slots} slots are taken; raise tables.services`,
      mayHelp,
    );
  }

  /** Counts a key that stands `slot` past its own bucket, and marks the buckets that it passed. */
  #pass(key: FrontendKey, slot: number, by: 1 | -1): void {
    const standing = Math.floor(slot / BUCKET_SLOTS);
    let bucket = this.#family.bucketOf(key, this.#mask);
    for (; bucket !== standing; bucket = (bucket + 1) & this.#mask) {
      const count = (this.#passed.get(bucket) ?? 0) + by;
      if (count === 0) this.#passed.delete(bucket);
      else this.#passed.set(bucket, count);
      Atomics.store(this.#memory.words, this.#spillOf(bucket), count === 0 ? 0 : 1);
    }
  }

  /** The word that says whether keys of a bucket stand in later ones. */
  #spillOf(bucket: number): number {
    const { words, spill } = this.#family.frontend;
    return (bucket * BUCKET_SLOTS + BUCKET_SLOTS - 1) * words + spill;
  }

  #link({ slot, service }: Placed): void {
    if (service === 0) return;
    const slots = this.#slotsOf.get(service);
    if (slots === undefined) this.#slotsOf.set(service, new Set([slot]));
    else slots.add(slot);
  }

  #unlink({ slot, service }: Placed): void {
    const slots = this.#slotsOf.get(service);
    slots?.delete(slot);
    if (slots?.size === 0) this.#slotsOf.delete(service);
  }

  /** What stands where no lookup would find it, or twice, is wiped: no program reads it. */
  #restore(idOf: (row: number) => number): void {
    const { words } = this.#memory;
    const { words: slotWords, rest, service: leads } = this.#family.frontend;
    for (let slot = 0; slot < this.slots; slot++) {
      const at = slot * slotWords;
      if (words[at + rest] === 0) continue;
      const key = this.#family.readKey(this.#memory, slot);
      const id = frontendId(key);
      const home = this.#family.bucketOf(key, this.#mask);
      const distance = (Math.floor(slot / BUCKET_SLOTS) - home) & this.#mask;
      if (distance >= PROBES || this.#placed.has(id)) {
        this.#family.clearKey(this.#memory, slot);
        continue;
      }
      const service = leadsToService(key.kind) ? idOf(words[at + leads] ?? 0) : 0;
      const placed = { key, slot, service };
      this.#state[slot] = SLOT.used;
      this.#placed.set(id, placed);
      this.#link(placed);
      this.#pass(key, slot, 1);
    }
    this.#clearSpills();
  }

  /** A predecessor may have died before it cleared a mark. */
  #clearSpills(): void {
    const { words } = this.#memory;
    for (let bucket = 0; bucket <= this.#mask; bucket++) {
      if (this.#passed.has(bucket)) continue;
      const word = this.#spillOf(bucket);
      if (words[word] !== 0) Atomics.store(words, word, 0);
    }
  }
}
