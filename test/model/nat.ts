// SPDX-License-Identifier: Apache-2.0
// *SNAT* and *SNAT replies*: backends of other nodes see this one as their client.

import { chooseBackend, drawSlot, tupleOf } from "./affinity.ts";
import { fragNeeded, reject } from "./answer.ts";
import { arrivalOf, segmentSize, wayOf } from "./balance.ts";
import { deliver } from "./deliver.ts";
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
import { type FlowHash, hashOf as hashTuple } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass, type Way } from "./node.ts";
import {
  BACKEND,
  DIRECTION,
  FLOW,
  GENERATION_SHIFT,
  KIND,
  NEXTHOP,
  PROTOCOL,
  SERVICE,
} from "./numbers.ts";
import { eraseOption } from "./option.ts";
import { beginsNothing, isConnected, isSyn, type L4, translate, writeMacs } from "./packet.ts";
import type { Backend, Flow, Service } from "./tables.ts";

const CANDIDATES = 32;

/** A packet to a service that has flows of SNAT, or had some. */
interface Request {
  readonly input: Input;
  readonly ip: Ip;
  readonly l4: L4;
  readonly service: Service;
}

/** Undefined: it goes by DSR, as it did before the service's change. */
export function nat(node: Node, place: "edge" | "host", request: Request): Outcome | undefined {
  const { input, ip, l4, service } = request;
  const { frame } = input;
  // 1.
  const flow = node.flow(requestKey(ip, l4));
  if (flow !== undefined && (flow.flags & FLOW.remote) === 0) {
    if (!isPast(flow, ip, l4)) {
      if ((flow.flags & FLOW.snat) !== 0) return sendToPod(node, place, request, flow);
      return keepHere(node, place, request, flow);
    }
    forget(node, flow, ip.protocol);
  }
  // 2.
  if (!node.admits(service, ip.source)) return drop("DROP_SOURCE_RANGE", frame);
  if ((service.flags & SERVICE.snat) === 0) return undefined;
  const wasDsr = (service.flags & SERVICE.wasDsr) !== 0;
  if (wasDsr && isConnected(ip) && !isSyn(ip, l4)) return undefined;
  if (wasDsr && !isConnected(ip) && isOfBefore(node, request)) return undefined;
  if (service.backendCount === 0) return reject(node, input, ip, l4, service);
  // The host would draw again.
  const isDrawn = (service.flags & SERVICE.random) !== 0;
  if (isDrawn && place === "edge") return pass("PASS_UNRESOLVED", frame);
  const hash = hashOf(node, request);
  const slot = drawSlot(node, service, request, hash);
  const backend = chooseBackend(node, service, request, slot);
  if (backend === undefined) return drop("DROP_TABLE", frame);
  if ((backend.flags & BACKEND.local) !== 0) {
    return keepHere(node, place, request, { pod: backend.address, counter: backend.counter });
  }
  // 3.
  if (beginsNothing(ip, l4)) return drop("DROP_UNKNOWN_FLOW", frame);
  if (!node.mayBeClient(ip, l4)) return drop("DROP_SOURCE", frame);
  if (backend.nexthop >= node.limits.nexthops) return drop("DROP_TABLE", frame);
  // 4.
  const made = open(node, request, hash, backend);
  return typeof made === "string" ? drop(made, frame) : sendToPod(node, place, request, made);
}

/** Of a datagram of no flow of SNAT: whether its flow may be, or is known to be, one of before. */
function isOfBefore(node: Node, { input, ip, l4, service }: Request): boolean {
  const flow = node.flow(requestKey(ip, l4));
  if (flow !== undefined) flow.seen = input.jiffies;
  return flow !== undefined || (service.flags & SERVICE.lately) !== 0;
}

/**
 * Of a packet that has gone to a pod elsewhere by DSR, though its service is one of SNAT by now:
 * its flow goes on like this.
 */
export function remember(node: Node, { input, ip, l4, service }: Request, pod: Address): void {
  const key = requestKey(ip, l4);
  if (isConnected(ip) || (service.flags & SERVICE.lately) === 0) return;
  if (node.flow(key) !== undefined) return;
  node.store(key, {
    client: ip.source,
    serviceAddress: ip.destination,
    pod,
    clientPort: l4.sourcePort,
    servicePort: l4.destinationPort,
    podPort: 0,
    aliasAddress: ip.source,
    aliasPort: 0,
    service: service.id,
    nexthop: 0,
    nexthopGeneration: 0,
    counter: 0,
    created: input.jiffies,
    seen: input.jiffies,
    flags: FLOW.remote,
    packets: 0,
    bytes: 0,
  });
}

function hashOf(node: Node, { ip, l4 }: Request): FlowHash {
  return hashTuple(tupleOf(ip, l4), node.config.hashSeed);
}

/** For a pod of this node, which sees the client itself. */
function keepHere(
  node: Node,
  place: "edge" | "host",
  request: Request,
  { pod, counter }: { readonly pod: Address; readonly counter: number },
): Outcome {
  const { input, ip, l4 } = request;
  if (place === "edge") return pass("PASS_LOCAL", input.frame);
  countSent(node, request, counter);
  return deliver(node, arrivalOf(input, ip, l4, hashOf(node, request)), pod);
}

function countSent(node: Node, { input, ip, l4 }: Request, counter: number): void {
  const connections = isSyn(ip, l4) ? 1 : 0;
  node.count(counter, { packets: 1, bytes: input.frame.length, connections });
}

/** 4: makes a flow's two entries and gives the REQUEST entry, or says why it can't be. */
function open(
  node: Node,
  request: Request,
  hash: FlowHash,
  backend: Backend,
): Flow | "DROP_NAT_EXHAUSTED" | "DROP_CONNTRACK_FULL" {
  const { ip, l4 } = request;
  const { natPortMin } = node.config;
  const keepsPorts = ip.protocol === PROTOCOL.sctp;
  // No association has port 0.
  const least = keepsPorts ? 1 : natPortMin;
  const ports = l4.sourcePort >= least ? [l4.sourcePort] : [];
  for (let i = 1; i <= (keepsPorts ? 0 : CANDIDATES); i++) {
    const spread = (hash.low + (i - 1) * 4099) % 65536;
    ports.push(natPortMin + Math.floor((spread * (65536 - natPortMin)) / 65536));
  }
  for (const port of ports) {
    const flow = newFlow(node, request, backend, port);
    if (!isFree(node, flow, ip.protocol)) continue;
    const replyKey = replyKeyOf(flow, ip.protocol);
    if (!node.store(replyKey, { ...flow })) return "DROP_CONNTRACK_FULL";
    if (!node.store(requestKey(ip, l4), flow)) {
      node.remove(replyKey);
      return "DROP_CONNTRACK_FULL";
    }
    if (ip.protocol === PROTOCOL.udp) node.count(backend.counter, { connections: 1 });
    return flow;
  }
  return "DROP_NAT_EXHAUSTED";
}

/** Whether a flow may have its port; who had it and is over is forgotten. */
function isFree(node: Node, flow: Flow, protocol: number): boolean {
  const { aliasAddress, aliasPort } = flow;
  if (node.frontend(aliasAddress, aliasPort, protocol, KIND.service) !== undefined) return false;
  const reply = replyKeyOf(flow, protocol);
  if (protocol !== PROTOCOL.sctp && node.around.hasOwnSocket(reply)) return false;
  return getsReplyKey(node, flow, protocol);
}

function newFlow(node: Node, request: Request, backend: Backend, aliasPort: number): Flow {
  const { input, ip, l4, service } = request;
  const flags = node.tables.nexthops.get(backend.nexthop)?.flags ?? 0;
  return {
    client: ip.source,
    serviceAddress: ip.destination,
    pod: backend.address,
    clientPort: l4.sourcePort,
    servicePort: l4.destinationPort,
    podPort: backend.port,
    aliasAddress: node.config.nodeAddress,
    aliasPort,
    service: service.id,
    nexthop: backend.nexthop,
    nexthopGeneration: flags >>> GENERATION_SHIFT,
    counter: backend.counter,
    created: input.jiffies,
    seen: input.jiffies,
    flags: FLOW.snat,
    packets: 0,
    bytes: 0,
  };
}

/** A way out of this node. */
interface Exit {
  readonly way: Way;
  readonly mtu: number;
  readonly macs: { readonly destination: number; readonly source: number } | undefined;
}

/** Steps 5 to 7. */
function sendToPod(node: Node, place: "edge" | "host", request: Request, flow: Flow): Outcome {
  const { input, ip, l4 } = request;
  const { frame } = input;
  const bytes = segmentSize(ip, l4, input.gsoSize);
  // 5.
  let exit = exitOf(node, place, input, flow);
  if (exit === undefined) {
    if (place === "edge") return pass("PASS_UNRESOLVED", frame);
    const route = node.route(input, node.config.nodeAddress, flow.pod, bytes);
    if (route === undefined) return drop("DROP_NO_ROUTE", frame);
    exit = { way: wayOf(route), mtu: route.mtu, macs: route.macs };
  }
  // 6.
  if (ip.ttl <= 1) return pass("PASS_TTL", frame);
  const { mtu } = exit;
  if (bytes > mtu) return fragNeeded(node, input, ip, { service: flow.service, mtu });
  // 7.
  updateFromClient(node, input, ip, l4, flow);
  const sent = frame.slice();
  eraseOption(node, sent, ip);
  translate(sent, ip, l4, {
    source: flow.aliasAddress,
    sourcePort: flow.aliasPort,
    destination: flow.pod,
    destinationPort: flow.podPort,
    ttl: ip.ttl - 1,
  });
  if (exit.macs !== undefined) writeMacs(sent, exit.macs.destination, exit.macs.source);
  countSent(node, request, flow.counter);
  return { verdict: "SENT_NAT", way: exit.way, frame: sent };
}

/** 5: the row that the flow was made with, if it is still that one and can be used. */
function exitOf(node: Node, place: "edge" | "host", input: Input, flow: Flow): Exit | undefined {
  const row = node.tables.nexthops.get(flow.nexthop);
  const needed = place === "edge" ? NEXTHOP.edge : NEXTHOP.resolved;
  if (row === undefined || (row.flags & needed) === 0) return undefined;
  if (row.flags >>> GENERATION_SHIFT !== flow.nexthopGeneration) return undefined;
  const { ifindex, mtu, destination, source } = row;
  const back = place === "edge" && ifindex === input.ifindex;
  const way: Way = back ? { to: "where it came from" } : { to: "device", ifindex };
  return { way, mtu, macs: { destination, source } };
}

/** Whether a packet is one of those among which replies of pods elsewhere are. */
export function mayBeNatReply(node: Node, ip: Ip, l4: L4): boolean {
  const { nodeAddress, natPortMin } = node.config;
  const isServed = l4.destinationPort >= natPortMin || ip.protocol === PROTOCOL.sctp;
  return ip.destination === nodeAddress && isServed;
}

/** *SNAT replies*; undefined: it is none. */
export function natReply(
  node: Node,
  place: "edge" | "host",
  input: Input,
  ip: Ip,
  l4: L4,
): Outcome | undefined {
  const { frame } = input;
  // 1.
  if (!mayBeNatReply(node, ip, l4)) return undefined;
  const flow = node.flow({
    source: ip.source,
    destination: ip.destination,
    sourcePort: l4.sourcePort,
    destinationPort: l4.destinationPort,
    protocol: ip.protocol,
    direction: DIRECTION.reply,
  });
  if (flow === undefined || (flow.flags & FLOW.snat) === 0) return undefined;
  // 2.
  if (ip.ttl <= 1) return pass("PASS_TTL", frame);
  // 3.
  const bytes = segmentSize(ip, l4, input.gsoSize);
  const route = node.route(input, flow.serviceAddress, flow.client, bytes);
  const fits = route === undefined || bytes <= route.mtu;
  if (!fits && ip.dontFragment) {
    return fragNeeded(node, input, ip, { service: flow.service, mtu: route.mtu });
  }
  const isWhole = fits && route?.macs !== undefined && route.ifindex === input.ifindex;
  if (place === "edge" && !isWhole) return pass("PASS_UNRESOLVED", frame);
  // 4.
  updateFromPod(node, input, ip, l4, flow);
  const sent = frame.slice();
  const to = {
    source: flow.serviceAddress,
    sourcePort: flow.servicePort,
    destination: flow.client,
    destinationPort: flow.clientPort,
  };
  // 5.
  if (route === undefined || !fits) {
    translate(sent, ip, l4, to);
    return pass(fits ? "PASS_STACK" : "PASS_TOO_BIG", sent);
  }
  translate(sent, ip, l4, { ...to, ttl: ip.ttl - 1 });
  if (route.macs !== undefined) writeMacs(sent, route.macs.destination, route.macs.source);
  const way: Way = place === "edge" ? { to: "where it came from" } : wayOf(route);
  return { verdict: "SENT_NAT_REPLY", way, frame: sent };
}
