// SPDX-License-Identifier: Apache-2.0
// *Requests of pods* and *replies to pods of this node*: pods of this node as clients.

import { chooseBackend, drawSlot, tupleOf } from "./affinity.ts";
import { fragNeeded, tell } from "./answer.ts";
import { segmentSize, serviceRow, wayOf } from "./balance.ts";
import { give, podAt } from "./endpoint.ts";
import type { Address, Ip } from "./family.ts";
import {
  forget,
  getsReplyKey,
  isPast,
  replyKeyOf,
  requestKey,
  updateFromClient,
  updateFromPod,
} from "./flow.ts";
import { hashOf } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass, type Route } from "./node.ts";
import { FLOW, KIND, PROTOCOL } from "./numbers.ts";
import { beginsNothing, isConnected, isSyn, type L4, translate, writeMacs } from "./packet.ts";
import type { Backend, Endpoint, Flow, Service } from "./tables.ts";

const CANDIDATES = 8;

/** A packet of a pod of this node, or of the node itself, to a service. */
export interface Request {
  readonly input: Input;
  readonly ip: Ip;
  readonly l4: L4;
  /** Of the service. */
  readonly row: number;
}

interface ToService extends Request {
  readonly service: Service;
}

/** Who sends it. */
export interface Asker {
  /** The flags of its flows. */
  readonly flags: number;
  /** Where its sockets are, if that is known. */
  readonly netns: number | "own" | undefined;
  /** Whether its packets are forwarded here, so that their time to live counts. */
  readonly forwards: boolean;
}

/** The pod that a packet is from; undefined: its device is another one's. */
export function senderOf(node: Node, { ifindex }: Input, ip: Ip): Endpoint | undefined {
  const endpoint = node.tables.endpoints.get(ip.source);
  return endpoint?.ifindex === ifindex ? endpoint : undefined;
}

/** The row that whoever is inside means by an address and port; it may be beyond the table. */
export function findInside(node: Node, ip: Ip, l4: L4): number | undefined {
  const at = (address: Address, kind: number): number | undefined =>
    node.frontend(address, l4.destinationPort, ip.protocol, kind)?.service;
  const row = at(ip.destination, KIND.internal) ?? at(ip.destination, KIND.service);
  const { nodePortMin, nodePortMax } = node.config;
  const { nobody } = node.family;
  const port = l4.destinationPort;
  const isOfNode = node.frontend(ip.destination, 0, 0, KIND.node) !== undefined;
  const mayBeNodePort = isOfNode && port >= nodePortMin && port <= nodePortMax;
  return (
    row ?? (mayBeNodePort ? (at(nobody, KIND.internal) ?? at(nobody, KIND.nodePort)) : undefined)
  );
}

export function request(node: Node, input: Input, ip: Ip, l4: L4): Outcome {
  const { frame } = input;
  // 1.
  const row = findInside(node, ip, l4);
  // 2.
  const sender = senderOf(node, input, ip);
  if (row === undefined || sender === undefined) return pass("PASS_NOT_OURS", frame);
  const request = { input, ip, l4, row };
  const netns = sender.netns < 0 ? undefined : sender.netns;
  const flow = flowOf(node, request, { flags: FLOW.outbound, netns, forwards: true });
  return "verdict" in flow ? flow : send(node, request, flow);
}

/** 3 to 5: the flow of a packet, or what becomes of it. */
export function flowOf(node: Node, request: Request, asker: Asker): Flow | Outcome {
  const { input, ip, l4, row } = request;
  const { frame } = input;
  // 3.
  const ends = asker.forwards && ip.ttl <= 1;
  const known = node.flow(requestKey(ip, l4));
  if (known !== undefined && (known.flags & FLOW.outbound) !== 0 && !isPast(known, ip, l4)) {
    return ends ? pass("PASS_TTL", frame) : known;
  }
  if (row >= node.limits.services) return pass("PASS_NOT_OURS", frame);
  if (ends) return pass("PASS_TTL", frame);
  if (known !== undefined) forget(node, known, ip.protocol);
  return open(node, { ...request, service: serviceRow(node, row) }, asker);
}

/** 4 and 5: makes a flow's two entries and gives the REQUEST entry, or says why it can't be. */
function open(node: Node, request: ToService, asker: Asker): Flow | Outcome {
  const { input, ip, l4, service } = request;
  const { frame } = input;
  // 4.
  if (service.backendCount === 0) return tell(node, input, ip, l4, service.id);
  if (beginsNothing(ip, l4)) return drop("DROP_UNKNOWN_FLOW", frame);
  const hash = hashOf(tupleOf(ip, l4), node.config.hashSeed);
  const slot = drawSlot(node, service, request, hash);
  const backend = chooseBackend(node, service, request, slot);
  if (backend === undefined) return drop("DROP_TABLE", frame);
  // 5.
  const ports = [l4.sourcePort];
  const others = ip.protocol === PROTOCOL.sctp ? 0 : CANDIDATES;
  for (let i = 0; i < others; i++) ports.push(32768 | ((hash.low + i * 4099) & 0x7fff));
  for (const port of ports) {
    const flow = newFlow(request, backend, port, asker.flags);
    if (!isFree(node, flow, ip.protocol, asker)) continue;
    const replyKey = replyKeyOf(flow, ip.protocol);
    if (!node.store(replyKey, { ...flow })) return drop("DROP_CONNTRACK_FULL", frame);
    if (!node.store(requestKey(ip, l4), flow)) {
      node.remove(replyKey);
      return drop("DROP_CONNTRACK_FULL", frame);
    }
    if (!isConnected(ip)) node.count(backend.counter, { connections: 1 });
    return flow;
  }
  return drop("DROP_PORT_COLLISION", frame);
}

/** Whether a flow may have its port; who had it and is over is forgotten. */
function isFree(node: Node, flow: Flow, protocol: number, { netns }: Asker): boolean {
  const reply = replyKeyOf(flow, protocol);
  const asksSockets = node.config.socketLookup && protocol !== PROTOCOL.sctp;
  if (flow.client !== flow.pod && asksSockets && netns !== undefined) {
    const found = node.around.socket({ netns, ...reply });
    if (found === "other") return false;
  }
  return getsReplyKey(node, flow, protocol);
}

function newFlow(
  { input, ip, l4, service }: ToService,
  backend: Backend,
  aliasPort: number,
  flags: number,
): Flow {
  return {
    client: ip.source,
    serviceAddress: ip.destination,
    pod: backend.address,
    clientPort: l4.sourcePort,
    servicePort: l4.destinationPort,
    podPort: backend.port,
    aliasAddress: backend.address === ip.source ? ip.family.itself : ip.source,
    aliasPort,
    service: service.id,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: backend.counter,
    created: input.jiffies,
    seen: input.jiffies,
    flags,
    packets: 0,
    bytes: 0,
  };
}

/** Steps 6 to 8. */
function send(node: Node, { input, ip, l4 }: Request, flow: Flow): Outcome {
  const { frame } = input;
  // 6.
  const bytes = segmentSize(ip, l4, input.gsoSize);
  const endpoint = podAt(node, flow.pod);
  let route: Route | undefined;
  if (endpoint === undefined) route = node.route(input, flow.aliasAddress, flow.pod, bytes);
  const fits = route === undefined || bytes <= route.mtu;
  if (!fits && ip.dontFragment) {
    return fragNeeded(node, input, ip, { service: flow.service, mtu: route?.mtu ?? 0 });
  }
  // 7.
  updateFromClient(node, input, ip, l4, flow);
  const sent = frame.slice();
  const to = {
    source: flow.aliasAddress,
    sourcePort: flow.aliasPort,
    destination: flow.pod,
    destinationPort: flow.podPort,
  };
  const connections = isSyn(ip, l4) ? 1 : 0;
  node.count(flow.counter, { packets: 1, bytes: frame.length, connections });
  // 8.
  if (endpoint !== undefined) {
    translate(sent, ip, l4, { ...to, ttl: ip.ttl - 1 });
    return intoPod("SENT_OUTBOUND", sent, endpoint);
  }
  if (route === undefined || !fits) {
    translate(sent, ip, l4, to);
    return pass(fits ? "PASS_STACK" : "PASS_TOO_BIG", sent);
  }
  translate(sent, ip, l4, { ...to, ttl: ip.ttl - 1 });
  if (route.macs !== undefined) writeMacs(sent, route.macs.destination, route.macs.source);
  return { verdict: "SENT_OUTBOUND", way: wayOf(route), frame: sent };
}

export function intoPod(
  verdict: Outcome["verdict"],
  frame: Uint8Array,
  endpoint: Endpoint,
): Outcome {
  return give(verdict, frame, endpoint);
}

/** *Replies to pods of this node*. */
export function replyInside(node: Node, input: Input, ip: Ip, l4: L4, flow: Flow): Outcome {
  const { frame } = input;
  // 1.
  if (senderOf(node, input, ip) === undefined) return pass("PASS_NOT_OURS", frame);
  if (ip.ttl <= 1) return pass("PASS_TTL", frame);
  const isOwn = (flow.flags & FLOW.node) !== 0;
  const client = isOwn ? undefined : podAt(node, flow.client);
  if (client === undefined && !isOwn) return drop("DROP_ENDPOINT_GONE", frame);
  // 2.
  updateFromPod(node, input, ip, l4, flow);
  const sent = frame.slice();
  translate(sent, ip, l4, { ...toClient(flow), ttl: ip.ttl - 1 });
  if (client !== undefined) return intoPod("SENT_REPLY", sent, client);
  return toOwn("SENT_REPLY", node, input, { sent, service: flow.serviceAddress, own: flow.client });
}

/** To the node itself, by the device that leads to the service. */
export function toOwn(
  verdict: Outcome["verdict"],
  node: Node,
  input: Input,
  to: { readonly sent: Uint8Array; readonly service: Address; readonly own: Address },
): Outcome {
  const route = node.route(input, to.own, to.service);
  if (route?.macs === undefined) return pass("PASS_STACK", to.sent);
  writeMacs(to.sent, route.macs.source, route.macs.source);
  return { verdict, way: { to: "device", ifindex: route.ifindex }, frame: to.sent };
}

/** *Plain packets*, 2: the answer of a backend elsewhere, to a pod or to the node. */
export function replyFromNetwork(
  node: Node,
  input: Input,
  ip: Ip,
  l4: L4,
  { flow, client }: { readonly flow: Flow; readonly client: Endpoint | undefined },
): Outcome {
  updateFromPod(node, input, ip, l4, flow);
  const sent = input.frame.slice();
  translate(sent, ip, l4, toClient(flow));
  return client === undefined ? pass("PASS_STACK", sent) : intoPod("SENT_POD", sent, client);
}

export function toClient(flow: Flow) {
  return {
    source: flow.serviceAddress,
    sourcePort: flow.servicePort,
    destination: flow.client,
    destinationPort: flow.clientPort,
  };
}
