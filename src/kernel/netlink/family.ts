// SPDX-License-Identifier: Apache-2.0
// Families of addresses as netlink numbers them, and dumps of both.

import {
  type Address,
  ANY_IPV4,
  ANY_IPV6,
  addressToBytes,
  type Family,
  isIpv4,
} from "../../net/address.ts";
import type { Prefix } from "../../net/prefix.ts";
import { KernelError } from "../error.ts";
import type { Netlink } from "./socket.ts";
import { type Attribute, type Attributes, attribute, type Received } from "./wire.ts";

/** AF_* (include/linux/socket.h). */
export const AF = { unspecified: 0, ipv4: 2, ipv6: 10 } as const;
/** What families' headers begin with. */
export type FamilyNumber = typeof AF.ipv4 | typeof AF.ipv6;

/** The family that a message is of; undefined for one of neither IPv4 nor IPv6. */
export function familyNumberOf(message: Received): FamilyNumber | undefined {
  const [family] = message.body;
  return family === AF.ipv4 || family === AF.ipv6 ? family : undefined;
}

/** The family of a message that is known to be of one; throws RangeError when it isn't. */
export function familyOfMessage(message: Received): Family {
  const family = familyNumberOf(message);
  if (family === undefined) {
    throw new RangeError(`message ${message.type} is of family ${message.body[0]}, not of IP`);
  }
  return family === AF.ipv4 ? "ipv4" : "ipv6";
}

export function numberOfFamily(address: Address): FamilyNumber {
  return isIpv4(address) ? AF.ipv4 : AF.ipv6;
}

/** The bits of a whole address. */
export function bitsOf(address: Address): number {
  return isIpv4(address) ? 32 : 128;
}

export function addressAttribute(type: number, address: Address): Attribute {
  return attribute(type, addressToBytes(address));
}

/** The address of an attribute, which may be absent when all bits are zero. */
export function addressFrom(attributes: Attributes, type: number, family: Family): Address {
  return attributes.address(type) ?? (family === "ipv4" ? ANY_IPV4 : ANY_IPV6);
}

/** An address with the length that stands in a header; bits beyond it stay. */
export function withLength(address: Address, length: number): Prefix {
  return isIpv4(address) ? { address, length } : { address, length };
}

/**
 * The answers to a dump of IPv4 and one of IPv6. A kernel without IPv6 answers the second with
 * what it has of other families, which is left out. A refusal that `isEmpty` holds for means that
 * the family has none.
 */
export function dumpFamilies(
  netlink: Netlink,
  object: string,
  type: number,
  body: (family: FamilyNumber) => Uint8Array,
  isEmpty: (refusal: KernelError) => boolean = () => false,
): Received[] {
  return [AF.ipv4, AF.ipv6].flatMap((family) => {
    const message = { type, flags: 0, body: body(family) };
    try {
      const replies = netlink.dump({ operation: "list", object, message });
      return replies.filter((reply) => familyNumberOf(reply) === family);
    } catch (error) {
      if (error instanceof KernelError && isEmpty(error)) return [];
      throw error;
    }
  });
}
