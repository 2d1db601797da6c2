// SPDX-License-Identifier: Apache-2.0
// Short ways to say which packet is meant. A packet is its layers, outermost first.

import type { Ipv4 } from "../../src/net/address.ts";
import type { Mac } from "../../src/net/mac.ts";
import { ethernet, ipv4, type LayerInit, payload, tcp, udp } from "../../src/net/packet.ts";
import { TCP_FLAG } from "../../src/net/protocol.ts";
import {
  CLIENT,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  NODE,
  OTHER_NODE,
  ROUTER_MAC,
  SERVICES,
  UPLINK_MAC,
} from "./cluster.ts";

export type Packet = readonly LayerInit[];
export type ServiceName = keyof typeof SERVICES;
type Fields<K extends LayerInit["kind"]> = Omit<Extract<LayerInit, { kind: K }>, "kind">;

export const SYN = TCP_FLAG.syn;
export const ACK = TCP_FLAG.ack;
export const PSH = TCP_FLAG.psh;
export const FIN = TCP_FLAG.fin | TCP_FLAG.ack;
export const RST = TCP_FLAG.rst;

/** The client's port unless said otherwise. */
export const CLIENT_PORT = 40_000;

/** As it comes from a client's router. */
export const FROM_ROUTER = ethernet({ source: ROUTER_MAC, target: UPLINK_MAC });

/** What a packet to a service may have besides the usual. */
export interface More {
  readonly ip?: Fields<"ipv4">;
  readonly tcp?: Fields<"tcp">;
  readonly udp?: Fields<"udp">;
  readonly payload?: number | string;
}

/** IPv4 and TCP of the client to an address and port. */
export function tcpTo(target: Ipv4, port: number, flags: number, more: More = {}): Packet {
  return [
    ipv4({ source: CLIENT, target, ttl: 60, id: 7, ...more.ip }),
    tcp({ sourcePort: CLIENT_PORT, targetPort: port, flags, ...more.tcp }),
    payload(more.payload ?? ""),
  ];
}

/** IPv4 and UDP of the client to an address and port. */
export function udpTo(target: Ipv4, port: number, more: More = {}): Packet {
  return [
    ipv4({ source: CLIENT, target, ttl: 60, id: 7, ...more.ip }),
    udp({ sourcePort: CLIENT_PORT, targetPort: port, ...more.udp }),
    payload(more.payload ?? "query"),
  ];
}

/** The client's TCP packet to a service. */
export function toService(name: ServiceName, flags: number, more: More = {}): Packet {
  return tcpTo(SERVICES[name].address, SERVICES[name].port, flags, more);
}

/** The client's UDP packet to a service. */
export function askService(name: ServiceName, more: More = {}): Packet {
  return udpTo(SERVICES[name].address, SERVICES[name].port, more);
}

/** A frame from the client's router. */
export function arriving(packet: Packet): Packet {
  return [FROM_ROUTER, ...packet];
}

/** A frame for the near pod, from its own node. */
export function intoNear(packet: Packet): Packet {
  return [ethernet({ source: NEAR_NODE_MAC, target: NEAR_MAC }), ...packet];
}

/** A frame between MACs. */
export function framed(source: Mac, target: Mac, packet: Packet): Packet {
  return [ethernet({ source, target }), ...packet];
}

/** The outer header that this node writes before a packet to a pod. */
export function ipipTo(target: Ipv4, packet: Packet, ip: Fields<"ipv4"> = {}): Packet {
  return [ipv4({ source: NODE, target, ttl: 64, id: 0, ...ip }), ...packet];
}

/** What another node sends to the near pod, at a hop by its TTL. */
export function ipipToNear(packet: Packet, ip: Fields<"ipv4"> = {}): Packet {
  return arriving([ipv4({ source: OTHER_NODE, target: NEAR, ttl: 64, ...ip }), ...packet]);
}
