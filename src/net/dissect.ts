// SPDX-License-Identifier: Apache-2.0
import { type Address, formatAddress } from "./address.ts";
import { checksumOf, finishChecksum, pseudoSum, sumWords } from "./checksum.ts";
import { crc32c } from "./crc32c.ts";
import { finalTarget } from "./extension.ts";
import { formatLayer } from "./format-layer.ts";
import { readMac } from "./mac.ts";
import type { Ipv4Layer, Ipv6Layer, Layer } from "./packet.ts";
import { ETHERTYPE, PROTOCOL, UDP_PORT } from "./protocol.ts";
import {
  type Extension,
  headerBytesOf,
  readArpLayer,
  readExtension,
  readGeneveLayer,
  readIpv4Layer,
  readIpv6Layer,
  readTransport,
  viewOf,
} from "./read-layer.ts";

/** A layer with the bytes it heads: its own header and what it carries. */
export interface Dissected {
  readonly layer: Layer;
  readonly bytes: Uint8Array;
}

function rest(bytes: Uint8Array): Dissected[] {
  return bytes.length === 0 ? [] : [{ layer: { kind: "payload", bytes: bytes.slice() }, bytes }];
}

/** What lies behind the end of a packet. */
function behind(bytes: Uint8Array): Dissected[] {
  return bytes.length === 0 ? [] : [{ layer: { kind: "trailer", bytes: bytes.slice() }, bytes }];
}

/** What an IP header's protocol, or an extension header's next header, names. */
function dissectProtocol(protocol: number, bytes: Uint8Array, isFragment: boolean): Dissected[] {
  if (isFragment) return rest(bytes);
  if (protocol === PROTOCOL.ipip) return dissectFromIpv4(bytes);
  if (protocol === PROTOCOL.ipv6) return dissectFromIpv6(bytes);
  const layer = readTransport(protocol, bytes);
  if (layer === undefined) return rest(bytes);
  const carried = bytes.subarray(headerBytesOf(layer));
  if (layer.kind === "udp" && layer.targetPort === UDP_PORT.geneve) {
    return [{ layer, bytes }, ...dissectFromGeneve(carried)];
  }
  return [{ layer, bytes }, ...rest(carried)];
}

function dissectFromGeneve(bytes: Uint8Array): Dissected[] {
  const layer = readGeneveLayer(bytes);
  if (layer === undefined) return rest(bytes);
  return [{ layer, bytes }, ...dissectFromType(layer.type, bytes.subarray(headerBytesOf(layer)))];
}

function dissectFromIpv4(bytes: Uint8Array): Dissected[] {
  const ip = readIpv4Layer(bytes);
  if (ip === undefined) return rest(bytes);
  const headerBytes = headerBytesOf(ip);
  const end = Math.min(Math.max(ip.totalLength, headerBytes), bytes.length);
  const packet = bytes.subarray(0, end);
  const isLater = ip.fragmentOffset > 0;
  const inside = dissectProtocol(ip.protocol, packet.subarray(headerBytes), isLater);
  return [{ layer: ip, bytes: packet }, ...inside, ...behind(bytes.subarray(end))];
}

function dissectFromIpv6(bytes: Uint8Array): Dissected[] {
  const ip = readIpv6Layer(bytes);
  if (ip === undefined) return rest(bytes);
  const headerBytes = headerBytesOf(ip);
  const end = Math.min(headerBytes + ip.payloadLength, bytes.length);
  const packet = bytes.subarray(0, end);
  const layers: Dissected[] = [{ layer: ip, bytes: packet }];
  let next = ip.nextHeader;
  let carried = packet.subarray(headerBytes);
  let isLater = false;
  while (!isLater) {
    const layer: Extension | undefined = readExtension(next, carried);
    if (layer === undefined) break;
    layers.push({ layer, bytes: carried });
    next = layer.nextHeader;
    carried = carried.subarray(headerBytesOf(layer));
    isLater = layer.kind === "fragment" && layer.fragmentOffset > 0;
  }
  return [...layers, ...dissectProtocol(next, carried, isLater), ...behind(bytes.subarray(end))];
}

function dissectFromArp(bytes: Uint8Array): Dissected[] {
  const layer = readArpLayer(bytes);
  if (layer === undefined) return rest(bytes);
  const end = headerBytesOf(layer);
  return [{ layer, bytes: bytes.subarray(0, end) }, ...behind(bytes.subarray(end))];
}

function dissectFromType(type: number, bytes: Uint8Array): Dissected[] {
  switch (type) {
    case ETHERTYPE.ipv4:
      return dissectFromIpv4(bytes);
    case ETHERTYPE.ipv6:
      return dissectFromIpv6(bytes);
    case ETHERTYPE.arp:
      return dissectFromArp(bytes);
    case ETHERTYPE.ethernet:
      return dissectFrame(bytes);
    case ETHERTYPE.vlan:
      return dissectFromVlan(bytes);
    default:
      return rest(bytes);
  }
}

function dissectFromVlan(bytes: Uint8Array): Dissected[] {
  if (bytes.length < 4) return rest(bytes);
  const view = viewOf(bytes);
  const tag = view.getUint16(0);
  const inner = view.getUint16(2);
  const layer: Layer = { kind: "vlan", id: tag & 0xfff, priority: tag >>> 13, type: inner };
  return [{ layer, bytes }, ...dissectFromType(inner, bytes.subarray(4))];
}

/** Every layer of an Ethernet frame with its bytes; what can't be read is a payload. */
export function dissectFrame(bytes: Uint8Array): Dissected[] {
  if (bytes.length < 14) return rest(bytes);
  const type = viewOf(bytes).getUint16(12);
  const layer: Layer = {
    kind: "ethernet",
    source: readMac(bytes, 6),
    target: readMac(bytes, 0),
    type,
  };
  return [{ layer, bytes }, ...dissectFromType(type, bytes.subarray(14))];
}

/** The layers of an Ethernet frame, outermost first; `buildPacket` makes the same frame of them. */
export function parseFrame(bytes: Uint8Array): Layer[] {
  return dissectFrame(bytes).map(({ layer }) => layer);
}

/** The layers of a packet that starts with its IP header, as one quoted in an ICMP error. */
export function parseIpPacket(bytes: Uint8Array): Layer[] {
  const isIpv6 = (bytes[0] ?? 0) >>> 4 === 6;
  const dissected = isIpv6 ? dissectFromIpv6(bytes) : dissectFromIpv4(bytes);
  return dissected.map(({ layer }) => layer);
}

/** The `index`-th layer of a kind; throws RangeError that lists what is there instead. */
export function layerOf<K extends Layer["kind"]>(
  layers: readonly Layer[],
  kind: K,
  index = 0,
): Extract<Layer, { kind: K }> {
  const found = layers.filter((layer) => layer.kind === kind)[index];
  if (found === undefined) {
    const kinds = layers.map((layer) => layer.kind).join(" / ");
    throw new RangeError(`no ${kind} layer number ${index} in ${kinds}`);
  }
  return found as Extract<Layer, { kind: K }>;
}

/** Where a transport is found: what its checksum covers besides itself. */
interface Around {
  readonly source: Address;
  readonly target: Address;
  /** Only a part of the transport is here. */
  readonly isPart: boolean;
}

function aroundOf(layer: Ipv4Layer | Ipv6Layer): Around {
  const { source, target } = layer;
  const isPart = layer.kind === "ipv4" && (layer.moreFragments || layer.fragmentOffset > 0);
  return { source, target, isPart };
}

function transportFault(around: Around, { layer, bytes }: Dissected): string | undefined {
  const wrong = `${layer.kind} checksum is wrong`;
  switch (layer.kind) {
    case "icmp":
      return checksumOf(bytes) === 0 ? undefined : wrong;
    case "sctp": {
      const own = bytes.slice();
      own.fill(0, 8, 12);
      return crc32c(own) === viewOf(bytes).getUint32(8, true) ? undefined : wrong;
    }
    case "tcp":
    case "udp":
    case "icmpv6": {
      if (layer.kind === "udp" && layer.checksum === 0) {
        if (typeof around.source === "number") return undefined;
        return "udp checksum is 0, which IPv6 forbids";
      }
      const { source, target } = around;
      const sum = pseudoSum(source, target, PROTOCOL[layer.kind], bytes.length);
      return finishChecksum(sumWords(bytes, sum)) === 0 ? undefined : wrong;
    }
    default:
      return undefined;
  }
}

function headerFaults({ layer, bytes }: Dissected): string[] {
  const faults: string[] = [];
  if (layer.kind === "ipv4") {
    if (checksumOf(bytes.subarray(0, headerBytesOf(layer))) !== 0) {
      faults.push(`ipv4 checksum of ${formatAddress(layer.source)} is wrong`);
    }
    if (layer.totalLength > bytes.length) {
      faults.push(`ipv4 length ${layer.totalLength} is beyond the frame's ${bytes.length}`);
    }
  }
  if (layer.kind === "ipv6" && 40 + layer.payloadLength > bytes.length) {
    faults.push(`ipv6 length ${layer.payloadLength} is beyond the frame's ${bytes.length - 40}`);
  }
  return faults;
}

/**
 * What is wrong with a frame's lengths and checksums, in words; empty when all is right.
 * Transport checksums of fragments can't be told and aren't judged.
 */
export function frameFaults(frame: Uint8Array): string[] {
  const faults: string[] = [];
  let around: Around | undefined;
  for (const dissected of dissectFrame(frame)) {
    const { layer } = dissected;
    faults.push(...headerFaults(dissected));
    if (layer.kind === "ipv4" || layer.kind === "ipv6") around = aroundOf(layer);
    else if (around === undefined) continue;
    else if (layer.kind === "routing") {
      around = { ...around, target: finalTarget(layer) ?? around.target };
    } else if (layer.kind === "fragment") {
      const isPart = layer.moreFragments || layer.fragmentOffset > 0;
      around = { ...around, isPart: around.isPart || isPart };
    } else if (!around.isPart) {
      const fault = transportFault(around, dissected);
      if (fault !== undefined) faults.push(fault);
    }
  }
  return faults;
}

/** One line for a person: `eth … / ipv4 a > b ttl 64 len 30 / udp 1 > 53 len 10 / payload …`. */
export function formatFrame(frame: Uint8Array): string {
  return parseFrame(frame).map(formatLayer).join(" / ");
}
