// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Ipv4, ipv4FromNumber, ipv6FromBigInt } from "../../net/address.ts";
import { Frontend, Frontend6, FrontendKind, type Port } from "../gen/abi.ts";
import { IPV6_TABLES } from "./family.ts";
import {
  bucketOf,
  bucketOf6,
  type FrontendKey,
  frontendId,
  highWord,
  keyOfWords,
  lowWord,
} from "./hash.ts";
import { regionOf } from "./memory.ts";

const MULTIPLIER = 0x9e3779b97f4a7c15n;

/** Some of everything, always the same. */
function* someKeys(count: number): Generator<FrontendKey & { readonly address: Ipv4 }> {
  let state = 12345;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
  for (let index = 0; index < count; index++) {
    const kind = (1 + ((next() >>> 16) % 5)) as FrontendKind;
    const protocol = kind === 2 || kind === 5 ? 0 : (next() >>> 31) * 11 + 6;
    yield { address: ipv4FromNumber(next()), port: next() >>> 16, protocol, kind };
  }
}

test("a key's words are those of struct frontend in memory", () => {
  const view = new DataView(new ArrayBuffer(Frontend.size));
  for (const key of someKeys(1000)) {
    Frontend.encode(view, 0, { ...key, port: key.port as Port, service: 0, spill: 0 });
    assert.equal(lowWord(key), view.getUint32(0, true));
    assert.equal(highWord(key), view.getUint32(4, true));
    assert.deepEqual(keyOfWords(lowWord(key), highWord(key)), key);
  }
});

test("a key's bucket is the one of the packet path", () => {
  for (const key of someKeys(10_000)) {
    const [low, high] = [lowWord(key), highWord(key)];
    const word = (BigInt(high) << 32n) | BigInt(low);
    const wide = (BigInt.asUintN(64, word * MULTIPLIER) >> 32n) & 0xffffffn;
    assert.equal(bucketOf(low, high, 0xffffff), Number(wide));
  }
});

test("the addresses of one network of IPv6 are spread over the buckets", () => {
  const mask = 0xffff;
  for (const network of [0xfd00_0010_0096n << 80n, 0x2001_0db8n << 96n]) {
    for (const shift of [0n, 8n, 16n, 32n, 48n, 52n, 64n, 80n]) {
      const buckets = new Map<number, number>();
      for (let host = 1n; host <= 4096n; host++) {
        const address = ipv6FromBigInt(network ^ (host << shift));
        const key = { address, port: 80, protocol: 6, kind: FrontendKind.service };
        const bucket = bucketOf6(key, mask);
        buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1);
      }
      assert.ok(Math.max(...buckets.values()) <= 4, `${shift}: ${Math.max(...buckets.values())}`);
    }
  }
});

test("different keys have different ids", () => {
  const some = [...someKeys(4000)];
  const kinds = [1, 2, 3, 4, 5] as const;
  const keys = [...some, ...some.flatMap((key) => kinds.map((kind) => ({ ...key, kind })))];
  const texts = new Set(keys.map((key) => JSON.stringify(key)));
  assert.equal(new Set(keys.map(frontendId)).size, texts.size);
});

test("a key of IPv6 lies in memory as struct frontend6, its bucket is the packet path's", () => {
  const region = regionOf(new ArrayBuffer(Frontend6.size * 4), 1);
  for (const four of someKeys(200)) {
    const address = (0x20010db8n << 96n) | (BigInt(four.address) * MULTIPLIER);
    const key = { ...four, address: ipv6FromBigInt(address) };
    IPV6_TABLES.publishKey(region, 2, key);
    const there = Frontend6.decode(region.view, 2 * Frontend6.size);
    assert.deepEqual({ ...there, service: 0, spill: 0 }, { ...key, service: 0, spill: 0 });
    assert.deepEqual(IPV6_TABLES.readKey(region, 2), key);
    const half = (offset: number): bigint =>
      region.view.getBigUint64(2 * Frontend6.size + offset, true);
    let x = BigInt.asUintN(64, (half(0) ^ (half(16) & 0xffffffffn)) * MULTIPLIER);
    x ^= (x >> 32n) ^ half(8);
    x = BigInt.asUintN(64, (x ^ (x >> 31n)) * MULTIPLIER) >> 32n;
    assert.equal(IPV6_TABLES.bucketOf(key, 0xffff), Number(x & 0xffffn));
    IPV6_TABLES.clearKey(region, 2);
    assert.equal(Frontend6.decode(region.view, 2 * Frontend6.size).kind, FrontendKind.empty);
  }
});
