// SPDX-License-Identifier: Apache-2.0
import type { Ipv4, Ipv6 } from "./address.ts";
import type { Mac } from "./mac.ts";
import { sizeOf, writeLayer } from "./write-layer.ts";

export interface EthernetLayer {
  readonly kind: "ethernet";
  readonly source: Mac;
  readonly target: Mac;
  readonly type: number;
}

export interface VlanLayer {
  readonly kind: "vlan";
  readonly id: number;
  readonly priority: number;
  readonly type: number;
}

export interface Ipv4Layer {
  readonly kind: "ipv4";
  readonly source: Ipv4;
  readonly target: Ipv4;
  readonly protocol: number;
  readonly ttl: number;
  readonly dscp: number;
  readonly ecn: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset: number;
  /** A multiple of 4 bytes, at most 40. */
  readonly options: Uint8Array;
  /** Header and all that follows, in bytes. */
  readonly totalLength: number;
  readonly checksum: number;
}

export interface TcpLayer {
  readonly kind: "tcp";
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  readonly urgent: number;
  /** A multiple of 4 bytes, at most 40. */
  readonly options: Uint8Array;
  readonly checksum: number;
}

export interface UdpLayer {
  readonly kind: "udp";
  readonly sourcePort: number;
  readonly targetPort: number;
  /** Header and payload, in bytes. */
  readonly length: number;
  readonly checksum: number;
}

export interface IcmpLayer {
  readonly kind: "icmp";
  readonly type: number;
  readonly code: number;
  /** The four bytes after the checksum: id and sequence of an echo, the MTU of frag-needed. */
  readonly rest: number;
  readonly checksum: number;
}

export interface ArpLayer {
  readonly kind: "arp";
  /** 1 asks, 2 answers. */
  readonly operation: number;
  readonly senderMac: Mac;
  readonly senderAddress: Ipv4;
  readonly targetMac: Mac;
  readonly targetAddress: Ipv4;
}

export interface Ipv6Layer {
  readonly kind: "ipv6";
  readonly source: Ipv6;
  readonly target: Ipv6;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly dscp: number;
  readonly ecn: number;
  readonly flowLabel: number;
  /** All that follows the header, in bytes. */
  readonly payloadLength: number;
}

/** A list of options (RFC 8200, 4.2). */
interface OptionsFields {
  readonly nextHeader: number;
  /** 6 bytes and any multiple of 8; a builder pads what is shorter. */
  readonly options: Uint8Array;
}

export interface HopByHopLayer extends OptionsFields {
  readonly kind: "hopByHop";
}

export interface DestinationOptionsLayer extends OptionsFields {
  readonly kind: "destinationOptions";
}

export interface RoutingLayer {
  readonly kind: "routing";
  readonly nextHeader: number;
  readonly type: number;
  readonly segmentsLeft: number;
  /** What follows the first four bytes: four more and any multiple of 8. */
  readonly data: Uint8Array;
}

/** IPv6's fragment header. */
export interface FragmentLayer {
  readonly kind: "fragment";
  readonly nextHeader: number;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset: number;
  readonly moreFragments: boolean;
  readonly id: number;
}

export interface Icmpv6Layer {
  readonly kind: "icmpv6";
  readonly type: number;
  readonly code: number;
  /** The four bytes after the checksum: the MTU of packet-too-big, the flags of an NDP answer. */
  readonly rest: number;
  readonly checksum: number;
}

/** The header that all chunks of a packet share; they are its payload. */
export interface SctpLayer {
  readonly kind: "sctp";
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly verificationTag: number;
  /** CRC32c of header and chunks, as the four bytes read in network order. */
  readonly checksum: number;
}

/** RFC 8926. */
export interface GeneveLayer {
  readonly kind: "geneve";
  /** Of what follows, an EtherType. */
  readonly type: number;
  readonly vni: number;
  readonly control: boolean;
  /** Some option has its own critical bit set. */
  readonly critical: boolean;
  /** A multiple of 4 bytes, at most 252. */
  readonly options: Uint8Array;
}

/** Bytes that no layer above explains. */
export interface PayloadLayer {
  readonly kind: "payload";
  readonly bytes: Uint8Array;
}

/** Bytes after the end of the IP packet, as Ethernet's padding. */
export interface TrailerLayer {
  readonly kind: "trailer";
  readonly bytes: Uint8Array;
}

export type Layer =
  | EthernetLayer
  | VlanLayer
  | ArpLayer
  | Ipv4Layer
  | Ipv6Layer
  | HopByHopLayer
  | DestinationOptionsLayer
  | RoutingLayer
  | FragmentLayer
  | TcpLayer
  | UdpLayer
  | SctpLayer
  | IcmpLayer
  | Icmpv6Layer
  | GeneveLayer
  | PayloadLayer
  | TrailerLayer;

/**
 * A layer as asked for: what is left out is filled in, lengths, types and checksums rightly.
 * What is given is written as it is, also when it is wrong.
 */
export type LayerInit = { [K in Layer["kind"]]: { readonly kind: K } & Init<K> }[Layer["kind"]];

export type Init<K extends Layer["kind"]> = Partial<Omit<Extract<Layer, { kind: K }>, "kind">>;

export const ethernet = (fields: Init<"ethernet"> = {}): LayerInit => ({
  kind: "ethernet",
  ...fields,
});
export const vlan = (fields: Init<"vlan"> = {}): LayerInit => ({ kind: "vlan", ...fields });
export const ipv4 = (fields: Init<"ipv4"> = {}): LayerInit => ({ kind: "ipv4", ...fields });
export const tcp = (fields: Init<"tcp"> = {}): LayerInit => ({ kind: "tcp", ...fields });
export const udp = (fields: Init<"udp"> = {}): LayerInit => ({ kind: "udp", ...fields });
export const icmp = (fields: Init<"icmp"> = {}): LayerInit => ({ kind: "icmp", ...fields });
export const arp = (fields: Init<"arp"> = {}): LayerInit => ({ kind: "arp", ...fields });
export const ipv6 = (fields: Init<"ipv6"> = {}): LayerInit => ({ kind: "ipv6", ...fields });
export const hopByHop = (fields: Init<"hopByHop"> = {}): LayerInit => ({
  kind: "hopByHop",
  ...fields,
});
export const destinationOptions = (fields: Init<"destinationOptions"> = {}): LayerInit => ({
  kind: "destinationOptions",
  ...fields,
});
export const routing = (fields: Init<"routing"> = {}): LayerInit => ({
  kind: "routing",
  ...fields,
});
export const fragment = (fields: Init<"fragment"> = {}): LayerInit => ({
  kind: "fragment",
  ...fields,
});
export const icmpv6 = (fields: Init<"icmpv6"> = {}): LayerInit => ({ kind: "icmpv6", ...fields });
export const sctp = (fields: Init<"sctp"> = {}): LayerInit => ({ kind: "sctp", ...fields });
export const geneve = (fields: Init<"geneve"> = {}): LayerInit => ({ kind: "geneve", ...fields });
export const trailer = (bytes: Uint8Array): LayerInit => ({ kind: "trailer", bytes });

/** Payload from bytes, from text (UTF-8), or of `n` counting bytes. */
export function payload(content: Uint8Array | string | number): LayerInit {
  if (typeof content === "string") return payload(new TextEncoder().encode(content));
  if (typeof content !== "number") return { kind: "payload", bytes: content };
  return { kind: "payload", bytes: Uint8Array.from({ length: content }, (_, index) => index) };
}

/** TCP's maximum-segment-size option, for `options` of a SYN. */
export function mssOption(mss: number): Uint8Array {
  return Uint8Array.of(2, 4, mss >>> 8, mss & 255);
}

/** A chunk of SCTP, padded to four bytes, for the payload (RFC 9260, 3.2). */
export function sctpChunk(type: number, flags: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + ((value.length + 3) & ~3));
  const length = 4 + value.length;
  bytes.set([type, flags, length >>> 8, length & 255]);
  bytes.set(value, 4);
  return bytes;
}

/** An option of Geneve: a class, a type (0x80: critical), and a multiple of 4 bytes. */
export function geneveOption(space: number, type: number, data: Uint8Array): Uint8Array {
  if (data.length % 4 !== 0 || data.length > 124) {
    throw new RangeError(`geneve option of ${data.length} bytes: a multiple of 4 up to 124`);
  }
  return Uint8Array.of(space >>> 8, space & 255, type, data.length / 4, ...data);
}

/**
 * The bytes of a packet from its layers, outermost first:
 * `buildPacket(ethernet(), ipv4({ source, target }), udp({ targetPort: 53 }), payload("hi"))`.
 * Starts with whatever layer comes first, so that a packet without Ethernet is one too.
 */
export function buildPacket(...layers: readonly LayerInit[]): Uint8Array {
  const sizes = layers.map(sizeOf);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const bytes = new Uint8Array(total);
  let start = total;
  let end = total;
  for (let index = layers.length - 1; index >= 0; index--) {
    const layer = layers[index];
    if (layer === undefined) continue;
    start -= sizes[index] ?? 0;
    writeLayer(layer, {
      bytes: bytes.subarray(start, end),
      view: new DataView(bytes.buffer, start, end - start),
      before: layers.slice(0, index),
      next: layers[index + 1],
    });
    if (layer.kind === "trailer") end = start;
  }
  return bytes;
}
