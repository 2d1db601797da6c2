// SPDX-License-Identifier: Apache-2.0
// The frames that are measured: 64 bytes, as short as a TCP packet's frame gets on a wire; of IPv6
// 88, of which 74 are the packet's.

import { type Family, type Ipv4, parseIpv4 } from "../src/net/address.ts";
import { type Mac, ZERO_MAC } from "../src/net/mac.ts";
import {
  buildPacket,
  ethernet,
  ipv4,
  ipv6,
  type LayerInit,
  tcp,
  trailer,
  udp,
} from "../src/net/packet.ts";
import { TCP_FLAG } from "../src/net/protocol.ts";
import { CLIENT_MAC, NODE_MAC, SERVICE_PORT, wide } from "./world.ts";

/** A packet of an open connection, the first of one, a datagram, or one to nobody we know. */
export type FrameKind = "tcp_established" | "tcp_syn" | "udp" | "pass";

/** Of IPv4's frames. */
export const FRAME_BYTES = 64;
const WIDE_FRAME_BYTES = 88;
/** The first client; the low 12 bits are the flow's. */
export const CLIENTS = parseIpv4("10.1.0.0");
export const CLIENT_PORT = 0x4000;
/** No service has an address from here on. */
export const STRANGERS = parseIpv4("10.97.0.0");

const ETHERNET_BYTES = 14;
const HEADER_BYTES = { ipv4: 20, ipv6: 40 } as const;
const ETHERTYPE_IPV6 = 0x86dd;
/** Test runs go by it unless they are told another device. */
const LOOPBACK_MAC = ZERO_MAC;

/** Whether a frame is IPv6's. */
export function isWide(frame: Uint8Array): boolean {
  return ((frame[12] ?? 0) << 8) + (frame[13] ?? 0) === ETHERTYPE_IPV6;
}

interface Addresses {
  readonly source: Ipv4;
  readonly target: Ipv4;
}

function ip(family: Family, { source, target }: Addresses): LayerInit {
  if (family === "ipv4") return ipv4({ source, target });
  return ipv6({ source: wide(source), target: wide(target) });
}

interface Macs {
  readonly source: Mac;
  readonly target: Mac;
}

/** A frame between these, of IPv6 between their `wide` addresses, padded to its length. */
export function frameBetween(
  family: Family,
  macs: Macs,
  addresses: Addresses,
  l4: LayerInit,
): Uint8Array {
  const bytes = family === "ipv4" ? FRAME_BYTES : WIDE_FRAME_BYTES;
  const padding = trailer(new Uint8Array(bytes));
  return buildPacket(ethernet(macs), ip(family, addresses), l4, padding).slice(0, bytes);
}

/** A frame from the first client to `target`. */
export function frameTo(target: Ipv4, kind: FrameKind, family: Family = "ipv4"): Uint8Array {
  const ports = { sourcePort: CLIENT_PORT, targetPort: SERVICE_PORT };
  const flags = kind === "tcp_syn" ? TCP_FLAG.syn : TCP_FLAG.ack;
  const l4 = kind === "udp" ? udp(ports) : tcp({ ...ports, flags });
  const macs = { source: CLIENT_MAC, target: LOOPBACK_MAC };
  return frameBetween(family, macs, { source: CLIENTS, target }, l4);
}

/** What a pod answers to the first client. */
export function frameOfReply(pod: Ipv4, port: number, family: Family = "ipv4"): Uint8Array {
  const l4 = tcp({ sourcePort: port, targetPort: CLIENT_PORT, flags: TCP_FLAG.ack });
  const macs = { source: NODE_MAC, target: CLIENT_MAC };
  return frameBetween(family, macs, { source: pod, target: CLIENTS }, l4);
}

/** The same in IPIP, or IPv6 in IPv6, from `sender` to `pod`: longer by the outer header. */
export function frameInIpip(inner: Uint8Array, sender: Ipv4, pod: Ipv4): Uint8Array {
  const family: Family = isWide(inner) ? "ipv6" : "ipv4";
  const payload = inner.length - ETHERNET_BYTES;
  const header = HEADER_BYTES[family];
  const outer =
    family === "ipv4"
      ? ipv4({ source: sender, target: pod, protocol: 4, totalLength: payload + header })
      : ipv6({
          source: wide(sender),
          target: wide(pod),
          nextHeader: 41,
          payloadLength: payload,
        });
  const frame = new Uint8Array(inner.length + header);
  frame.set(buildPacket(ethernet({ source: CLIENT_MAC, target: LOOPBACK_MAC }), outer));
  frame.set(inner.subarray(ETHERNET_BYTES), ETHERNET_BYTES + header);
  return frame;
}
