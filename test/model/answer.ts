// SPDX-License-Identifier: Apache-2.0
// *Answers*: what a node says to a sender itself, in the name of the address that was meant.

import { checksumFor, concat, get8, get16, get32, set8, set16, set32, sum16 } from "./bytes.ts";
import { drop, type Input, type Node, type Outcome } from "./node.ts";
import { PROTOCOL, SERVICE, TCP, type Verdict } from "./numbers.ts";
import { changeIpv4, ETHERNET, type Ipv4, type L4, writeIpv4Checksum } from "./packet.ts";
import type { Service } from "./tables.ts";

const TOS = 0xc0;
const TTL = 64;
const ECHO = 8;

/** One more answer of a service. */
function answer(
  node: Node,
  { frame, jiffies }: Input,
  service: number,
  made: { readonly verdict: Verdict; readonly packet: Uint8Array },
): Outcome {
  const window = node.limitWindow(service, jiffies);
  window.told += 1;
  if (window.told > node.config.answerLimit) return drop("DROP_ANSWER_LIMIT", frame);
  const macs = concat(frame.subarray(6, 12), frame.subarray(0, 6), frame.subarray(12, ETHERNET));
  const way = { to: "where it came from" } as const;
  return { verdict: made.verdict, way, frame: concat(macs, made.packet) };
}

/** The IPv4 header of an answer to a packet. */
function headerFor(ip: Ipv4, tos: number, protocol: number, bytes: number): Uint8Array {
  const header = new Uint8Array(20);
  set8(header, 0, 0x45);
  set8(header, 1, tos);
  set16(header, 2, 20 + bytes);
  set16(header, 6, 0x4000);
  set8(header, 8, TTL);
  set8(header, 9, protocol);
  set32(header, 12, ip.destination);
  set32(header, 16, ip.source);
  writeIpv4Checksum(header, 0);
  return header;
}

function unreachable({ frame }: Input, ip: Ipv4, code: number, mtu: number): Uint8Array {
  const quoted = frame.subarray(ip.at, ip.at + ip.headerLength + 8);
  const icmp = concat(new Uint8Array(8), quoted);
  set8(icmp, 0, 3);
  set8(icmp, 1, code);
  set16(icmp, 6, mtu);
  set16(icmp, 2, checksumFor(sum16(icmp, 0, icmp.length)));
  return concat(headerFor(ip, TOS, PROTOCOL.icmp, icmp.length), icmp);
}

/** What the client of a packet gets that is too big; `mtu` is what it may send. */
export function fragNeeded(
  node: Node,
  input: Input,
  ip: Ipv4,
  { service, mtu }: { readonly service: number; readonly mtu: number },
): Outcome {
  const packet = unreachable(input, ip, 4, mtu);
  return answer(node, input, service, { verdict: "SENT_FRAG_NEEDED", packet });
}

/** A packet to a service without backends. */
export function reject(node: Node, input: Input, ip: Ipv4, l4: L4, service: Service): Outcome {
  if ((service.flags & SERVICE.reject) === 0) return drop("DROP_NO_BACKEND", input.frame);
  return tell(node, input, ip, l4, service.id);
}

/** Tells the sender that nobody is there. */
export function tell(node: Node, input: Input, ip: Ipv4, l4: L4, service: number): Outcome {
  if ((l4.flags & TCP.rst) !== 0) return drop("DROP_NO_BACKEND", input.frame);
  const isTcp = ip.protocol === PROTOCOL.tcp;
  const packet = isTcp ? reset(input, ip, l4) : unreachable(input, ip, 3, 0);
  return answer(node, input, service, { verdict: "SENT_REJECTED", packet });
}

/** RFC 9293, 3.10.7.1. */
function reset({ frame }: Input, ip: Ipv4, l4: L4): Uint8Array {
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
  const pseudo = sum16(header, 12, 20) + PROTOCOL.tcp + tcp.length;
  set16(tcp, 16, checksumFor(pseudo + sum16(tcp, 0, tcp.length)));
  return concat(header, tcp);
}

/** The answer to a ping of a service's own address; undefined: it is none. */
export function echo(node: Node, input: Input, ip: Ipv4): Outcome | undefined {
  const { frame } = input;
  const at = ip.at + 20;
  if (ip.headerLength !== 20 || ip.fragment || ip.totalLength < 28) return undefined;
  if (get8(frame, at) !== ECHO || get8(frame, at + 1) !== 0) return undefined;
  if (!node.isServiceAddress(ip.destination)) return undefined;
  const sent = frame.slice();
  changeIpv4(sent, ip, () => {
    set8(sent, ip.at + 8, TTL);
    set32(sent, ip.at + 12, ip.destination);
    set32(sent, ip.at + 16, ip.source);
  });
  const before = get16(sent, at) + get16(sent, at + 2);
  set8(sent, at, 0);
  set16(sent, at + 2, checksumFor(get16(sent, at), before));
  return answer(node, input, 0, { verdict: "SENT_ECHO", packet: sent.subarray(ETHERNET) });
}
