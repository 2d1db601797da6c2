// SPDX-License-Identifier: Apache-2.0

import type { Address } from "./family.ts";

const MASK64 = (1n << 64n) - 1n;
const GOLDEN = 0x9e3779b97f4a7c15n;

/** What the client sends: addresses and ports as numbers read in network order. */
export interface Tuple {
  readonly client: number;
  readonly clientPort: number;
  readonly service: number;
  readonly servicePort: number;
  readonly protocol: number;
}

/** Both halves of the flow hash: `low` is h, which picks slots, `high` is g. */
export interface FlowHash {
  readonly low: number;
  readonly high: number;
}

export function flowHash(tuple: Tuple, seed: bigint): FlowHash {
  const a =
    (BigInt(tuple.client) << 32n) | (BigInt(tuple.clientPort) << 16n) | BigInt(tuple.servicePort);
  const b = (BigInt(tuple.service) << 8n) | BigInt(tuple.protocol);
  let x = ((a ^ seed) * GOLDEN) & MASK64;
  x ^= x >> 32n;
  x = ((x ^ b) * 0xd6e8feb86659fd93n) & MASK64;
  x ^= x >> 32n;
  x = (x * 0xca4bcaa75ec3f625n) & MASK64;
  x ^= x >> 32n;
  return { low: Number(x & 0xffffffffn), high: Number(x >> 32n) };
}

/** Which of a ring's slots a flow falls into. */
export function slotOf(hash: FlowHash, ringSize: number): number {
  return Number((BigInt(hash.low) * BigInt(ringSize)) >> 32n);
}

/** The bucket in which a frontend's key stands if there is room. */
export function bucketOf(
  address: number,
  port: number,
  protocol: number,
  kind: number,
  mask: number,
): number {
  const memory = [address >>> 24, address >>> 16, address >>> 8, address, port >>> 8, port].map(
    (byte) => byte & 255,
  );
  let key = 0n;
  for (const byte of [...memory, protocol, kind].reverse()) key = (key << 8n) | BigInt(byte);
  return Number((((key * GOLDEN) & MASK64) >> 32n) & BigInt(mask));
}

/** As Tuple, of IPv6. */
export interface Tuple6 extends Omit<Tuple, "client" | "service"> {
  readonly client: bigint;
  readonly service: bigint;
}

const FACTORS = [GOLDEN, 0xd6e8feb86659fd93n] as const;

/** The number of `bytes` bytes that stands in memory as this one does in a packet. */
function swapped(value: bigint, bytes: number): bigint {
  let out = 0n;
  for (let index = 0; index < bytes; index++) {
    out = (out << 8n) | ((value >> BigInt(8 * index)) & 0xffn);
  }
  return out;
}

/** First and last eight bytes, as they lie in memory. */
function halves(address: bigint): readonly [bigint, bigint] {
  return [swapped(address >> 64n, 8), swapped(address & MASK64, 8)];
}

export function flowHash6(tuple: Tuple6, seed: bigint): FlowHash {
  const port = (value: number): bigint => swapped(BigInt(value), 2);
  const ends =
    (port(tuple.clientPort) << 8n) | (port(tuple.servicePort) << 24n) | BigInt(tuple.protocol);
  let x = seed;
  const values = [ends, ...halves(tuple.client), ...halves(tuple.service)];
  for (const [index, value] of values.entries()) {
    x = ((x ^ value) * (FACTORS[index % 2] ?? 0n)) & MASK64;
    x ^= x >> 32n;
  }
  x = (x * 0xca4bcaa75ec3f625n) & MASK64;
  x ^= x >> 32n;
  return { low: Number(x & 0xffffffffn), high: Number(x >> 32n) };
}

/** As bucketOf, of IPv6. */
export function bucketOf6(
  address: bigint,
  port: number,
  protocol: number,
  kind: number,
  mask: number,
): number {
  const [first, last] = halves(address);
  const rest = swapped(BigInt(port), 2) | (BigInt(protocol) << 16n) | (BigInt(kind) << 24n);
  let x = ((first ^ rest) * GOLDEN) & MASK64;
  x ^= x >> 32n;
  x ^= last;
  x ^= x >> 31n;
  return Number((((x * GOLDEN) & MASK64) >> 32n) & BigInt(mask));
}

/** What a client of either family sends. */
export interface AnyTuple extends Omit<Tuple, "client" | "service"> {
  readonly client: Address;
  readonly service: Address;
}

/** The flow hash of either family. */
export function hashOf({ client, service, ...ends }: AnyTuple, seed: bigint): FlowHash {
  if (typeof client === "number" && typeof service === "number") {
    return flowHash({ ...ends, client, service }, seed);
  }
  return flowHash6({ ...ends, client: BigInt(client), service: BigInt(service) }, seed);
}

/** The bucket of a frontend of either family. */
export function bucketFor(
  address: Address,
  port: number,
  protocol: number,
  kind: number,
  mask: number,
): number {
  return typeof address === "number"
    ? bucketOf(address, port, protocol, kind, mask)
    : bucketOf6(address, port, protocol, kind, mask);
}
