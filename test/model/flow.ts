// SPDX-License-Identifier: Apache-2.0
// Entries of flows: their keys, their updates, and the last steps to a pod.

import { give } from "./endpoint.ts";
import type { Ip } from "./family.ts";
import type { FlowHash } from "./hash.ts";
import { bytesOf, type Input, type Node, type Outcome } from "./node.ts";
import { DIRECTION, FLOW, PROTOCOL, TCP } from "./numbers.ts";
import { isConnected, isSyn, type L4 } from "./packet.ts";
import type { Endpoint, Flow, FlowKey } from "./tables.ts";

/** A client's packet on its way to a pod. */
export interface Arrival {
  readonly input: Input;
  /** The frame as it is by now. */
  readonly frame: Uint8Array;
  /** The header that has to be stripped. */
  readonly outer: Ip | undefined;
  /** The client's packet, inside the outer header if there is one. */
  readonly ip: Ip;
  readonly l4: L4;
  readonly hash: FlowHash;
  readonly hop: number;
  /** A header that is gone already said its service. */
  readonly told: boolean;
  /** What the client's packet has once it is stripped. */
  readonly tos: number;
}

export function requestKey(ip: Ip, l4: L4): FlowKey {
  return {
    source: ip.source,
    destination: ip.destination,
    sourcePort: l4.sourcePort,
    destinationPort: l4.destinationPort,
    protocol: ip.protocol,
    direction: DIRECTION.request,
  };
}

/** The other key of a flow, from either of its entries. */
export function requestKeyOf(flow: Flow, protocol: number): FlowKey {
  return {
    source: flow.client,
    destination: flow.serviceAddress,
    sourcePort: flow.clientPort,
    destinationPort: flow.servicePort,
    protocol,
    direction: DIRECTION.request,
  };
}

export function replyKeyOf(flow: Flow, protocol: number): FlowKey {
  return {
    source: flow.pod,
    destination: flow.aliasAddress,
    sourcePort: flow.podPort,
    destinationPort: flow.aliasPort,
    protocol,
    direction: DIRECTION.reply,
  };
}

/** RESET, or FIN from both sides. */
function isClosed(flow: Flow): boolean {
  const bothFins = FLOW.finClient | FLOW.finPod;
  return (flow.flags & FLOW.reset) !== 0 || (flow.flags & bothFins) === bothFins;
}

/** Whether a packet is none of the flow's any more, which is over. */
export function isPast(flow: Flow, ip: Ip, l4: L4): boolean {
  return (flow.flags & FLOW.reset) !== 0 || (isSyn(ip, l4) && isClosed(flow));
}

/** Removes both entries of a flow; its REPLY key may be another flow's by now. */
export function forget(node: Node, flow: Flow, protocol: number): void {
  const reply = replyKeyOf(flow, protocol);
  const there = node.flow(reply);
  node.remove(requestKeyOf(flow, protocol));
  if (there !== undefined && isSameFlow(there, flow)) node.remove(reply);
}

function isSameFlow(one: Flow, other: Flow): boolean {
  return (
    one.client === other.client &&
    one.serviceAddress === other.serviceAddress &&
    one.servicePort === other.servicePort &&
    one.clientPort === other.clientPort
  );
}

/** Whether a flow may have its REPLY key; who had it and is over is forgotten. */
export function getsReplyKey(node: Node, flow: Flow, protocol: number): boolean {
  const there = node.flow(replyKeyOf(flow, protocol));
  if (there === undefined || isSameFlow(there, flow)) return true;
  if (!isClosed(there)) return false;
  forget(node, there, protocol);
  return true;
}

/** What every packet does to the entry that it met. */
export function touch(flow: Flow, input: Input): void {
  flow.seen = input.jiffies;
  flow.packets += 1;
  flow.bytes += bytesOf(input);
}

/** The flags for a FIN of a side, and for an RST. */
function endOf(tcpFlags: number, fin: number): number {
  return ((tcpFlags & TCP.fin) !== 0 ? fin : 0) | ((tcpFlags & TCP.rst) !== 0 ? FLOW.reset : 0);
}

/** Sets flags in both entries; the other one isn't looked for when this one has them already. */
function setBoth(node: Node, flow: Flow, protocol: number, flags: number): void {
  if ((flow.flags & flags) === flags) return;
  flow.flags |= flags;
  for (const key of [requestKeyOf(flow, protocol), replyKeyOf(flow, protocol)]) {
    const entry = node.flow(key);
    if (entry !== undefined) entry.flags |= flags;
  }
}

/** CONFIRMED by a packet of the client: it goes on after the pod has answered. */
function confirmedBy(flow: Flow, ip: Ip, l4: L4): number {
  const goesOn = isConnected(ip) && !isSyn(ip, l4) && (flow.flags & FLOW.replied) !== 0;
  return goesOn ? FLOW.confirmed : 0;
}

/** *Update* by a packet of the client; `flow` is the entry that it met. */
export function updateFromClient(node: Node, input: Input, ip: Ip, l4: L4, flow: Flow): void {
  touch(flow, input);
  flow.flags |= confirmedBy(flow, ip, l4);
  setBoth(node, flow, ip.protocol, endOf(l4.flags, FLOW.finClient));
}

/** *Update* by a packet of the client that says nothing of its service; `flow`: the REPLY entry. */
export function updateFromPlain(node: Node, input: Input, ip: Ip, l4: L4, flow: Flow): void {
  touch(flow, input);
  const flags = confirmedBy(flow, ip, l4) | endOf(l4.flags, FLOW.finClient);
  setBoth(node, flow, ip.protocol, flags);
}

/** *Update* by a packet of the pod; `flow` is the REPLY entry. */
export function updateFromPod(node: Node, input: Input, ip: Ip, l4: L4, flow: Flow): void {
  touch(flow, input);
  const isTcp = ip.protocol === PROTOCOL.tcp;
  const confirmed = isTcp && (l4.flags & (TCP.syn | TCP.rst)) === 0 ? FLOW.confirmed : 0;
  const flags = FLOW.replied | confirmed | endOf(l4.flags, FLOW.finPod);
  setBoth(node, flow, ip.protocol, flags);
}

/** The last step of *into the pod*, with a frame that has all but its MACs. */
export function sendToPod(frame: Uint8Array, endpoint: Endpoint): Outcome {
  return give("SENT_POD", frame, endpoint);
}
