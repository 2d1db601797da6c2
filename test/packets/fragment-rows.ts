// SPDX-License-Identifier: Apache-2.0
// Packets in pieces: the first teaches where the others go.

import { ipv4, type LayerInit, payload, udp } from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  LOST_CLIENT,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  NODE,
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
} from "./frames.ts";
import type { Row } from "./row.ts";

const HOST = ["host"] as const;
const EDGE = ["edge"] as const;
const POD = ["pod"] as const;

type Ip = Omit<Extract<LayerInit, { kind: "ipv4" }>, "kind">;
type Udp = Omit<Extract<LayerInit, { kind: "udp" }>, "kind">;

/** The first 32 bytes of a datagram, whose checksum is of all of it, and the others. */
const CHECKSUM = 0x1234;
const first = (ip: Ip, ports: Udp): Packet => [
  ipv4({ id: 7, moreFragments: true, dontFragment: false, ...ip }),
  udp({ length: 56, ...ports }),
  payload(24),
];
const later = (ip: Ip): Packet => [
  ipv4({ id: 7, fragmentOffset: 32, dontFragment: false, protocol: 17, ...ip }),
  payload(24),
];

const TO_FAR = { source: CLIENT, target: SERVICES.farDns.address, ttl: 60 };
const TO_NEAR = { source: CLIENT, target: SERVICES.nearDns.address, ttl: 60 };
const ASK = { sourcePort: CLIENT_PORT, targetPort: 53 };
const firstToFar = first(TO_FAR, ASK);
const laterToFar = later(TO_FAR);

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const fromNear = (packet: Packet): Packet => framed(NEAR_MAC, NEAR_NODE_MAC, packet);
const learned = [{ packet: arriving(firstToFar) }];
const delivered = [{ packet: ipipToNear(first(TO_NEAR, ASK)) }];
const ANSWER = { sourcePort: 5353, targetPort: CLIENT_PORT };
const FROM_NEAR = { source: NEAR, target: CLIENT, ttl: 64 };
const FROM_SERVICE = { source: SERVICES.nearDns.address, target: CLIENT, ttl: 63 };

const BALANCED: readonly Row[] = [
  {
    title: "pieces for a service's address are the host's, from XDP on",
    places: EDGE,
    coming: { packet: arriving(firstToFar) },
    verdict: "PASS_FRAGMENT",
  },
  {
    title: "a first piece is encapsulated",
    places: HOST,
    coming: { packet: arriving(firstToFar) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, firstToFar)),
    isCut: true,
  },
  {
    title: "a later piece goes where the first went",
    places: HOST,
    before: learned,
    coming: { packet: arriving(laterToFar) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, laterToFar)),
    isCut: true,
  },
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
    before: [{ packet: arriving(first({ ...TO_FAR, target: SERVICES.empty.address }, ASK)) }],
    coming: { packet: arriving(later({ ...TO_FAR, target: SERVICES.empty.address })) },
    verdict: "DROP_FRAGMENT",
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

export const FRAGMENT_ROWS: readonly Row[] = [...BALANCED, ...DELIVERED];

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
