// SPDX-License-Identifier: Apache-2.0
// What would become of a connection, and why: a made packet through a second instance of the
// node's own programs.

import { join } from "node:path";
import { BpfMap } from "../kernel/map.ts";
import { findLink, getLink, type Link, listLinks } from "../kernel/netlink/link.ts";
import { getRoute } from "../kernel/netlink/route.ts";
import { type Netlink, openNetlink } from "../kernel/netlink/socket.ts";
import { type Address, isIpv4 } from "../net/address.ts";
import { dissectFrame } from "../net/dissect.ts";
import { formatLayer } from "../net/format-layer.ts";
import { formatMac, type Mac, macFromNumber, parseMac, readMac } from "../net/mac.ts";
import {
  buildPacket,
  ethernet,
  ipv4,
  ipv6,
  type LayerInit,
  mssOption,
  payload,
  sctp,
  sctpChunk,
  tcp,
  udp,
} from "../net/packet.ts";
import { TCP_FLAG } from "../net/protocol.ts";
import { devicesWith } from "./attach.ts";
import {
  type Config,
  maps,
  type Service,
  serviceFlagNames,
  Verdict,
  verdictNames,
  verdictTexts,
} from "./gen/abi.ts";
import { type FamilyTables, familiesIn, namesOf, openPinned, openRows } from "./pinned.ts";
import {
  type Before,
  Rehearsal,
  type Rehearsed,
  type RehearsedPlace,
  readRunning,
} from "./rehearsal.ts";
import { slotOf } from "./slot.ts";

/** The connection that is asked about. */
export interface Question {
  readonly client: Address;
  readonly clientPort: number;
  /** Of the service, of the same family as the client. */
  readonly address: Address;
  readonly port: number;
  readonly protocol: "tcp" | "udp" | "sctp";
  /** The device by which the packet comes; found out when left out. */
  readonly device: string | undefined;
}

/** The service port that a packet met. */
export interface ExplainedService {
  readonly id: number;
  readonly flags: readonly string[];
  readonly ringSize: number;
  readonly backends: number;
}

/** The pod that a packet is sent to. */
export interface ExplainedBackend {
  readonly address: Address;
  readonly port: number;
  /** Of the ring, for a client's first packet; undefined where something else decided. */
  readonly slot: number | undefined;
  /** Slots of the ring that the pod has. */
  readonly slots: number;
}

/** How a packet leaves. */
export interface ExplainedWay {
  /** Its name; of what goes on to the node's own sockets in words. */
  readonly device: string;
  readonly nexthop: Address | undefined;
  /** Undefined where the kernel's neighbour table fills it in. */
  readonly mac: string | undefined;
}

/** What one program did. */
export interface ExplainedStep {
  readonly place: RehearsedPlace;
  readonly verdict: string;
  readonly why: string;
  readonly way: ExplainedWay | undefined;
  /** The frame that leaves, "" when none does. */
  readonly layers: readonly string[];
  readonly bytes: Uint8Array;
}

export interface Explanation {
  readonly device: string;
  /** Flows of the client that the node knows already, this one among them. */
  readonly isKnownFlow: boolean;
  readonly service: ExplainedService | undefined;
  readonly backend: ExplainedBackend | undefined;
  readonly steps: readonly ExplainedStep[];
  readonly notes: readonly string[];
}

const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;
/** Stands for the router that brings the packet. */
const ROUTER_MAC: Mac = parseMac("02:00:00:00:00:01");
const MSS = 1460;
const TTL = 64;
const FIRST_SENT = 16;
const FIRST_DROP = 32;

/** Answers from the tables pinned in `pins`. Throws KernelError, or an Error with the way out. */
export function explain(pins: string, question: Question): Explanation {
  const family = familyOf(pins, question.address);
  const running = readRunning(pins);
  using netlink = openNetlink();
  const arrival = findArrival(pins, netlink, question);
  const { before, isKnownFlow } = copyBefore(pins, family, question);
  using rehearsal = new Rehearsal(pins, running.constants, before);
  let frame = madeFrame(question, arrival);
  const steps: ExplainedStep[] = [];
  let last: Rehearsed | undefined;
  for (const place of arrival.places) {
    last = rehearsal.run(place, frame, arrival.link.index);
    steps.push(describeStep(place, last, { pins, family, netlink, link: arrival.link }));
    if (last.verdict >= FIRST_SENT) break;
    frame = last.frame;
  }
  const service = last === undefined ? undefined : serviceOf(pins, family, last.service);
  const backend = last?.backend;
  return {
    device: arrival.link.name,
    isKnownFlow,
    service: service && {
      id: service.id,
      flags: namesOf(service.flags, serviceFlagNames),
      ringSize: service.ringSize,
      backends: service.backendCount,
    },
    backend:
      service && backend !== undefined
        ? backendOf(pins, family, service, backend, question, running.constants)
        : undefined,
    steps,
    notes: [...arrival.notes, ...rehearsal.differences(running.tags)],
  };
}

function familyOf(pins: string, address: Address): FamilyTables {
  const [narrow, wide] = familiesIn(pins);
  const family = isIpv4(address) ? narrow : wide;
  if (family === undefined) throw new Error("this node has no tables of IPv6");
  return family;
}

interface Arrival {
  readonly link: Link;
  readonly places: readonly RehearsedPlace[];
  readonly sourceMac: Mac;
  readonly targetMac: Mac;
  readonly notes: readonly string[];
}

/** By which device the packet comes, and which programs it meets there. */
function findArrival(pins: string, netlink: Netlink, question: Question): Arrival {
  const pod = endpointOf(pins, question.client);
  if (pod !== undefined && pod.ifindex !== ITSELF) {
    const link = getLink(netlink, pod.ifindex);
    const note =
      "a pod's socket is translated where it connects; what is shown is its packet's way";
    const macs = { sourceMac: pod.podMac, targetMac: pod.nodeMac };
    return { link, places: ["pod"], ...macs, notes: [note] };
  }
  const edges = devicesWith(pins, netlink, "edge_ingress");
  const hosts = devicesWith(pins, netlink, "from_network");
  const link = chooseDevice(netlink, question, hosts.length > 0 ? hosts : edges);
  const hasEdge = edges.includes(link.index);
  return {
    link,
    places: hasEdge ? ["edge", "host"] : ["host"],
    sourceMac: ROUTER_MAC,
    targetMac: link.mac ?? macFromNumber(0),
    notes: hasEdge ? [] : [`no XDP on ${link.name}: services are balanced in tc there`],
  };
}

/** The one named, the uplink that leads to the client, or any uplink. */
function chooseDevice(netlink: Netlink, question: Question, uplinks: readonly number[]): Link {
  if (question.device !== undefined) return getLink(netlink, question.device);
  const toClient = routeDevice(netlink, question.client);
  const index = uplinks.find((one) => one === toClient) ?? uplinks[0] ?? toClient;
  const link = index === undefined ? undefined : findLink(netlink, index);
  if (link !== undefined) return link;
  throw new Error("no program is attached to a device of this namespace: name one by --device");
}

function routeDevice(netlink: Netlink, address: Address): number | undefined {
  try {
    return getRoute(netlink, { destination: address }).device || undefined;
  } catch {
    return undefined; // no route is no failure here
  }
}

/** A pod of this node, or with `ifindex` 0 the node itself as a backend. */
function endpointOf(pins: string, address: Address) {
  if (isIpv4(address)) {
    using endpoints = openPinned(pins, maps.endpoints);
    return endpoints.lookup({ address });
  }
  using endpoints = openPinned(pins, maps.endpoints6);
  return endpoints.lookup({ address });
}

/** Asks for one stream each way: tag, window, streams, TSN (RFC 9260, 3.3.2). */
const INIT = sctpChunk(1, 0, Uint8Array.of(0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1));

/** A SYN, an INIT, or a short datagram. */
function madeFrame(question: Question, { sourceMac, targetMac }: Arrival): Uint8Array {
  const { client: source, address: target, clientPort: sourcePort, port: targetPort } = question;
  const layers: LayerInit[] = [ethernet({ source: sourceMac, target: targetMac })];
  if (isIpv4(source) && isIpv4(target)) layers.push(ipv4({ source, target, ttl: TTL }));
  else if (!isIpv4(source) && !isIpv4(target)) layers.push(ipv6({ source, target, hopLimit: TTL }));
  else throw new Error("the client's address and the service's are of different families");
  if (question.protocol === "tcp") {
    layers.push(tcp({ sourcePort, targetPort, flags: TCP_FLAG.syn, options: mssOption(MSS) }));
  } else if (question.protocol === "sctp") {
    layers.push(sctp({ sourcePort, targetPort }), payload(INIT));
  } else {
    layers.push(udp({ sourcePort, targetPort }), payload("ciliate"));
  }
  return buildPacket(...layers);
}

/** What the programs would find in the tables that they write. */
function copyBefore(
  pins: string,
  family: FamilyTables,
  question: Question,
): { readonly before: ReadonlyMap<string, Before>; readonly isKnownFlow: boolean } {
  using flows = BpfMap.openPinned(join(pins, family.conntrack.name));
  using affinities = BpfMap.openPinned(join(pins, family.affinities.name));
  const { client, clientPort, address, port, protocol } = question;
  const kept: [Uint8Array, Uint8Array][] = [];
  let all = 0;
  let isKnownFlow = false;
  const pods = backendsAt(pins, family);
  for (const { keys, values, count } of flows.lookupBatches()) {
    all += count;
    const { key: codec } = family.conntrack;
    const [view, { elementBytes }] = [viewOf(keys), flows];
    for (let index = 0; index < count; index++) {
      const key = codec.decode(view, index * codec.size);
      const isClients = key.source === client || key.destination === client;
      // Who takes ports of this node that the flow might get.
      if (!isClients && !pods.has(key.source)) continue;
      kept.push([
        keys.slice(index * codec.size, (index + 1) * codec.size),
        values.slice(index * elementBytes, (index + 1) * elementBytes),
      ]);
      const isThis =
        key.source === client &&
        key.sourcePort === clientPort &&
        key.destination === address &&
        key.destinationPort === port &&
        key.protocol === PROTOCOLS[protocol];
      isKnownFlow ||= isThis;
    }
  }
  const room = kept.length + Math.min(SPARE, Math.max(0, flows.info.maxEntries - all));
  const remembered: [Uint8Array, Uint8Array][] = [];
  for (const [key, value] of affinities.entries()) {
    const { client: of } = family.affinities.key.decode(viewOf(key), 0);
    if (of === client) remembered.push([key, value]);
  }
  const before = new Map<string, Before>([
    [family.conntrack.name, { entries: kept, room: Math.max(1, room) }],
    [family.affinities.name, { entries: remembered, room: 2 * SPARE + remembered.length }],
  ]);
  return { before, isKnownFlow };
}

/** Room for more flows, as far as the node's table has it. */
const SPARE = 1024;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Addresses of all backends. */
function backendsAt(pins: string, family: FamilyTables): ReadonlySet<Address> {
  using rows = openRows(pins, family.backends);
  const found = new Set<Address>();
  for (let index = 0; index < rows.count; index++) {
    const { address, port } = rows.at(index);
    if (port !== 0) found.add(address);
  }
  return found;
}

function serviceOf(pins: string, family: FamilyTables, id: number): Service | undefined {
  if (id === 0) return undefined;
  using services = openRows(pins, maps.services);
  using buckets = openRows(pins, family.frontends);
  for (let index = 0; index < buckets.count; index++) {
    for (const { service } of buckets.at(index).slot) {
      if (service >= services.count) continue;
      const row = services.at(service);
      if (row.id === id) return row;
    }
  }
  return undefined;
}

function backendOf(
  pins: string,
  family: FamilyTables,
  service: Service,
  address: Address,
  question: Question,
  constants: Config,
): ExplainedBackend | undefined {
  using backends = openRows(pins, family.backends);
  using rings = openRows(pins, maps.rings);
  const all = Array.from({ length: service.backendCount }, (_, index) =>
    backends.at(service.backends + index),
  );
  const index = all.findIndex((one) => one.address === address);
  const ownerOf = (slot: number): number =>
    rings.at(service.ring + Math.floor(slot / RING_ROW)).backend[slot % RING_ROW] ?? -1;
  let slots = 0;
  for (let slot = 0; slot < service.ringSize; slot++) if (ownerOf(slot) === index) slots += 1;
  const slot = slotOf(service, { ...question, protocol: PROTOCOLS[question.protocol] }, constants);
  const decided = slot !== undefined && ownerOf(slot) === index ? slot : undefined;
  return { address, port: all[index]?.port ?? 0, slot: decided, slots };
}

const RING_ROW = 32;

interface Surroundings {
  readonly pins: string;
  readonly family: FamilyTables;
  readonly netlink: Netlink;
  /** By which the packet came. */
  readonly link: Link;
}

function describeStep(place: RehearsedPlace, run: Rehearsed, around: Surroundings): ExplainedStep {
  const isSent = run.verdict >= FIRST_SENT && run.verdict < FIRST_DROP;
  const frame = isSent ? run.frame : new Uint8Array(0);
  return {
    place,
    verdict: verdictNames[run.verdict]?.replaceAll("_", " ") ?? `verdict ${run.verdict}`,
    why: verdictTexts[run.verdict] ?? "",
    way: isSent ? wayOf(place, run, around) : undefined,
    layers: isSent ? dissectFrame(frame).map(({ layer }) => formatLayer(layer)) : [],
    bytes: frame,
  };
}

const XDP_TX = 3;
/** An endpoint without a device. */
const ITSELF = 0;

/** The device by the MACs that the program wrote, as a test run tells no more. */
function wayOf(
  place: RehearsedPlace,
  { verdict, action, frame, backend }: Rehearsed,
  { pins, family, netlink, link }: Surroundings,
): ExplainedWay {
  const [target, source] = [readMac(frame, 0), readMac(frame, 6)];
  const mac = formatMac(target);
  const toPod = verdict === Verdict.sentPod && backend !== undefined;
  const pod = toPod ? endpointOf(pins, backend) : undefined;
  if (pod?.ifindex === ITSELF) {
    return { device: "the node itself", nexthop: undefined, mac };
  }
  if (pod !== undefined) {
    const device = findLink(netlink, pod.ifindex)?.name ?? `device ${pod.ifindex}`;
    return { device, nexthop: undefined, mac };
  }
  using nexthops = openRows(pins, family.nexthops);
  for (let index = 0; index < nexthops.count; index++) {
    const row = nexthops.at(index);
    if (row.ifindex === 0 || row.destination !== target || row.source !== source) continue;
    const device = findLink(netlink, row.ifindex)?.name ?? `device ${row.ifindex}`;
    return { device, nexthop: row.gateway, mac };
  }
  if (place === "edge" && action === XDP_TX) return { device: link.name, nexthop: undefined, mac };
  const out = listLinks(netlink).find((one) => one.mac === source);
  if (out !== undefined && target !== link.mac) {
    return { device: out.name, nexthop: undefined, mac };
  }
  const index = backend === undefined ? undefined : routeDevice(netlink, backend);
  const device = index === undefined ? link.name : (findLink(netlink, index)?.name ?? link.name);
  return { device, nexthop: undefined, mac: undefined };
}
