// SPDX-License-Identifier: Apache-2.0
// Which slot of a service's ring a flow has: docs/packet-path.md, "Flow hash" and "Slot".

import { type Address, addressToBytes, isIpv4 } from "../net/address.ts";
import { type Config, type Service, ServiceFlag } from "./gen/abi.ts";

/** A flow as its client sends it. */
export interface Flow5 {
  readonly client: Address;
  readonly clientPort: number;
  readonly address: Address;
  readonly port: number;
  /** As in the IP header. */
  readonly protocol: number;
}

const MASK = (1n << 64n) - 1n;
const FIRST = 0x9e3779b97f4a7c15n;
const SECOND = 0xd6e8feb86659fd93n;
const THIRD = 0xca4bcaa75ec3f625n;

/** Undefined for a service without a ring. */
export function slotOf(
  service: Pick<Service, "flags" | "ringSize">,
  flow: Flow5,
  { hashSeed }: Pick<Config, "hashSeed">,
): number | undefined {
  if (service.ringSize === 0) return undefined;
  const byClient = (service.flags & ServiceFlag.affinity) !== 0;
  const hashed = byClient ? { ...flow, clientPort: 0, port: 0 } : flow;
  let x = hashSeed;
  for (const [round, value] of valuesOf(hashed).entries()) {
    x = ((x ^ value) * (round % 2 === 0 ? FIRST : SECOND)) & MASK;
    x ^= x >> 32n;
  }
  x = (x * THIRD) & MASK;
  x ^= x >> 32n;
  return Number(((x & 0xffff_ffffn) * BigInt(service.ringSize)) >> 32n);
}

/** What the hash is of, word by word: two for IPv4, five for IPv6. */
function valuesOf({ client, clientPort, address, port, protocol }: Flow5): bigint[] {
  if (isIpv4(client)) {
    const ports = (BigInt(clientPort) << 16n) | BigInt(port);
    return [(BigInt(client) << 32n) | ports, (BigInt(address) << 8n) | BigInt(protocol)];
  }
  const ports = Uint8Array.of(protocol, clientPort >>> 8, clientPort & 255, port >>> 8, port & 255);
  return [littleEndian(ports), ...halvesOf(client), ...halvesOf(address)];
}

/** Both halves of an address as numbers of their bytes in memory. */
function halvesOf(address: Address): bigint[] {
  const bytes = addressToBytes(address);
  return [littleEndian(bytes.subarray(0, 8)), littleEndian(bytes.subarray(8))];
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((number, byte) => (number << 8n) | BigInt(byte), 0n);
}
