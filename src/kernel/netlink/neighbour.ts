// SPDX-License-Identifier: Apache-2.0
// Who has which MAC: RTM_*NEIGH (include/uapi/linux/neighbour.h).

import { ANY_IPV4, formatIpv4, type Ipv4 } from "../../net/address.ts";
import type { Mac } from "../../net/mac.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import {
  type Attribute,
  decodeAttributes,
  encodeBody,
  ipv4Attribute,
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
const AF_INET = 2;
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
  readonly address: Ipv4;
  /** Undefined as long as it isn't resolved. */
  readonly mac: Mac | undefined;
  readonly state: NeighbourState;
  /** The kernel keeps it resolved by itself. */
  readonly managed: boolean;
}

interface Fields {
  readonly device: number;
  readonly state?: number;
  readonly flags?: number;
}

function header({ device, state = 0, flags = 0 }: Fields): Uint8Array {
  const bytes = new Uint8Array(NDMSG_BYTES);
  const view = viewOf(bytes);
  view.setUint8(0, AF_INET);
  view.setInt32(4, device, true);
  view.setUint16(8, state, true);
  view.setUint8(10, flags);
  return bytes;
}

function add(device: number, address: Ipv4, fields: Omit<Fields, "device">, more: Attribute[]) {
  const body = encodeBody(header({ device, ...fields }), [
    ipv4Attribute(NDA.destination, address),
    ...more,
  ]);
  return {
    operation: "add neighbour",
    object: `${formatIpv4(address)} on device ${device}`,
    message: { type: RTM.new, flags: FLAG.create | FLAG.replace, body },
  };
}

/** Sets a neighbour's MAC for good, whatever was there before. */
export function setNeighbour(device: number, address: Ipv4, mac: Mac): Request {
  return add(device, address, { state: STATES.permanent }, [macAttribute(NDA.mac, mac)]);
}

/**
 * Has the kernel resolve a neighbour and keep it resolved (Linux 5.16 or newer), for programs that
 * can't wait for ARP. EINVAL on older kernels: there `resolveNeighbour` must be repeated.
 */
export function manageNeighbour(device: number, address: Ipv4): Request {
  return add(device, address, {}, [u32(NDA.flagsExt, NTF_EXT_MANAGED)]);
}

/** Has the kernel resolve a neighbour once, as a packet to it would. */
export function resolveNeighbour(device: number, address: Ipv4): Request {
  return add(device, address, { flags: NTF_USE }, []);
}

/** Forgets a neighbour; ENOENT when it isn't known. */
export function deleteNeighbour(device: number, address: Ipv4): Request {
  const body = encodeBody(header({ device }), [ipv4Attribute(NDA.destination, address)]);
  return {
    operation: "delete neighbour",
    object: `${formatIpv4(address)} on device ${device}`,
    message: { type: RTM.delete, flags: 0, body },
  };
}

/** Every IPv4 neighbour, or those on one device. */
export function listNeighbours(netlink: Netlink, device?: number): Neighbour[] {
  // Dumps name the device in an attribute: the strict check refuses it in the header.
  const attributes = device === undefined ? [] : [u32(NDA.ifindex, device)];
  const body = encodeBody(header({ device: 0 }), attributes);
  const message = { type: RTM.get, flags: 0, body };
  return netlink.dump({ operation: "list", object: "neighbours", message }).map(decodeNeighbour);
}

function stateOf(bits: number): NeighbourState {
  for (const [name, bit] of Object.entries(STATES)) {
    if ((bits & bit) !== 0) return name as NeighbourState;
  }
  return "none";
}

/** A neighbour from an RTM_NEWNEIGH or RTM_DELNEIGH of family IPv4. */
export function decodeNeighbour(message: Received): Neighbour {
  const view = viewOf(message.body);
  const attributes = decodeAttributes(message.body, NDMSG_BYTES);
  return {
    device: view.getInt32(4, true),
    address: attributes.ipv4(NDA.destination) ?? ANY_IPV4,
    mac: attributes.mac(NDA.mac),
    state: stateOf(view.getUint16(8, true)),
    managed: ((attributes.u32(NDA.flagsExt) ?? 0) & NTF_EXT_MANAGED) !== 0,
  };
}
