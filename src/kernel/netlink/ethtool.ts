// SPDX-License-Identifier: Apache-2.0
// Offloads of devices: the ethtool family of generic netlink, Linux 5.7 or newer
// (include/uapi/linux/ethtool_netlink.h).

import { KernelError } from "../error.ts";
import { NETLINK_PROTOCOL, type Netlink, openNetlink, type Request } from "./socket.ts";
import {
  type Attribute,
  type Attributes,
  decodeAttributes,
  encodeBody,
  flag,
  listAttributes,
  nested,
  text,
  u32,
} from "./wire.ts";

const GENERIC_HEADER_BYTES = 4;
const CONTROLLER = { type: 16, getFamily: 3, familyId: 1, familyName: 2 } as const;
const COMMAND = { getFeatures: 11, setFeatures: 12 } as const;
const FEATURES = { header: 1, wanted: 3, active: 4 } as const;
const HEADER = { deviceName: 2, flags: 3 } as const;
const OMIT_REPLY = 2;
const BITSET = { noMask: 1, bits: 3 } as const;
const BITS_BIT = 1;
const BIT = { name: 2, value: 3 } as const;

/** What `ethtool -K DEVICE tx` turns: every kind of transmit checksum. */
export const TX_CHECKSUMS = [
  "tx-checksum-ipv4",
  "tx-checksum-ip-generic",
  "tx-checksum-ipv6",
  "tx-checksum-fcoe-crc",
  "tx-checksum-sctp",
] as const;

/** What `ethtool -K DEVICE tso` turns. */
export const TSO = [
  "tx-tcp-segmentation",
  "tx-tcp-ecn-segmentation",
  "tx-tcp-mangleid-segmentation",
  "tx-tcp6-segmentation",
] as const;
export const GSO = "tx-generic-segmentation";
export const GRO = "rx-gro";

/** Features that take VLAN tags out of what arrives, with the words of `ethtool -K` for them. */
export const TAG_STRIPPING = [
  { feature: "rx-vlan-hw-parse", word: "rxvlan" },
  { feature: "rx-vlan-stag-hw-parse", word: "rx-vlan-stag-hw-parse" },
] as const;

/** Features by the kernel's names (`ethtool -k` shows others for some): on or off. */
export type Features = Readonly<Record<string, boolean>>;

/** A socket that speaks ethtool in its namespace. */
export class Ethtool {
  readonly #netlink: Netlink;
  readonly #family: number;

  constructor(netlink: Netlink, family: number) {
    this.#netlink = netlink;
    this.#family = family;
  }

  /** Turns features of a device on or off; those that it can't change stay as they are. */
  setFeatures(device: string, features: Features): void {
    const bits = Object.entries(features).map(([name, on]) =>
      nested(BITS_BIT, on ? [text(BIT.name, name), flag(BIT.value)] : [text(BIT.name, name)]),
    );
    const target = [text(HEADER.deviceName, device), u32(HEADER.flags, OMIT_REPLY)];
    this.#netlink.run(
      this.#request("set features of device", device, COMMAND.setFeatures, [
        nested(FEATURES.header, target),
        nested(FEATURES.wanted, [nested(BITSET.bits, bits)]),
      ]),
    );
  }

  /** The names of the features that are on. */
  activeFeatures(device: string): Set<string> {
    const [reply] = this.#netlink.query(
      this.#request("read features of device", device, COMMAND.getFeatures, [
        nested(FEATURES.header, [text(HEADER.deviceName, device)]),
      ]),
    );
    if (reply === undefined) return new Set();
    const active = decodeAttributes(reply.body, GENERIC_HEADER_BYTES).nested(FEATURES.active);
    return new Set(active === undefined ? [] : namesIn(active));
  }

  close(): void {
    this.#netlink.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #request(operation: string, object: string, command: number, attributes: Attribute[]): Request {
    const body = encodeBody(Uint8Array.of(command, 1, 0, 0), attributes);
    return { operation, object, message: { type: this.#family, flags: 0, body } };
  }
}

/** A bitset without a mask lists the bits that are set. */
function* namesIn(bitset: Attributes): Generator<string> {
  for (const { value } of listAttributes(bitset.bytes(BITSET.bits) ?? new Uint8Array())) {
    const bit = decodeAttributes(value);
    const name = bit.text(BIT.name);
    if (name !== undefined && (bitset.has(BITSET.noMask) || bit.has(BIT.value))) yield name;
  }
}

/** Opens ethtool in the namespace at a path, or the caller's own; ENOENT on kernels without it. */
export function openEthtool(namespace?: string): Ethtool {
  const netlink = openNetlink({
    protocol: NETLINK_PROTOCOL.generic,
    ...(namespace === undefined ? {} : { namespace }),
  });
  try {
    const body = encodeBody(Uint8Array.of(CONTROLLER.getFamily, 1, 0, 0), [
      text(CONTROLLER.familyName, "ethtool"),
    ]);
    const message = { type: CONTROLLER.type, flags: 0, body };
    const [reply] = netlink.query({ operation: "find", object: "netlink family ethtool", message });
    const attributes = reply && decodeAttributes(reply.body, GENERIC_HEADER_BYTES);
    const family = attributes?.u16(CONTROLLER.familyId);
    if (family === undefined) throw new KernelError("find", "netlink family ethtool", 2);
    return new Ethtool(netlink, family);
  } catch (error) {
    netlink.close();
    throw error;
  }
}
