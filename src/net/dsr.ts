// SPDX-License-Identifier: Apache-2.0
// How Cilium's balancers tell a backend's node the service that a packet was for: the bytes that
// `opt` and `geneve` dispatch put on the wire.

import { type Address, addressFromBytes, addressToBytes, type Ipv4, type Ipv6 } from "./address.ts";
import { destinationOptions, geneveOption, type Layer, type LayerInit } from "./packet.ts";

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

/** A service as an option says it. */
export interface ToldService {
  readonly address: Address;
  readonly port: number;
}

/** The service that a layer's option says; undefined for a layer that says none. */
export function readDsr(layer: Layer): ToldService | undefined {
  switch (layer.kind) {
    case "ipv4":
      return readTold(optionValue(layer.options, IPV4_OPTION)?.toReversed());
    case "destinationOptions":
      return readTold(destinationOptionValue(layer.options, IPV6_OPTION));
    case "geneve":
      return readTold(geneveOptionValue(layer.options));
    default:
      return undefined;
  }
}

/** Address, port, and what fills it up. */
function readTold(value: Uint8Array | undefined): ToldService | undefined {
  if (value === undefined || value.length < 6) return undefined;
  const end = value.length < 18 ? 4 : 16;
  const address = addressFromBytes(value.subarray(0, end));
  const [high = 0, low = 0] = value.subarray(end);
  return address === undefined ? undefined : { address, port: high * 256 + low };
}

/** What is in an option of IPv4 (RFC 791, 3.1), which counts its own two bytes. */
function optionValue(options: Uint8Array, wanted: number): Uint8Array | undefined {
  for (let at = 0; at < options.length; ) {
    const [type = 0, length = 0] = options.subarray(at);
    if (type === 0) return undefined;
    if (type === 1) at += 1;
    else if (length < 2) return undefined;
    else if (type === wanted) return options.subarray(at + 2, at + length);
    else at += length;
  }
  return undefined;
}

/** The same of IPv6 (RFC 8200, 4.2), which doesn't count them; 0 is padding of one byte. */
function destinationOptionValue(options: Uint8Array, wanted: number): Uint8Array | undefined {
  for (let at = 0; at < options.length; ) {
    const [type = 0, length = 0] = options.subarray(at);
    if (type === wanted) return options.subarray(at + 2, at + 2 + length);
    at += type === 0 ? 1 : 2 + length;
  }
  return undefined;
}

function geneveOptionValue(options: Uint8Array): Uint8Array | undefined {
  for (let at = 0; at + 4 <= options.length; ) {
    const [high = 0, low = 0, type = 0, words = 0] = options.subarray(at);
    const end = at + 4 + (words & 31) * 4;
    if (high * 256 + low === GENEVE_CLASS && type === GENEVE_TYPE) {
      return options.subarray(at + 4, end);
    }
    at = end;
  }
  return undefined;
}
