// SPDX-License-Identifier: Apache-2.0
// *Deliver*: a client's packet for a pod of this node, whoever sent it here.

import { adopt } from "./adopt.ts";
import { backendOfSlot, slotFor } from "./affinity.ts";
import { serviceRow } from "./balance.ts";
import { concat, set16 } from "./bytes.ts";
import { isItself } from "./endpoint.ts";
import type { Address } from "./family.ts";
import { type Arrival, forget, isPast, requestKey, sendToPod, updateFromClient } from "./flow.ts";
import { drop, elapsed, type Node, type Outcome } from "./node.ts";
import { FINAL, FLOW, LAST_HOP, PROTOCOL, SERVICE } from "./numbers.ts";
import { beginsNothing, changeHeader, ETHERNET, isConnected, isSyn, translate } from "./packet.ts";
import { noteFor, passOn, passToKnown } from "./pass.ts";
import { type Flow, pairKey, type Service, type Target } from "./tables.ts";

const ROUNDS = 5;

/** A packet of a flow that this node doesn't know, and whose turn it is. */
interface Unknown {
  readonly arrival: Arrival;
  readonly service: Service;
  /** Whose packet it is in this round: P. */
  readonly pod: Address;
}

interface RoundOf extends Unknown {
  readonly hop: number;
  readonly round: number;
}

/** What a round of steps 3 to 7 comes to. */
type Round = Outcome | { readonly next: Address; readonly hop: number } | "nobody";

export function deliver(node: Node, arrival: Arrival, pod: Address): Outcome {
  const { ip, l4 } = arrival;
  const key = requestKey(ip, l4);
  const flow = node.flow(key);
  if (flow !== undefined && (flow.flags & FLOW.remote) === 0) {
    // 1.
    if (isPast(flow, ip, l4) || (flow.flags & FLOW.snat) !== 0) {
      forget(node, flow, ip.protocol);
    } else return deliverKnown(node, arrival, flow);
  } else if (flow !== undefined) {
    // 2.
    if (!isSyn(ip, l4) && arrival.hop <= LAST_HOP) {
      return { ...passToKnown(node, arrival, flow), ...noteFor(node, arrival, flow.pod) };
    }
    node.remove(key);
  }
  return deliverUnknown(node, arrival, pod);
}

function deliverKnown(node: Node, arrival: Arrival, flow: Flow): Outcome {
  updateFromClient(node, arrival.input, arrival.ip, arrival.l4, flow);
  return { ...intoPod(node, arrival, flow), ...noteFor(node, arrival, flow.pod) };
}

/** Steps 3 to 8. */
function deliverUnknown(node: Node, arrival: Arrival, first: Address): Outcome {
  const { frame, ip, l4 } = arrival;
  const row = node.findService(ip, l4, { inner: arrival.outer !== undefined || arrival.told });
  if (row === undefined) return drop("DROP_NO_SERVICE", frame);
  if (!node.mayBeClient(ip, l4)) return drop("DROP_SOURCE", frame);
  const service = serviceRow(node, row);
  let [pod, hop] = [first, arrival.hop];
  for (let round = 1; round <= ROUNDS; round++) {
    const result = tryOwner(node, { arrival, service, pod, hop, round });
    if (result === "nobody") break;
    if ("verdict" in result) return result;
    pod = result.next;
    hop = result.hop;
  }
  // 8.
  const target = node.tables.targets.get(pairKey(service.id, pod));
  if (target === undefined) return drop("DROP_NOT_A_BACKEND", frame);
  if (beginsNothing(ip, l4)) return drop("DROP_UNKNOWN_FLOW", frame);
  if (isConnected(ip) && ownersOf(node, arrival, service)?.changing === true) {
    return drop("DROP_UNKNOWN_FINAL", frame);
  }
  return adoptFor(node, { arrival, service, pod }, target, 0);
}

function tryOwner(node: Node, unknown: RoundOf): Round {
  const { arrival, service, pod, hop } = unknown;
  const { input, frame, ip, l4 } = arrival;
  // 3.
  const target = node.tables.targets.get(pairKey(service.id, pod));
  if (target === undefined) {
    return hop >= 1 && hop !== FINAL ? askOwners(node, unknown) : drop("DROP_NOT_A_BACKEND", frame);
  }
  // 4.
  if (isSyn(ip, l4)) return adoptFor(node, unknown, target, 0);
  // 5.
  if (hasSocket(node, unknown, target)) return adoptFor(node, unknown, target, FLOW.confirmed);
  if (isRemembered(node, unknown)) return adoptFor(node, unknown, target, 0);
  if (hop !== FINAL) return askOwners(node, unknown);
  // 6.
  if (isConnected(ip)) {
    if (beginsNothing(ip, l4)) return drop("DROP_UNKNOWN_FLOW", frame);
    const quiet = elapsed(input.jiffies, service.changed) < node.config.quietJiffies;
    if (quiet || ownersOf(node, arrival, service)?.changing === true) {
      return drop("DROP_UNKNOWN_FINAL", frame);
    }
  }
  return adoptFor(node, unknown, target, 0);
}

/** 5: whether a balancer sent a client of UDP here, or drew its pod, against what the ring says. */
function isRemembered(node: Node, { arrival, service, pod, hop, round }: RoundOf): boolean {
  const remembers = (service.flags & (SERVICE.affinity | SERVICE.random)) !== 0;
  if (!remembers || isConnected(arrival.ip)) return false;
  const present = ownersOf(node, arrival, service)?.present;
  return round === 1 && hop === 0 && present !== undefined && present !== pod;
}

function hasSocket(node: Node, { arrival, pod }: Unknown, target: Target): boolean {
  const { ip, l4 } = arrival;
  const endpoint = node.tables.endpoints.get(pod);
  if (!node.config.socketLookup || ip.protocol !== PROTOCOL.tcp) return false;
  const isNode = isItself(node, pod);
  if (endpoint === undefined || (endpoint.netns < 0 && !isNode)) return false;
  const found = node.around.socket({
    netns: isNode ? "own" : endpoint.netns,
    protocol: ip.protocol,
    source: ip.source,
    sourcePort: l4.sourcePort,
    destination: pod,
    destinationPort: target.port,
  });
  return found !== undefined && found !== "listening";
}

/** The slot's owners: the present one and the former ones; undefined when there is none. */
function ownersOf(node: Node, arrival: Arrival, service: Service) {
  if (service.backendCount === 0) return undefined;
  const slot = slotFor(node, service, arrival.ip, arrival.l4, arrival.hash);
  const present = backendOfSlot(node, service, slot)?.address;
  if (present === undefined) return undefined;
  const entry = node.tables.formerOwners.get(pairKey(service.id, slot)) ?? [];
  const end = entry.indexOf(node.family.nobody);
  const former = end < 0 ? entry : entry.slice(0, end);
  const others = former.filter((owner) => owner !== present);
  return { present, list: [present, ...others], changing: former[0] === present };
}

/** 7: along the slot's owners. */
function askOwners(node: Node, { arrival, service, pod, hop, round }: RoundOf): Round {
  const owners = round === ROUNDS ? undefined : ownersOf(node, arrival, service);
  if (owners === undefined) return "nobody";
  const { present, list } = owners;
  const next = hop >= LAST_HOP ? undefined : list[list.indexOf(pod) + 1];
  const isOurs = (owner: Address): boolean => node.tables.endpoints.has(owner);
  if (next === undefined) {
    if (present === pod) return "nobody";
    if (isOurs(present)) return { next: present, hop: FINAL };
    return passOn(node, arrival, service, present, FINAL);
  }
  if (isOurs(next)) return { next, hop };
  return passOn(node, arrival, service, next, hop + 1);
}

function adoptFor(node: Node, unknown: Unknown, target: Target, flags: number): Outcome {
  const { arrival, service, pod } = unknown;
  const flow = adopt(node, arrival, { service, pod, target, flags });
  return typeof flow === "string" ? drop(flow, arrival.frame) : intoPod(node, arrival, flow);
}

/** *Into the pod*. */
function intoPod(node: Node, arrival: Arrival, flow: Flow): Outcome {
  const { outer, ip, l4 } = arrival;
  const endpoint = node.tables.endpoints.get(flow.pod);
  if (endpoint === undefined) return drop("DROP_ENDPOINT_GONE", arrival.frame);
  if (outer !== undefined && node.around.refusesRoom(arrival.input)) {
    return drop("DROP_REWRITE", arrival.frame);
  }
  const frame = arrival.frame.slice();
  changeHeader(frame, ip, () => ip.family.setTos(frame, ip.at, arrival.tos));
  translate(frame, ip, l4, {
    source: flow.aliasAddress,
    destination: flow.pod,
    destinationPort: flow.podPort,
    sourcePort: flow.aliasPort,
  });
  if (outer === undefined) return sendToPod(frame, endpoint);
  const stripped = concat(frame.subarray(0, ETHERNET), frame.subarray(ip.at));
  set16(stripped, 12, ip.family.etherType);
  return sendToPod(stripped, endpoint);
}
