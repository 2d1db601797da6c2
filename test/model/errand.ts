// SPDX-License-Identifier: Apache-2.0
// Errors on their way, translated with what they quote.

import { wayOf } from "./balance.ts";
import { set8, set32 } from "./bytes.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { intoPod, toOwn } from "./outbound.ts";
import { changeIpv4, type Ipv4, writeMacs } from "./packet.ts";
import { isOverLimit, type Quote, type Quoted, translateQuote } from "./quote.ts";
import type { Flow } from "./tables.ts";

/** What an error becomes, and where it goes. */
export interface Said {
  readonly flow: Flow;
  readonly quoted: Quoted;
  readonly sender: number;
  readonly receiver: number;
  /** Whether that is the node itself. */
  readonly isOwn?: boolean;
}

/** Into a pod of this node, to the node itself, or by the FIB. */
export function sendError(
  node: Node,
  input: Input,
  { icmp, quote, said }: { readonly icmp: Ipv4; readonly quote: Quote; readonly said: Said },
): Outcome {
  const { frame } = input;
  if (icmp.ttl <= 1) return pass("PASS_TTL", frame);
  const sent = frame.slice();
  translateQuote(sent, icmp, quote, said.quoted);
  const { flow, sender, receiver } = said;
  changeIpv4(sent, icmp, () => {
    set32(sent, icmp.at + 12, sender);
    set32(sent, icmp.at + 16, receiver);
    set8(sent, icmp.at + 8, icmp.ttl - 1);
  });
  if (said.isOwn === true) {
    if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", frame);
    return toOwn("SENT_RELAYED", node, input, { sent, service: sender, own: receiver });
  }
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
