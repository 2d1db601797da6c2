// SPDX-License-Identifier: Apache-2.0
// Errors on their way, translated with what they quote.

import { wayOf } from "./balance.ts";
import type { Address, Ip } from "./family.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { intoPod, toOwn } from "./outbound.ts";
import { writeMacs } from "./packet.ts";
import { isOverLimit, type Quote, type Quoted, translateError } from "./quote.ts";
import type { Flow } from "./tables.ts";

/** What an error becomes, and where it goes. */
export interface Said {
  readonly flow: Flow;
  readonly quoted: Quoted;
  readonly sender: Address;
  readonly receiver: Address;
  /** Whether that is the node itself. */
  readonly isOwn?: boolean;
}

/** Into a pod of this node, to the node itself, or by the FIB. */
export function sendError(
  node: Node,
  input: Input,
  { icmp, quote, said }: { readonly icmp: Ip; readonly quote: Quote; readonly said: Said },
): Outcome {
  const { frame } = input;
  if (icmp.ttl <= 1) return pass("PASS_TTL", frame);
  const sent = frame.slice();
  const { flow, quoted, sender, receiver } = said;
  const ends = { source: sender, destination: receiver, ttl: icmp.ttl - 1 };
  translateError(sent, icmp, quote, { quoted, ends });
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
