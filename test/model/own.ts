// SPDX-License-Identifier: Apache-2.0
// `from_node`: the node itself as a client of services, and as the backend of one.

import { fragNeeded } from "./answer.ts";
import { segmentSize, wayOf } from "./balance.ts";
import { isItself, podAt } from "./endpoint.ts";
import type { Ip } from "./family.ts";
import { requestKey, updateFromClient, updateFromPod } from "./flow.ts";
import { parsePiece, teach } from "./fragment.ts";
import { drop, type Input, type Node, type Outcome, pass, type Route } from "./node.ts";
import { DIRECTION, FLOW } from "./numbers.ts";
import { findInside, flowOf, intoPod, type Request, toClient } from "./outbound.ts";
import { hasPorts, isSyn, type L4, parseFrame, parseL4, translate, writeMacs } from "./packet.ts";
import { lowerMss } from "./pod.ts";
import { asSent, isOverLimit, quoteOf, translateError } from "./quote.ts";
import type { Flow } from "./tables.ts";

export function fromNode(node: Node, input: Input): Outcome {
  const { frame } = input;
  // 1.
  const ip = parseFrame(frame, node.family);
  if (ip?.protocol === node.family.protocols.icmp) return icmpOfNode(node, input, ip);
  if (ip === undefined || !hasPorts(ip.protocol)) return pass("PASS_NOT_OURS", frame);
  if (ip.fragment) return piece(node, input, ip);
  const l4 = parseL4(frame, ip);
  if (l4 === undefined) return pass("PASS_NOT_OURS", frame);
  const answered = answeredBy(node, ip, l4);
  if (answered !== undefined) return answer(node, input, ip, l4, answered);
  // 3.
  if (!node.config.nodeClients) return pass("PASS_NOT_OURS", frame);
  const row = findInside(node, ip, l4);
  if (row === undefined) return pass("PASS_NOT_OURS", frame);
  const request = { input, ip, l4, row };
  const asker = { flags: FLOW.outbound | FLOW.node, netns: "own", forwards: false } as const;
  const flow = flowOf(node, request, asker);
  return "verdict" in flow ? flow : send(node, request, flow);
}

/** The flow that a packet of the node answers. */
function answeredBy(node: Node, ip: Ip, l4: L4): Flow | undefined {
  return node.flow({ ...requestKey(ip, l4), direction: DIRECTION.reply });
}

/** *ICMP of the node*. */
function icmpOfNode(node: Node, input: Input, icmp: Ip): Outcome {
  const { frame } = input;
  const quote = quoteOf(frame, icmp);
  const flow = quote === undefined ? undefined : answeredBy(node, quote.ip, quote.l4);
  if (quote === undefined || flow === undefined) return pass("PASS_NOT_OURS", frame);
  const isOutside = (flow.flags & (FLOW.snat | FLOW.outbound)) === 0;
  if (!isOutside || icmp.source !== flow.pod || !isItself(node, flow.pod)) {
    return pass("PASS_NOT_OURS", frame);
  }
  if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", frame);
  const sent = frame.slice();
  const ends = { source: flow.serviceAddress, destination: flow.client };
  translateError(sent, icmp, quote, { quoted: asSent(flow), ends });
  return { verdict: "SENT_RELAYED", way: { to: "kernel" }, frame: sent };
}

/** *Pieces of the node*. */
function piece(node: Node, input: Input, ip: Ip): Outcome {
  const l4 = node.config.fragmentsTrack ? parsePiece(node, input, ip) : undefined;
  const answered = l4 === undefined ? undefined : answeredBy(node, ip, l4);
  if (l4 === undefined || answered === undefined) return pass("PASS_NOT_OURS", input.frame);
  const outcome = answer(node, input, ip, l4, answered);
  if (outcome.verdict === "SENT_REPLY") teach(node, input, ip, l4);
  return outcome;
}

/** Both MACs of a frame that goes to the node itself are those of the device. */
function toItself(verdict: Outcome["verdict"], frame: Uint8Array): Outcome {
  frame.copyWithin(0, 6, 12);
  return { verdict, way: { to: "where it came from" }, frame };
}

/** 2. */
function answer(node: Node, input: Input, ip: Ip, l4: L4, flow: Flow): Outcome {
  const { frame, ifindex } = input;
  const has = (flag: number): boolean => (flow.flags & flag) !== 0;
  const isOwn = has(FLOW.node);
  const isOutside = !has(FLOW.outbound);
  const isDevice = node.tables.endpoints.get(flow.client)?.ifindex === ifindex;
  if (isOutside ? has(FLOW.snat) : !(isOwn || isDevice)) return pass("PASS_NOT_OURS", frame);
  const mss = isOutside ? lowerMss(node, frame, ip, l4) : undefined;
  updateFromPod(node, input, ip, l4, flow);
  const sent = frame.slice();
  translate(sent, ip, l4, { ...toClient(flow), ...(mss === undefined ? {} : { mss }) });
  return isOwn
    ? toItself("SENT_REPLY", sent)
    : { verdict: "SENT_REPLY", way: { to: "kernel" }, frame: sent };
}

/** 4 and 5. */
function send(node: Node, { input, ip, l4 }: Request, flow: Flow): Outcome {
  const { frame } = input;
  const bytes = segmentSize(ip, l4, input.gsoSize);
  const isOwn = flow.pod === flow.client;
  const endpoint = podAt(node, flow.pod);
  let route: Route | undefined;
  // 4.
  if (endpoint === undefined && !isOwn) {
    route = node.route(input, flow.aliasAddress, flow.pod, bytes);
    if (route === undefined) return drop("DROP_NO_ROUTE", frame);
    const { mtu } = route;
    if (bytes > mtu) return fragNeeded(node, input, ip, { service: flow.service, mtu });
  }
  // 5.
  updateFromClient(node, input, ip, l4, flow);
  const connections = isSyn(ip, l4) ? 1 : 0;
  node.count(flow.counter, { packets: 1, bytes: frame.length, connections });
  const sent = frame.slice();
  translate(sent, ip, l4, {
    source: flow.aliasAddress,
    sourcePort: flow.aliasPort,
    destination: flow.pod,
    destinationPort: flow.podPort,
  });
  if (isOwn) return toItself("SENT_OUTBOUND", sent);
  if (endpoint !== undefined) {
    const into = intoPod("SENT_OUTBOUND", sent, endpoint);
    return { ...into, way: { to: "device", ifindex: endpoint.ifindex } };
  }
  if (route === undefined) return drop("DROP_NO_ROUTE", frame);
  if (route.macs !== undefined) writeMacs(sent, route.macs.destination, route.macs.source);
  return { verdict: "SENT_OUTBOUND", way: wayOf(route), frame: sent };
}
