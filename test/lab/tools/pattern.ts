// SPDX-License-Identifier: Apache-2.0
// Numbered bytes: what stands at each position of a stream is known on both sides, so that a lost,
// repeated or foreign byte shows, and where.

/** Prime, and beyond any segment: no shift by whole segments looks right. */
const PERIOD = 65_521;
/** No chunk may be longer: Node reads 64 KiB at the most. */
export const CHUNK_LIMIT = 65_536;

const TABLE = makeTable();

function makeTable(): Buffer {
  const table = Buffer.alloc(PERIOD + CHUNK_LIMIT);
  let state = 1;
  for (let index = 0; index < PERIOD; index++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    table[index] = state >>> 24;
  }
  table.copy(table, PERIOD, 0, CHUNK_LIMIT);
  return table;
}

/** The bytes from `position` on of the stream with this key; at most CHUNK_LIMIT. Not a copy. */
export function bytesAt(key: number, position: number, length: number): Buffer {
  const start = (key + position) % PERIOD;
  return TABLE.subarray(start, start + length);
}

/** Whether a chunk is what stands at `position` of the stream with this key. */
export function isRight(key: number, position: number, chunk: Buffer): boolean {
  return chunk.equals(bytesAt(key, position, chunk.length));
}

/** Keys of a connection's two streams; different for the first 65 521 connections. */
export function keysOf(connection: number): { readonly up: number; readonly down: number } {
  const up = (connection * 7919) % PERIOD;
  return { up, down: (up + PERIOD - 1) % PERIOD };
}
