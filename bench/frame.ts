// SPDX-License-Identifier: Apache-2.0
// The frames that are measured: 64 bytes, as short as a TCP packet's frame gets on a wire.

import { type Ipv4, parseIpv4 } from "../src/net/address.ts";
import { ZERO_MAC } from "../src/net/mac.ts";
import {
  buildPacket,
  ethernet,
  ipv4,
  type LayerInit,
  tcp,
  trailer,
  udp,
} from "../src/net/packet.ts";
import { TCP_FLAG } from "../src/net/protocol.ts";
import { CLIENT_MAC, NODE_MAC, SERVICE_PORT } from "./world.ts";

/** A packet of an open connection, the first of one, a datagram, or one to nobody we know. */
export type FrameKind = "tcp_established" | "tcp_syn" | "udp" | "pass";

export const FRAME_BYTES = 64;
/** The first client; the low 12 bits are the flow's. */
export const CLIENTS = parseIpv4("10.1.0.0");
export const CLIENT_PORT = 0x4000;
/** No service has an address from here on. */
export const STRANGERS = parseIpv4("10.97.0.0");

/** Test runs go by it unless they are told another device. */
const LOOPBACK_MAC = ZERO_MAC;
const PADDING = trailer(new Uint8Array(FRAME_BYTES));

function l4(kind: FrameKind, sourcePort: number): LayerInit {
  const ports = { sourcePort, targetPort: SERVICE_PORT };
  if (kind === "udp") return udp(ports);
  return tcp({ ...ports, flags: kind === "tcp_syn" ? TCP_FLAG.syn : TCP_FLAG.ack });
}

/** A frame from a client to `target`, with padding up to FRAME_BYTES. */
export function frameTo(
  target: Ipv4,
  kind: FrameKind,
  source: Ipv4 = CLIENTS,
  sourcePort: number = CLIENT_PORT,
): Uint8Array {
  const mac = ethernet({ source: CLIENT_MAC, target: LOOPBACK_MAC });
  const frame = buildPacket(mac, ipv4({ source, target }), l4(kind, sourcePort), PADDING);
  return frame.slice(0, FRAME_BYTES);
}

/** What a pod answers to the first client. */
export function frameOfReply(pod: Ipv4, port: number): Uint8Array {
  const mac = ethernet({ source: NODE_MAC, target: CLIENT_MAC });
  const ports = { sourcePort: port, targetPort: CLIENT_PORT };
  const l4 = tcp({ ...ports, flags: TCP_FLAG.ack });
  return buildPacket(mac, ipv4({ source: pod, target: CLIENTS }), l4, PADDING).slice(
    0,
    FRAME_BYTES,
  );
}

/** The same in IPIP from `sender` to `pod`; longer than FRAME_BYTES by the outer header. */
export function frameInIpip(inner: Uint8Array, sender: Ipv4, pod: Ipv4): Uint8Array {
  const outer = buildPacket(
    ethernet({ source: CLIENT_MAC, target: LOOPBACK_MAC }),
    ipv4({ source: sender, target: pod, protocol: 4, totalLength: inner.length - 14 + 20 }),
  );
  const frame = new Uint8Array(inner.length + 20);
  frame.set(outer);
  frame.set(inner.subarray(14), 34);
  return frame;
}
