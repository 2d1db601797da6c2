// SPDX-License-Identifier: Apache-2.0
import { ANY_IPV4, type Ipv4, writeIpv4 } from "./address.ts";
import { checksumOf, finishChecksum, pseudoSum, sumWords } from "./checksum.ts";
import { type Mac, writeMac, ZERO_MAC } from "./mac.ts";

export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;
export const PROTOCOL = { icmp: 1, ipip: 4, tcp: 6, udp: 17 } as const;

/** TCP's flag bits. */
export const TCP_FLAG = {
  fin: 0x01,
  syn: 0x02,
  rst: 0x04,
  psh: 0x08,
  ack: 0x10,
  urg: 0x20,
  ece: 0x40,
  cwr: 0x80,
} as const;

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
  | Ipv4Layer
  | TcpLayer
  | UdpLayer
  | IcmpLayer
  | PayloadLayer
  | TrailerLayer;

/**
 * A layer as asked for: what is left out is filled in, lengths, types and checksums rightly.
 * What is given is written as it is, also when it is wrong.
 */
export type LayerInit = {
  [K in Layer["kind"]]: { readonly kind: K } & Partial<Omit<Extract<Layer, { kind: K }>, "kind">>;
}[Layer["kind"]];

type Init<K extends Layer["kind"]> = Partial<Omit<Extract<Layer, { kind: K }>, "kind">>;

export const ethernet = (fields: Init<"ethernet"> = {}): LayerInit => ({
  kind: "ethernet",
  ...fields,
});
export const vlan = (fields: Init<"vlan"> = {}): LayerInit => ({ kind: "vlan", ...fields });
export const ipv4 = (fields: Init<"ipv4"> = {}): LayerInit => ({ kind: "ipv4", ...fields });
export const tcp = (fields: Init<"tcp"> = {}): LayerInit => ({ kind: "tcp", ...fields });
export const udp = (fields: Init<"udp"> = {}): LayerInit => ({ kind: "udp", ...fields });
export const icmp = (fields: Init<"icmp"> = {}): LayerInit => ({ kind: "icmp", ...fields });
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

const HEADER_BYTES = { ethernet: 14, vlan: 4, ipv4: 20, tcp: 20, udp: 8, icmp: 8 } as const;

function sizeOf(layer: LayerInit): number {
  switch (layer.kind) {
    case "payload":
    case "trailer":
      return layer.bytes?.length ?? 0;
    case "ipv4":
    case "tcp": {
      const options = layer.options?.length ?? 0;
      if (options % 4 !== 0 || options > 40) {
        throw new RangeError(`${layer.kind} options of ${options} bytes: a multiple of 4 up to 40`);
      }
      return HEADER_BYTES[layer.kind] + options;
    }
    default:
      return HEADER_BYTES[layer.kind];
  }
}

function etherTypeOf(next: LayerInit | undefined): number {
  if (next?.kind === "vlan") return ETHERTYPE.vlan;
  return next?.kind === "ipv4" ? ETHERTYPE.ipv4 : 0xffff;
}

function protocolOf(next: LayerInit | undefined): number {
  switch (next?.kind) {
    case "ipv4":
      return PROTOCOL.ipip;
    case "tcp":
    case "udp":
    case "icmp":
      return PROTOCOL[next.kind];
    default:
      return 255;
  }
}

/** What a layer's writer knows: its own bytes to the end of the packet, and its neighbours. */
interface Place {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly outer: LayerInit | undefined;
  readonly next: LayerInit | undefined;
}

function writeIpv4Layer(layer: Extract<LayerInit, { kind: "ipv4" }>, place: Place): void {
  const { bytes, view } = place;
  const options = layer.options ?? new Uint8Array();
  const headerBytes = 20 + options.length;
  view.setUint8(0, 0x40 | (headerBytes / 4));
  view.setUint8(1, ((layer.dscp ?? 0) << 2) | (layer.ecn ?? 0));
  view.setUint16(2, layer.totalLength ?? bytes.length);
  view.setUint16(4, layer.id ?? 0);
  const flags = ((layer.dontFragment ?? true) ? 0x4000 : 0) | (layer.moreFragments ? 0x2000 : 0);
  view.setUint16(6, flags | ((layer.fragmentOffset ?? 0) >>> 3));
  view.setUint8(8, layer.ttl ?? 64);
  view.setUint8(9, layer.protocol ?? protocolOf(place.next));
  writeIpv4(bytes, 12, layer.source ?? ANY_IPV4);
  writeIpv4(bytes, 16, layer.target ?? ANY_IPV4);
  bytes.set(options, 20);
  view.setUint16(10, layer.checksum ?? checksumOf(bytes.subarray(0, headerBytes)));
}

function transportChecksum(place: Place, protocol: number): number {
  const { outer } = place;
  if (outer?.kind !== "ipv4") return 0;
  const source = outer.source ?? ANY_IPV4;
  const target = outer.target ?? ANY_IPV4;
  return finishChecksum(
    sumWords(place.bytes, pseudoSum(source, target, protocol, place.bytes.length)),
  );
}

function writeTcpLayer(layer: Extract<LayerInit, { kind: "tcp" }>, place: Place): void {
  const { bytes, view } = place;
  const options = layer.options ?? new Uint8Array();
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

function writeUdpLayer(layer: Extract<LayerInit, { kind: "udp" }>, place: Place): void {
  const { bytes, view } = place;
  view.setUint16(0, layer.sourcePort ?? 0);
  view.setUint16(2, layer.targetPort ?? 0);
  view.setUint16(4, layer.length ?? bytes.length);
  // RFC 768: a computed zero is sent as all ones, zero says "no checksum".
  view.setUint16(6, layer.checksum ?? (transportChecksum(place, PROTOCOL.udp) || 0xffff));
}

function writeLayer(layer: LayerInit, place: Place): void {
  const { bytes, view } = place;
  switch (layer.kind) {
    case "ethernet":
      writeMac(bytes, 0, layer.target ?? ZERO_MAC);
      writeMac(bytes, 6, layer.source ?? ZERO_MAC);
      view.setUint16(12, layer.type ?? etherTypeOf(place.next));
      return;
    case "vlan":
      view.setUint16(0, ((layer.priority ?? 0) << 13) | (layer.id ?? 0));
      view.setUint16(2, layer.type ?? etherTypeOf(place.next));
      return;
    case "ipv4":
      writeIpv4Layer(layer, place);
      return;
    case "tcp":
      writeTcpLayer(layer, place);
      return;
    case "udp":
      writeUdpLayer(layer, place);
      return;
    case "icmp":
      view.setUint8(0, layer.type ?? 8);
      view.setUint8(1, layer.code ?? 0);
      view.setUint32(4, layer.rest ?? 0);
      view.setUint16(2, layer.checksum ?? checksumOf(bytes));
      return;
    default:
      bytes.set(layer.bytes ?? new Uint8Array());
  }
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
      outer: layers[index - 1],
      next: layers[index + 1],
    });
    if (layer.kind === "trailer") end = start;
  }
  return bytes;
}
