// SPDX-License-Identifier: Apache-2.0

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { unpin } from "../bpffs.ts";

/**
 * Compiles `<name>.bpf.c` of this folder into a directory that goes when the test that asked for
 * it, or the whole file, is over.
 */
export function buildObject(name: string): string {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-kernel-"));
  after(() => rmSync(directory, { recursive: true, force: true }));
  const source = join(import.meta.dirname, `${name}.bpf.c`);
  const object = join(directory, `${name}.bpf.o`);
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  const headers = `-I/usr/include/${machine}-linux-gnu`;
  const flags = ["-g", "-O2", "-target", "bpf", headers, "-c", source, "-o", object];
  execFileSync(process.env.CLANG ?? "clang-19", flags);
  return object;
}

let directories = 0;

/** A directory for pins of this test process, which goes with them when the tests are over. */
export function makePinDirectory(): string {
  directories += 1;
  const directory = `/sys/fs/bpf/ciliate-kernel-${process.pid}-${directories}`;
  mkdirSync(directory);
  after(() => {
    for (const name of readdirSync(directory)) unpin(join(directory, name));
    rmdirSync(directory);
  });
  return directory;
}

/** A number as the 4 bytes of a little-endian __u32. */
export function u32(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

/** The first __u32 of some bytes, or the one at `index`. */
export function readU32(bytes: Uint8Array, index = 0): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(index * 4, true);
}
