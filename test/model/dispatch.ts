// SPDX-License-Identifier: Apache-2.0
// *Dispatch*: how a packet to a pod of another node says its service.

import type { Balanced } from "./balance.ts";
import { encapsulateAgain, peerOf } from "./by-node.ts";
import { concat, set16, set32 } from "./bytes.ts";
import type { Address, Family, Ip } from "./family.ts";
import { drop, type Node, type Outcome, pass } from "./node.ts";
import { DISPATCH, HOP_TTL, PROTOCOL } from "./numbers.ts";
import { addOption, eraseOption, optionBytes } from "./option.ts";
import { ETHERNET, encapsulate, translate } from "./packet.ts";
import type { Backend, Nexthop } from "./tables.ts";

export const GENEVE_PORT = 6081;

/** Words of four bytes behind the head of the option that says a service. */
export function geneveWords({ addressBytes }: Family): number {
  return (addressBytes + 4) / 4;
}

/** UDP, Geneve and our option. */
export function geneveHeaders(family: Family): number {
  return 8 + 8 + 4 + 4 * geneveWords(family);
}

/** All that is in front of the client's packet, and wasn't there. */
export function geneveBytes(family: Family): number {
  return family.headerBytes + geneveHeaders(family) + ETHERNET;
}

/** Pieces have no ports to tell a service by. */
function dispatchOf({ config }: Node, ip: Ip): number {
  return ip.fragment ? DISPATCH.ipip : config.dispatch;
}

export function dispatchBytes(node: Node, ip: Ip): number {
  const { family } = node;
  const dispatch = dispatchOf(node, ip);
  if (dispatch === DISPATCH.geneve) return geneveBytes(family);
  if (dispatch === DISPATCH.option) return optionBytes(family);
  return family.headerBytes * (node.config.dispatch === DISPATCH.geneve ? 2 : 1);
}

/** What the next hop has to lead to. */
export function dispatchTarget(
  node: Node,
  backend: Backend,
  nexthop: Nexthop | undefined,
): Address {
  const { nobody } = node.family;
  const peer = nexthop?.peer ?? nobody;
  return node.config.dispatch === DISPATCH.geneve && peer !== nobody ? peer : backend.address;
}

/** 9: the packet as it leaves but for its MACs, or what else becomes of it. */
export function dispatchPacket(
  node: Node,
  packet: Balanced,
  to: { readonly source: Address; readonly target: Address; readonly refuses: boolean },
): Uint8Array | Outcome {
  const { frame } = packet.input;
  const dispatch = dispatchOf(node, packet.ip);
  if (dispatch === DISPATCH.option) return withOption(node, packet, to.refuses);
  if (to.refuses) return drop("DROP_REWRITE", frame);
  if (dispatch === DISPATCH.geneve) return inGeneve(packet, to);
  const { source } = to;
  const pod = packet.backend.address;
  const outer = { source, destination: pod, ttl: HOP_TTL[0], spread: packet.hash.high };
  const sent = encapsulate(frame, packet.ip, outer);
  const by = peerOf(node, pod);
  return by === undefined ? sent : encapsulateAgain(node, sent, by);
}

function inGeneve(
  { input, ip, l4, hash, backend }: Balanced,
  { source, target }: { readonly source: Address; readonly target: Address },
): Uint8Array {
  const { family, tos, totalLength } = ip;
  const inner = input.frame.slice();
  translate(inner, ip, l4, { destination: backend.address, destinationPort: backend.port });
  const carried = totalLength + geneveBytes(family) - family.headerBytes;
  const spread = hash.high;
  const ends = { source, destination: target, ttl: HOP_TTL[0], spread };
  const outer = family.header({ ...ends, tos, protocol: PROTOCOL.udp, carried });
  const geneve = new Uint8Array(geneveHeaders(family));
  const words = geneveWords(family);
  set16(geneve, 0, 0x8000 | (spread & 0x7fff));
  set16(geneve, 2, GENEVE_PORT);
  set16(geneve, 4, carried);
  // Version 0, so many words of options, C; Ethernet; the network of the world.
  set16(geneve, 8, ((words + 1) << 8) | 0x40);
  set16(geneve, 10, 0x6558);
  set32(geneve, 12, 2 * 256);
  set32(geneve, 16, 0x014b8100 | words);
  family.setAddress(geneve, 20, ip.destination);
  set16(geneve, 20 + family.addressBytes, l4.destinationPort);
  return concat(input.frame.subarray(0, ETHERNET), outer, geneve, inner);
}

function withOption(node: Node, packet: Balanced, refuses: boolean): Uint8Array | Outcome {
  const { input, ip, l4, backend } = packet;
  const { frame } = input;
  if (ip.ttl <= 1) return pass("PASS_TTL", frame);
  if (ip.headerLength + optionBytes(ip.family) > ip.family.longestHeader) {
    return drop("DROP_OPTION_ROOM", frame);
  }
  if (refuses) return drop("DROP_REWRITE", frame);
  const sent = frame.slice();
  eraseOption(node, sent, ip);
  translate(sent, ip, l4, {
    destination: backend.address,
    destinationPort: backend.port,
    ttl: ip.ttl - 1,
  });
  return addOption(sent, ip, { address: ip.destination, port: l4.destinationPort });
}
