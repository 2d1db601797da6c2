// SPDX-License-Identifier: Apache-2.0

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
