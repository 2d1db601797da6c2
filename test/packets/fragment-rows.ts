// SPDX-License-Identifier: Apache-2.0
// Packets in pieces: the first teaches where the others go.

import type { Ipv4 } from "../../src/net/address.ts";
import { dsrGeneveOption, dsrOption4 } from "../../src/net/dsr.ts";
import type { Mac } from "../../src/net/mac.ts";
import { ethernet, geneve, ipv4, type LayerInit, payload, tcp, udp } from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  IDLE,
  LOST_CLIENT,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  NODE,
  OTHER_NODE,
  SERVICES,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  arriving,
  CLIENT_PORT,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type Packet,
  SYN,
} from "./frames.ts";
import { fromIdle, inPod, intoIdle, toGateway } from "./outbound-frames.ts";
import type { Row } from "./row.ts";

const HOST = ["host"] as const;
const EDGE = ["edge"] as const;
const POD = ["pod"] as const;

type Ip = Omit<Extract<LayerInit, { kind: "ipv4" }>, "kind">;
type Udp = Omit<Extract<LayerInit, { kind: "udp" }>, "kind">;

/** The first 32 bytes of a datagram, whose checksum is of all of it, and the others. */
const CHECKSUM = 0x1234;
export const first = (ip: Ip, ports: Udp): Packet => [
  ipv4({ id: 7, moreFragments: true, dontFragment: false, ...ip }),
  udp({ length: 56, ...ports }),
  payload(24),
];
export const later = (ip: Ip): Packet => [
  ipv4({ id: 7, fragmentOffset: 32, dontFragment: false, protocol: 17, ...ip }),
  payload(24),
];

const TO_FAR = { source: CLIENT, target: SERVICES.farDns.address, ttl: 60 };
const TO_NEAR = { source: CLIENT, target: SERVICES.nearDns.address, ttl: 60 };
const ASK = { sourcePort: CLIENT_PORT, targetPort: 53 };
const firstToFar = first(TO_FAR, ASK);
const laterToFar = later(TO_FAR);

/** Of a connection to a service without backends, whose first piece is answered by RST. */
const toEmpty = (source: Ipv4): Packet => [
  ipv4({ source, target: SERVICES.empty.address, id: 7, moreFragments: true, dontFragment: false }),
  tcp({ sourcePort: CLIENT_PORT, targetPort: SERVICES.empty.port, flags: SYN }),
  payload(12),
];
const toEmptyLater = (source: Ipv4): Packet =>
  later({ source, target: SERVICES.empty.address, protocol: 6 });

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const fromNear = (packet: Packet): Packet => framed(NEAR_MAC, NEAR_NODE_MAC, packet);
const learned = [{ packet: arriving(firstToFar) }];
const delivered = [{ packet: ipipToNear(first(TO_NEAR, ASK)) }];
const ANSWER = { sourcePort: 5353, targetPort: CLIENT_PORT };
const FROM_NEAR = { source: NEAR, target: CLIENT, ttl: 64 };
const FROM_SERVICE = { source: SERVICES.nearDns.address, target: CLIENT, ttl: 63 };

const inIpip = (packet: Packet): Packet => ipipTo(FAR, packet);

/** Whatever the dispatch is, as pieces have no ports to tell a service by; by this next hop. */
export const piecesInIpip = (
  nexthop: Mac,
  encapsulated: (packet: Packet) => Packet = inIpip,
): readonly Row[] => [
  {
    title: "a first piece is encapsulated in IPIP",
    places: HOST,
    coming: { packet: arriving(firstToFar) },
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(UPLINK_MAC, nexthop, encapsulated(firstToFar)),
    isCut: true,
  },
  {
    title: "a later piece goes where the first went",
    places: HOST,
    before: learned,
    coming: { packet: arriving(laterToFar) },
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(UPLINK_MAC, nexthop, encapsulated(laterToFar)),
    isCut: true,
  },
];

const BALANCED: readonly Row[] = [
  {
    title: "pieces for a service's address are the host's, from XDP on",
    places: EDGE,
    coming: { packet: arriving(firstToFar) },
    verdict: "PASS_FRAGMENT",
  },
  ...piecesInIpip(GATEWAY_MAC),
  {
    title: "a later piece without a first is dropped",
    places: HOST,
    coming: { packet: arriving(laterToFar) },
    verdict: "DROP_FRAGMENT",
  },
  ...[
    ["another datagram", later({ ...TO_FAR, id: 8 })],
    ["another client", later({ ...TO_FAR, source: LOST_CLIENT })],
    ["another protocol", later({ ...TO_FAR, protocol: 6 })],
  ].map(
    ([whose, packet]) =>
      ({
        title: `a later piece of ${whose} is dropped`,
        places: HOST,
        before: learned,
        coming: { packet: arriving(packet as Packet) },
        verdict: "DROP_FRAGMENT",
      }) as const,
  ),
  {
    title: "a first piece without a whole header of UDP is dropped",
    places: HOST,
    coming: { packet: arriving([ipv4({ ...TO_FAR, moreFragments: true, protocol: 17 })]) },
    verdict: "DROP_FRAGMENT",
  },
  {
    title: "pieces of no service's pass",
    places: HOST,
    before: [{ packet: arriving(first({ ...TO_FAR, target: LOST_CLIENT }, ASK)) }],
    coming: { packet: arriving(later({ ...TO_FAR, target: LOST_CLIENT })) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a later piece for a service without backends is not answered",
    places: HOST,
    before: [{ packet: arriving(toEmpty(CLIENT)) }],
    coming: { packet: arriving(toEmptyLater(CLIENT)) },
    verdict: "DROP_NO_BACKEND",
  },
];

const DELIVERED: readonly Row[] = [
  {
    title: "a first piece goes into the pod, translated",
    places: HOST,
    coming: { packet: ipipToNear(first(TO_NEAR, { ...ASK, checksum: 0 })) },
    verdict: "SENT_POD",
    leaving: intoNear(
      first({ ...TO_NEAR, target: NEAR }, { ...ASK, targetPort: 5353, checksum: 0 }),
    ),
    isCut: true,
  },
  {
    title: "a later piece follows into the pod, its payload untouched",
    places: HOST,
    before: delivered,
    coming: { packet: ipipToNear(later(TO_NEAR)) },
    verdict: "SENT_POD",
    leaving: intoNear(later({ ...TO_NEAR, target: NEAR })),
    isCut: true,
  },
  {
    title: "a later piece inside IPIP without a first is dropped",
    places: HOST,
    coming: { packet: ipipToNear(later(TO_NEAR)) },
    verdict: "DROP_FRAGMENT",
  },
  {
    title: "a pod's first piece of an answer goes to the client",
    places: POD,
    before: delivered,
    coming: { packet: fromNear(first(FROM_NEAR, { ...ANSWER, checksum: 0 })) },
    verdict: "SENT_REPLY",
    leaving: viaGateway(first(FROM_SERVICE, { ...ANSWER, sourcePort: 53, checksum: 0 })),
    isCut: true,
  },
  {
    title: "a later piece of an answer follows",
    places: POD,
    before: [
      ...delivered,
      { place: "pod", packet: fromNear(first(FROM_NEAR, { ...ANSWER, checksum: CHECKSUM })) },
    ],
    coming: { packet: fromNear(later(FROM_NEAR)) },
    verdict: "SENT_REPLY",
    leaving: viaGateway(later(FROM_SERVICE)),
    isCut: true,
  },
  {
    title: "a pod's later piece without a first passes",
    places: POD,
    before: delivered,
    coming: { packet: fromNear(later(FROM_NEAR)) },
    verdict: "PASS_NOT_OURS",
  },
];

const nearDns = SERVICES.nearDns.address;
const inGeneve = (packet: Packet): Packet =>
  arriving([
    ipv4({ source: OTHER_NODE, target: NODE, ttl: 64, dontFragment: true }),
    udp({ sourcePort: 50_000, checksum: 0 }),
    geneve({ vni: 2, critical: true, options: dsrGeneveOption(nearDns, 53) }),
    ethernet({}),
    ...packet,
  ]);
const INSIDE = { source: CLIENT, target: NEAR, ttl: 60 };

const TOLD: readonly Row[] = [
  {
    title: "a first piece inside Geneve is dropped",
    places: HOST,
    coming: { packet: inGeneve(first(INSIDE, { ...ASK, targetPort: 5353 })) },
    verdict: "DROP_FRAGMENT",
  },
  {
    title: "a later piece inside Geneve is dropped, whatever is known of the first",
    places: HOST,
    before: delivered,
    coming: { packet: inGeneve(later(INSIDE)) },
    verdict: "DROP_FRAGMENT",
  },
];

/** Of a node that believes options. */
export const PIECES_WITH_OPTIONS: readonly Row[] = [
  {
    title: "a piece with an option passes, as it says no service",
    places: HOST,
    coming: {
      packet: arriving(
        first({ ...INSIDE, options: dsrOption4(nearDns, 53) }, { ...ASK, targetPort: 5353 }),
      ),
    },
    verdict: "PASS_NOT_OURS",
  },
];

const pieces = (source: Ipv4, target: Ipv4, ttl: number, ports: Udp) =>
  [
    first({ source, target, ttl }, { ...ports, checksum: 0 }),
    later({ source, target, ttl }),
  ] as const;
/** What the idle pod asks, and what backends get of it. */
const asking = (target: Ipv4) => pieces(IDLE, target, 64, ASK);
const asked = (pod: Ipv4) => pieces(IDLE, pod, 63, { ...ASK, targetPort: 5353 });
/** What a backend answers, and what the idle pod gets of it. */
const answering = (pod: Ipv4, ttl: number) => pieces(pod, IDLE, ttl, ANSWER);
const answered = (service: Ipv4, ttl: number) =>
  pieces(service, IDLE, ttl, { ...ANSWER, sourcePort: 53 });
const [askFar, askFarLater] = asking(SERVICES.farDns.address);
const [farAsked, farAskedLater] = asked(FAR);
const [askNear] = asking(nearDns);
const askedFar = [inPod(fromIdle(askFar))];
const askedNear = [inPod(fromIdle(askNear))];
const [farSays, farSaysLater] = answering(FAR, 62);
const [idleHears, idleHearsLater] = answered(SERVICES.farDns.address, 62);
const [nearSays, nearSaysLater] = answering(NEAR, 64);
const [idleHearsNear, idleHearsNearLater] = answered(nearDns, 63);

const OUTBOUND: readonly Row[] = [
  {
    title: "a pod's first piece to a service goes to a backend",
    places: POD,
    coming: fromIdle(askFar),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(farAsked),
    isCut: true,
  },
  {
    title: "a pod's later piece to a service follows the first",
    places: POD,
    before: askedFar,
    coming: fromIdle(askFarLater),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(farAskedLater),
    isCut: true,
  },
  {
    title: "a pod's later piece to a service without a first passes",
    places: POD,
    coming: fromIdle(askFarLater),
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a pod's later piece to a service without backends is not answered",
    places: POD,
    before: [inPod(fromIdle(toEmpty(IDLE)))],
    coming: fromIdle(toEmptyLater(IDLE)),
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "a first piece of a backend's answer to a pod comes from the service",
    places: HOST,
    before: askedFar,
    coming: { packet: arriving(farSays) },
    verdict: "SENT_POD",
    leaving: intoIdle(idleHears),
    isCut: true,
  },
  {
    title: "a later piece of a backend's answer to a pod follows",
    places: HOST,
    before: [...askedFar, { packet: arriving(farSays) }],
    coming: { packet: arriving(farSaysLater) },
    verdict: "SENT_POD",
    leaving: intoIdle(idleHearsLater),
    isCut: true,
  },
  {
    title: "a first piece of a pod's answer to a pod comes from the service",
    places: POD,
    before: askedNear,
    coming: { packet: fromNear(nearSays) },
    verdict: "SENT_REPLY",
    leaving: intoIdle(idleHearsNear),
    isCut: true,
  },
  {
    title: "a later piece of a pod's answer to a pod follows",
    places: POD,
    before: [...askedNear, { place: "pod", packet: fromNear(nearSays) }],
    coming: { packet: fromNear(nearSaysLater) },
    verdict: "SENT_REPLY",
    leaving: intoIdle(idleHearsNearLater),
    isCut: true,
  },
];

export const FRAGMENT_ROWS: readonly Row[] = [...BALANCED, ...DELIVERED, ...TOLD, ...OUTBOUND];

/** Of a node whose sockets are left alone. */
export const OWN_FRAGMENT_ROWS: readonly Row[] = [
  {
    title: "a piece of what the node sends to a service goes out as it is",
    places: ["node"],
    coming: {
      packet: viaGateway(first({ ...TO_FAR, source: NODE, ttl: 64 }, { ...ASK, checksum: 0 })),
    },
    verdict: "PASS_NOT_OURS",
  },
];

const FROM_FAR = { source: FAR, target: NODE, ttl: 62 };
const TO_CLIENT = { source: SERVICES.farDns.address, target: CLIENT, ttl: 61 };

export const FRAGMENT_SNAT_ROWS: readonly Row[] = [
  {
    title: "a first piece gets this node's address as source",
    places: HOST,
    coming: { packet: arriving(first(TO_FAR, { ...ASK, checksum: 0 })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(
      first(
        { ...TO_FAR, source: NODE, target: FAR, ttl: 59 },
        { ...ASK, targetPort: 5353, checksum: 0 },
      ),
    ),
    isCut: true,
  },
  {
    title: "a later piece does too",
    places: HOST,
    before: learned,
    coming: { packet: arriving(laterToFar) },
    verdict: "SENT_NAT",
    leaving: viaGateway(later({ ...TO_FAR, source: NODE, target: FAR, ttl: 59 })),
    isCut: true,
  },
  {
    title: "a later piece of an answer to SNAT follows the first",
    places: HOST,
    before: [...learned, { packet: arriving(first(FROM_FAR, ANSWER)) }],
    coming: { packet: arriving(later(FROM_FAR)) },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(later(TO_CLIENT)),
    isCut: true,
  },
];
