// SPDX-License-Identifier: Apache-2.0
// Addresses of devices: RTM_*ADDR (include/uapi/linux/if_addr.h).

import type { Address } from "../../net/address.ts";
import { formatPrefix, type Prefix } from "../../net/prefix.ts";
import {
  addressAttribute,
  addressFrom,
  dumpFamilies,
  type FamilyNumber,
  familyOfMessage,
  numberOfFamily,
  withLength,
} from "./family.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import { decodeAttributes, encodeBody, type Received, u32, viewOf } from "./wire.ts";

const RTM = { new: 20, delete: 21, get: 22 } as const;
const IFA = { address: 1, local: 2, flags: 8 } as const;
const IFA_F = {
  noDuplicateDetection: 0x02,
  duplicate: 0x08,
  tentative: 0x40,
  noPrefixRoute: 0x200,
};
const IFADDR_BYTES = 8;

/** An address on a device. */
export interface DeviceAddress {
  readonly device: number;
  /** The address with the length of its network: `address` has its host bits. */
  readonly address: Prefix;
  /** The other end on a point-to-point device; else the address itself. */
  readonly peer: Address;
  readonly scope: number;
  /** IPv6 only: not usable, as another host may have it (RFC 4862) or is known to have it. */
  readonly tentative: boolean;
}

export interface AddressSpec {
  readonly device: number;
  readonly address: Prefix;
  /** Whether the kernel adds the route to the address's network, as it does by default. */
  readonly prefixRoute?: boolean;
  /** IPv6 only: whether the kernel asks first if another host has it, as it does by default. */
  readonly duplicateDetection?: boolean;
}

function header(family: FamilyNumber, device: number, length: number): Uint8Array {
  const bytes = new Uint8Array(IFADDR_BYTES);
  bytes[0] = family;
  bytes[1] = length;
  viewOf(bytes).setUint32(4, device, true);
  return bytes;
}

function request(operation: string, type: number, mode: number, spec: AddressSpec): Request {
  const { address, length } = spec.address;
  const attributes = [IFA.local, IFA.address].map((which) => addressAttribute(which, address));
  const flags =
    (spec.prefixRoute === false ? IFA_F.noPrefixRoute : 0) |
    (spec.duplicateDetection === false ? IFA_F.noDuplicateDetection : 0);
  if (flags !== 0) attributes.push(u32(IFA.flags, flags));
  const head = header(numberOfFamily(address), spec.device, length);
  return {
    operation,
    object: `${formatPrefix(spec.address)} of device ${spec.device}`,
    message: { type, flags: mode, body: encodeBody(head, attributes) },
  };
}

/** Gives a device an address; EEXIST when it has it. */
export function addAddress(spec: AddressSpec): Request {
  const add = request("add address", RTM.new, FLAG.create | FLAG.exclusive, spec);
  return { ...add, undo: deleteAddress(spec) };
}

/** Takes an address from a device; EADDRNOTAVAIL when it hasn't got it. */
export function deleteAddress(spec: AddressSpec): Request {
  return request("delete address", RTM.delete, 0, spec);
}

/** Every address of the socket's namespace, IPv4's first. */
export function listAddresses(netlink: Netlink): DeviceAddress[] {
  const body = (family: FamilyNumber) => header(family, 0, 0);
  return dumpFamilies(netlink, "addresses", RTM.get, body).map(decodeAddress);
}

/** An address from an RTM_NEWADDR or RTM_DELADDR of family IPv4 or IPv6. */
export function decodeAddress(message: Received): DeviceAddress {
  const attributes = decodeAttributes(message.body, IFADDR_BYTES);
  const peer = addressFrom(attributes, IFA.address, familyOfMessage(message));
  const address = attributes.address(IFA.local) ?? peer;
  const flags = attributes.u32(IFA.flags) ?? message.body[2] ?? 0;
  return {
    device: viewOf(message.body).getUint32(4, true),
    address: withLength(address, message.body[1] ?? 0),
    peer,
    scope: message.body[3] ?? 0,
    tentative: (flags & (IFA_F.tentative | IFA_F.duplicate)) !== 0,
  };
}
