// SPDX-License-Identifier: Apache-2.0
// How each layer becomes bytes. What it leaves out is told by its neighbours.

import { type Address, ANY_IPV4, ANY_IPV6, writeIpv4, writeIpv6 } from "./address.ts";
import { checksumOf, finishChecksum, pseudoSum, sumWords } from "./checksum.ts";
import { crc32c } from "./crc32c.ts";
import { finalTarget, isExtension, padOptions } from "./extension.ts";
import { writeMac, ZERO_MAC } from "./mac.ts";
import type { LayerInit } from "./packet.ts";
import { ETHERTYPE, PROTOCOL, TCP_FLAG, UDP_PORT } from "./protocol.ts";

/** What a layer's writer knows: its own bytes to the end of the packet, and its neighbours. */
export interface Place {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Outermost first. */
  readonly before: readonly LayerInit[];
  readonly next: LayerInit | undefined;
}

type Given<K extends LayerInit["kind"]> = Extract<LayerInit, { kind: K }>;

const HEADER_BYTES = {
  ethernet: 14,
  vlan: 4,
  arp: 28,
  ipv6: 40,
  fragment: 8,
  udp: 8,
  icmp: 8,
  icmpv6: 8,
  sctp: 12,
} as const;
const NO_BYTES = new Uint8Array();
const HARDWARE_ETHERNET = 1;

/** The length of what `kind` carries beyond its fixed header: a multiple of `step`, plus `rest`. */
function checkedLength(kind: string, bytes: Uint8Array, step: number, rest: number, most: number) {
  if (bytes.length % step === rest && bytes.length <= most) return bytes.length;
  const plus = rest === 0 ? "" : `${rest} and `;
  throw new RangeError(
    `${kind} options of ${bytes.length} bytes: ${plus}a multiple of ${step} up to ${most}`,
  );
}

/** How many bytes a layer's own header takes; throws RangeError for lengths that none can have. */
export function sizeOf(layer: LayerInit): number {
  switch (layer.kind) {
    case "payload":
    case "trailer":
      return layer.bytes?.length ?? 0;
    case "ipv4":
    case "tcp":
      return 20 + checkedLength(layer.kind, layer.options ?? NO_BYTES, 4, 0, 40);
    case "geneve":
      return 8 + checkedLength(layer.kind, layer.options ?? NO_BYTES, 4, 0, 252);
    case "hopByHop":
    case "destinationOptions":
      return 2 + checkedLength(layer.kind, padOptions(layer.options ?? NO_BYTES), 8, 6, 2046);
    case "routing":
      return 4 + checkedLength(layer.kind, layer.data ?? new Uint8Array(4), 8, 4, 2044);
    default:
      return HEADER_BYTES[layer.kind];
  }
}

function etherTypeOf(next: LayerInit | undefined): number {
  switch (next?.kind) {
    case "vlan":
    case "arp":
    case "ipv4":
    case "ipv6":
    case "ethernet":
      return ETHERTYPE[next.kind];
    default:
      return 0xffff;
  }
}

function protocolOf(next: LayerInit | undefined): number {
  switch (next?.kind) {
    case "ipv4":
      return PROTOCOL.ipip;
    case "ipv6":
    case "tcp":
    case "udp":
    case "sctp":
    case "icmp":
    case "icmpv6":
    case "hopByHop":
    case "destinationOptions":
    case "routing":
    case "fragment":
      return PROTOCOL[next.kind];
    default:
      return 255;
  }
}

function writeIpv4Layer(layer: Given<"ipv4">, { bytes, view, next }: Place): void {
  const options = layer.options ?? NO_BYTES;
  const headerBytes = 20 + options.length;
  view.setUint8(0, 0x40 | (headerBytes / 4));
  view.setUint8(1, ((layer.dscp ?? 0) << 2) | (layer.ecn ?? 0));
  view.setUint16(2, layer.totalLength ?? bytes.length);
  view.setUint16(4, layer.id ?? 0);
  const flags = ((layer.dontFragment ?? true) ? 0x4000 : 0) | (layer.moreFragments ? 0x2000 : 0);
  view.setUint16(6, flags | ((layer.fragmentOffset ?? 0) >>> 3));
  view.setUint8(8, layer.ttl ?? 64);
  view.setUint8(9, layer.protocol ?? protocolOf(next));
  writeIpv4(bytes, 12, layer.source ?? ANY_IPV4);
  writeIpv4(bytes, 16, layer.target ?? ANY_IPV4);
  bytes.set(options, 20);
  view.setUint16(10, layer.checksum ?? checksumOf(bytes.subarray(0, headerBytes)));
}

function writeIpv6Layer(layer: Given<"ipv6">, { bytes, view, next }: Place): void {
  const trafficClass = ((layer.dscp ?? 0) << 2) | (layer.ecn ?? 0);
  view.setUint32(0, 0x60000000 | (trafficClass << 20) | (layer.flowLabel ?? 0));
  view.setUint16(4, layer.payloadLength ?? bytes.length - HEADER_BYTES.ipv6);
  view.setUint8(6, layer.nextHeader ?? protocolOf(next));
  view.setUint8(7, layer.hopLimit ?? 64);
  writeIpv6(bytes, 8, layer.source ?? ANY_IPV6);
  writeIpv6(bytes, 24, layer.target ?? ANY_IPV6);
}

function writeOptionsLayer(
  layer: Given<"hopByHop"> | Given<"destinationOptions">,
  { bytes, view, next }: Place,
): void {
  const options = padOptions(layer.options ?? NO_BYTES);
  view.setUint8(0, layer.nextHeader ?? protocolOf(next));
  view.setUint8(1, (options.length - 6) / 8);
  bytes.set(options, 2);
}

function writeRoutingLayer(layer: Given<"routing">, { bytes, view, next }: Place): void {
  const data = layer.data ?? new Uint8Array(4);
  view.setUint8(0, layer.nextHeader ?? protocolOf(next));
  view.setUint8(1, (data.length - 4) / 8);
  view.setUint8(2, layer.type ?? 0);
  view.setUint8(3, layer.segmentsLeft ?? 0);
  bytes.set(data, 4);
}

function writeFragmentLayer(layer: Given<"fragment">, { view, next }: Place): void {
  view.setUint8(0, layer.nextHeader ?? protocolOf(next));
  view.setUint16(2, (layer.fragmentOffset ?? 0) | (layer.moreFragments ? 1 : 0));
  view.setUint32(4, layer.id ?? 0);
}

/** The addresses that a transport's checksum covers; undefined where no IP is around it. */
function endsOf(before: readonly LayerInit[]): readonly [Address, Address] | undefined {
  let last: Address | undefined;
  for (const layer of before.toReversed()) {
    if (layer.kind === "ipv4") return [layer.source ?? ANY_IPV4, layer.target ?? ANY_IPV4];
    if (layer.kind === "ipv6") return [layer.source ?? ANY_IPV6, last ?? layer.target ?? ANY_IPV6];
    if (!isExtension(layer)) return undefined;
    if (layer.kind === "routing") last ??= finalTarget(layer);
  }
  return undefined;
}

function transportChecksum({ bytes, before }: Place, protocol: number): number {
  const ends = endsOf(before);
  if (ends === undefined) return 0;
  return finishChecksum(sumWords(bytes, pseudoSum(...ends, protocol, bytes.length)));
}

function writeTcpLayer(layer: Given<"tcp">, place: Place): void {
  const { bytes, view } = place;
  const options = layer.options ?? NO_BYTES;
  view.setUint16(0, layer.sourcePort ?? 0);
  view.setUint16(2, layer.targetPort ?? 0);
  view.setUint32(4, layer.sequence ?? 0);
  view.setUint32(8, layer.acknowledgement ?? 0);
  view.setUint8(12, ((20 + options.length) / 4) << 4);
  view.setUint8(13, layer.flags ?? TCP_FLAG.ack);
  view.setUint16(14, layer.window ?? 65535);
  view.setUint16(18, layer.urgent ?? 0);
  bytes.set(options, 20);
  view.setUint16(16, layer.checksum ?? transportChecksum(place, PROTOCOL.tcp));
}

function writeUdpLayer(layer: Given<"udp">, place: Place): void {
  const { bytes, view, next } = place;
  view.setUint16(0, layer.sourcePort ?? 0);
  view.setUint16(2, layer.targetPort ?? (next?.kind === "geneve" ? UDP_PORT.geneve : 0));
  view.setUint16(4, layer.length ?? bytes.length);
  // RFC 768: a computed zero is sent as all ones, zero says "no checksum", which RFC 8200 forbids.
  view.setUint16(6, layer.checksum ?? (transportChecksum(place, PROTOCOL.udp) || 0xffff));
}

function writeSctpLayer(layer: Given<"sctp">, { bytes, view }: Place): void {
  view.setUint16(0, layer.sourcePort ?? 0);
  view.setUint16(2, layer.targetPort ?? 0);
  view.setUint32(4, layer.verificationTag ?? 0);
  if (layer.checksum !== undefined) view.setUint32(8, layer.checksum);
  // The CRC's least significant byte goes first.
  else view.setUint32(8, crc32c(bytes), true);
}

function writeIcmpLayer(layer: Given<"icmp"> | Given<"icmpv6">, place: Place): void {
  const { bytes, view } = place;
  view.setUint8(0, layer.type ?? (layer.kind === "icmp" ? 8 : 128));
  view.setUint8(1, layer.code ?? 0);
  view.setUint32(4, layer.rest ?? 0);
  const right = () =>
    layer.kind === "icmp" ? checksumOf(bytes) : transportChecksum(place, PROTOCOL.icmpv6);
  view.setUint16(2, layer.checksum ?? right());
}

function writeGeneveLayer(layer: Given<"geneve">, { bytes, view, next }: Place): void {
  const options = layer.options ?? NO_BYTES;
  const isCritical = layer.critical ?? hasCriticalOption(options);
  view.setUint8(0, options.length / 4);
  view.setUint8(1, (layer.control ? 0x80 : 0) | (isCritical ? 0x40 : 0));
  view.setUint16(2, layer.type ?? etherTypeOf(next));
  view.setUint32(4, (layer.vni ?? 0) * 256);
  bytes.set(options, 8);
}

function hasCriticalOption(options: Uint8Array): boolean {
  for (let at = 0; at + 4 <= options.length; at += 4 + ((options[at + 3] ?? 0) & 31) * 4) {
    if (((options[at + 2] ?? 0) & 0x80) !== 0) return true;
  }
  return false;
}

function writeArpLayer(layer: Given<"arp">, { bytes, view }: Place): void {
  view.setUint16(0, HARDWARE_ETHERNET);
  view.setUint16(2, ETHERTYPE.ipv4);
  view.setUint16(4, 0x0604); // the lengths of a MAC and of an address
  view.setUint16(6, layer.operation ?? 1);
  writeMac(bytes, 8, layer.senderMac ?? ZERO_MAC);
  writeIpv4(bytes, 14, layer.senderAddress ?? ANY_IPV4);
  writeMac(bytes, 18, layer.targetMac ?? ZERO_MAC);
  writeIpv4(bytes, 24, layer.targetAddress ?? ANY_IPV4);
}

function writeLinkLayer(layer: Given<"ethernet"> | Given<"vlan">, place: Place): void {
  const { bytes, view } = place;
  const type = layer.type ?? etherTypeOf(place.next);
  if (layer.kind === "ethernet") {
    writeMac(bytes, 0, layer.target ?? ZERO_MAC);
    writeMac(bytes, 6, layer.source ?? ZERO_MAC);
    view.setUint16(12, type);
  } else {
    view.setUint16(0, ((layer.priority ?? 0) << 13) | (layer.id ?? 0));
    view.setUint16(2, type);
  }
}

/** Writes a layer's header in front of what it carries, which is written already. */
export function writeLayer(layer: LayerInit, place: Place): void {
  switch (layer.kind) {
    case "ethernet":
    case "vlan":
      writeLinkLayer(layer, place);
      break;
    case "arp":
      writeArpLayer(layer, place);
      break;
    case "ipv4":
      writeIpv4Layer(layer, place);
      break;
    case "ipv6":
      writeIpv6Layer(layer, place);
      break;
    case "hopByHop":
    case "destinationOptions":
      writeOptionsLayer(layer, place);
      break;
    case "routing":
      writeRoutingLayer(layer, place);
      break;
    case "fragment":
      writeFragmentLayer(layer, place);
      break;
    case "tcp":
      writeTcpLayer(layer, place);
      break;
    case "udp":
      writeUdpLayer(layer, place);
      break;
    case "sctp":
      writeSctpLayer(layer, place);
      break;
    case "icmp":
    case "icmpv6":
      writeIcmpLayer(layer, place);
      break;
    case "geneve":
      writeGeneveLayer(layer, place);
      break;
    default:
      place.bytes.set(layer.bytes ?? NO_BYTES);
  }
}
