// SPDX-License-Identifier: Apache-2.0
// *Answers*: what a node says to a sender itself, in the name of the address that was meant.

import { checksumFor, concat, get8, get16, get32, set8, set16, set32, sum16 } from "./bytes.ts";
import type { Family, IcmpHead, Ip } from "./family.ts";
import { drop, type Input, type Node, type Outcome } from "./node.ts";
import { PROTOCOL, SERVICE, TCP, type Verdict } from "./numbers.ts";
import { addressSum, changeHeader, ETHERNET, type L4, writeAddress } from "./packet.ts";
import type { Service } from "./tables.ts";

const TTL = 64;

/** One more answer of a service. */
function answer(
  node: Node,
  { frame, jiffies }: Input,
  { family, source }: Ip,
  made: { readonly service: number; readonly verdict: Verdict; readonly packet: Uint8Array },
): Outcome {
  const { service } = made;
  if (!family.isHost(source)) return drop("DROP_SOURCE", frame);
  const window = node.limitWindow(service, jiffies);
  window.told += 1;
  if (window.told > node.config.answerLimit) return drop("DROP_ANSWER_LIMIT", frame);
  const macs = concat(frame.subarray(6, 12), frame.subarray(0, 6), frame.subarray(12, ETHERNET));
  const way = { to: "where it came from" } as const;
  return { verdict: made.verdict, way, frame: concat(macs, made.packet) };
}

/** The header of an answer to a packet. */
function headerFor(ip: Ip, tos: number, protocol: number, carried: number): Uint8Array {
  const { family, source, destination } = ip;
  const ends = { source: destination, destination: source };
  return family.header({ ...ends, tos, ttl: TTL, protocol, carried, spread: 0 });
}

/** The sum of addresses, protocol and length, which checksums cover with what follows. */
function pseudoSum(header: Uint8Array, family: Family, protocol: number, length: number): number {
  return addressSum(header, { family, at: 0 }) + protocol + length;
}

function unreachable({ frame }: Input, ip: Ip, head: IcmpHead): Uint8Array {
  const { family } = ip;
  const quoted = frame.subarray(ip.at, ip.at + family.icmp.quoted(ip));
  const icmp = concat(new Uint8Array(8), quoted);
  const protocol = family.protocols.icmp;
  const header = headerFor(ip, family.icmp.tos, protocol, icmp.length);
  set8(icmp, 0, head.type);
  set8(icmp, 1, head.code);
  set32(icmp, 4, head.rest);
  const covered = family.icmp.covers ? pseudoSum(header, family, protocol, icmp.length) : 0;
  set16(icmp, 2, checksumFor(covered + sum16(icmp, 0, icmp.length)));
  return concat(header, icmp);
}

/** What the client of a packet gets that is too big; `mtu` is what it may send. */
export function fragNeeded(
  node: Node,
  input: Input,
  ip: Ip,
  { service, mtu }: { readonly service: number; readonly mtu: number },
): Outcome {
  const packet = unreachable(input, ip, ip.family.icmp.tooBig(mtu));
  return answer(node, input, ip, { service, verdict: "SENT_FRAG_NEEDED", packet });
}

/** A packet to a service without backends. */
export function reject(node: Node, input: Input, ip: Ip, l4: L4, service: Service): Outcome {
  if ((service.flags & SERVICE.reject) === 0) return drop("DROP_NO_BACKEND", input.frame);
  return tell(node, input, ip, l4, service.id);
}

/** Tells the sender that nobody is there. */
export function tell(node: Node, input: Input, ip: Ip, l4: L4, service: number): Outcome {
  // A packet in pieces is answered once.
  if ((l4.flags & TCP.rst) !== 0 || ip.later) return drop("DROP_NO_BACKEND", input.frame);
  const isTcp = ip.protocol === PROTOCOL.tcp;
  const packet = isTcp
    ? reset(input, ip, l4)
    : unreachable(input, ip, ip.family.icmp.portUnreachable);
  return answer(node, input, ip, { service, verdict: "SENT_REJECTED", packet });
}

/** RFC 9293, 3.10.7.1. */
function reset({ frame }: Input, ip: Ip, l4: L4): Uint8Array {
  const header = headerFor(ip, 0, PROTOCOL.tcp, 20);
  const tcp = new Uint8Array(20);
  set16(tcp, 0, l4.destinationPort);
  set16(tcp, 2, l4.sourcePort);
  if ((l4.flags & TCP.ack) !== 0) {
    set32(tcp, 4, get32(frame, l4.at + 8));
    set16(tcp, 12, 0x5000 | TCP.rst);
  } else {
    const payload = Math.max(0, ip.totalLength - ip.headerLength - l4.headerLength);
    const controls = [TCP.syn, TCP.fin].filter((flag) => (l4.flags & flag) !== 0).length;
    set32(tcp, 8, (get32(frame, l4.at + 4) + payload + controls) % 2 ** 32);
    set16(tcp, 12, 0x5000 | TCP.rst | TCP.ack);
  }
  const pseudo = pseudoSum(header, ip.family, PROTOCOL.tcp, tcp.length);
  set16(tcp, 16, checksumFor(pseudo + sum16(tcp, 0, tcp.length)));
  return concat(header, tcp);
}

/** The answer to a ping of a service's own address; undefined: it is none. */
export function echo(node: Node, input: Input, ip: Ip): Outcome | undefined {
  const { frame } = input;
  const { headerBytes, fields, icmp } = ip.family;
  const at = ip.at + headerBytes;
  if (ip.headerLength !== headerBytes || ip.fragment || ip.totalLength < headerBytes + 8) {
    return undefined;
  }
  if (get8(frame, at) !== icmp.echo || get8(frame, at + 1) !== 0) return undefined;
  if (!node.isServiceAddress(ip.destination)) return undefined;
  const sent = frame.slice();
  changeHeader(sent, ip, () => {
    set8(sent, ip.at + fields.ttl, TTL);
    writeAddress(sent, ip, "source", ip.destination);
    writeAddress(sent, ip, "destination", ip.source);
  });
  const before = get16(sent, at) + get16(sent, at + 2);
  set8(sent, at, icmp.echoReply);
  set16(sent, at + 2, checksumFor(get16(sent, at), before));
  return answer(node, input, ip, {
    service: 0,
    verdict: "SENT_ECHO",
    packet: sent.subarray(ETHERNET),
  });
}
