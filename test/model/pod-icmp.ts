// SPDX-License-Identifier: Apache-2.0
// *ICMP of pods*: pings of services, and what pods have to say of packets that they can't take.

import { echo } from "./answer.ts";
import { wayOf } from "./balance.ts";
import { set8, set32 } from "./bytes.ts";
import { requestKey } from "./flow.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, FLOW } from "./numbers.ts";
import { intoPod, senderOf } from "./outbound.ts";
import { changeIpv4, type Ipv4, writeMacs } from "./packet.ts";
import { asSent, isOverLimit, type Quote, type Quoted, quoteOf, translateQuote } from "./relay.ts";
import type { Flow } from "./tables.ts";

/** What an error becomes, and where it goes. */
interface Said {
  readonly flow: Flow;
  readonly quoted: Quoted;
  readonly sender: number;
  readonly receiver: number;
}

export function icmpOfPod(node: Node, input: Input, icmp: Ipv4): Outcome {
  const { frame } = input;
  const pong = echo(node, input, icmp);
  if (pong !== undefined) return pong;
  const quote = quoteOf(frame, icmp);
  if (quote === undefined || senderOf(node, input, quote.ip) === undefined) {
    return pass("PASS_NOT_OURS", frame);
  }
  const said = aboutRequest(node, quote) ?? aboutReply(node, quote);
  if (said === undefined) return pass("PASS_NOT_OURS", frame);
  if (icmp.ttl <= 1) return pass("PASS_TTL", frame);
  const sent = frame.slice();
  translateQuote(sent, icmp, quote, said.quoted);
  const { flow, sender, receiver } = said;
  changeIpv4(sent, icmp, () => {
    set32(sent, icmp.at + 12, sender);
    set32(sent, icmp.at + 16, receiver);
    set8(sent, icmp.at + 8, icmp.ttl - 1);
  });
  const endpoint = node.tables.endpoints.get(receiver);
  if (endpoint !== undefined) {
    if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", frame);
    return intoPod("SENT_RELAYED", sent, endpoint);
  }
  const route = node.route(input, sender, receiver, icmp.totalLength);
  if (route === undefined) return drop("DROP_NO_ROUTE", frame);
  if (icmp.totalLength > route.mtu) return drop("DROP_TOO_BIG", frame);
  if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", frame);
  if (route.macs !== undefined) writeMacs(sent, route.macs.destination, route.macs.source);
  return { verdict: "SENT_RELAYED", way: wayOf(route), frame: sent };
}

/** 1. */
function aboutRequest(node: Node, quote: Quote): Said | undefined {
  const flow = node.flow({ ...requestKey(quote.ip, quote.l4), direction: DIRECTION.reply });
  if (flow === undefined || (flow.flags & FLOW.snat) !== 0) return undefined;
  return {
    flow,
    quoted: asSent(flow),
    sender: flow.serviceAddress,
    receiver: flow.client,
  };
}

/** 2. */
function aboutReply(node: Node, quote: Quote): Said | undefined {
  const flow = node.flow(requestKey(quote.ip, quote.l4));
  if (flow === undefined || (flow.flags & FLOW.outbound) === 0) return undefined;
  return {
    flow,
    quoted: {
      source: flow.pod,
      sourcePort: flow.podPort,
      destination: flow.aliasAddress,
      destinationPort: flow.aliasPort,
    },
    sender: flow.aliasAddress,
    receiver: flow.pod,
  };
}
