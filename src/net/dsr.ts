// SPDX-License-Identifier: Apache-2.0
// How Cilium's balancers tell a backend's node the service that a packet was for: the bytes that
// `opt` and `geneve` dispatch put on the wire.

import { type Address, addressToBytes, type Ipv4, type Ipv6 } from "./address.ts";
import { destinationOptions, geneveOption, type LayerInit } from "./packet.ts";

const IPV4_OPTION = 0x9a;
const IPV6_OPTION = 0x1b;
const GENEVE_CLASS = 0x014b;
const GENEVE_TYPE = 0x81;

const portBytes = (port: number): readonly number[] => [port >>> 8, port & 255];

/**
 * The option for `options` of an IPv4 layer: 8 bytes. Senders write port and address with their
 * bytes swapped twice, so on little-endian machines, which are all that Ciliate runs on, both
 * stand on the wire with the least significant byte first.
 */
export function dsrOption4(address: Ipv4, port: number): Uint8Array {
  const swapped = [...portBytes(port).toReversed(), ...addressToBytes(address).toReversed()];
  return Uint8Array.of(IPV4_OPTION, 8, ...swapped);
}

/** The header of destination options behind an IPv6 layer: 24 bytes, in network order. */
export function dsrDestinationOptions(address: Ipv6, port: number): LayerInit {
  const value = [...addressToBytes(address), ...portBytes(port), 0, 0];
  return destinationOptions({ options: Uint8Array.of(IPV6_OPTION, value.length, ...value) });
}

/** The option for `options` of a Geneve layer: 12 bytes for IPv4, 24 for IPv6, in network order. */
export function dsrGeneveOption(address: Address, port: number): Uint8Array {
  const data = Uint8Array.of(...addressToBytes(address), ...portBytes(port), 0, 0);
  return geneveOption(GENEVE_CLASS, GENEVE_TYPE, data);
}
