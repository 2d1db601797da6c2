// SPDX-License-Identifier: Apache-2.0
// Addresses of devices: RTM_*ADDR (include/uapi/linux/if_addr.h).

import { ANY_IPV4, type Ipv4 } from "../../net/address.ts";
import { formatPrefix, type Prefix4 } from "../../net/prefix.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import { decodeAttributes, encodeBody, ipv4Attribute, type Received, u32, viewOf } from "./wire.ts";

const RTM = { new: 20, delete: 21, get: 22 } as const;
const IFA = { address: 1, local: 2, flags: 8 } as const;
const IFA_F_NOPREFIXROUTE = 0x200;
const AF_INET = 2;
const IFADDR_BYTES = 8;

/** An address on a device. */
export interface DeviceAddress {
  readonly device: number;
  /** The address with the length of its network: `address` has its host bits. */
  readonly address: Prefix4;
  /** The other end on a point-to-point device; else the address itself. */
  readonly peer: Ipv4;
  readonly scope: number;
}

export interface AddressSpec {
  readonly device: number;
  readonly address: Prefix4;
  /** Whether the kernel adds the route to the address's network, as it does by default. */
  readonly prefixRoute?: boolean;
}

function header(device: number, length: number): Uint8Array {
  const bytes = new Uint8Array(IFADDR_BYTES);
  bytes[0] = AF_INET;
  bytes[1] = length;
  viewOf(bytes).setUint32(4, device, true);
  return bytes;
}

function request(operation: string, type: number, flags: number, spec: AddressSpec): Request {
  const { address, length } = spec.address;
  const attributes = [ipv4Attribute(IFA.local, address), ipv4Attribute(IFA.address, address)];
  if (spec.prefixRoute === false) attributes.push(u32(IFA.flags, IFA_F_NOPREFIXROUTE));
  return {
    operation,
    object: `${formatPrefix(spec.address)} of device ${spec.device}`,
    message: { type, flags, body: encodeBody(header(spec.device, length), attributes) },
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

/** Every IPv4 address of the socket's namespace. */
export function listAddresses(netlink: Netlink): DeviceAddress[] {
  const message = { type: RTM.get, flags: 0, body: header(0, 0) };
  return netlink.dump({ operation: "list", object: "addresses", message }).map(decodeAddress);
}

/** An address from an RTM_NEWADDR or RTM_DELADDR of family IPv4. */
export function decodeAddress(message: Received): DeviceAddress {
  const attributes = decodeAttributes(message.body, IFADDR_BYTES);
  const peer = attributes.ipv4(IFA.address) ?? ANY_IPV4;
  const address = attributes.ipv4(IFA.local) ?? peer;
  return {
    device: viewOf(message.body).getUint32(4, true),
    address: { address, length: message.body[1] ?? 0 },
    peer,
    scope: message.body[3] ?? 0,
  };
}
