// SPDX-License-Identifier: Apache-2.0
// Packets of pods of this node as clients, and what becomes of them.

import { type Ipv4, parseIpv4 } from "../../src/net/address.ts";
import { buildPacket, icmp, ipv4, payload, tcp, udp } from "../../src/net/packet.ts";
import { DIRECT_SOCKETS, nodeMac, podMac } from "../differential/places.ts";
import { flowHash } from "../model/hash.ts";
import {
  GATEWAY_MAC,
  IDLE,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  SERVICES,
  UPLINK_MAC,
} from "./cluster.ts";
import { CLIENT_PORT, framed, type More, type Packet, type ServiceName, SYN } from "./frames.ts";
import type { Coming } from "./row.ts";

/** Number of the pod that asks, which is a backend of nothing, and of the near one. */
export const ASKER = 2;
export const HAIRPIN = 0;
export const IDLE_MAC = podMac(ASKER);
export const IDLE_NODE_MAC = nodeMac(ASKER);
/** Who a pod is that talks to itself. */
export const ITSELF = parseIpv4("169.254.42.1");
export const TTL = 64;
export const HASH_SEED = 42n;
export const ALL_CANDIDATES = 8;
export const DIRECT = DIRECT_SOCKETS[0].port;
export const FLOWS = ["request 1 outbound", "reply 0 outbound"] as const;
const PORT_UNREACHABLE = { type: 3, code: 3, rest: 0 } as const;
export const DF = { dontFragment: true } as const;

/** Addresses and ports of both ends. */
export interface Ends {
  readonly source: Ipv4;
  readonly target: Ipv4;
  readonly sourcePort?: number;
  readonly targetPort: number;
}

export function tcpBetween({ source, target, sourcePort = CLIENT_PORT, targetPort }: Ends) {
  return (flags: number, more: More = {}): Packet => [
    ipv4({ source, target, ttl: TTL, id: 5, ...more.ip }),
    tcp({ sourcePort, targetPort, flags, ...more.tcp }),
    payload(more.payload ?? ""),
  ];
}

export function udpBetween({ source, target, sourcePort = CLIENT_PORT, targetPort }: Ends) {
  return (more: More = {}): Packet => [
    ipv4({ source, target, ttl: TTL, id: 5, ...more.ip }),
    udp({ sourcePort, targetPort, ...more.udp }),
    payload(more.payload ?? "query"),
  ];
}

/** Ports of the idle pod's for a flow to a service, after its own. */
export function candidates(name: ServiceName, clientPort = CLIENT_PORT): number[] {
  const { address: service, port: servicePort } = SERVICES[name];
  const flow = { client: IDLE, clientPort, service, servicePort, protocol: 6 };
  const { low } = flowHash(flow, HASH_SEED);
  return Array.from({ length: ALL_CANDIDATES }, (_, i) => 32_768 | ((low + i * 4099) & 0x7fff));
}

export const at = (name: ServiceName) => ({
  target: SERVICES[name].address,
  targetPort: SERVICES[name].port,
});
export const fromService = (name: ServiceName, target: Ipv4) => ({
  source: SERVICES[name].address,
  sourcePort: SERVICES[name].port,
  target,
  targetPort: CLIENT_PORT,
});
export const forwarded = (more: More = {}): More => ({ ...more, ip: { ttl: TTL - 1, ...more.ip } });

export const fromIdle = (packet: Packet): Coming => ({
  packet: framed(IDLE_MAC, IDLE_NODE_MAC, packet),
  from: ASKER,
});
export const fromNear = (packet: Packet): Coming => ({
  packet: framed(NEAR_MAC, NEAR_NODE_MAC, packet),
  from: HAIRPIN,
});
export const intoIdle = (packet: Packet): Packet => framed(IDLE_NODE_MAC, IDLE_MAC, packet);
export const toGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
export const inPod = (coming: Coming) => ({ ...coming, place: "pod" as const });

/** What the idle pod sends to a service, and what a backend gets of it. */
export const ask = (name: ServiceName) => tcpBetween({ source: IDLE, ...at(name) });
export const asked = (target: Ipv4, sourcePort = CLIENT_PORT) =>
  tcpBetween({ source: IDLE, target, sourcePort, targetPort: 8080 });
export const query = (name: ServiceName) => udpBetween({ source: IDLE, ...at(name) });
export const queried = (target: Ipv4) => udpBetween({ source: IDLE, target, targetPort: 5353 });
/** The same of the near pod, which asks itself. */
export const askItself = tcpBetween({ source: NEAR, ...at("near") });
export const askedItself = tcpBetween({ source: ITSELF, target: NEAR, targetPort: 8080 });

export const syn = (name: ServiceName): Coming => fromIdle(ask(name)(SYN));
export const opened = (name: ServiceName) => [inPod(syn(name))];

/** An IPv4 header and eight bytes more of what a client sent. */
export function quoted(packet: Packet): Packet {
  const [ip, l4, rest] = packet;
  if (ip?.kind !== "ipv4" || (l4?.kind !== "tcp" && l4?.kind !== "udp"))
    throw new TypeError("neither TCP nor UDP");
  const size = rest?.kind === "payload" ? (rest.bytes?.length ?? 0) : 0;
  const view = new DataView(new ArrayBuffer(8));
  view.setUint16(0, l4.sourcePort ?? 0);
  view.setUint16(2, l4.targetPort ?? 0);
  return [
    { ...ip, protocol: 6, totalLength: 20 + 20 + size },
    payload(new Uint8Array(view.buffer)),
  ];
}

/** A packet that somebody can't take, whole, so that its checksum can be judged. */
export interface About {
  readonly source: Ipv4;
  readonly sourcePort: number;
  readonly target: Ipv4;
  readonly targetPort: number;
  readonly protocol?: "TCP" | "UDP";
  readonly bytes?: number;
}

export interface Said {
  readonly source: Ipv4;
  readonly ttl?: number;
  readonly message?: { readonly type: number; readonly code: number; readonly rest: number };
}

/** The ICMP error to who sent a packet. */
export function error(
  { source, ttl = TTL, message = PORT_UNREACHABLE }: Said,
  about: About,
): Packet {
  const { sourcePort, targetPort, protocol = "UDP", bytes = 1500 } = about;
  const ports = { sourcePort, targetPort };
  const quoted = buildPacket(
    ipv4({ source: about.source, target: about.target, ttl: 63, id: 5 }),
    protocol === "UDP" ? udp(ports) : tcp({ ...ports, sequence: 77 }),
    payload("a question"),
  );
  return [
    ipv4({ source, target: about.source, ttl, dscp: 48, id: 3 }),
    icmp(message),
    payload(quoted.slice(0, bytes)),
  ];
}
