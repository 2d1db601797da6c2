// SPDX-License-Identifier: Apache-2.0
// Who has which MAC: RTM_*NEIGH (include/uapi/linux/neighbour.h).

import { type Address, formatAddress } from "../../net/address.ts";
import type { Mac } from "../../net/mac.ts";
import {
  addressAttribute,
  addressFrom,
  dumpFamilies,
  type FamilyNumber,
  familyOfMessage,
  numberOfFamily,
} from "./family.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import {
  type Attribute,
  decodeAttributes,
  encodeBody,
  macAttribute,
  type Received,
  u32,
  viewOf,
} from "./wire.ts";

const RTM = { new: 28, delete: 29, get: 30 } as const;
const NDA = { destination: 1, mac: 2, ifindex: 8, flagsExt: 15 } as const;
const NTF_USE = 1;
const NTF_EXT_MANAGED = 1;
const NDMSG_BYTES = 12;
const STATES = {
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noArp: 0x40,
  permanent: 0x80,
} as const;
export type NeighbourState = keyof typeof STATES | "none";

export interface Neighbour {
  readonly device: number;
  readonly address: Address;
  /** Undefined as long as it isn't resolved. */
  readonly mac: Mac | undefined;
  readonly state: NeighbourState;
  /** The kernel keeps it resolved by itself. */
  readonly managed: boolean;
}

interface Fields {
  readonly family: FamilyNumber;
  readonly device: number;
  readonly state?: number;
  readonly flags?: number;
}

function header({ family, device, state = 0, flags = 0 }: Fields): Uint8Array {
  const bytes = new Uint8Array(NDMSG_BYTES);
  const view = viewOf(bytes);
  view.setUint8(0, family);
  view.setInt32(4, device, true);
  view.setUint16(8, state, true);
  view.setUint8(10, flags);
  return bytes;
}

function add(
  device: number,
  address: Address,
  fields: Pick<Fields, "state" | "flags">,
  more: Attribute[],
): Request {
  const family = numberOfFamily(address);
  const body = encodeBody(header({ family, device, ...fields }), [
    addressAttribute(NDA.destination, address),
    ...more,
  ]);
  return {
    operation: "add neighbour",
    object: `${formatAddress(address)} on device ${device}`,
    message: { type: RTM.new, flags: FLAG.create | FLAG.replace, body },
  };
}

/** Sets a neighbour's MAC for good, whatever was there before. */
export function setNeighbour(device: number, address: Address, mac: Mac): Request {
  return add(device, address, { state: STATES.permanent }, [macAttribute(NDA.mac, mac)]);
}

/**
 * Has the kernel resolve a neighbour and keep it resolved (Linux 5.16 or newer), for programs that
 * can't wait for ARP or neighbour discovery. EINVAL on older kernels: there `resolveNeighbour`
 * must be repeated.
 */
export function manageNeighbour(device: number, address: Address): Request {
  return add(device, address, {}, [u32(NDA.flagsExt, NTF_EXT_MANAGED)]);
}

/** Has the kernel resolve a neighbour once, as a packet to it would. */
export function resolveNeighbour(device: number, address: Address): Request {
  return add(device, address, { flags: NTF_USE }, []);
}

/** Forgets a neighbour; ENOENT when it isn't known. */
export function deleteNeighbour(device: number, address: Address): Request {
  const head = header({ family: numberOfFamily(address), device });
  const body = encodeBody(head, [addressAttribute(NDA.destination, address)]);
  return {
    operation: "delete neighbour",
    object: `${formatAddress(address)} on device ${device}`,
    message: { type: RTM.delete, flags: 0, body },
  };
}

/** Every neighbour, IPv4's first, or those on one device. */
export function listNeighbours(netlink: Netlink, device?: number): Neighbour[] {
  // Dumps name the device in an attribute: the strict check refuses it in the header.
  const attributes = device === undefined ? [] : [u32(NDA.ifindex, device)];
  const body = (family: FamilyNumber) => encodeBody(header({ family, device: 0 }), attributes);
  return dumpFamilies(netlink, "neighbours", RTM.get, body).map(decodeNeighbour);
}

function stateOf(bits: number): NeighbourState {
  for (const [name, bit] of Object.entries(STATES)) {
    if ((bits & bit) !== 0) return name as NeighbourState;
  }
  return "none";
}

/** A neighbour from an RTM_NEWNEIGH or RTM_DELNEIGH of family IPv4 or IPv6. */
export function decodeNeighbour(message: Received): Neighbour {
  const view = viewOf(message.body);
  const attributes = decodeAttributes(message.body, NDMSG_BYTES);
  return {
    device: view.getInt32(4, true),
    address: addressFrom(attributes, NDA.destination, familyOfMessage(message)),
    mac: attributes.mac(NDA.mac),
    state: stateOf(view.getUint16(8, true)),
    managed: ((attributes.u32(NDA.flagsExt) ?? 0) & NTF_EXT_MANAGED) !== 0,
  };
}
