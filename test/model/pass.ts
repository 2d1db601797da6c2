// SPDX-License-Identifier: Apache-2.0
// *Pass*: to another owner of a flow's slot.

import { fragNeeded } from "./answer.ts";
import { segmentSize, wayOf } from "./balance.ts";
import { passageTo, sendBy } from "./by-node.ts";
import { set8 } from "./bytes.ts";
import type { Address, Ip } from "./family.ts";
import { type Arrival, updateFromClient } from "./flow.ts";
import { drop, type Node, type Note, type Outcome } from "./node.ts";
import { FINAL, HOP_TTL, KNOWN, NOTE_TTL } from "./numbers.ts";
import { changeHeader, writeAddress, writeMacs } from "./packet.ts";
import type { Flow, Service } from "./tables.ts";

/** To an owner that isn't known to have the flow. */
export function passOn(
  node: Node,
  arrival: Arrival,
  service: Service,
  owner: Address,
  hop: number,
): Outcome {
  if (overLimit(node, arrival, service)) return drop("DROP_PASS_LIMIT", arrival.frame);
  return send(node, arrival, { service: service.id, owner, hop });
}

/** To the owner that a REMOTE entry names. */
export function passToKnown(node: Node, arrival: Arrival, flow: Flow): Outcome {
  updateFromClient(node, arrival.input, arrival.ip, arrival.l4, flow);
  return send(node, arrival, { service: flow.service, owner: flow.pod, hop: KNOWN });
}

function overLimit(node: Node, { input }: Arrival, service: Service): boolean {
  const window = node.limitWindow(service.id, input.jiffies);
  window.passed += 1;
  return window.passed > node.config.passLimit;
}

/**
 * *Note*: what the node that passed the packet on is told, for an owner that is known. By the FIB,
 * and only if that knows the neighbour.
 */
export function noteFor(
  node: Node,
  { input, outer, ip, l4, hop }: Arrival,
  owner: Address,
): { note?: Note } {
  if (outer === undefined || hop === 0 || hop === KNOWN || input.gsoSize !== 0) return {};
  if (ip.fragment) return {};
  const { setAddress, addressBytes } = outer.family;
  if (l4.at + 4 + addressBytes > input.frame.length) return {};
  const source = node.config.nodeAddress;
  const route = node.route(input, source, outer.source);
  if (route?.macs === undefined) return {};
  const frame = input.frame.slice();
  setAddress(frame, l4.at + 4, owner);
  redirect(frame, outer, { source, destination: outer.source, ttl: NOTE_TTL });
  writeMacs(frame, route.macs.destination, route.macs.source);
  return { note: { ifindex: route.ifindex, frame } };
}

/** Gives an outer header another way. */
export function redirect(
  frame: Uint8Array,
  outer: Ip,
  to: { readonly source: Address; readonly destination: Address; readonly ttl: number },
): void {
  changeHeader(frame, outer, () => {
    set8(frame, outer.at + outer.family.fields.ttl, to.ttl);
    writeAddress(frame, outer, "source", to.source);
    writeAddress(frame, outer, "destination", to.destination);
  });
}

function send(
  node: Node,
  arrival: Arrival,
  { service, owner, hop }: { service: number; owner: Address; hop: number },
): Outcome {
  const { input, outer, ip, l4, hash } = arrival;
  const source = node.config.nodeAddress;
  const ttl = HOP_TTL[hop] ?? 0;
  const bytes = segmentSize(ip, l4, input.gsoSize);
  const passage = passageTo(node, input, owner, bytes);
  if (passage === undefined) return drop("DROP_NO_ROUTE", arrival.frame);
  const { route, extra } = passage;
  if (bytes + extra > route.mtu) {
    if (outer !== undefined) return drop("DROP_TOO_BIG", arrival.frame);
    const as = { ...input, frame: arrival.frame };
    return fragNeeded(node, as, ip, { service, mtu: route.mtu - extra });
  }
  const header = { source, destination: owner, ttl, spread: hash.high };
  const frame = sendBy(node, arrival, passage, header);
  if (frame === undefined) return drop("DROP_REWRITE", arrival.frame);
  return { verdict: hop === FINAL ? "SENT_FINAL" : "SENT_PASSED", way: wayOf(route), frame };
}
