// SPDX-License-Identifier: Apache-2.0

import { ANY_IPV4 } from "../../src/net/address.ts";
import { ethernet, icmp, ipv4, payload } from "../../src/net/packet.ts";
import { CLIENT, ROUTER_MAC, UPLINK_MAC } from "./cluster.ts";
import type { Packet } from "./frames.ts";

/** What the sender hears when a packet with an outer header is too big for an MTU. */
export function tooBig(packet: Packet, mtu: number): Packet {
  const [ip] = packet;
  if (ip?.kind !== "ipv4") throw new TypeError("a packet begins with IPv4");
  return [
    ethernet({ source: UPLINK_MAC, target: ROUTER_MAC }),
    ipv4({ source: ip.target ?? ANY_IPV4, target: ip.source ?? CLIENT, ttl: 64, dscp: 48, id: 0 }),
    icmp({ type: 3, code: 4, rest: mtu - 20 }),
    ...quoted(packet),
  ];
}

/** The sender's IPv4 header and eight bytes more. */
function quoted(packet: Packet): Packet {
  const [ip, l4] = packet;
  if (ip?.kind !== "ipv4" || l4?.kind !== "tcp") throw new TypeError("only TCP is quoted here");
  const ports = new DataView(new ArrayBuffer(8));
  ports.setUint16(0, l4.sourcePort ?? 0);
  ports.setUint16(2, l4.targetPort ?? 0);
  ports.setUint32(4, l4.sequence ?? 0);
  const payloadBytes = packet.at(2);
  const size = payloadBytes?.kind === "payload" ? (payloadBytes.bytes?.length ?? 0) : 0;
  const totalLength = 20 + (ip.options?.length ?? 0) + 20 + size;
  return [{ ...ip, protocol: 6, totalLength }, payload(new Uint8Array(ports.buffer))];
}
