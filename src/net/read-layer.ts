// SPDX-License-Identifier: Apache-2.0
// How bytes become layers. A header that isn't whole, or isn't what it is taken for, is undefined.

import { readIpv4, readIpv6 } from "./address.ts";
import { readMac } from "./mac.ts";
import type {
  ArpLayer,
  DestinationOptionsLayer,
  FragmentLayer,
  GeneveLayer,
  HopByHopLayer,
  IcmpLayer,
  Icmpv6Layer,
  Ipv4Layer,
  Ipv6Layer,
  Layer,
  RoutingLayer,
  SctpLayer,
  TcpLayer,
  UdpLayer,
} from "./packet.ts";
import { PROTOCOL } from "./protocol.ts";

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function readIpv4Layer(bytes: Uint8Array): Ipv4Layer | undefined {
  if (bytes.length < 20) return undefined;
  const view = viewOf(bytes);
  const headerBytes = (view.getUint8(0) & 15) * 4;
  const totalLength = view.getUint16(2);
  if (view.getUint8(0) >>> 4 !== 4 || headerBytes < 20 || headerBytes > bytes.length) {
    return undefined;
  }
  const fragment = view.getUint16(6);
  return {
    kind: "ipv4",
    source: readIpv4(bytes, 12),
    target: readIpv4(bytes, 16),
    protocol: view.getUint8(9),
    ttl: view.getUint8(8),
    dscp: view.getUint8(1) >>> 2,
    ecn: view.getUint8(1) & 3,
    id: view.getUint16(4),
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    options: bytes.slice(20, headerBytes),
    totalLength,
    checksum: view.getUint16(10),
  };
}

export function readIpv6Layer(bytes: Uint8Array): Ipv6Layer | undefined {
  if (bytes.length < 40) return undefined;
  const view = viewOf(bytes);
  const word = view.getUint32(0);
  if (word >>> 28 !== 6) return undefined;
  return {
    kind: "ipv6",
    source: readIpv6(bytes, 8),
    target: readIpv6(bytes, 24),
    nextHeader: view.getUint8(6),
    hopLimit: view.getUint8(7),
    dscp: (word >>> 22) & 63,
    ecn: (word >>> 20) & 3,
    flowLabel: word & 0xfffff,
    payloadLength: view.getUint16(4),
  };
}

function readOptions<K extends "hopByHop" | "destinationOptions">(
  kind: K,
  bytes: Uint8Array,
): { kind: K; nextHeader: number; options: Uint8Array } | undefined {
  const [nextHeader, words] = bytes;
  if (nextHeader === undefined || words === undefined) return undefined;
  const headerBytes = 8 + words * 8;
  if (headerBytes > bytes.length) return undefined;
  return { kind, nextHeader, options: bytes.slice(2, headerBytes) };
}

function readRoutingLayer(bytes: Uint8Array): RoutingLayer | undefined {
  const [nextHeader, words, type, segmentsLeft] = bytes;
  if (nextHeader === undefined || words === undefined) return undefined;
  const headerBytes = 8 + words * 8;
  if (headerBytes > bytes.length || type === undefined || segmentsLeft === undefined) {
    return undefined;
  }
  return { kind: "routing", nextHeader, type, segmentsLeft, data: bytes.slice(4, headerBytes) };
}

function readFragmentLayer(bytes: Uint8Array): FragmentLayer | undefined {
  if (bytes.length < 8) return undefined;
  const view = viewOf(bytes);
  return {
    kind: "fragment",
    nextHeader: view.getUint8(0),
    fragmentOffset: view.getUint16(2) & 0xfff8,
    moreFragments: (view.getUint16(2) & 1) !== 0,
    id: view.getUint32(4),
  };
}

export type Extension = HopByHopLayer | DestinationOptionsLayer | RoutingLayer | FragmentLayer;

/** What may stand between IPv6 and its transport, by the number that names it. */
export function readExtension(number: number, bytes: Uint8Array): Extension | undefined {
  switch (number) {
    case PROTOCOL.hopByHop:
      return readOptions("hopByHop", bytes);
    case PROTOCOL.destinationOptions:
      return readOptions("destinationOptions", bytes);
    case PROTOCOL.routing:
      return readRoutingLayer(bytes);
    case PROTOCOL.fragment:
      return readFragmentLayer(bytes);
    default:
      return undefined;
  }
}

function readTcpLayer(bytes: Uint8Array): TcpLayer | undefined {
  if (bytes.length < 20) return undefined;
  const view = viewOf(bytes);
  const headerBytes = (view.getUint8(12) >>> 4) * 4;
  if (headerBytes < 20 || headerBytes > bytes.length) return undefined;
  return {
    kind: "tcp",
    sourcePort: view.getUint16(0),
    targetPort: view.getUint16(2),
    sequence: view.getUint32(4),
    acknowledgement: view.getUint32(8),
    flags: view.getUint8(13),
    window: view.getUint16(14),
    urgent: view.getUint16(18),
    options: bytes.slice(20, headerBytes),
    checksum: view.getUint16(16),
  };
}

function readUdpLayer(bytes: Uint8Array): UdpLayer | undefined {
  if (bytes.length < 8) return undefined;
  const view = viewOf(bytes);
  return {
    kind: "udp",
    sourcePort: view.getUint16(0),
    targetPort: view.getUint16(2),
    length: view.getUint16(4),
    checksum: view.getUint16(6),
  };
}

function readSctpLayer(bytes: Uint8Array): SctpLayer | undefined {
  if (bytes.length < 12) return undefined;
  const view = viewOf(bytes);
  return {
    kind: "sctp",
    sourcePort: view.getUint16(0),
    targetPort: view.getUint16(2),
    verificationTag: view.getUint32(4),
    checksum: view.getUint32(8),
  };
}

function readIcmp<K extends "icmp" | "icmpv6">(kind: K, bytes: Uint8Array) {
  if (bytes.length < 8) return undefined;
  const view = viewOf(bytes);
  return {
    kind,
    type: view.getUint8(0),
    code: view.getUint8(1),
    rest: view.getUint32(4),
    checksum: view.getUint16(2),
  };
}

export function readTransport(
  protocol: number,
  bytes: Uint8Array,
): TcpLayer | UdpLayer | SctpLayer | IcmpLayer | Icmpv6Layer | undefined {
  switch (protocol) {
    case PROTOCOL.tcp:
      return readTcpLayer(bytes);
    case PROTOCOL.udp:
      return readUdpLayer(bytes);
    case PROTOCOL.sctp:
      return readSctpLayer(bytes);
    case PROTOCOL.icmp:
      return readIcmp("icmp", bytes);
    case PROTOCOL.icmpv6:
      return readIcmp("icmpv6", bytes);
    default:
      return undefined;
  }
}

export function readGeneveLayer(bytes: Uint8Array): GeneveLayer | undefined {
  if (bytes.length < 8) return undefined;
  const view = viewOf(bytes);
  const headerBytes = 8 + (view.getUint8(0) & 63) * 4;
  if (view.getUint8(0) >>> 6 !== 0 || headerBytes > bytes.length) return undefined;
  return {
    kind: "geneve",
    type: view.getUint16(2),
    vni: view.getUint32(4) >>> 8,
    control: (view.getUint8(1) & 0x80) !== 0,
    critical: (view.getUint8(1) & 0x40) !== 0,
    options: bytes.slice(8, headerBytes),
  };
}

const ARP_OF_IPV4 = [0, 1, 8, 0, 6, 4] as const;

export function readArpLayer(bytes: Uint8Array): ArpLayer | undefined {
  if (bytes.length < 28 || ARP_OF_IPV4.some((byte, at) => bytes[at] !== byte)) return undefined;
  return {
    kind: "arp",
    operation: viewOf(bytes).getUint16(6),
    senderMac: readMac(bytes, 8),
    senderAddress: readIpv4(bytes, 14),
    targetMac: readMac(bytes, 18),
    targetAddress: readIpv4(bytes, 24),
  };
}

/** The bytes of a layer's own header. */
export function headerBytesOf(layer: Layer): number {
  switch (layer.kind) {
    case "ethernet":
      return 14;
    case "vlan":
      return 4;
    case "arp":
      return 28;
    case "ipv4":
    case "tcp":
      return 20 + layer.options.length;
    case "ipv6":
      return 40;
    case "hopByHop":
    case "destinationOptions":
      return 2 + layer.options.length;
    case "routing":
      return 4 + layer.data.length;
    case "geneve":
      return 8 + layer.options.length;
    case "sctp":
      return 12;
    case "payload":
    case "trailer":
      return layer.bytes.length;
    default:
      return 8;
  }
}
