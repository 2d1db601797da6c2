// SPDX-License-Identifier: Apache-2.0
// Which slot of a service's ring a flow has: docs/packet-path.md, "Flow hash" and "Slot".

import { type Address, isIpv4 } from "../net/address.ts";
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

/** Undefined for a service without a ring, and for IPv6. */
export function slotOf(
  service: Pick<Service, "flags" | "ringSize">,
  { client, clientPort, address, port, protocol }: Flow5,
  { hashSeed }: Pick<Config, "hashSeed">,
): number | undefined {
  if (service.ringSize === 0 || !isIpv4(client) || !isIpv4(address)) return undefined;
  const byClient = (service.flags & ServiceFlag.affinity) !== 0;
  const ports = byClient ? 0n : (BigInt(clientPort) << 16n) | BigInt(port);
  const a = (BigInt(client) << 32n) | ports;
  const b = (BigInt(address) << 8n) | BigInt(protocol);
  let x = ((a ^ hashSeed) * FIRST) & MASK;
  x ^= x >> 32n;
  x = ((x ^ b) * SECOND) & MASK;
  x ^= x >> 32n;
  x = (x * THIRD) & MASK;
  x ^= x >> 32n;
  return Number(((x & 0xffff_ffffn) * BigInt(service.ringSize)) >> 32n);
}
