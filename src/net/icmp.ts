// SPDX-License-Identifier: Apache-2.0
// ICMP messages that carry more than their own header: errors with what they are about, and
// neighbour discovery.

import { type Ipv6, writeIpv6 } from "./address.ts";
import { type Mac, writeMac } from "./mac.ts";
import { type Init, icmp, icmpv6, type LayerInit, payload } from "./packet.ts";
import { headerBytesOf, readIpv4Layer } from "./read-layer.ts";

/** RFC 4443, 2.4: with IPv6's header and its own, an error fills at most 1280 bytes. */
const QUOTE6_BYTES = 1280 - 40 - 8;

/**
 * An ICMP error and its quote of an IPv4 packet: as many bytes as said, or the header with its
 * options and 8 more (RFC 792).
 */
export function icmpError(
  fields: Init<"icmp">,
  packet: Uint8Array,
  quotedBytes?: number,
): LayerInit[] {
  const header = readIpv4Layer(packet);
  const headerBytes = header === undefined ? 20 : headerBytesOf(header);
  return [icmp(fields), payload(packet.slice(0, quotedBytes ?? headerBytes + 8))];
}

/** An ICMPv6 error and its quote of an IPv6 packet: as many bytes as said, or all that may be. */
export function icmpv6Error(
  fields: Init<"icmpv6">,
  packet: Uint8Array,
  quotedBytes: number = QUOTE6_BYTES,
): LayerInit[] {
  return [icmpv6(fields), payload(packet.slice(0, quotedBytes))];
}

const OPTION = { sourceLink: 1, targetLink: 2 } as const;

/** A neighbour's address, and an option with a MAC in units of eight bytes (RFC 4861, 4.6.1). */
function discovery(address: Ipv6, option: number, mac: Mac): LayerInit {
  const bytes = new Uint8Array(24);
  writeIpv6(bytes, 0, address);
  bytes.set([option, 1], 16);
  writeMac(bytes, 18, mac);
  return payload(bytes);
}

/** Asks who has an address (RFC 4861, 4.3); belongs in IPv6 with a hop limit of 255. */
export function neighbourSolicitation(target: Ipv6, ownMac: Mac): LayerInit[] {
  return [icmpv6({ type: 135 }), discovery(target, OPTION.sourceLink, ownMac)];
}

/** Says who has an address (RFC 4861, 4.4): solicited, and to be believed over what is known. */
export function neighbourAdvertisement(target: Ipv6, mac: Mac): LayerInit[] {
  return [icmpv6({ type: 136, rest: 0x60000000 }), discovery(target, OPTION.targetLink, mac)];
}
