// SPDX-License-Identifier: Apache-2.0
import { formatIpv4, readIpv4 } from "./address.ts";
import { checksumOf, finishChecksum, pseudoSum, sumWords } from "./checksum.ts";
import { formatMac, readMac } from "./mac.ts";
import {
  ETHERTYPE,
  type IcmpLayer,
  type Ipv4Layer,
  type Layer,
  PROTOCOL,
  TCP_FLAG,
  type TcpLayer,
  type UdpLayer,
} from "./packet.ts";

/** A layer with the bytes it heads: its own header and what it carries. */
export interface Dissected {
  readonly layer: Layer;
  readonly bytes: Uint8Array;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readIpv4Layer(bytes: Uint8Array): Ipv4Layer | undefined {
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

function readIcmpLayer(bytes: Uint8Array): IcmpLayer | undefined {
  if (bytes.length < 8) return undefined;
  const view = viewOf(bytes);
  return {
    kind: "icmp",
    type: view.getUint8(0),
    code: view.getUint8(1),
    rest: view.getUint32(4),
    checksum: view.getUint16(2),
  };
}

function readTransport(protocol: number, bytes: Uint8Array): Layer | undefined {
  switch (protocol) {
    case PROTOCOL.tcp:
      return readTcpLayer(bytes);
    case PROTOCOL.udp:
      return readUdpLayer(bytes);
    case PROTOCOL.icmp:
      return readIcmpLayer(bytes);
    default:
      return undefined;
  }
}

const headerBytesOf = (layer: Layer): number => {
  switch (layer.kind) {
    case "ipv4":
    case "tcp":
      return 20 + layer.options.length;
    default:
      return 8;
  }
};

function rest(bytes: Uint8Array): Dissected[] {
  return bytes.length === 0 ? [] : [{ layer: { kind: "payload", bytes: bytes.slice() }, bytes }];
}

function dissectTransport(ip: Ipv4Layer, bytes: Uint8Array): Dissected[] {
  if (ip.fragmentOffset > 0) return rest(bytes);
  if (ip.protocol === PROTOCOL.ipip) return dissectFromIpv4(bytes);
  const layer = readTransport(ip.protocol, bytes);
  if (layer === undefined) return rest(bytes);
  return [{ layer, bytes }, ...rest(bytes.subarray(headerBytesOf(layer)))];
}

function dissectFromIpv4(bytes: Uint8Array): Dissected[] {
  const ip = readIpv4Layer(bytes);
  if (ip === undefined) return rest(bytes);
  const headerBytes = headerBytesOf(ip);
  const end = Math.min(Math.max(ip.totalLength, headerBytes), bytes.length);
  const packet = bytes.subarray(0, end);
  const after = bytes.subarray(end);
  const inside = dissectTransport(ip, packet.subarray(headerBytes));
  const outside: Dissected[] =
    after.length === 0 ? [] : [{ layer: { kind: "trailer", bytes: after.slice() }, bytes: after }];
  return [{ layer: ip, bytes: packet }, ...inside, ...outside];
}

function dissectFromType(type: number, bytes: Uint8Array): Dissected[] {
  if (type === ETHERTYPE.ipv4) return dissectFromIpv4(bytes);
  if (type !== ETHERTYPE.vlan || bytes.length < 4) return rest(bytes);
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

/** The layers of a packet that starts with its IPv4 header, as one quoted in an ICMP error. */
export function parseIpv4Packet(bytes: Uint8Array): Layer[] {
  return dissectFromIpv4(bytes).map(({ layer }) => layer);
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

function transportFault(ip: Ipv4Layer, { layer, bytes }: Dissected): string | undefined {
  if (layer.kind === "icmp") {
    return checksumOf(bytes) === 0 ? undefined : "icmp checksum is wrong";
  }
  if (layer.kind !== "tcp" && layer.kind !== "udp") return undefined;
  if (layer.kind === "udp" && layer.checksum === 0) return undefined;
  const sum = pseudoSum(ip.source, ip.target, ip.protocol, bytes.length);
  return finishChecksum(sumWords(bytes, sum)) === 0 ? undefined : `${layer.kind} checksum is wrong`;
}

/**
 * What is wrong with a frame's lengths and checksums, in words; empty when all is right.
 * Transport checksums of fragments can't be told and aren't judged.
 */
export function frameFaults(frame: Uint8Array): string[] {
  const faults: string[] = [];
  let ip: Ipv4Layer | undefined;
  for (const dissected of dissectFrame(frame)) {
    const { layer, bytes } = dissected;
    if (layer.kind === "ipv4") {
      ip = layer;
      if (checksumOf(bytes.subarray(0, headerBytesOf(layer))) !== 0) {
        faults.push(`ipv4 checksum of ${formatIpv4(layer.source)} is wrong`);
      }
      if (layer.totalLength > bytes.length) {
        faults.push(`ipv4 length ${layer.totalLength} is beyond the frame's ${bytes.length}`);
      }
      continue;
    }
    if (ip === undefined || ip.moreFragments) continue;
    const fault = transportFault(ip, dissected);
    if (fault !== undefined) faults.push(fault);
  }
  return faults;
}

function formatFlags(flags: number): string {
  const names = Object.entries(TCP_FLAG).filter(([, bit]) => (flags & bit) !== 0);
  return names.length === 0 ? "none" : names.map(([name]) => name).join(",");
}

function formatIpv4Layer(layer: Ipv4Layer): string {
  const parts = [`ipv4 ${formatIpv4(layer.source)} > ${formatIpv4(layer.target)}`];
  parts.push(`ttl ${layer.ttl} len ${layer.totalLength}`);
  if (layer.dscp !== 0 || layer.ecn !== 0) parts.push(`dscp ${layer.dscp} ecn ${layer.ecn}`);
  if (layer.fragmentOffset !== 0 || layer.moreFragments) {
    parts.push(`frag ${layer.fragmentOffset}${layer.moreFragments ? "+" : ""}`);
  }
  if (layer.options.length > 0) parts.push(`options ${Buffer.from(layer.options).toString("hex")}`);
  return parts.join(" ");
}

function formatLayer(layer: Layer): string {
  switch (layer.kind) {
    case "ethernet":
      return `eth ${formatMac(layer.source)} > ${formatMac(layer.target)}`;
    case "vlan":
      return `vlan ${layer.id}`;
    case "ipv4":
      return formatIpv4Layer(layer);
    case "tcp":
      return (
        `tcp ${layer.sourcePort} > ${layer.targetPort} ${formatFlags(layer.flags)} ` +
        `seq ${layer.sequence} ack ${layer.acknowledgement}`
      );
    case "udp":
      return `udp ${layer.sourcePort} > ${layer.targetPort} len ${layer.length}`;
    case "icmp":
      return `icmp ${layer.type}/${layer.code} rest ${layer.rest}`;
    default:
      return `${layer.kind} ${layer.bytes.length} bytes`;
  }
}

/** One line for a person: `eth … / ipv4 a > b ttl 64 len 30 / udp 1 > 53 len 10 / payload …`. */
export function formatFrame(frame: Uint8Array): string {
  return parseFrame(frame).map(formatLayer).join(" / ");
}
