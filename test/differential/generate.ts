// SPDX-License-Identifier: Apache-2.0
// Sequences from seeds. Weights are chosen so that most packets meet state that others left.

import { parseMac } from "../../src/net/mac.ts";
import { FLOW, NODE_ADDRESS } from "../model/numbers.ts";
import type {
  Event,
  NodeIndex,
  PacketEvent,
  PacketSpec,
  ReplyEvent,
  ServiceEvent,
  StateEvent,
} from "./event.ts";
import {
  errorSpec,
  fragment,
  outerSpec,
  overwrites,
  tcpOptions,
  told,
} from "./generate-headers.ts";
import {
  CLIENT_PORTS,
  CLIENTS,
  PODS,
  PODS_OF_NODE,
  PREFIXES,
  PREFIXES_OF_CLIENTS,
  SERVICE_PORTS,
} from "./places.ts";
import { Prng } from "./prng.ts";

const NODES = [0, 1] as const;
const FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
/** Around the largest packets that fit MTUs of 1500 and 1400 with and without an outer header. */
const PAYLOADS = [0, 1, 2, 7, 100, 1339, 1340, 1341, 1360, 1439, 1440, 1441, 1460] as const;
/** With one more, a note would look like a final packet. */
const MOST_ROUTERS = 30;
const RING_SIZES = [1, 2, 7, 31, 32, 33, 61, 97] as const;
/** Of another machine, of all, of some. */
const OTHER_MACS = ["02:00:00:00:03:ff", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"].map(parseMac);
/** Number of the prefix of load balancers. */
const LOAD_BALANCERS = 3;
const LONG_AGO = 1_000_000;
const isTalk = (service: number): boolean => SERVICE_PORTS[service]?.protocol === 132;
/** Services to which one may lead who is inside: the agent changes no port of SCTP. */
const likes = (service: number): number[] =>
  [...SERVICE_PORTS.keys()].filter((other) => isTalk(other) === isTalk(service));
/** What Linux says of SCTP that its sender has cut into packets. */
const CUT_ALREADY = 0xffff;
/** Of packets in pieces. */
const IDS = [7, 0x3344] as const;
const NODES_OF_ALL = [0, 1, 2] as const;
/** Flags of flows that are over. */
const BOTH_FINS = FLOW.finClient | FLOW.finPod;
const RESET = FLOW.reset;

/** A sequence of state to begin with and `events` more. */
export function generateSequence(seed: number, events: number): Event[] {
  const prng = new Prng(seed);
  const sequence = [...prologue(prng)];
  const end = sequence.length + events;
  const restartAt = prng.chance(2) ? sequence.length + prng.below(events) : -1;
  while (sequence.length < end) {
    if (sequence.length === restartAt) {
      sequence.push({ kind: "restart", node: prng.pick(NODES) });
      continue;
    }
    sequence.push(...nextEvents(prng));
  }
  return sequence;
}

function prologue(prng: Prng): Event[] {
  const events: Event[] = [];
  for (const node of NODES) {
    const own = prng.chance(20) ? [CLIENT_PORTS[0]] : [];
    events.push({ kind: "crowd", node, ports: crowd(prng), own }, trust(prng, node));
    for (const index of NODES_OF_ALL) events.push(nodeAddress(prng, node, index));
    for (const pod of PODS.keys()) events.push(nexthop(prng, node, pod));
    for (const pod of PODS_OF_NODE[node]) {
      events.push({
        kind: "endpoint",
        node,
        pod,
        there: prng.chance(95),
        itself: prng.chance(10),
        sockets: prng.chance(70),
      });
    }
  }
  for (const service of SERVICE_PORTS.keys()) {
    if (prng.chance(5)) continue;
    events.push(...services(prng, service));
  }
  return events;
}

/** Ports that aren't the stranger's own, as many as leave room for all services. */
function crowd(prng: Prng): number[] {
  const count = prng.weighted([1, 0], [2, 16], [2, 32], [2, 38]);
  return Array.from({ length: count }, () => 1000 + prng.below(60_000));
}

function nextEvents(prng: Prng): readonly Event[] {
  const node = prng.pick(NODES);
  const make = prng.weighted<() => readonly Event[]>(
    [720, () => [packet(prng, node)]],
    [150, () => [reply(prng, node)]],
    [150, () => [outbound(prng, node)]],
    [60, () => [own(prng, node)]],
    [60, () => pieces(prng, node)],
    [25, () => replyPieces(prng, node)],
    [2, () => [{ kind: "flood", node }]],
    [35, () => services(prng, prng.below(SERVICE_PORTS.length))],
    [4, () => [{ kind: "no service", node, service: prng.below(SERVICE_PORTS.length) }]],
    [15, () => [endpoint(prng, node)]],
    [15, () => [nexthop(prng, node, prng.below(PODS.length))]],
    [4, () => [trust(prng, node)]],
    [6, () => takePorts(prng, node)],
    [6, () => takeNatPorts(prng, node)],
    [4, () => takeInsidePorts(prng, node)],
    [3, () => [nodeAddress(prng, node, prng.pick(NODES_OF_ALL))]],
    [1, () => [serviceAddress(prng, node)]],
    [20, () => [{ kind: "age", node, jiffies: prng.pick([9000, LONG_AGO, 2 * LONG_AGO]) }]],
    [30, () => [forget(prng, node)]],
  );
  return make();
}

function trust(prng: Prng, node: NodeIndex): StateEvent {
  const numbers = [...PREFIXES.keys()].slice(0, -1).filter(() => prng.chance(75));
  if (prng.chance(5)) numbers.push(PREFIXES.length - 1);
  const prefixes = numbers.map((prefix) => ({
    prefix,
    // A node taken for a load balancer would pass packets round for ever.
    kind: prefix === LOAD_BALANCERS ? prng.weighted([9, 2], [1, 1]) : 1,
  }));
  return { kind: "trust", node, prefixes };
}

function nexthop(prng: Prng, node: NodeIndex, pod: number): StateEvent {
  const uplink = prng.weighted<0 | 1>([3, 0], [1, 1]);
  const mtu = prng.weighted([6, 1500], [3, 1400], [1, 576], [1, 100], [1, 9000]);
  const outerSource = prng.weighted([6, node], [1, 2]);
  const [resolved, edge] = [prng.chance(85), prng.chance(90)];
  const generation = prng.weighted([6, 0], [2, 1], [1, 255]);
  const peer = prng.weighted([8, Math.min(2, Math.floor(pod / 3))], [2, -1], [1, node]);
  const way = { resolved, edge, uplink, mtu, outerSource, peer, generation };
  return { kind: "nexthop", node, pod, ...way };
}

/** Each node knows all nodes' addresses, or nearly. */
function nodeAddress(prng: Prng, node: NodeIndex, index: number): StateEvent {
  const usual = index === node ? NODE_ADDRESS.own : NODE_ADDRESS.other;
  const whose = prng.weighted([12, usual], [1, 0], [1, 3 - usual]);
  return { kind: "node address", node, of: "nodes", index, whose };
}

/** An address of services that a node has too, or has no more. */
function serviceAddress(prng: Prng, node: NodeIndex): StateEvent {
  const whose = prng.weighted([2, 0], [1, NODE_ADDRESS.own], [1, NODE_ADDRESS.other]);
  return { kind: "node address", node, of: "services", index: prng.below(3), whose };
}

function endpoint(prng: Prng, node: NodeIndex): StateEvent {
  const pod = prng.pick(PODS_OF_NODE[node]);
  return {
    kind: "endpoint",
    node,
    pod,
    there: prng.chance(70),
    itself: prng.chance(20),
    sockets: prng.chance(70),
  };
}

/** Ports that are taken, and a packet that would need one. */
function takePorts(prng: Prng, node: NodeIndex): Event[] {
  const pod = prng.pick(PODS_OF_NODE[node]);
  const flow = {
    client: prng.below(2),
    clientPort: CLIENT_PORTS[prng.below(3)] ?? 0,
    service: prng.below(SERVICE_PORTS.length),
  };
  const ports = prng.weighted([1, 1], [1, 2], [2, 8], [4, 9]);
  const coming = packet(prng, node);
  const outer = { ...outerSpec(prng, node), pod };
  return [
    { kind: "take ports", node, pod, ports, inside: false, snat: false, flags: 0, ...flow },
    { ...coming, packet: { ...flow, tcpFlags: FLAGS.syn, outer } },
  ];
}

/** Ports that a pod uses towards all pods but some, and its next connection. */
function takeInsidePorts(prng: Prng, node: NodeIndex): Event[] {
  const client = prng.pick(PODS_OF_NODE[node]);
  const flow = {
    client,
    clientPort: prng.pick(CLIENT_PORTS),
    service: prng.below(SERVICE_PORTS.length),
  };
  const taken = {
    kind: "take ports",
    node,
    inside: true,
    snat: false,
    ports: prng.weighted([1, 1], [1, 2], [2, 8], [4, 9]),
    flags: FLOW.outbound | prng.weighted([6, 0], [1, BOTH_FINS], [1, RESET]),
    ...flow,
  } as const;
  const coming = packet(prng, node);
  const inside = { pod: client, device: client };
  return [
    ...PODS.keys().map((pod) => ({ ...taken, pod })),
    { ...coming, packet: { ...flow, tcpFlags: FLAGS.syn, inside } },
  ];
}

/** Ports of the node that are taken towards all pods elsewhere but some, and who needs one. */
function takeNatPorts(prng: Prng, node: NodeIndex): Event[] {
  const flow = {
    client: prng.below(2),
    clientPort: prng.pick(CLIENT_PORTS),
    service: prng.below(SERVICE_PORTS.length),
  };
  const taken = {
    kind: "take ports",
    node,
    inside: false,
    snat: true,
    ports: prng.weighted([1, 1], [1, 2], [2, 32], [4, 33]),
    flags: prng.weighted([6, 0], [1, BOTH_FINS], [1, RESET]),
    ...flow,
  } as const;
  const coming = packet(prng, node);
  return [
    ...PODS_OF_NODE[1 - node === 0 ? 0 : 1].map((pod) => ({ ...taken, pod })),
    { ...coming, packet: { ...flow, tcpFlags: FLAGS.syn } },
  ];
}

function forget(prng: Prng, node: NodeIndex): StateEvent {
  const half = prng.weighted<"both" | "request" | "reply">(
    [8, "both"],
    [1, "request"],
    [1, "reply"],
  );
  return { kind: "forget", node, pick: prng.word(), half };
}

/** A service's new set of backends, on both nodes or on one. */
function services(prng: Prng, service: number): ServiceEvent[] {
  const first = serviceOn(prng, 0, service);
  const both = prng.weighted(
    [6, () => [first, { ...first, node: 1 as const, targets: targets(prng, 1, first.backends) }]],
    [2, () => [first, serviceOn(prng, 1, service)]],
    [1, () => [first]],
    [1, () => [serviceOn(prng, 1, service)]],
  );
  return both();
}

function targets(prng: Prng, node: NodeIndex, backends: readonly number[]): number[] {
  return PODS_OF_NODE[node].filter((pod) => prng.chance(backends.includes(pod) ? 95 : 50));
}

function serviceOn(prng: Prng, node: NodeIndex, service: number): ServiceEvent {
  const count = prng.weighted([1, 0], [4, 1], [6, 2], [6, 3], [3, 5], [1, 8]);
  const backends: number[] = [];
  while (backends.length < count) {
    const pod = prng.weighted([8, prng.below(6)], [1, prng.below(PODS.length)]);
    if (!backends.includes(pod)) backends.push(pod);
  }
  const ringSize = prng.pick(RING_SIZES);
  const ring = Array.from({ length: ringSize }, () => prng.below(Math.max(1, count)));
  const former = prng.chance(60) ? formerOwners(prng, ringSize) : [];
  const snat = prng.chance(service === 3 || service >= 5 ? 60 : 10);
  const wasOther = prng.chance(25);
  return {
    kind: "service",
    node,
    service,
    encapsulateFirst: prng.chance(service === 2 ? 70 : 10),
    snat,
    wasOther,
    affinity: prng.chance(25),
    random: prng.chance(20),
    lately: snat && wasOther && prng.chance(50),
    reject: prng.chance(60),
    internal: prng.chance(15) ? prng.pick(likes(service)) : undefined,
    sources: prng.chance(12) ? sources(prng) : undefined,
    backends,
    ring,
    targets: targets(prng, node, backends),
    former,
    changedJiffiesAgo: prng.pick([0, LONG_AGO]),
    broken: prng.chance(3)
      ? prng.pick(["row", "ring", "slots", "backends", "nexthop"] as const)
      : undefined,
  };
}

function sources(prng: Prng): ServiceEvent["sources"] {
  const deny = prng.chance(50);
  const listed = [...PREFIXES_OF_CLIENTS.keys()].filter(() => prng.chance(deny ? 25 : 60));
  return { listed, deny };
}

function formerOwners(prng: Prng, ringSize: number): ServiceEvent["former"] {
  const slots = [...Array(ringSize).keys()].filter(() => prng.chance(60));
  return slots.map((slot) => {
    const owners = Array.from({ length: 1 + prng.below(3) }, () =>
      prng.weighted([8, prng.below(6)], [1, prng.below(PODS.length)]),
    );
    return { slot, owners };
  });
}

function tcpFlags(prng: Prng): number {
  const { fin, syn, rst, psh, ack } = FLAGS;
  return prng.weighted(
    [28, syn],
    [30, ack],
    [10, psh | ack],
    [10, fin | ack],
    [5, rst],
    [3, rst | ack],
    [3, syn | ack],
    [1, fin],
    [1, syn | fin],
    [1, syn | rst],
    [1, 0],
    [1, 0xff],
    [2, syn | 0xc0],
  );
}

function packet(prng: Prng, node: NodeIndex): PacketEvent {
  const gso = prng.chance(4);
  const outer = prng.chance(45);
  const error = prng.chance(12);
  const headers = (outer ? 110 : 60) + (error ? 28 : 0);
  const spec: PacketSpec = {
    client: prng.weighted([10, 0], [6, 1], [3, 2], [1, 3], [1, 4], [0, CLIENTS.length]),
    clientPort: prng.weighted([10, 0], [10, 1], [6, 2], [1, 3], [1, 4]),
    service: prng.chance(3) ? -1 : prng.below(SERVICE_PORTS.length),
    ...(prng.chance(outer ? 40 : 5) ? { at: prng.below(3) } : {}),
    ...(prng.chance(8) ? { pod: prng.pick(PODS_OF_NODE[node]) } : {}),
    ...(prng.chance(3) ? { port: prng.pick([81, 30_070]) } : {}),
    ...(prng.chance(3) ? { icmpType: prng.weighted([8, 8], [1, 0], [1, 13]) } : {}),
    ...(prng.chance(2) ? { protocol: prng.pick([1, 4, 6, 17, 47, 132]) } : {}),
    tcpFlags: tcpFlags(prng),
    payloadBytes: gso ? 2000 + prng.below(800) : prng.pick(PAYLOADS),
    ttl: prng.weighted([20, 60], [1, 0], [1, 1], [1, 2], [1, 255]),
    dscp: prng.weighted([4, 0], [1, 46], [1, 63]),
    ecn: prng.weighted([4, 0], [1, 1], [2, 2], [1, 3]),
    dontFragment: prng.chance(80),
    ...fragment(prng, 2),
    id: prng.pick(IDS),
    ipOptionBytes: prng.weighted([25, 0], [1, 4], [1, 12], [1, 40]),
    tcpOptions: prng.chance(15) ? tcpOptions(prng) : [],
    checksum: prng.weighted([20, "right"], [2, "none"], [1, "wrong"]),
    ...(prng.chance(3) ? { trailerBytes: 1 + prng.below(20) } : {}),
    vlan: prng.chance(0.5),
    ...(prng.chance(0.5) ? { mac: prng.pick(OTHER_MACS) } : {}),
    ...(outer ? { outer: outerSpec(prng, node) } : {}),
    ...told(prng, node, outer),
    ...(error ? { error: errorSpec(prng) } : {}),
    ...(prng.chance(error ? 15 : 5) ? { bytes: overwrites(prng, headers) } : {}),
    ...(prng.chance(3) ? { cutBytes: prng.below(headers + 10) } : {}),
    ...(gso ? { gsoSize: prng.pick([100, 1339, 1340, 1341, 1439, 1440, 1441, CUT_ALREADY]) } : {}),
  };
  return {
    kind: "packet",
    node,
    edge: prng.chance(40),
    uplink: prng.weighted<0 | 1>([3, 0], [1, 1]),
    packet: { ...spec, clientPort: CLIENT_PORTS[spec.clientPort] ?? 0 },
    fabric: { routers: prng.pick([0, 1, 2, MOST_ROUTERS]), congested: prng.chance(10) },
  };
}

/** Where the pieces of a packet are in it, most often the first one first. */
function places(prng: Prng): { moreFragments: boolean; fragmentOffset: number }[] {
  const first = { moreFragments: true, fragmentOffset: 0 };
  const last = { moreFragments: prng.chance(30), fragmentOffset: prng.pick([8, 1480, 65_528]) };
  return prng.weighted([12, [first, last]], [2, [first, last, last]], [1, [last, first, last]]);
}

/** A packet in pieces, of a client or of a pod. */
function pieces(prng: Prng, node: NodeIndex): PacketEvent[] {
  const { packet: spec, ...event } = prng.chance(70) ? packet(prng, node) : outbound(prng, node);
  const { bytes: _, cutBytes: __, icmpType: ___, error: ____, ...whole } = spec;
  return places(prng).map((place) => ({
    ...event,
    edge: prng.chance(15),
    packet: { ...whole, dontFragment: false, payloadBytes: prng.pick(PAYLOADS), ...place },
  }));
}

/** What a pod answers, in pieces. */
function replyPieces(prng: Prng, node: NodeIndex): ReplyEvent[] {
  const answer = reply(prng, node);
  const whole = { ...answer, error: undefined, bytes: [], cutBytes: undefined, edge: false };
  return places(prng).map((place) => ({ ...whole, dontFragment: false, ...place }));
}

/** A packet of a pod of the node's. */
function outbound(prng: Prng, node: NodeIndex): PacketEvent {
  const event = packet(prng, node);
  const { outer: _, ...spec } = event.packet;
  const pod = prng.weighted([30, prng.pick(PODS_OF_NODE[node])], [1, prng.below(PODS.length)]);
  const device = prng.chance(97) ? pod : prng.below(PODS.length);
  return { ...event, edge: prng.chance(40), packet: { ...spec, inside: { pod, device } } };
}

/** A packet of the node's own. */
function own(prng: Prng, node: NodeIndex): PacketEvent {
  const event = packet(prng, node);
  const { outer: _, ...spec } = event.packet;
  return { ...event, packet: { ...spec, own: true } };
}

function reply(prng: Prng, node: NodeIndex): ReplyEvent {
  const gso = prng.chance(4);
  return {
    kind: "reply",
    node,
    uplink: prng.weighted<0 | 1>([3, 0], [1, 1]),
    edge: prng.chance(50),
    isForged: prng.chance(5),
    error: prng.chance(15) ? errorSpec(prng) : undefined,
    pick: prng.word(),
    tcpFlags: prng.weighted([10, 16], [6, 18], [4, 17], [2, 4], [2, 20], [2, 24], [1, 2]),
    payloadBytes: gso ? 2000 + prng.below(800) : prng.pick(PAYLOADS),
    ttl: prng.weighted([20, 64], [1, 0], [1, 1], [1, 2]),
    tcpOptions: prng.chance(30) ? tcpOptions(prng) : [],
    checksum: prng.weighted([20, "right"], [2, "none"], [1, "wrong"]),
    dontFragment: prng.chance(70),
    ...{ moreFragments: false, fragmentOffset: 0, ...fragment(prng, 2) },
    id: prng.pick(IDS),
    bytes: prng.chance(3) ? overwrites(prng, 60) : [],
    cutBytes: prng.chance(3) ? prng.below(70) : undefined,
    gsoSize: gso ? prng.pick([100, 1340, 1440, CUT_ALREADY]) : 0,
  };
}
