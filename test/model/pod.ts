// SPDX-License-Identifier: Apache-2.0
// `from_pod`: a pod's replies, and what else it sends.

import { segmentSize, wayOf } from "./balance.ts";
import { get8, get16 } from "./bytes.ts";
import type { Ip } from "./family.ts";
import { updateFromPod } from "./flow.ts";
import { parsePiece, teach } from "./fragment.ts";
import { type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, FLOW, PROTOCOL, TCP } from "./numbers.ts";
import { findInside, replyInside, request } from "./outbound.ts";
import { hasPorts, type L4, parseFrame, parseL4, translate, writeMacs } from "./packet.ts";
import { icmpOfPod } from "./pod-icmp.ts";

export function fromPod(node: Node, input: Input): Outcome {
  const { frame } = input;
  // 1.
  const ip = parseFrame(frame, node.family);
  if (ip?.protocol === node.family.protocols.icmp) return icmpOfPod(node, input, ip);
  if (ip === undefined || !hasPorts(ip.protocol)) return pass("PASS_NOT_OURS", frame);
  if (ip.fragment && !node.config.fragmentsTrack) return pass("PASS_NOT_OURS", frame);
  const l4 = ip.fragment ? parsePiece(node, input, ip) : parseL4(frame, ip);
  if (l4 === undefined) return pass("PASS_NOT_OURS", frame);
  const flow = node.flow({
    source: ip.source,
    destination: ip.destination,
    sourcePort: l4.sourcePort,
    destinationPort: l4.destinationPort,
    protocol: ip.protocol,
    direction: DIRECTION.reply,
  });
  if (flow === undefined && findInside(node, ip, l4) === undefined) {
    return pass("PASS_NOT_OURS", frame);
  }
  if (flow !== undefined && (flow.flags & FLOW.snat) !== 0) return pass("PASS_NOT_OURS", frame);
  teach(node, input, ip, l4);
  if (flow === undefined) return request(node, input, ip, l4);
  if ((flow.flags & FLOW.outbound) !== 0) return replyInside(node, input, ip, l4, flow);
  // 2.
  if (ip.ttl <= 1) return pass("PASS_TTL", frame);
  // 3.
  const bytes = segmentSize(ip, l4, input.gsoSize);
  const route = node.route(input, flow.serviceAddress, ip.destination, bytes);
  const fits = route === undefined || bytes <= route.mtu;
  if (!fits && ip.dontFragment) return pass("PASS_TOO_BIG", frame);
  // 4.
  const mss = lowerMss(node, frame, ip, l4);
  // 5.
  updateFromPod(node, input, ip, l4, flow);
  const sent = frame.slice();
  const to = {
    ...(mss === undefined ? {} : { mss }),
    source: flow.serviceAddress,
    sourcePort: flow.servicePort,
    destination: flow.client,
    destinationPort: flow.clientPort,
  };
  // 6.
  if (route === undefined || !fits) {
    translate(sent, ip, l4, to);
    return pass(fits ? "PASS_STACK" : "PASS_TOO_BIG", sent);
  }
  translate(sent, ip, l4, { ...to, ttl: ip.ttl - 1 });
  if (route.macs !== undefined) writeMacs(sent, route.macs.destination, route.macs.source);
  return { verdict: "SENT_REPLY", way: wayOf(route), frame: sent };
}

/** The place of an MSS option that has to be lowered, and its new value. */
export function lowerMss(
  node: Node,
  frame: Uint8Array,
  ip: Ip,
  l4: L4,
): { readonly at: number; readonly value: number } | undefined {
  const { clampMss, dispatch } = node.config;
  const most = clampMss - ip.family.mssLess(dispatch);
  if (clampMss === 0 || ip.protocol !== PROTOCOL.tcp || (l4.flags & TCP.syn) === 0)
    return undefined;
  const end = Math.min(l4.at + l4.headerLength, ip.at + ip.totalLength);
  for (let at = l4.at + 20; at < end; ) {
    const kind = get8(frame, at);
    if (kind === 0) return undefined;
    if (kind === 1) {
      at += 1;
      continue;
    }
    const length = at + 1 < end ? get8(frame, at + 1) : 0;
    if (length < 2 || at + length > end) return undefined;
    if (kind === 2 && length === 4) {
      return get16(frame, at + 2) > most ? { at: at + 2, value: most } : undefined;
    }
    at += length;
  }
  return undefined;
}
