// SPDX-License-Identifier: Apache-2.0
// Packets to services that are forwarded by SNAT.

import { ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { payload } from "../../src/net/packet.ts";
import { OWN_SOCKETS } from "../differential/places.ts";
import { FAR, GATEWAY_MAC, NEAR, NODE, SILENT, UPLINK_MAC } from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  CLIENT_PORT,
  FIN,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type More,
  type Packet,
  RST,
  SYN,
  tcpTo,
  toService,
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import {
  expectCounted,
  expectFlows,
  limitReached,
  nexthopRaised,
  portsTaken,
  roomFor,
  serviceChanged,
} from "./tables.ts";
import { tooBig } from "./too-big.ts";

export const BOTH = ["edge", "host"] as const;
const EDGE = ["edge"] as const;
const HOST = ["host"] as const;
/** The first candidates of flows under seed 42, worked out by hand. */
export const CANDIDATE = {
  lowPort: 65_515,
  wentFar: 56_091,
  ownTcp: 59_538,
  ownUdp: 40_331,
} as const;
/** All candidates of the flow to `far`, in their order. */
const ALL_CANDIDATES = [
  40000, 61406, 63455, 65505, 34786, 36836, 38885, 40935, 42984, 45034, 47083, 49133, 51182, 53232,
  55281, 57331, 59380, 61430, 63479, 65529, 34810, 36860, 38909, 40959, 43008, 45058, 47107, 49157,
  51206, 53256, 55305, 57355, 59404,
];

/** From now on all services are forwarded by SNAT. */
export function serveBySnat({ maps }: Stage): void {
  for (const [row, service] of [...maps.services.entries()]) {
    const flags = service.flags | ServiceFlag.snat;
    if (service.id !== 0) maps.services.update(row, { ...service, flags });
  }
}

export const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);

/** What the far pod gets of the client's TCP packet: this node is its client. */
function natTcp(flags: number, more: More = {}, sourcePort = CLIENT_PORT): Packet {
  return tcpTo(FAR, 8080, flags, {
    ...more,
    ip: { source: NODE, ttl: 59, ...more.ip },
    tcp: { sourcePort, ...more.tcp },
  });
}

function natUdp(more: More = {}, sourcePort = CLIENT_PORT): Packet {
  const ip = { source: NODE, ttl: 59, ...more.ip };
  return udpTo(FAR, 5353, { ...more, ip, udp: { sourcePort, ...more.udp } });
}

/** Makes the sum of the translated packet to the far pod all ones. */
const ZERO_SUM = payload(Uint8Array.of(0x98, 0x88));

/** The first packet of a flow to `far`, and what has come before then. */
export const syn = { packet: arriving(toService("far", SYN)) };
export const opened = [syn];
const REQUESTS: readonly Row[] = [
  {
    title: "a SYN gets the node's address as its source, and keeps its port",
    places: BOTH,
    coming: syn,
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN)),
    back: true,
    check: (stage) => {
      expectFlows(stage, "request 1 snat", "reply 0 snat");
      expectCounted(stage, 1, 54, 1, 0);
    },
  },
  {
    title: "a later packet follows its flow, with options and payload as they were",
    places: BOTH,
    before: opened,
    coming: {
      packet: arriving(
        toService("far", ACK, { ip: { options: new Uint8Array(4).fill(1) }, payload: "hello" }),
      ),
    },
    verdict: "SENT_NAT",
    leaving: viaGateway(
      natTcp(ACK, { ip: { options: new Uint8Array(4).fill(1) }, payload: "hello" }),
    ),
    back: true,
    check: (stage) => expectFlows(stage, "request 2 snat", "reply 0 snat"),
  },
  {
    title: "a UDP packet is a new flow, and a connection",
    places: BOTH,
    coming: { packet: arriving(askService("farDns")) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natUdp()),
    back: true,
    check: (stage) => expectCounted(stage, 1, 47, 1, 0),
  },
  {
    title: "a UDP packet without a checksum stays without one",
    places: BOTH,
    coming: { packet: arriving(askService("farDns", { udp: { checksum: 0 } })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natUdp({ udp: { checksum: 0 } })),
    back: true,
  },
  {
    // RFC 768: 0 means that there is none.
    title: "a UDP checksum that comes to 0 is sent as all ones",
    only: "ipv4",
    places: BOTH,
    coming: { packet: arriving([...askService("farDns").slice(0, 2), ZERO_SUM]) },
    verdict: "SENT_NAT",
    leaving: viaGateway([...natUdp({ udp: { checksum: 0xffff } }).slice(0, 2), ZERO_SUM]),
    back: true,
  },
  {
    title: "an ACK of no known flow makes one",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK)),
    back: true,
    check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
  },
  ...[FIN, RST, 0].map(
    (flags): Row => ({
      title: `flags ${flags} of no known flow are dropped`,
      places: BOTH,
      coming: { packet: arriving(toService("far", flags)) },
      verdict: "DROP_UNKNOWN_FLOW",
      check: (stage) => expectFlows(stage),
    }),
  ),
  {
    title: "a SYN after an RST begins a new flow",
    places: BOTH,
    before: [syn, { packet: arriving(toService("far", RST)) }],
    coming: syn,
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN)),
    back: true,
    check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
  },
  {
    title: "a known flow goes on when its service has no backends any more",
    places: BOTH,
    before: opened,
    poke: serviceChanged("far", { backendCount: 0 }),
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK)),
    back: true,
  },
  {
    title: "a service without backends takes nothing new",
    places: BOTH,
    poke: serviceChanged("empty", { flags: ServiceFlag.snat }),
    coming: { packet: arriving(toService("empty", SYN)) },
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "a packet whose TTL ends is left to the kernel",
    places: BOTH,
    before: opened,
    coming: { packet: arriving(toService("far", ACK, { ip: { ttl: 1 } })) },
    verdict: "PASS_TTL",
    check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
  },
  {
    title: "a full-sized packet goes as it is",
    shorter: 20,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: 1460 })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK, { payload: 1460 })),
    back: true,
  },
  {
    title: "a packet that is too big is answered with the whole MTU",
    shorter: 20,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: 1461 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("far", ACK, { payload: 1461 }), 1520),
    back: true,
  },
  {
    title: "too big packets are answered within the service's limit",
    places: BOTH,
    poke: limitReached("far"),
    coming: { packet: arriving(toService("far", ACK, { payload: 1461 })) },
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    title: "a GSO packet whose segments fit goes as one",
    shorter: 20,
    places: HOST,
    coming: { packet: arriving(toService("far", ACK, { payload: 2920 })), gsoSize: 1460 },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK, { payload: 2920 })),
  },
];

const PORTS: readonly Row[] = [
  {
    title: "a port below those of SNAT becomes another one",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN, { tcp: { sourcePort: 1234 } })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN, {}, CANDIDATE.lowPort)),
    back: true,
  },
  {
    title: "a port that another flow to the pod has becomes another one",
    places: BOTH,
    before: opened,
    coming: { packet: arriving(toService("wentFar", SYN)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN, {}, CANDIDATE.wentFar)),
    back: true,
    check: (stage) =>
      expectFlows(
        stage,
        "request 1 snat",
        "reply 0 snat",
        `request 1 alias ${CANDIDATE.wentFar} snat`,
        `reply 0 alias ${CANDIDATE.wentFar} snat`,
      ),
  },
  {
    title: "a port of a flow that is over is free, and that flow goes",
    places: BOTH,
    before: [syn, { packet: arriving(toService("far", RST)) }],
    coming: { packet: arriving(toService("wentFar", SYN)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN)),
    back: true,
    check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
  },
  {
    title: "a port at which the node itself listens becomes another one",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN, { tcp: { sourcePort: OWN_SOCKETS.tcp } })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN, {}, CANDIDATE.ownTcp)),
    back: true,
  },
  {
    title: "a port of the node's own UDP socket becomes another one",
    places: BOTH,
    coming: { packet: arriving(askService("farDns", { udp: { sourcePort: OWN_SOCKETS.udp } })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natUdp({}, CANDIDATE.ownUdp)),
    back: true,
  },
  {
    title: "the last candidate is tried",
    places: BOTH,
    poke: portsTaken(ALL_CANDIDATES.slice(0, -1), FAR, NODE),
    coming: syn,
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN, {}, ALL_CANDIDATES.at(-1))),
    back: true,
  },
  {
    title: "without a free port a new flow is dropped",
    places: BOTH,
    poke: portsTaken(ALL_CANDIDATES, FAR, NODE),
    coming: syn,
    verdict: "DROP_NAT_EXHAUSTED",
  },
  ...[0, 1].map(
    (entriesLeft): Row => ({
      title: `with room for ${entriesLeft} entries a new flow is dropped, and leaves nothing`,
      places: BOTH,
      poke: roomFor(entriesLeft),
      coming: syn,
      verdict: "DROP_CONNTRACK_FULL",
      check: (stage) => {
        const { maxEntries } = stage.maps.conntrack.raw.info;
        const there = [...stage.maps.conntrack.entries()].length;
        if (there !== maxEntries - entriesLeft) throw new Error(`${there} entries are left`);
      },
    }),
  ),
];

const WAYS: readonly Row[] = [
  {
    title: "a flow whose next hop has another generation is left to the host",
    places: EDGE,
    before: opened,
    poke: nexthopRaised(FAR),
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "PASS_UNRESOLVED",
    check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
  },
  {
    title: "a flow whose next hop has another generation goes by the FIB",
    places: HOST,
    before: opened,
    poke: nexthopRaised(FAR),
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK)),
  },
  {
    title: "a packet whose next hop has no MAC yet is left to the host, its flow made",
    places: EDGE,
    coming: { packet: arriving(toService("silent", SYN)) },
    verdict: "PASS_UNRESOLVED",
    check: (stage) => expectFlows(stage, "request 0 snat", "reply 0 snat"),
  },
  {
    title: "a packet whose next hop has no MAC yet is sent by the kernel's neighbour table",
    places: HOST,
    coming: { packet: arriving(toService("silent", SYN)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(tcpTo(SILENT, 8080, SYN, { ip: { source: NODE, ttl: 59 } })),
    toNeighbour: true,
  },
  {
    title: "a backend to which no route leads is a drop",
    places: HOST,
    coming: { packet: arriving(toService("nowhere", SYN)) },
    verdict: "DROP_NO_ROUTE",
  },
];

const LOCAL: readonly Row[] = [
  {
    title: "a packet for a pod of this node is left to the host",
    places: EDGE,
    coming: { packet: arriving(toService("near", SYN)) },
    verdict: "PASS_LOCAL",
  },
  {
    title: "a pod of this node sees the client's own address",
    places: HOST,
    coming: { packet: arriving(toService("near", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 1, 54, 1, 1);
    },
  },
  {
    title: "a flow of a pod of this node stays there, at the edge",
    places: EDGE,
    before: [{ packet: ipipToNear(toService("wentFar", SYN)) }],
    coming: { packet: arriving(toService("wentFar", ACK)) },
    verdict: "PASS_LOCAL",
  },
  {
    title: "a flow of a pod of this node stays there though its slot is another pod's",
    places: HOST,
    before: [{ packet: ipipToNear(toService("wentFar", SYN)) }],
    coming: { packet: arriving(toService("wentFar", ACK)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, ACK)),
    check: (stage) => expectCounted(stage, 1, 54, 0, 1),
  },
  {
    title: "what another node sends to a pod of this one ends a flow of SNAT",
    places: HOST,
    before: [{ packet: arriving(toService("wentFar", SYN)) }],
    coming: { packet: ipipToNear(toService("wentFar", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
];

const viaIpip = (flags: number): Packet => viaGateway(ipipTo(FAR, toService("far", flags)));
const WAS_DSR = ServiceFlag.snat | ServiceFlag.wasDsr;

const CHANGES: readonly Row[] = [
  {
    title: "a flow of SNAT goes on when its service has become DSR",
    places: BOTH,
    before: opened,
    poke: serviceChanged("far", { flags: ServiceFlag.wasSnat }),
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK)),
    back: true,
  },
  {
    title: "a new flow of a service that was SNAT goes by DSR",
    places: BOTH,
    poke: serviceChanged("far", { flags: ServiceFlag.wasSnat }),
    coming: syn,
    verdict: "SENT_ENCAPSULATED",
    leaving: viaIpip(SYN),
    back: true,
    check: (stage) => expectFlows(stage),
  },
  ...[ACK, FIN, RST].map(
    (flags): Row => ({
      title: `flags ${flags} of no known flow go by DSR when the service was DSR`,
      places: BOTH,
      poke: serviceChanged("far", { flags: WAS_DSR }),
      coming: { packet: arriving(toService("far", flags)) },
      verdict: "SENT_ENCAPSULATED",
      leaving: viaIpip(flags),
      back: true,
      check: (stage) => expectFlows(stage),
    }),
  ),
  {
    title: "a SYN to a service that was DSR goes by SNAT",
    places: BOTH,
    poke: serviceChanged("far", { flags: WAS_DSR }),
    coming: syn,
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(SYN)),
    back: true,
  },
  {
    title: "a flow of SNAT is known to a service that was DSR",
    places: BOTH,
    before: opened,
    poke: serviceChanged("far", { flags: WAS_DSR }),
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natTcp(ACK)),
    back: true,
  },
  {
    title: "UDP to a service that was DSR goes by SNAT",
    places: BOTH,
    poke: serviceChanged("farDns", { flags: WAS_DSR }),
    coming: { packet: arriving(askService("farDns")) },
    verdict: "SENT_NAT",
    leaving: viaGateway(natUdp()),
    back: true,
  },
  {
    title: "a service that was SNAT refuses clients as any other",
    places: BOTH,
    poke: serviceChanged("far", { flags: ServiceFlag.wasSnat | ServiceFlag.sourceRanges }),
    coming: syn,
    verdict: "DROP_SOURCE_RANGE",
  },
];

export const SNAT_ROWS: readonly Row[] = [...CHANGES, ...REQUESTS, ...PORTS, ...WAYS, ...LOCAL];
