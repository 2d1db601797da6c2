// SPDX-License-Identifier: Apache-2.0
// Frames from events.

import { ANY_IPV4, type Ipv4, type Ipv6 } from "../../src/net/address.ts";
import { dsrGeneveOption, dsrOption4 } from "../../src/net/dsr.ts";
import type { Mac } from "../../src/net/mac.ts";
import {
  buildPacket,
  ethernet,
  geneve,
  geneveOption,
  icmp,
  ipv4,
  type LayerInit,
  payload,
  sctp,
  sctpChunk,
  tcp,
  trailer,
  udp,
  vlan,
} from "../../src/net/packet.ts";
import type { Address } from "../model/family.ts";
import type { FlowKey } from "../model/tables.ts";
import { narrow } from "../wide/address.ts";
import {
  type ErrorSpec,
  type Extension,
  type NodeIndex,
  type OuterSpec,
  type PacketSpec,
  type ReplyEvent,
  THE_NODE,
} from "./event.ts";
import {
  AT_NODES,
  CLIENTS,
  LOAD_BALANCER,
  NODES,
  nodeMac,
  OUTER_PREFIX,
  PODS,
  podMac,
  SERVICE_PORTS,
  SERVICES,
  STRANGER,
  UPLINK_MACS,
  UPLINKS,
} from "./places.ts";

const ETHERTYPE_IPV6 = 0x86dd;
const TCP = 6;
const SCTP = 132;
const GENEVE_PORT = 6081;
const COUNTING = Uint8Array.from({ length: 4096 }, (_, index) => index);
const ROUTER_MAC = 0x02aabbccdd01 as Mac;

function optionBytes(count: number): Uint8Array {
  // No-operation options: they cost routers time and mean nothing.
  return new Uint8Array(count).fill(1);
}

/** What becomes of layers that are said of IPv4. */
export type Layers = (
  layers: readonly LayerInit[],
  extensions: readonly Extension[],
) => readonly LayerInit[];

/** First chunks of SCTP in the place of TCP's flags: what says that it begins, and what ends. */
function chunkOf(tcpFlags: number): number {
  const [fin, syn, rst, psh, ack] = [1, 2, 4, 8, 16];
  switch (tcpFlags) {
    case syn:
      return 1;
    case syn | ack:
      return 2;
    case rst:
    case rst | ack:
      return 6;
    case fin | ack:
      return 7;
    case fin:
      return 8;
    case syn | fin:
      return 14;
    case syn | rst:
      return 15;
    case psh | ack:
      return 3;
    default:
      return tcpFlags === ack ? 0 : 16 + tcpFlags;
  }
}

/** What is behind TCP, UDP or SCTP, whose payload begins with a chunk. */
function carried(protocol: number, tcpFlags: number, bytes: number): LayerInit {
  const rest = COUNTING.subarray(0, bytes);
  return payload(protocol === SCTP ? sctpChunk(chunkOf(tcpFlags) & 255, 0, rest) : rest);
}

/** TCP, UDP or SCTP with its checksum as asked for. */
function transport(
  of: { readonly sourcePort: number; readonly targetPort: number; readonly protocol: number },
  how: {
    readonly tcpFlags: number;
    readonly tcpOptions: readonly number[];
    readonly checksum: "right" | "none" | "wrong";
  },
): LayerInit {
  const { sourcePort, targetPort, protocol } = of;
  const checksum =
    how.checksum === "right" ? {} : { checksum: how.checksum === "none" ? 0 : 0x1234 };
  if (protocol === SCTP) {
    return sctp({ sourcePort, targetPort, verificationTag: 0x01020304, ...checksum });
  }
  if (protocol !== TCP) return udp({ sourcePort, targetPort, ...checksum });
  const options = new Uint8Array(Math.ceil(how.tcpOptions.length / 4) * 4).fill(0);
  options.set(how.tcpOptions);
  return tcp({
    sourcePort,
    targetPort,
    flags: how.tcpFlags,
    sequence: 0x01020304,
    acknowledgement: 0x05060708,
    options,
    ...checksum,
  });
}

/** The frame of a packet as it arrives at an uplink of a node. */
export function clientFrame(
  spec: PacketSpec,
  node: NodeIndex,
  uplink: keyof typeof UPLINK_MACS,
  family: Layers,
): Uint8Array {
  const service = SERVICE_PORTS[spec.service];
  const said = saidBy(spec, node);
  const protocol = spec.protocol ?? service?.protocol ?? TCP;
  const target = spec.pod !== undefined ? PODS[spec.pod] : said.address;
  const usualPort = (spec.pod === undefined ? service?.port : service?.podPort) ?? 9;
  const targetPort = spec.port ?? usualPort;
  const { inside } = spec;
  const layers: LayerInit[] = [
    inside === undefined
      ? ethernet(linkOf(spec, uplink))
      : ethernet({ source: podMac(inside.device), target: nodeMac(inside.device) }),
  ];
  if (spec.vlan === true) layers.push(vlan({ id: 5 }));
  if (spec.outer !== undefined) layers.push(...outerLayers(spec.outer, node, said));
  const outside = spec.own === true ? NODES[node] : CLIENTS[spec.client];
  const client = inside === undefined ? outside : PODS[inside.pod];
  const flow = { client: client ?? STRANGER, target: target ?? ANY_IPV4 };
  layers.push(...packetLayers(spec, { ...flow, targetPort, protocol, said }));
  if (spec.trailerBytes !== undefined) layers.push(trailer(new Uint8Array(spec.trailerBytes)));
  const frame = buildPacket(...family(layers, spec.extensions ?? []));
  if (spec.outer !== undefined) addLengthError(frame, spec.outer.lengthError);
  return mangle(frame, spec.bytes ?? [], spec.cutBytes);
}

/** A service's address and port. */
interface Said {
  readonly address: Ipv4;
  readonly port: number;
}

function saidBy(spec: PacketSpec, node: NodeIndex): Said {
  const service = SERVICE_PORTS[spec.service];
  const address =
    service?.address === AT_NODES ? NODES[spec.at ?? node] : SERVICES[service?.address ?? -1];
  return { address: address ?? STRANGER, port: service?.port ?? 9 };
}

/** From a router, or out of the node to one. */
function linkOf(spec: PacketSpec, uplink: keyof typeof UPLINK_MACS) {
  const own = UPLINK_MACS[uplink];
  if (spec.own === true) return { source: own, target: ROUTER_MAC };
  return { source: ROUTER_MAC, target: spec.mac ?? own };
}

/** Where a client's packet goes. */
interface Flow {
  readonly client: Ipv4;
  readonly target: Ipv4;
  readonly targetPort: number;
  readonly protocol: number;
  readonly said: Said;
}

/** What the client sends or, if that is asked for, what a router has to say of the answer. */
function packetLayers(spec: PacketSpec, flow: Flow): LayerInit[] {
  const { client, target, targetPort, protocol, said } = flow;
  const { error } = spec;
  const own = spec.option === true ? dsrOption4(said.address, said.port) : [];
  const ip = {
    ttl: spec.ttl ?? 60,
    dscp: spec.dscp ?? 0,
    ecn: spec.ecn ?? 0,
    id: spec.id ?? 0x3344,
    dontFragment: spec.dontFragment ?? true,
    moreFragments: spec.moreFragments ?? false,
    fragmentOffset: spec.fragmentOffset ?? 0,
    options: Uint8Array.of(...own, ...optionBytes(spec.ipOptionBytes ?? 0)).subarray(0, 40),
  };
  const how = {
    tcpFlags: spec.tcpFlags ?? 0x10,
    tcpOptions: spec.tcpOptions ?? [],
    checksum: spec.checksum ?? "right",
  } as const;
  const rest = carried(protocol, how.tcpFlags, spec.payloadBytes ?? 0);
  if (spec.icmpType !== undefined) {
    const wrong = how.checksum === "right" ? {} : { checksum: 0x1234 };
    const asked = icmp({ type: spec.icmpType, rest: 0x00070001, ...wrong });
    return [ipv4({ source: client, target, ...ip }), asked, rest];
  }
  if (error === undefined) {
    const ports = { sourcePort: spec.clientPort, targetPort, protocol };
    return [ipv4({ source: client, target, protocol, ...ip }), transport(ports, how), rest];
  }
  const ports = { sourcePort: targetPort, targetPort: spec.clientPort, protocol };
  const reply = buildPacket(
    ipv4({
      source: target,
      target: client,
      protocol,
      options: optionBytes(error.quotedOptionBytes),
      moreFragments: error.quotedMoreFragments,
      fragmentOffset: error.quotedFragmentOffset,
    }),
    transport(ports, how),
    rest,
  );
  const source = spec.inside === undefined && spec.own !== true ? STRANGER : client;
  return [ipv4({ source, target, ...ip }), ...errorLayers(error, reply)];
}

function errorLayers(error: ErrorSpec, about: Uint8Array): LayerInit[] {
  const { type, code } = error;
  const checksum = error.checksum === "right" ? {} : { checksum: 0x1234 };
  return [
    icmp({ type, code, rest: error.rest, ...checksum }),
    payload(about.subarray(0, error.quotedBytes)),
  ];
}

function outerLayers(outer: OuterSpec, node: NodeIndex, said: Said): LayerInit[] {
  const sources: Record<OuterSpec["from"], Ipv4 | undefined> = {
    node: NODES[1 - node],
    "other node": NODES[2],
    "load balancer": LOAD_BALANCER,
    prefix: (OUTER_PREFIX + 0x0102) as Ipv4,
    stranger: STRANGER,
  };
  const sourceOf = (from: OuterSpec["from"]): Ipv4 => sources[from] ?? STRANGER;
  const ip = {
    source: sourceOf(outer.from),
    target: (outer.pod === THE_NODE ? NODES[node] : PODS[outer.pod]) ?? STRANGER,
    ttl: outer.ttl,
    ecn: outer.ecn,
    moreFragments: outer.moreFragments,
    fragmentOffset: outer.fragmentOffset,
    options: optionBytes(outer.optionBytes),
  };
  const { byNode } = outer;
  const toNode = byNode && { source: sourceOf(byNode.from), target: NODES[node] ?? STRANGER };
  const first =
    toNode === undefined ? [] : [ipv4({ ...toNode, ecn: byNode?.ecn ?? 0, protocol: 4 })];
  if (outer.geneve === undefined) return [...first, ipv4({ ...ip, protocol: 4 })];
  const options = {
    none: new Uint8Array(),
    service: dsrGeneveOption(said.address, said.port),
    other: geneveOption(0x0102, 1, new Uint8Array(8)),
  }[outer.geneve];
  const inside = ethernet({ source: ROUTER_MAC, target: UPLINK_MACS.up1 });
  const sent = udp({ sourcePort: 50_000, targetPort: GENEVE_PORT, checksum: 0 });
  return [ipv4(ip), sent, geneve({ vni: 2, critical: true, options }), inside];
}

/** The outer header's length is wrong, its checksum right. */
function addLengthError(frame: Uint8Array, error: number): void {
  if (error === 0) return;
  const view = new DataView(frame.buffer, frame.byteOffset);
  if (view.getUint16(12) === ETHERTYPE_IPV6) {
    view.setUint16(18, (view.getUint16(18) + error) & 0xffff);
    return;
  }
  const [before, checksum] = [view.getUint16(16), view.getUint16(24)];
  const after = (before + error) & 0xffff;
  view.setUint16(16, after);
  const sum = (~checksum & 0xffff) + (~before & 0xffff) + after;
  const folded = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(24, ~((folded & 0xffff) + (folded >>> 16)) & 0xffff);
}

function mangle(
  frame: Uint8Array,
  bytes: PacketSpec["bytes"] = [],
  cutBytes: number | undefined,
): Uint8Array {
  for (const [at, value] of bytes) if (at < frame.length) frame[at] = value;
  // Test runs refuse what has no Ethernet header, and tc ones what has nothing after it.
  return cutBytes === undefined ? frame : frame.subarray(0, Math.max(15, cutBytes));
}

/** The frame of a pod for a REPLY key: by its device, as the node itself, or by the network. */
export function podFrame(
  event: ReplyEvent,
  key: FlowKey,
  from: "pod" | "node" | "network",
  family: Layers,
): Uint8Array {
  const pod = PODS.indexOf(narrowOf(key.source));
  const { error } = event;
  const uplink = UPLINK_MACS[UPLINKS[event.uplink]];
  const links = {
    pod: { source: podMac(pod), target: nodeMac(pod) },
    node: { source: uplink, target: ROUTER_MAC },
    network: { source: ROUTER_MAC, target: uplink },
  };
  const link = ethernet(links[from]);
  const ip = {
    source: narrowOf(key.source),
    target: narrowOf(key.destination),
    ttl: event.ttl,
    dontFragment: event.dontFragment,
    moreFragments: event.moreFragments,
    fragmentOffset: event.fragmentOffset,
    id: event.id,
  };
  const rest = carried(key.protocol, event.tcpFlags, event.payloadBytes);
  const layers =
    error === undefined
      ? [ipv4({ ...ip, protocol: key.protocol }), podTransport(key, event), rest]
      : [ipv4(ip), ...errorLayers(error, buildPacket(...clientLayers(key, event, error), rest))];
  return mangle(buildPacket(...family([link, ...layers], [])), event.bytes, event.cutBytes);
}

/** An address as the world has it, which is IPv4's. */
export function narrowOf(address: Address): Ipv4 {
  return typeof address === "bigint" ? narrow(address as Ipv6) : (address as Ipv4);
}

function podTransport(key: FlowKey, event: ReplyEvent): LayerInit {
  return transport({ ...key, targetPort: key.destinationPort }, event);
}

/** What the client sent, as the pod got it. */
function clientLayers(key: FlowKey, event: ReplyEvent, error: ErrorSpec): LayerInit[] {
  const { protocol } = key;
  return [
    ipv4({
      source: narrowOf(key.destination),
      target: narrowOf(key.source),
      protocol,
      options: optionBytes(error.quotedOptionBytes),
      moreFragments: error.quotedMoreFragments,
      fragmentOffset: error.quotedFragmentOffset,
    }),
    transport({ sourcePort: key.destinationPort, targetPort: key.sourcePort, protocol }, event),
  ];
}
