// SPDX-License-Identifier: Apache-2.0
// What backends answer to the node's own address.

import type { Ipv4 } from "../../src/net/address.ts";
import { ipv4, payload, tcp, udp } from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  LOST_CLIENT,
  NEAR_MAC,
  NEAR_NODE_MAC,
  NODE,
  SERVICES,
  SILENT_CLIENT,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  CLIENT_PORT,
  framed,
  type More,
  type Packet,
  RST,
  type ServiceName,
  SYN,
  toService,
} from "./frames.ts";
import type { Row } from "./row.ts";
import { BOTH, CANDIDATE, opened, syn, viaGateway } from "./snat-rows.ts";
import { expectFlows } from "./tables.ts";
import { tooBig } from "./too-big.ts";

const EDGE = ["edge"] as const;
const HOST = ["host"] as const;

/** The far pod's answer, as it sends it. */
function farTcp(flags: number, more: More = {}): Packet {
  return arriving([
    ipv4({ source: FAR, target: NODE, ttl: 62, id: 9, ...more.ip }),
    tcp({ sourcePort: 8080, targetPort: CLIENT_PORT, flags, ...more.tcp }),
    payload(more.payload ?? ""),
  ]);
}

/** The same as the client gets it. */
function clientTcp(name: ServiceName, flags: number, more: More = {}): Packet {
  return [
    ipv4({ source: SERVICES[name].address, target: CLIENT, ttl: 61, id: 9, ...more.ip }),
    tcp({ sourcePort: 80, targetPort: CLIENT_PORT, flags, ...more.tcp }),
    payload(more.payload ?? ""),
  ];
}

const farUdp = (more: More = {}): Packet =>
  arriving([
    ipv4({ source: FAR, target: NODE, ttl: 62 }),
    udp({ sourcePort: 5353, targetPort: CLIENT_PORT, ...more.udp }),
    payload("answer"),
  ]);
const clientUdp = (more: More = {}): Packet => [
  ipv4({ source: SERVICES.farDns.address, target: CLIENT, ttl: 61 }),
  udp({ sourcePort: 53, targetPort: CLIENT_PORT, ...more.udp }),
  payload("answer"),
];

const asked = [{ packet: arriving(askService("farDns")) }];
const openedBy = (source: Ipv4) => [
  { packet: arriving(toService("far", SYN, { ip: { source } })) },
];

export const SNAT_REPLY_ROWS: readonly Row[] = [
  {
    title: "a reply gets the service's address and port and goes to the client",
    places: BOTH,
    before: opened,
    coming: { packet: farTcp(SYN | ACK) },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(clientTcp("far", SYN | ACK)),
    back: true,
    check: (stage) => expectFlows(stage, "request 1 replied snat", "reply 1 replied snat"),
  },
  {
    title: "a UDP reply does too",
    places: BOTH,
    before: asked,
    coming: { packet: farUdp() },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(clientUdp()),
    back: true,
  },
  {
    title: "a UDP reply without a checksum stays without one",
    places: BOTH,
    before: asked,
    coming: { packet: farUdp({ udp: { checksum: 0 } }) },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(clientUdp({ udp: { checksum: 0 } })),
    back: true,
  },
  {
    title: "a reply to another port than the client's goes to the client's own",
    places: BOTH,
    before: [syn, { packet: arriving(toService("wentFar", SYN)) }],
    coming: { packet: farTcp(ACK, { tcp: { targetPort: CANDIDATE.wentFar } }) },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(clientTcp("wentFar", ACK)),
    back: true,
  },
  {
    title: "a pod's RST resets both entries",
    places: BOTH,
    before: opened,
    coming: { packet: farTcp(RST) },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(clientTcp("far", RST)),
    back: true,
    check: (stage) =>
      expectFlows(stage, "request 1 reset replied snat", "reply 1 reset replied snat"),
  },
  {
    title: "a reply of no flow is the node's own",
    places: BOTH,
    coming: { packet: farTcp(ACK) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a reply to a port below those of SNAT is the node's own",
    places: BOTH,
    before: opened,
    coming: { packet: farTcp(ACK, { tcp: { targetPort: 32_767 } }) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a reply that a pod of this node forges is none",
    places: ["pod"],
    before: opened,
    coming: { packet: framed(NEAR_MAC, NEAR_NODE_MAC, farTcp(ACK).slice(1)) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a reply whose TTL ends is left to the kernel",
    places: BOTH,
    before: opened,
    coming: { packet: farTcp(ACK, { ip: { ttl: 1 } }) },
    verdict: "PASS_TTL",
    check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
  },
  {
    title: "a reply too big for the way to the client is answered to the pod, from the node",
    shorter: 20,
    places: BOTH,
    before: opened,
    coming: { packet: farTcp(ACK, { payload: 1461 }) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(farTcp(ACK, { payload: 1461 }).slice(1), 1520),
    back: true,
  },
  {
    title: "a reply that may be cut is left to the host",
    only: "ipv4",
    places: EDGE,
    before: opened,
    coming: { packet: farTcp(ACK, { payload: 1461, ip: { dontFragment: false } }) },
    verdict: "PASS_UNRESOLVED",
  },
  {
    title: "a reply that may be cut goes to the kernel, translated",
    only: "ipv4",
    places: HOST,
    before: opened,
    coming: { packet: farTcp(ACK, { payload: 1461, ip: { dontFragment: false } }) },
    verdict: "PASS_TOO_BIG",
    leaving: arriving(
      clientTcp("far", ACK, { payload: 1461, ip: { ttl: 62, dontFragment: false } }),
    ),
  },
  {
    title: "a reply that leaves by another device than it came by is left to the host",
    places: EDGE,
    before: opened,
    coming: { packet: farTcp(ACK), from: 1 },
    verdict: "PASS_UNRESOLVED",
  },
  {
    title: "a reply for which there is no route is left to the host",
    places: EDGE,
    before: openedBy(LOST_CLIENT),
    coming: { packet: farTcp(ACK) },
    verdict: "PASS_UNRESOLVED",
  },
  {
    title: "a reply for which there is no route goes to the kernel, translated",
    places: HOST,
    before: openedBy(LOST_CLIENT),
    coming: { packet: farTcp(ACK) },
    verdict: "PASS_STACK",
    leaving: arriving(clientTcp("far", ACK, { ip: { ttl: 62, target: LOST_CLIENT } })),
  },
  {
    title: "a reply whose gateway has no MAC yet is left to the host",
    places: EDGE,
    before: openedBy(SILENT_CLIENT),
    coming: { packet: farTcp(ACK), from: 1 },
    verdict: "PASS_UNRESOLVED",
  },
  {
    title: "a reply whose gateway has no MAC yet is sent by the kernel's neighbour table",
    places: HOST,
    before: openedBy(SILENT_CLIENT),
    coming: { packet: farTcp(ACK) },
    verdict: "SENT_NAT_REPLY",
    leaving: viaGateway(clientTcp("far", ACK, { ip: { target: SILENT_CLIENT } })),
    toNeighbour: true,
  },
];
