// SPDX-License-Identifier: Apache-2.0
// Packets of IPv4, said again in IPv6.

import { ANY_IPV4, type Ipv4, readIpv4, writeIpv6 } from "../../src/net/address.ts";
import { dsrDestinationOptions, dsrGeneveOption } from "../../src/net/dsr.ts";
import { buildPacket, type LayerInit } from "../../src/net/packet.ts";
import { flowHash6 } from "../model/hash.ts";
import { widen } from "./address.ts";

type Given<K extends LayerInit["kind"]> = Extract<LayerInit, { kind: K }>;

const PROTOCOL = { icmp: 1, ipip: 4, tcp: 6, udp: 17, sctp: 132, ipv6: 41, icmpv6: 58 } as const;
const HEADER4 = 20;
const HEADER6 = 40;
const FRAGMENT_BYTES = 8;

/** How the packets of IPv6 differ beyond their headers. */
export interface Widening {
  readonly seed: bigint;
  /** Long payloads have so many bytes less, so that packets are as long as IPv4's. */
  readonly shorter: number;
  /** Ports that follow from a flow's hash, by IPv4's. */
  readonly ports: ReadonlyMap<number, number>;
  /** Whose address is in place of those that IPv4 makes from hashes. */
  readonly hashedSource: Ipv4;
}

/** 172.20.0.0/16 */
const HASHED = 0xac14;
/** Ports of the datagram whose pieces are sent. */
const PIECE = { sourcePort: 40_000, targetPort: 53, protocol: 17 } as const;

/** The TTL of a note is larger. */
const NOTE = 224;
/** Where it has the owner's address: behind the ports. */
const NOTE_AT = 4;

/** A note's TCP header has the owner's address, which is no header of TCP any more. */
function widenNote(layers: readonly LayerInit[], noted: number, how: Widening): LayerInit[] {
  const inner = layers.slice(noted + 1);
  const [, l4] = inner;
  const owner = (l4?.kind === "tcp" ? (l4.sequence ?? 0) : 0) as Ipv4;
  const [ip, ...carried] = widenLayers(inner, how);
  if (ip?.kind !== "ipv6") return [];
  const bytes = buildPacket(...carried);
  writeIpv6(bytes, NOTE_AT, widen(owner));
  const outer = widenLayers(layers.slice(0, noted + 1), how);
  return [
    ...outer.map((one) => (one.kind === "ipv6" ? { ...one, nextHeader: PROTOCOL.ipv6 } : one)),
    { ...ip, nextHeader: PROTOCOL.tcp },
    { kind: "payload", bytes },
  ];
}

/** Payloads from this length on are there to fill a packet. */
const LONG = 1000;

export function widenLayers(layers: readonly LayerInit[], how: Widening): LayerInit[] {
  const noted = layers.findIndex((layer) => layer.kind === "ipv4" && (layer.ttl ?? 0) > NOTE);
  if (noted >= 0 && layers[noted + 2]?.kind === "tcp") return widenNote(layers, noted, how);
  return layers.flatMap((layer, index) =>
    widenLayer(layer, layers[index - 1], layers.slice(index + 1), how),
  );
}

function widenLayer(
  layer: LayerInit,
  before: LayerInit | undefined,
  behind: readonly LayerInit[],
  how: Widening,
): LayerInit[] {
  const port = (number: number | undefined): number => how.ports.get(number ?? 0) ?? number ?? 0;
  switch (layer.kind) {
    case "ipv4":
      return widenHeader(layer, before, behind, how);
    case "icmp":
      return [widenIcmp(layer, how)];
    case "tcp":
      return [
        {
          ...layer,
          sourcePort: port(layer.sourcePort),
          targetPort: port(layer.targetPort),
          options: widenOptions(layer.options),
        },
      ];
    case "udp":
      return [
        {
          ...layer,
          sourcePort: port(layer.sourcePort),
          ...(layer.targetPort === undefined ? {} : { targetPort: port(layer.targetPort) }),
        },
      ];
    case "geneve":
      return [widenGeneve(layer)];
    case "ethernet":
      return [layer.type === ETHERTYPE4 ? { ...layer, type: ETHERTYPE6 } : layer];
    case "payload": {
      const bytes = layer.bytes ?? new Uint8Array();
      if (before?.kind === "icmp" && isError(before))
        return [{ ...layer, bytes: widenQuote(bytes, how) }];
      const { length } = bytes;
      return [{ ...layer, bytes: length > LONG ? bytes.slice(0, length - how.shorter) : bytes }];
    }
    default:
      return [layer];
  }
}

const ETHERTYPE4 = 0x0800;
const ETHERTYPE6 = 0x86dd;
/** UDP, Geneve and Ethernet in front of what Geneve carries. */
const GENEVE_HEADERS = 30;
/** How an option of IPv4 that says a service begins, and where its port and address are. */
const DSR_OPTION = [0x9a, 8] as const;
/** The same of Geneve's. */
const DSR_GENEVE = [0x01, 0x4b, 0x81] as const;
const DSR_GENEVE_AT = 4;
/** What is longer is IPv6's already. */
const DSR_GENEVE_BYTES = 12;
/** By which Geneve's is longer. */
const DSR_GENEVE_MORE = 12;

const begins = (bytes: Uint8Array, first: readonly number[]): boolean =>
  first.every((value, at) => bytes[at] === value);

interface Told {
  readonly service: Ipv4;
  readonly port: number;
}

function toldByGeneve({ options = new Uint8Array() }: Given<"geneve">): Told | undefined {
  if (options.length !== DSR_GENEVE_BYTES || !begins(options, DSR_GENEVE)) return undefined;
  const [high = 0, low = 0] = options.subarray(DSR_GENEVE_AT + 4);
  return { service: readIpv4(options, DSR_GENEVE_AT), port: high * 256 + low };
}

function widenGeneve(layer: Given<"geneve">): LayerInit {
  const told = toldByGeneve(layer);
  if (told === undefined) return layer;
  return { ...layer, options: dsrGeneveOption(widen(told.service), told.port) };
}

/** The flow label of the header in front of Geneve: that of the flow inside. */
function geneveLabel(behind: readonly LayerInit[], how: Widening): number {
  const [, geneve, , ip, l4] = behind;
  const told = geneve?.kind === "geneve" ? toldByGeneve(geneve) : undefined;
  if (told === undefined || ip?.kind !== "ipv4") return 0;
  if (l4?.kind !== "tcp" && l4?.kind !== "udp" && l4?.kind !== "sctp") return 0;
  const { source = ANY_IPV4 } = ip;
  return label(source, l4.sourcePort ?? 0, told.service, told.port, PROTOCOL[l4.kind], how);
}

/** By which the rest of a packet that says its own length grows, if that is Geneve. */
function geneveMore([, geneve]: readonly LayerInit[], carried: number): number {
  if (geneve?.kind !== "geneve") return 0;
  const headers = GENEVE_HEADERS + (geneve.options?.length ?? 0);
  const option = toldByGeneve(geneve) === undefined ? 0 : DSR_GENEVE_MORE;
  return option + (carried > headers ? HEADER6 - HEADER4 : 0);
}

/** The first options of a header that say a service are headers of their own. */
function widenTold(options: Uint8Array = new Uint8Array()): LayerInit[] {
  if (!begins(options, DSR_OPTION)) return [];
  const [low = 0, high = 0, a = 0, b = 0, c = 0, d = 0] = options.subarray(2, 8);
  const service = readIpv4(Uint8Array.of(d, c, b, a), 0);
  return [dsrDestinationOptions(widen(service), high * 256 + low)];
}

/** The MSS of a packet whose IP headers have 40 bytes more. */
const CLAMPED = 1440;
function widenOptions(options: Uint8Array = new Uint8Array()): Uint8Array {
  const wide = options.slice();
  for (let at = 0; at + 4 <= wide.length; at++) {
    const [kind, size, high = 0, low = 0] = wide.subarray(at, at + 4);
    if (kind === 2 && size === 4 && high * 256 + low === CLAMPED) {
      wide.set([(CLAMPED - 40) >>> 8, (CLAMPED - 40) & 255], at + 2);
    }
  }
  return wide;
}

/** As long as IPv4's options, in steps of eight bytes. */
function extensionBytes({ options = new Uint8Array() }: Given<"ipv4">): number {
  const told = begins(options, DSR_OPTION) ? 8 : 0;
  return Math.ceil((options.length - told) / 8) * 8;
}

function widenHeader(
  ip: Given<"ipv4">,
  before: LayerInit | undefined,
  behind: readonly LayerInit[],
  how: Widening,
): LayerInit[] {
  const bytes = extensionBytes(ip);
  const isFragment = ip.moreFragments === true || (ip.fragmentOffset ?? 0) > 0;
  const [next] = behind;
  const protocol = ip.protocol === undefined ? {} : { nextHeader: widenProtocol(ip.protocol) };
  const more = bytes + (isFragment ? FRAGMENT_BYTES : 0);
  const carried = (ip.totalLength ?? 0) - HEADER4 - (ip.options?.length ?? 0);
  const cut = carried > LONG ? how.shorter : 0;
  const length =
    ip.totalLength === undefined
      ? {}
      : { payloadLength: carried - cut + more + geneveMore(behind, carried) };
  const { source = ANY_IPV4 } = ip;
  const isOuter = next?.kind === "ipv4" && before?.kind !== "icmp";
  const header: LayerInit = {
    kind: "ipv6",
    source: widen(isOuter && source >>> 16 === HASHED ? how.hashedSource : source),
    target: widen(ip.target ?? ANY_IPV4),
    hopLimit: ip.ttl ?? 64,
    // What IPv4 says in ICMP of its own is internetwork control.
    dscp: next?.kind === "icmp" && ip.id === 0 ? 0 : (ip.dscp ?? 0),
    ecn: ip.ecn ?? 0,
    flowLabel: isOuter ? labelOf(next, behind.slice(1), how) : geneveLabel(behind, how),
    ...(more === 0 ? protocol : {}),
    ...length,
  };
  const told = widenTold(ip.options);
  const options: LayerInit[] =
    bytes === 0
      ? []
      : [
          {
            kind: "destinationOptions",
            options: new Uint8Array(bytes - 2),
            ...(isFragment ? {} : protocol),
          },
        ];
  const { moreFragments = false, fragmentOffset = 0 } = ip;
  const fragment: LayerInit[] = isFragment
    ? [{ kind: "fragment", moreFragments, fragmentOffset, id: ip.id ?? 0, ...protocol }]
    : [];
  return [header, ...told, ...options, ...fragment];
}

function widenProtocol(protocol: number): number {
  if (protocol === PROTOCOL.icmp) return PROTOCOL.icmpv6;
  return protocol === PROTOCOL.ipip ? PROTOCOL.ipv6 : protocol;
}

/** The flow label of the header in front of a packet: g of the flow's hash. */
function labelOf(
  ip: Given<"ipv4">,
  [l4, l5, ...more]: readonly LayerInit[],
  how: Widening,
): number {
  const { source = ANY_IPV4, target = ANY_IPV4 } = ip;
  if (l4?.kind === "ipv4") return labelOf(l4, l5 === undefined ? [] : [l5, ...more], how);
  if ((ip.fragmentOffset ?? 0) > 0) {
    return label(source, PIECE.sourcePort, target, PIECE.targetPort, PIECE.protocol, how);
  }
  if (l4?.kind === "tcp" || l4?.kind === "udp" || l4?.kind === "sctp") {
    const { sourcePort = 0, targetPort = 0 } = l4;
    return label(source, sourcePort, target, targetPort, PROTOCOL[l4.kind], how);
  }
  if (l4?.kind !== "icmp" || l5?.kind !== "payload") return 0;
  const quote = l5.bytes ?? new Uint8Array();
  if (quote.length < HEADER4 + 8) return 0;
  const at = ((quote[0] ?? 0) & 15) * 4;
  const view = new DataView(quote.buffer, quote.byteOffset);
  return label(
    readIpv4(quote, 16),
    view.getUint16(at + 2),
    readIpv4(quote, 12),
    view.getUint16(at),
    quote[9] ?? 0,
    how,
  );
}

function label(
  client: Ipv4,
  clientPort: number,
  service: Ipv4,
  servicePort: number,
  protocol: number,
  { seed }: Widening,
): number {
  const tuple = {
    client: widen(client),
    clientPort,
    service: widen(service),
    servicePort,
    protocol,
  };
  return flowHash6(tuple, seed).high & 0xfffff;
}

function isError({ type }: Given<"icmp">): boolean {
  return type === 3 || type === 11 || type === 12 || type === 5;
}

/** By IPv4's type, and for type 3 its code. */
function widenIcmp({ type = 8, code = 0, rest = 0 }: Given<"icmp">, how: Widening): LayerInit {
  const is = (wideType: number, wideCode: number, wideRest = rest): LayerInit => ({
    kind: "icmpv6",
    type: wideType,
    code: wideCode,
    rest: wideRest,
  });
  if (type === 8) return is(128, code);
  if (type === 0) return is(129, code);
  if (type === 3 && code === 4) return is(2, 0, rest - Math.max(0, how.shorter - 20));
  if (type === 3) return is(1, code === 3 ? 4 : 0);
  if (type === 11) return is(3, code);
  if (type === 12) return is(4, code);
  return is(type === 5 ? 137 : 200, code);
}

/** The beginning of a packet of IPv4, whose checksum behind the header follows. */
function widenQuote(bytes: Uint8Array, how: Widening): Uint8Array {
  if (bytes.length < HEADER4) return bytes.length === 0 ? bytes : new Uint8Array(HEADER6 - 1);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = HEADER4;
  const carried = bytes.slice(headerBytes);
  const source = readIpv4(bytes, 12);
  const target = readIpv4(bytes, 16);
  const wide = new Uint8Array(HEADER6 + carried.length);
  const out = new DataView(wide.buffer);
  const version = (bytes[0] ?? 0) >>> 4 === 4 ? 6 : 4;
  out.setUint32(0, ((version << 28) | ((bytes[1] ?? 0) << 20)) >>> 0);
  out.setUint16(4, view.getUint16(2) - headerBytes);
  const isFragment = (view.getUint16(6) & 0x1fff) !== 0;
  const protocol = widenProtocol(bytes[9] ?? 0);
  out.setUint8(6, isFragment ? 44 : protocol);
  out.setUint8(7, bytes[8] ?? 0);
  writeIpv6(wide, 8, widen(source));
  writeIpv6(wide, 24, widen(target));
  wide.set(carried, HEADER6);
  for (const at of [HEADER6, HEADER6 + 2]) {
    if (at + 2 <= wide.length)
      out.setUint16(at, how.ports.get(out.getUint16(at)) ?? out.getUint16(at));
  }
  const at = HEADER6 + (protocol === PROTOCOL.udp ? 6 : 16);
  if (
    protocol === PROTOCOL.sctp ||
    at + 2 > wide.length ||
    (protocol === PROTOCOL.udp && out.getUint16(at) === 0)
  )
    return wide;
  let sum = ~out.getUint16(at) & 0xffff;
  const add = (from: Uint8Array, start: number, end: number, sign: boolean): void => {
    for (let word = start; word < end; word += 2) {
      const value = ((from[word] ?? 0) << 8) | (from[word + 1] ?? 0);
      sum += sign ? value : ~value & 0xffff;
    }
  };
  add(bytes, 12, 20, false);
  add(wide, 8, 40, true);
  // The ports, which may be others.
  add(carried, 0, 4, false);
  add(wide, HEADER6, HEADER6 + 4, true);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  out.setUint16(at, ~sum & 0xffff);
  return wide;
}
