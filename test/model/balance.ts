// SPDX-License-Identifier: Apache-2.0
// `edge_ingress` and `from_network`: packets to a service, and plain packets.

import { chooseBackend, slotFor, tupleOf } from "./affinity.ts";
import { echo, fragNeeded, reject } from "./answer.ts";
import { get8 } from "./bytes.ts";
import { deliver } from "./deliver.ts";
import { dispatchBytes, dispatchPacket, dispatchTarget } from "./dispatch.ts";
import { podAt } from "./endpoint.ts";
import type { Address, Ip } from "./family.ts";
import { type Arrival, requestKey, sendToPod, updateFromPlain } from "./flow.ts";
import { parsePiece, teach } from "./fragment.ts";
import { type FlowHash, hashOf } from "./hash.ts";
import { mayBeNatReply, nat, natReply, remember } from "./nat.ts";
import { drop, type Input, type Node, type Outcome, pass, type Way } from "./node.ts";
import { BACKEND, DIRECTION, FLOW, NEXTHOP, PROTOCOL, SERVICE } from "./numbers.ts";
import { eraseOption } from "./option.ts";
import { replyFromNetwork } from "./outbound.ts";
import { hasPorts, isSyn, type L4, parseFrame, parseL4, translate, writeMacs } from "./packet.ts";
import { receive } from "./receive.ts";
import { relay } from "./relay.ts";
import { type Backend, pairKey, type Service } from "./tables.ts";
import { takeTold } from "./told.ts";

/** Flags of flows of the node itself. */
const OWN = FLOW.outbound | FLOW.node;

/** A packet to a service port, and what is known of its way. */
export interface Balanced {
  readonly input: Input;
  readonly ip: Ip;
  readonly l4: L4;
  readonly hash: FlowHash;
  readonly service: Service;
  readonly slot: number;
  readonly backend: Backend;
}

/** Where a packet to a backend leaves, from the next hop or from the FIB. */
interface Exit {
  readonly way: Way;
  readonly mtu: number;
  readonly macs: { readonly destination: number; readonly source: number } | undefined;
  readonly outerSource: Address;
  /** What an outer header would lead to. */
  readonly target: Address;
}

export function balance(node: Node, place: "edge" | "host", input: Input): Outcome {
  const { frame } = input;
  // 1.
  if (place === "edge" ? isGroup(frame) : !node.around.isForDevice(input)) {
    return pass("PASS_NOT_OURS", frame);
  }
  const ip = parseFrame(frame, node.family);
  if (ip === undefined) return pass("PASS_NOT_OURS", frame);
  if (ip.protocol === ip.family.protocols.outer) {
    return place === "edge" ? pass("PASS_NOT_OURS", frame) : receive(node, input, ip);
  }
  if (ip.protocol === ip.family.protocols.icmp) {
    const pong = echo(node, input, ip);
    if (pong !== undefined) return pong;
    if (place === "edge") return pass("PASS_NOT_OURS", frame);
    return relay(node, { input, outer: undefined, icmp: ip, hop: 0 });
  }
  if (!hasPorts(ip.protocol)) return pass("PASS_NOT_OURS", frame);
  // 2.
  const { fragmentsTrack, fragmentsPass } = node.config;
  if (ip.fragment && (place === "edge" || !fragmentsTrack)) {
    if (!node.isServiceAddress(ip.destination)) return pass("PASS_NOT_OURS", frame);
    const passes = fragmentsTrack || fragmentsPass;
    return passes ? pass("PASS_FRAGMENT", frame) : drop("DROP_FRAGMENT", frame);
  }
  const l4 = ip.fragment ? parsePiece(node, input, ip) : parseL4(frame, ip);
  if (l4 === undefined) {
    const isLost = ip.fragment && node.isServiceAddress(ip.destination);
    return isLost ? drop("DROP_FRAGMENT", frame) : pass("PASS_NOT_OURS", frame);
  }
  // 3.
  const row = node.findService(ip, l4, { inner: false });
  const isWanted = row !== undefined || mayBeNatReply(node, ip, l4);
  if (isWanted || node.tables.endpoints.has(ip.destination)) teach(node, input, ip, l4);
  if (row === undefined) {
    const reply = natReply(node, place, input, ip, l4);
    if (reply !== undefined) return reply;
    if (node.isServiceAddress(ip.destination)) return drop("DROP_UNKNOWN_PORT", frame);
    if (place === "edge") return pass("PASS_NOT_OURS", frame);
    return takeTold(node, input, ip, l4) ?? plain(node, input, ip, l4);
  }
  const service = serviceRow(node, row);
  if ((service.flags & (SERVICE.snat | SERVICE.wasSnat)) !== 0) {
    const translated = nat(node, place, { input, ip, l4, service });
    if (translated !== undefined) return translated;
  }
  // 4.
  if (!node.admits(service, ip.source)) return drop("DROP_SOURCE_RANGE", frame);
  if (service.backendCount === 0) return reject(node, input, ip, l4, service);
  const hash = hashOf(tupleOf(ip, l4), node.config.hashSeed);
  const slot = slotFor(node, service, ip, l4, hash);
  const backend = chooseBackend(node, service, { input, ip, l4 }, slot);
  if (backend === undefined) return drop("DROP_TABLE", frame);
  const packet = { input, ip, l4, hash, service, slot, backend };
  // 5.
  if ((backend.flags & BACKEND.local) !== 0) {
    if (place === "edge") return pass("PASS_LOCAL", frame);
    countSent(node, packet);
    return deliver(node, arrivalOf(input, ip, l4, hash), backend.address);
  }
  const sent = sendAway(node, place, packet);
  if (sent.verdict === "SENT_ENCAPSULATED" || sent.verdict === "SENT_PLAIN") {
    remember(node, packet, backend.address);
  }
  return sent;
}

/** Broadcast or multicast. */
function isGroup(frame: Uint8Array): boolean {
  return frame.length > 0 && (get8(frame, 0) & 1) !== 0;
}

export function arrivalOf(input: Input, ip: Ip, l4: L4, hash: FlowHash): Arrival {
  const { frame } = input;
  return { input, frame, outer: undefined, ip, l4, hash, hop: 0, told: false, tos: ip.tos };
}

export function serviceRow(node: Node, row: number): Service {
  const ring = { ring: 0, ringSize: 0, backends: 0, backendCount: 0 };
  return node.tables.services.get(row) ?? { id: 0, ...ring, flags: 0, changed: 0, affinityAge: 0 };
}

/** Steps 6 to 10: to a backend on another node. */
function sendAway(node: Node, place: "edge" | "host", packet: Balanced): Outcome {
  const { input, ip, l4, service } = packet;
  const { frame } = input;
  // 6.
  const exit = exitTo(node, place, packet);
  if (typeof exit === "string") {
    return exit === "PASS_UNRESOLVED" ? pass(exit, frame) : drop(exit, frame);
  }
  // 7.
  const isPlain = travelsPlain(node, packet);
  const extra = isPlain ? 0 : dispatchBytes(node, ip);
  if (segmentSize(ip, l4, input.gsoSize) + extra > exit.mtu) {
    return fragNeeded(node, input, ip, { service: service.id, mtu: exit.mtu - extra });
  }
  // 8.
  if (isPlain) return sendPlain(node, packet, exit);
  // 9.
  const source =
    node.config.outerHostMask === 0 ? exit.outerSource : spreadSource(node, packet.hash);
  const refuses = place === "host" && node.around.refusesRoom(input);
  const sent = dispatchPacket(node, packet, { ...exit, source, refuses });
  if (!(sent instanceof Uint8Array)) return sent;
  if (exit.macs !== undefined) writeMacs(sent, exit.macs.destination, exit.macs.source);
  countSent(node, packet);
  return { verdict: "SENT_ENCAPSULATED", way: exit.way, frame: sent };
}

function exitTo(
  node: Node,
  place: "edge" | "host",
  packet: Balanced,
): Exit | "PASS_UNRESOLVED" | "DROP_NO_ROUTE" | "DROP_TABLE" {
  const { input, ip, l4, hash, backend } = packet;
  if (backend.nexthop >= node.limits.nexthops) return "DROP_TABLE";
  const nexthop = node.tables.nexthops.get(backend.nexthop);
  const outerSource = nexthop?.outerSource ?? node.family.nobody;
  const target = dispatchTarget(node, backend, nexthop);
  const needed = place === "edge" ? NEXTHOP.edge : NEXTHOP.resolved;
  if (nexthop !== undefined && (nexthop.flags & needed) !== 0) {
    const { ifindex, mtu, destination, source } = nexthop;
    const back = place === "edge" && ifindex === input.ifindex;
    const way: Way = back ? { to: "where it came from" } : { to: "device", ifindex };
    return { way, mtu, macs: { destination, source }, outerSource, target };
  }
  if (place === "edge") return "PASS_UNRESOLVED";
  const { outerHostMask, nodeAddress } = node.config;
  const route = node.route(
    input,
    outerHostMask === 0 ? nodeAddress : spreadSource(node, hash),
    target,
    segmentSize(ip, l4, input.gsoSize) + (travelsPlain(node, packet) ? 0 : dispatchBytes(node, ip)),
  );
  if (route === undefined) return "DROP_NO_ROUTE";
  const { mtu, macs } = route;
  return { way: wayOf(route), mtu, macs, outerSource: nodeAddress, target };
}

/** An outer source that spreads flows over paths and receive queues. */
function spreadSource(node: Node, hash: FlowHash): Address {
  return (node.config.outerPrefix | (hash.high & node.config.outerHostMask)) >>> 0;
}

/** How a frame goes along a route. */
export function wayOf(route: { ifindex: number; macs?: unknown }): Way {
  return { to: route.macs === undefined ? "neighbour" : "device", ifindex: route.ifindex };
}

function hasFormerOwners(node: Node, service: Service, slot: number): boolean {
  if ((service.flags & SERVICE.formerOwners) === 0) return false;
  return node.tables.formerOwners.has(pairKey(service.id, slot));
}

/** `encapsulate: first`, and the packet isn't the first. */
function travelsPlain(node: Node, { ip, l4, service, slot }: Balanced): boolean {
  if ((service.flags & SERVICE.encapsulateFirst) === 0 || ip.protocol !== PROTOCOL.tcp)
    return false;
  return !isSyn(ip, l4) && !hasFormerOwners(node, service, slot);
}

function sendPlain(node: Node, packet: Balanced, exit: Exit): Outcome {
  const { input, ip, l4, backend } = packet;
  if (ip.ttl <= 1) return pass("PASS_TTL", input.frame);
  const sent = input.frame.slice();
  eraseOption(node, sent, ip);
  translate(sent, ip, l4, {
    destination: backend.address,
    destinationPort: backend.port,
    ttl: ip.ttl - 1,
  });
  if (exit.macs !== undefined) writeMacs(sent, exit.macs.destination, exit.macs.source);
  countSent(node, packet);
  return { verdict: "SENT_PLAIN", way: exit.way, frame: sent };
}

/** 10. */
export function countSent(node: Node, { input, ip, l4, backend }: Balanced): void {
  const connections = isSyn(ip, l4) ? 1 : 0;
  node.count(backend.counter, { packets: 1, bytes: input.frame.length, connections });
}

/** Bytes of IP that a packet, or one segment of it, has. */
export function segmentSize(ip: Ip, l4: L4, gsoSize: number): number {
  // Packets that their sender has cut already are each as long as they are.
  if (gsoSize === 0xffff) return ip.headerLength;
  return gsoSize === 0 ? ip.totalLength : ip.headerLength + l4.headerLength + gsoSize;
}

/** *Plain packets*: later packets of flows whose first one came encapsulated. */
function plain(node: Node, input: Input, ip: Ip, l4: L4): Outcome {
  const endpoint = node.tables.endpoints.get(ip.destination);
  const key = {
    source: ip.destination,
    destination: ip.source,
    sourcePort: l4.destinationPort,
    destinationPort: l4.sourcePort,
    protocol: ip.protocol,
    direction: DIRECTION.reply,
  };
  if (endpoint === undefined && !node.config.nodeClients) {
    return pass("PASS_NOT_OURS", input.frame);
  }
  // 1.
  const flow = endpoint && node.flow(key);
  if (endpoint !== undefined && flow !== undefined) {
    updateFromPlain(node, input, ip, l4, flow);
    return sendToPod(input.frame.slice(), endpoint);
  }
  // 2.
  const answered = node.flow({ ...requestKey(ip, l4), direction: DIRECTION.reply });
  const client = podAt(node, ip.destination);
  const wanted = client === undefined ? OWN : FLOW.outbound;
  if (answered === undefined || (answered.flags & OWN) !== wanted) {
    return pass("PASS_NOT_OURS", input.frame);
  }
  return replyFromNetwork(node, input, ip, l4, { flow: answered, client });
}
