// SPDX-License-Identifier: Apache-2.0
// *ICMP of pods*: pings of services, and what pods have to say of packets that they can't take.

import { echo } from "./answer.ts";
import { type Said, sendError } from "./errand.ts";
import type { Ip } from "./family.ts";
import { requestKey } from "./flow.ts";
import { type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, FLOW } from "./numbers.ts";
import { senderOf } from "./outbound.ts";

import { asSent, type Quote, quoteOf } from "./quote.ts";

export function icmpOfPod(node: Node, input: Input, icmp: Ip): Outcome {
  const { frame } = input;
  const pong = echo(node, input, icmp);
  if (pong !== undefined) return pong;
  const quote = quoteOf(frame, icmp);
  if (quote === undefined || senderOf(node, input, quote.ip) === undefined) {
    return pass("PASS_NOT_OURS", frame);
  }
  const said = aboutRequest(node, quote) ?? aboutReply(node, quote);
  if (said === undefined) return pass("PASS_NOT_OURS", frame);
  return sendError(node, input, { icmp, quote, said });
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
    isOwn: (flow.flags & FLOW.node) !== 0,
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
    isOwn: false,
  };
}
