// SPDX-License-Identifier: Apache-2.0
// What differs between the tables of IPv4 and IPv6: docs/packet-path.md, "Frontend lookup".

import type { Codec } from "../../kernel/codec.ts";
import type { Address, Family, Ipv6 } from "../../net/address.ts";
import { Backend, Backend6, type FrontendKind, type Port } from "../gen/abi.ts";
import { bucketOf, bucketOf6, type FrontendKey, highWord, keyOfWords, lowWord } from "./hash.ts";
import type { Region } from "./memory.ts";

/** A row of backends of either family. */
export interface BackendRow {
  readonly address: Address;
  readonly port: Port;
  readonly nexthop: number;
  readonly counter: number;
  readonly flags: number;
}

/** How rows of a family lie in memory. */
export interface TableFamily {
  readonly family: Family;
  /** The names of its tables. */
  readonly names: { readonly frontends: string; readonly backends: string };
  readonly backend: Codec<BackendRow>;
  /** Bytes from one backend to the next. */
  readonly backendBytes: number;
  /** struct backend's nexthop, in half words. */
  readonly nexthop: number;
  /** struct frontend in words: all of it, its port, protocol and kind, and what follows. */
  readonly frontend: {
    readonly words: number;
    readonly rest: number;
    readonly service: number;
    readonly spill: number;
  };
  bucketOf(key: FrontendKey, mask: number): number;
  /** The key of a slot that isn't empty. */
  readKey(memory: Region, slot: number): FrontendKey;
  /** Makes the key seen, whole, after everything that was written before. */
  publishKey(memory: Region, slot: number, key: FrontendKey): void;
  /** Makes the slot empty. */
  clearKey(memory: Region, slot: number): void;
}

export const IPV4_TABLES: TableFamily = {
  family: "ipv4",
  names: { frontends: "frontends", backends: "backends" },
  backend: Backend,
  backendBytes: 16,
  nexthop: 3,
  frontend: { words: 4, rest: 1, service: 2, spill: 3 },
  bucketOf: (key, mask) => bucketOf(lowWord(key), highWord(key), mask),
  readKey: ({ words }, slot) => keyOfWords(words[slot * 4] ?? 0, words[slot * 4 + 1] ?? 0),
  publishKey({ pairs }, slot, key) {
    const value = (BigInt(highWord(key)) << 32n) | BigInt(lowWord(key));
    Atomics.store(pairs, slot * 2, value);
  },
  clearKey: ({ pairs }, slot) => void Atomics.store(pairs, slot * 2, 0n),
};

/** 20 bytes can't be published at once: the address goes first, and the rest makes the key seen. */
export const IPV6_TABLES: TableFamily = {
  family: "ipv6",
  names: { frontends: "frontends6", backends: "backends6" },
  backend: Backend6,
  backendBytes: 32,
  nexthop: 9,
  frontend: { words: 8, rest: 4, service: 5, spill: 6 },
  bucketOf: bucketOf6,
  readKey({ words, view }, slot) {
    const rest = words[slot * 8 + 4] ?? 0;
    const first = view.getBigUint64(slot * 32);
    const address = ((first << 64n) | view.getBigUint64(slot * 32 + 8)) as Ipv6;
    return { ...keyOfWords(0, rest), address, kind: (rest >>> 24) as FrontendKind };
  },
  publishKey({ words, view }, slot, key) {
    const address = BigInt(key.address);
    view.setBigUint64(slot * 32, address >> 64n);
    view.setBigUint64(slot * 32 + 8, BigInt.asUintN(64, address));
    Atomics.store(words, slot * 8 + 4, highWord(key));
  },
  clearKey: ({ words }, slot) => void Atomics.store(words, slot * 8 + 4, 0),
};
