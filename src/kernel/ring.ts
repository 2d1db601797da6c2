// SPDX-License-Identifier: Apache-2.0

import { check, KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import type { BpfMap } from "./map.ts";

const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;
const LENGTH = 0x3fff_ffff;
const HEADER_BYTES = 8;

/** Called for one record: `length` bytes at `offset` of the view that it is in. */
export type RecordVisitor = (offset: number, length: number) => void;

/** What a ring gave up in one go. */
export interface RingSlice {
  /** Bytes of ring, headers and discarded records included: what eachRecord walks through. */
  readonly bytes: number;
  /** Records that count: the discarded ones do not. */
  readonly records: number;
}

/** Visits the records in `bytes` bytes of ring, which begin at `offset` of `view`. */
export function eachRecord(
  view: DataView,
  offset: number,
  bytes: number,
  visit: RecordVisitor,
): void {
  const end = offset + bytes;
  for (let at = offset; at < end; ) {
    const header = view.getUint32(at, true);
    const length = header & LENGTH;
    if ((header & DISCARDED) === 0) visit(at + HEADER_BYTES, length);
    at += recordBytes(length);
  }
}

function recordBytes(length: number): number {
  return (length + HEADER_BYTES + 7) & ~7;
}

interface Mapped {
  readonly at: sys.Pointer;
  readonly buffer: ArrayBuffer;
}

/**
 * The reading end of a BPF ring buffer, by shared memory: no system call but to wait. A ring has
 * one reader; two take each other's records. When a ring is full, the programs' bpf_ringbuf_reserve
 * fails, and counting that is theirs.
 */
export class RingReader implements Disposable {
  readonly name: string;
  /** The ring's size in bytes. */
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #mask: number;
  readonly #consumerPage: Mapped;
  readonly #producerPages: Mapped;
  readonly #consumer: BigUint64Array<ArrayBuffer>;
  readonly #producer: Uint32Array<ArrayBuffer>;
  /** The ring's memory is mapped twice in a row, so that a record that wraps lies in one piece. */
  readonly #data: Uint8Array<ArrayBuffer>;
  readonly #headers: Uint32Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  #position: bigint;
  #closed = false;

  /** The map stays the caller's, and may be closed. */
  constructor(map: BpfMap) {
    if (map.info.type !== "ringbuf") {
      throw new Error(`cannot read map ${map.name} as a ring: it is of type ${map.info.type}`);
    }
    const page = sys.pageSize();
    this.name = map.name;
    this.sizeBytes = map.info.maxEntries;
    this.#fd = check(sys.duplicate(map.fd), "keep", `map ${map.name}`);
    this.#mask = this.sizeBytes - 1;
    this.#consumerPage = mapPages(map, 0, page, sys.PROT_READ | sys.PROT_WRITE);
    this.#producerPages = mapPages(map, page, page + 2 * this.sizeBytes, sys.PROT_READ);
    this.#consumer = new BigUint64Array(this.#consumerPage.buffer, 0, 1);
    this.#producer = new Uint32Array(this.#producerPages.buffer, 0, 1);
    this.#data = new Uint8Array(this.#producerPages.buffer, page);
    this.#headers = new Uint32Array(this.#producerPages.buffer, page);
    this.#view = new DataView(this.#producerPages.buffer, page);
    this.#position = Atomics.load(this.#consumer, 0);
  }

  /** Bytes that wait to be read, unfinished records included. */
  get pendingBytes(): number {
    // Positions only grow, and a ring is smaller than 4 GiB: the low halves tell the distance.
    return (Atomics.load(this.#producer, 0) - this.#low()) >>> 0;
  }

  /** Visits what is there now, in place, gives the space back, and returns how many records. */
  read(visit: (view: DataView, offset: number, length: number) => void): number {
    const slice = this.#scan(this.sizeBytes);
    const view = this.#view;
    try {
      eachRecord(view, this.#low() & this.#mask, slice.bytes, (offset, length) => {
        visit(view, offset, length);
      });
    } finally {
      this.#release(slice.bytes);
    }
    return slice.records;
  }

  /**
   * Copies what is there now, as far as it fits, and gives the space back. Throws a RangeError for
   * a record that is larger than `into`.
   */
  copy(into: Uint8Array): RingSlice {
    const slice = this.#scan(into.byteLength);
    if (slice.bytes === 0) this.#refuseLarger(into.byteLength);
    const start = this.#low() & this.#mask;
    into.set(this.#data.subarray(start, start + slice.bytes));
    this.#release(slice.bytes);
    return slice;
  }

  /** Throws away what is there now, and returns how many records that were. */
  skip(): number {
    const slice = this.#scan(this.sizeBytes);
    this.#release(slice.bytes);
    return slice.records;
  }

  /** Blocks the thread until there is something to read, `timeoutMs` at most. */
  wait(timeoutMs: number): boolean {
    const result = sys.poll(this.#fd, sys.POLLIN, timeoutMs);
    if (result < 0 && result !== EINTR) throw new KernelError("wait for ring", this.name, result);
    return result > 0;
  }

  /** Unmaps the ring. What was not read stays for the next reader. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { at, buffer } of [this.#consumerPage, this.#producerPages]) {
      const length = buffer.byteLength;
      buffer.transfer();
      sys.munmap(at, length);
    }
    sys.close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #low(): number {
    return Number(this.#position & 0xffff_ffffn);
  }

  /** Finished records from the reading position on, at most `room` bytes of them. */
  #scan(room: number): RingSlice {
    const available = Math.min(this.pendingBytes, room);
    const start = this.#low() & this.#mask;
    let bytes = 0;
    let records = 0;
    while (bytes < available) {
      const header = Atomics.load(this.#headers, (start + bytes) >>> 2);
      const next = bytes + recordBytes(header & LENGTH);
      if ((header & BUSY) !== 0 || next > available) break;
      if ((header & DISCARDED) === 0) records += 1;
      bytes = next;
    }
    return { bytes, records };
  }

  #refuseLarger(room: number): void {
    if (this.pendingBytes <= room) return;
    const header = Atomics.load(this.#headers, (this.#low() & this.#mask) >>> 2);
    const length = header & LENGTH;
    if ((header & BUSY) !== 0 || recordBytes(length) <= room) return;
    throw new RangeError(
      `ring ${this.name} holds a record of ${length} bytes, which does not fit into ${room}`,
    );
  }

  #release(bytes: number): void {
    if (bytes === 0) return;
    this.#position += BigInt(bytes);
    Atomics.store(this.#consumer, 0, this.#position);
  }
}

const EINTR = -4;

function mapPages(map: BpfMap, offset: number, length: number, protection: number): Mapped {
  const at = sys.mmap(length, protection, sys.MAP_SHARED, map.fd, offset);
  if (typeof at === "number") throw new KernelError("map into memory the ring", map.name, at);
  return { at, buffer: sys.viewMemory(at, length) };
}
