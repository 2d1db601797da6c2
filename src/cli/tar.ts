// SPDX-License-Identifier: Apache-2.0
// Files in a tar archive, as POSIX.1-1988 (ustar) has them.

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;

/** What ends an archive. */
export const TAR_END = Buffer.alloc(2 * BLOCK_BYTES);

/**
 * One file of an archive, readable by its owner only: its header, its bytes, and zeros up to the
 * next block. Throws RangeError for a path of more than 100 bytes.
 */
export function tarEntry(path: string, bytes: Uint8Array, modifiedUnixMs: number): Buffer {
  if (Buffer.byteLength(path) > NAME_BYTES) {
    throw new RangeError(`${path} is too long for an archive: it takes ${NAME_BYTES} bytes`);
  }
  const padded = Math.ceil(bytes.length / BLOCK_BYTES) * BLOCK_BYTES;
  const entry = Buffer.alloc(BLOCK_BYTES + padded);
  const octal = (value: number, offset: number, digits: number): void =>
    void entry.write(value.toString(8).padStart(digits, "0"), offset, "latin1");
  entry.write(path, 0);
  octal(0o600, 100, 7); // mode
  octal(0, 108, 7); // user
  octal(0, 116, 7); // group
  octal(bytes.length, 124, 11);
  octal(Math.floor(modifiedUnixMs / 1000), 136, 11);
  entry.write("        0", 148); // the sum is made with spaces in its own place; a regular file
  entry.write("ustar\u000000", 257);
  const sum = entry.subarray(0, BLOCK_BYTES).reduce((total, byte) => total + byte, 0);
  entry.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  entry.set(bytes, BLOCK_BYTES);
  return entry;
}
