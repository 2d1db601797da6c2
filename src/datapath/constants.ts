// SPDX-License-Identifier: Apache-2.0
// Sets the constants of an object between open and load.

import { parseBtf } from "../kernel/btf.ts";
import { declaredConfig } from "../kernel/btf-object.ts";
import type { ConfigVar } from "../kernel/codec.ts";
import { type Config, config } from "./gen/abi.ts";

/**
 * Writes `values` over the initial bytes of an opened object's .rodata. `btf` is the raw BTF of the
 * object as libbpf opened it (only then are offsets right), `bytes` the section's initial value. A
 * constant that the object does not have is passed over; returned are the names, as C has them, of
 * those written.
 */
export function writeConstants(
  btf: Uint8Array,
  bytes: Uint8Array,
  values: Partial<Config>,
): readonly string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets = new Map(declaredConfig(parseBtf(btf)).map(({ name, offset }) => [name, offset]));
  const written: string[] = [];
  const write = <T>({ name, codec }: ConfigVar<T>, value: T | undefined): void => {
    const offset = offsets.get(name);
    if (offset === undefined || value === undefined) return;
    codec.encode(view, offset, value);
    written.push(name);
  };
  const writeKey = <Key extends keyof Config>(key: Key): void => write(config[key], values[key]);
  for (const key of Object.keys(config) as (keyof Config)[]) writeKey(key);
  return written;
}
