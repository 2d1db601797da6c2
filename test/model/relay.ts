// SPDX-License-Identifier: Apache-2.0
// *ICMP errors*: what routers have to say of replies, relayed to the pods that sent them.

import { backendOfSlot, slotFor, tupleOf } from "./affinity.ts";
import { serviceRow, wayOf } from "./balance.ts";
import { passageTo, sendBy } from "./by-node.ts";
import { concat } from "./bytes.ts";
import { give, podAt } from "./endpoint.ts";
import { type Said, sendError } from "./errand.ts";
import type { Address, Ip } from "./family.ts";
import { requestKey } from "./flow.ts";
import { hashOf } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, FLOW, HOP_TTL, KNOWN, LAST_HOP } from "./numbers.ts";
import { ETHERNET } from "./packet.ts";
import { asAnswered, asSent, isOverLimit, type Quote, quoteOf, translateError } from "./quote.ts";
import { type Flow, pairKey, type Service } from "./tables.ts";

/** An ICMP packet that came. */
export interface Told {
  readonly input: Input;
  /** The header that has to be stripped. */
  readonly outer: Ip | undefined;
  readonly icmp: Ip;
  readonly hop: number;
}

interface Relayed extends Told {
  readonly quote: Quote;
}

export function relay(node: Node, told: Told): Outcome {
  const { input, outer, hop } = told;
  const { frame } = input;
  // 1.
  const quote = quoteOf(frame, told.icmp);
  if (quote === undefined) {
    return outer === undefined ? pass("PASS_NOT_OURS", frame) : drop("DROP_INNER_PROTOCOL", frame);
  }
  const relayed = { ...told, quote };
  // 2.
  const flow = node.flow(requestKey(quote.ip, quote.l4));
  const has = (flag: number): boolean => flow !== undefined && (flow.flags & flag) !== 0;
  if (flow !== undefined && has(FLOW.snat)) {
    return outer === undefined
      ? sendError(node, input, { ...relayed, said: aboutReply(flow) })
      : drop("DROP_UNKNOWN_FLOW", frame);
  }
  if (flow !== undefined && has(FLOW.remote)) {
    if (hop > LAST_HOP) return drop("DROP_UNKNOWN_FLOW", frame);
    return toOwner(node, relayed, { service: flow.service, owner: flow.pod, hop: KNOWN });
  }
  if (flow !== undefined && !has(FLOW.reset)) return toPod(node, relayed, flow);
  const asked = flow === undefined ? requestOf(node, relayed) : undefined;
  if (asked !== undefined && (asked.flags & FLOW.snat) !== 0) {
    return sendError(node, input, { ...relayed, said: aboutRequest(asked) });
  }
  if (asked !== undefined) return toAsker(node, relayed, asked);
  return byService(node, relayed);
}

/** *Errors about SNAT*: to the pod, from this node. */
function aboutReply(flow: Flow): Said {
  return { flow, quoted: asAnswered(flow), sender: flow.aliasAddress, receiver: flow.pod };
}

/** *Errors about SNAT*: to the client, from the service. */
function aboutRequest(flow: Flow): Said {
  return { flow, quoted: asSent(flow), sender: flow.serviceAddress, receiver: flow.client };
}

/** 2: the flow of which what is quoted was sent to a backend, by a pod of this node or by SNAT. */
function requestOf(node: Node, { outer, quote }: Relayed): Flow | undefined {
  if (outer !== undefined) return undefined;
  const flow = node.flow({ ...requestKey(quote.ip, quote.l4), direction: DIRECTION.reply });
  return flow !== undefined && (flow.flags & (FLOW.outbound | FLOW.snat)) !== 0 ? flow : undefined;
}

/** 2: into the pod that sent the request which an error is about. */
function toAsker(node: Node, { input, icmp, quote }: Relayed, flow: Flow): Outcome {
  const endpoint = podAt(node, flow.client);
  if (endpoint === undefined && (flow.flags & FLOW.node) === 0) {
    return drop("DROP_ENDPOINT_GONE", input.frame);
  }
  if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", input.frame);
  const frame = input.frame.slice();
  const ends = {
    ...(icmp.source === flow.pod ? { source: flow.serviceAddress } : {}),
    destination: flow.client,
  };
  translateError(frame, icmp, quote, { quoted: asSent(flow), ends });
  return endpoint === undefined ? pass("PASS_STACK", frame) : give("SENT_RELAYED", frame, endpoint);
}

/** 3: to the owners of the flow's slot. */
function byService(node: Node, relayed: Relayed): Outcome {
  const { input, outer, hop, quote } = relayed;
  const { frame } = input;
  const row = node.findService(quote.ip, quote.l4, { inner: outer !== undefined });
  if (row === undefined) {
    return outer === undefined ? pass("PASS_NOT_OURS", frame) : drop("DROP_NO_SERVICE", frame);
  }
  const service = serviceRow(node, row);
  if (service.backendCount === 0) return drop("DROP_NO_BACKEND", frame);
  const hash = hashOf(tupleOf(quote.ip, quote.l4), node.config.hashSeed);
  const slot = slotFor(node, service, quote.ip, quote.l4, hash);
  const present = backendOfSlot(node, service, slot)?.address;
  if (present === undefined) return drop("DROP_TABLE", frame);
  if (outer === undefined && !node.tables.endpoints.has(present)) {
    return toOwner(node, relayed, { service: service.id, owner: present, hop: 0 });
  }
  if (hop >= LAST_HOP) return drop("DROP_UNKNOWN_FLOW", frame);
  const pod = outer?.destination ?? present;
  const owners = [present, ...formerOwners(node, service, slot)];
  const next = owners
    .slice(owners.indexOf(pod) + 1)
    .find(
      (owner) => owner !== node.family.nobody && owner !== pod && !node.tables.endpoints.has(owner),
    );
  if (next === undefined) return drop("DROP_UNKNOWN_FLOW", frame);
  return toOwner(node, relayed, { service: service.id, owner: next, hop: hop + 1 });
}

function formerOwners(node: Node, service: Service, slot: number): Address[] {
  const entry = node.tables.formerOwners.get(pairKey(service.id, slot)) ?? [];
  const end = entry.indexOf(node.family.nobody);
  return end < 0 ? entry : entry.slice(0, end);
}

/** 4. */
function toOwner(
  node: Node,
  { input, outer, icmp, quote }: Relayed,
  to: { readonly service: number; readonly owner: Address; readonly hop: number },
): Outcome {
  const came = input.frame;
  if (isOverLimit(node, input, to.service)) return drop("DROP_ANSWER_LIMIT", came);
  const source = node.config.nodeAddress;
  const passage = passageTo(node, input, to.owner, icmp.totalLength);
  if (passage === undefined) return drop("DROP_NO_ROUTE", came);
  const { route, extra } = passage;
  if (icmp.totalLength + extra > route.mtu) return drop("DROP_TOO_BIG", came);
  const { high: spread } = hashOf(tupleOf(quote.ip, quote.l4), node.config.hashSeed);
  const header = { source, destination: to.owner, ttl: HOP_TTL[to.hop] ?? 0, spread };
  const frame = sendBy(node, { input, frame: came, outer, ip: icmp }, passage, header);
  if (frame === undefined) return drop("DROP_REWRITE", came);
  return { verdict: "SENT_RELAYED", way: wayOf(route), frame };
}

/** 5. */
function toPod(node: Node, { input, outer, icmp, quote }: Relayed, flow: Flow): Outcome {
  const endpoint = node.tables.endpoints.get(flow.pod);
  if (endpoint === undefined) return drop("DROP_ENDPOINT_GONE", input.frame);
  if (isOverLimit(node, input, flow.service)) return drop("DROP_ANSWER_LIMIT", input.frame);
  if (outer !== undefined && node.around.refusesRoom(input)) {
    return drop("DROP_REWRITE", input.frame);
  }
  const frame = input.frame.slice();
  const ends = { destination: flow.pod };
  translateError(frame, icmp, quote, { quoted: asAnswered(flow), ends });
  const sent =
    outer === undefined ? frame : concat(frame.subarray(0, ETHERNET), frame.subarray(icmp.at));
  return give("SENT_RELAYED", sent, endpoint);
}
