// SPDX-License-Identifier: Apache-2.0
// What only IPv6 has: extension headers, flow labels, neighbour discovery.

import { type Ipv6, parseIpv6 } from "../../src/net/address.ts";
import { parseMac } from "../../src/net/mac.ts";
import {
  buildPacket,
  destinationOptions,
  ethernet,
  fragment,
  hopByHop,
  type Init,
  icmpv6,
  ipv6,
  type LayerInit,
  mssOption,
  payload,
  routing,
  tcp,
  udp,
} from "../../src/net/packet.ts";
import { flowHash6 } from "../model/hash.ts";
import { widen } from "../wide/address.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  NODE,
  OTHER_NODE,
  ROUTER_MAC,
  SERVICES,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import { ACK, arriving, CLIENT_PORT, framed, intoNear, type Packet, SYN } from "./frames.ts";
import type { Row } from "./row.ts";

const BOTH = ["edge", "host"] as const;
const HOST = ["host"] as const;
const POD = ["pod"] as const;
const SEED = 42n;
const TCP = 6;
const MTU = 1500;
/** Of IPv6 and TCP. */
const HEADERS = 60;
/** An MSS that is too large for any way. */
const OFFERED = 8940;

const client = widen(CLIENT);
const far = widen(SERVICES.far.address);
const near = widen(SERVICES.near.address);
const LINK_LOCAL = parseIpv6("fe80::1");
const OTHER_LINK_LOCAL = parseIpv6("fe80::2");
const ALL_NODES_MAC = parseMac("33:33:00:00:00:01");

const header = (more: Init<"ipv6">): LayerInit => ipv6({ source: client, hopLimit: 60, ...more });
const segment = (flags: number, targetPort = 80, more: Init<"tcp"> = {}): LayerInit =>
  tcp({ sourcePort: CLIENT_PORT, targetPort, flags, ...more });

/** The client's packet to the far service, with what stands between its headers. */
const toFar = (between: readonly LayerInit[], more: Init<"ipv6"> = {}): Packet => [
  header({ target: far, ...more }),
  ...between,
  segment(ACK),
  payload("hello"),
];

const label = (service: typeof far, protocol = TCP, servicePort = 80): number =>
  flowHash6({ client, clientPort: CLIENT_PORT, service, servicePort, protocol }, SEED).high &
  0xfffff;

const outer = (more: Init<"ipv6"> = {}): LayerInit =>
  ipv6({ source: widen(NODE), target: widen(FAR), hopLimit: 64, flowLabel: label(far), ...more });

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const fromOther = (packet: Packet): Packet =>
  arriving([ipv6({ source: widen(OTHER_NODE), target: widen(NEAR) }), ...packet]);

const bytesOf = (count: number): Uint8Array => new Uint8Array(count);
const WALKED: readonly (readonly [words: string, between: readonly LayerInit[]])[] = [
  ["a hop-by-hop header", [hopByHop()]],
  ["destination options", [destinationOptions({ options: bytesOf(22) })]],
  ["a routing header that is used up", [routing({ type: 253 })]],
  ["a fragment header that is no fragment's", [fragment({ id: 9 })]],
  [
    "four of them",
    [hopByHop(), routing({ type: 253, data: bytesOf(12) }), fragment(), destinationOptions()],
  ],
  ["256 bytes of headers", [destinationOptions({ options: bytesOf(216 - 2) })]],
];

const walked = WALKED.flatMap(([words, between]): Row[] => [
  {
    title: `a packet with ${words} is encapsulated as it is`,
    places: BOTH,
    coming: { packet: arriving(toFar(between)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway([outer(), ...toFar(between)]),
    back: true,
  },
  {
    title: `a packet with ${words} is translated behind them`,
    places: HOST,
    coming: { packet: fromOther([header({ target: near }), ...between, segment(SYN)]) },
    verdict: "SENT_POD",
    leaving: intoNear([header({ target: widen(NEAR) }), ...between, segment(SYN, 8080)]),
  },
  {
    title: `a pod's answer with ${words} is translated behind them`,
    places: POD,
    before: [{ packet: fromOther([header({ target: near }), segment(SYN)]) }],
    coming: {
      packet: framed(NEAR_MAC, NEAR_NODE_MAC, [
        ipv6({ source: widen(NEAR), target: client }),
        ...between,
        tcp({ sourcePort: 8080, targetPort: CLIENT_PORT, flags: ACK }),
      ]),
    },
    verdict: "SENT_REPLY",
    leaving: viaGateway([
      ipv6({ source: near, target: client, hopLimit: 63 }),
      ...between,
      tcp({ sourcePort: 80, targetPort: CLIENT_PORT, flags: ACK }),
    ]),
  },
]);

const UNTOUCHED: readonly (readonly [words: string, packet: Packet])[] = [
  ["a fifth extension header", toFar([hopByHop(), routing(), fragment(), routing(), routing()])],
  ["more than 256 bytes of headers", toFar([destinationOptions({ options: bytesOf(222) })])],
  ["a routing header with segments left", toFar([routing({ type: 4, segmentsLeft: 1 })])],
  ["an extension header that ends behind it", toFar([hopByHop()], { payloadLength: 7 })],
  ["another version", arrivingAs(0x40)],
  ["a length beyond its frame", toFar([], { payloadLength: 26 })],
  ["no length, as jumbograms have it", toFar([hopByHop()], { payloadLength: 0 })],
  ["a protocol that nobody here knows", [header({ target: far, nextHeader: 59 }), payload(8)]],
  [
    "link-local addresses",
    [ipv6({ source: LINK_LOCAL, target: OTHER_LINK_LOCAL }), segment(SYN), payload("")],
  ],
  [
    "a question of neighbour discovery",
    [ipv6({ source: client, target: far, hopLimit: 255 }), icmpv6({ type: 135 }), payload(16)],
  ],
  [
    "an answer of neighbour discovery",
    [
      ipv6({ source: LINK_LOCAL, target: widen(NODE), hopLimit: 255 }),
      icmpv6({ type: 136, rest: 0x60000000 }),
      payload(16),
    ],
  ],
];

/** The far service's packet, with another first byte. */
function arrivingAs(first: number): Packet {
  const bytes = buildPacket(...toFar([]));
  bytes[0] = first;
  return [payload(bytes)];
}

const untouched = UNTOUCHED.map(
  ([words, packet]): Row => ({
    title: `a packet with ${words} passes`,
    places: BOTH,
    coming: {
      packet: [ethernet({ source: ROUTER_MAC, target: UPLINK_MAC, type: 0x86dd }), ...packet],
    },
    verdict: "PASS_NOT_OURS",
  }),
);

const MULTICAST: Row = {
  title: "a router's word to all nodes passes",
  places: BOTH,
  coming: {
    packet: framed(ROUTER_MAC, ALL_NODES_MAC, [
      ipv6({ source: LINK_LOCAL, target: parseIpv6("ff02::1"), hopLimit: 255 }),
      icmpv6({ type: 134 }),
      payload(8),
    ]),
  },
  verdict: "PASS_NOT_OURS",
};

const LABELLED: readonly Row[] = [
  {
    title: "a client's flow label stays inside, and the outer one is the flow's hash",
    places: BOTH,
    coming: { packet: arriving(toFar([], { flowLabel: 0xabcde, dscp: 46, ecn: 2 })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway([
      outer({ dscp: 46, ecn: 2 }),
      ...toFar([], { flowLabel: 0xabcde, dscp: 46, ecn: 2 }),
    ]),
    back: true,
  },
  {
    title: "a flow label stays when the packet is translated, whatever the traffic class becomes",
    places: HOST,
    coming: {
      packet: arriving([
        ipv6({ source: widen(OTHER_NODE), target: widen(NEAR), ecn: 3 }),
        header({ target: near, flowLabel: 0xabcde, dscp: 63, ecn: 2 }),
        segment(SYN),
      ]),
    },
    verdict: "SENT_POD",
    leaving: intoNear([
      header({ target: widen(NEAR), flowLabel: 0xabcde, dscp: 63, ecn: 3 }),
      segment(SYN, 8080),
    ]),
  },
];

/** Of too big a packet the beginning is quoted. */
const QUOTED = 96;
const long = toFar([destinationOptions({ options: bytesOf(86) })], { payloadLength: 1448 });
const quoting: Row = {
  title: "of a packet with many headers the first 96 bytes are quoted",
  places: BOTH,
  coming: { packet: [...arriving(long), payload(1448)] },
  verdict: "SENT_FRAG_NEEDED",
  leaving: [
    ethernet({ source: UPLINK_MAC, target: ROUTER_MAC }),
    ipv6({ source: far, target: client }),
    icmpv6({ type: 2, rest: 1460 }),
    payload(buildPacket(...long).slice(0, QUOTED)),
  ],
  back: true,
};

/** A packet that doesn't fit with an outer header on a way that is narrower than 1320 bytes. */
const wide = toFar([], { payloadLength: 1240 });
const narrow: Row = {
  title: "nobody is told less than 1280, which every link of IPv6 has to carry",
  places: BOTH,
  poke: ({ maps }) => {
    const before = [...maps.nexthops.entries()];
    for (const [row, nexthop] of before) maps.nexthops.update(row, { ...nexthop, mtu: 1300 });
    return () => {
      for (const [row, nexthop] of before) maps.nexthops.update(row, nexthop);
    };
  },
  coming: { packet: [...arriving(wide), payload(1240 - 25)] },
  verdict: "SENT_FRAG_NEEDED",
  leaving: [
    ethernet({ source: UPLINK_MAC, target: ROUTER_MAC }),
    ipv6({ source: far, target: client }),
    icmpv6({ type: 2, rest: 1280 }),
    payload(buildPacket(...wide).slice(0, 48)),
  ],
  back: true,
};

type Offer = [Ipv6, Ipv6, port: number, mss: number, more?: Init<"ipv6">];

/** A router's word on what a near pod has answered. */
function told(quote: Packet, type = 2): Packet {
  return arriving([
    ipv6({ source: widen(STRANGER), target: near, hopLimit: 55 }),
    icmpv6({ type, rest: 1300 }),
    payload(buildPacket(...quote)),
  ]);
}

const replied = (between: readonly LayerInit[] = []): Packet => [
  ipv6({ source: near, target: client, hopLimit: 50 }),
  ...between,
  tcp({ sourcePort: 80, targetPort: CLIENT_PORT, flags: ACK }),
];
const known = [{ packet: fromOther([header({ target: near }), segment(SYN)]) }];

const QUOTES: readonly Row[] = [
  {
    title: "an error about a packet with extension headers isn't looked into",
    places: HOST,
    before: known,
    coming: { packet: told(replied([destinationOptions()])) },
    verdict: "PASS_NOT_OURS",
  },
  ...[1, 2, 3, 4].map(
    (type): Row => ({
      title: `an error of type ${type} goes into the flow's pod`,
      places: HOST,
      before: known,
      coming: { packet: told(replied(), type) },
      verdict: "SENT_RELAYED",
      leaving: intoNear([
        ipv6({ source: widen(STRANGER), target: widen(NEAR), hopLimit: 55 }),
        icmpv6({ type, rest: 1300 }),
        payload(
          buildPacket(
            ipv6({ source: widen(NEAR), target: client, hopLimit: 50 }),
            tcp({ sourcePort: 8080, targetPort: CLIENT_PORT, flags: ACK }),
          ),
        ),
      ]),
    }),
  ),
  ...[0, 5, 100, 127].map(
    (type): Row => ({
      title: `what isn't known of errors, type ${type}, passes`,
      places: HOST,
      before: known,
      coming: { packet: told(replied(), type) },
      verdict: "PASS_NOT_OURS",
    }),
  ),
];

const BROKEN: readonly Row[] = [
  {
    title: "a packet inside another whose routing header has segments left is dropped",
    places: HOST,
    coming: {
      packet: fromOther([header({ target: near }), routing({ segmentsLeft: 1 }), segment(SYN)]),
    },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "a packet inside another with a fifth extension header is dropped",
    places: HOST,
    coming: {
      packet: fromOther([header({ target: near }), ...Array(5).fill(routing()), segment(SYN)]),
    },
    verdict: "DROP_INNER_PROTOCOL",
  },
  {
    title: "a datagram too short for an owner's address is no note",
    places: HOST,
    coming: {
      packet: arriving([
        ipv6({ source: widen(OTHER_NODE), target: widen(NODE), hopLimit: 255 }),
        header({ target: widen(SERVICES.nearDns.address) }),
        udp({ sourcePort: CLIENT_PORT, targetPort: 53 }),
        payload(11),
      ]),
    },
    verdict: "DROP_INNER_INVALID",
  },
];

const ROWS: readonly Row[] = [
  ...walked,
  ...untouched,
  MULTICAST,
  ...LABELLED,
  narrow,
  quoting,
  ...QUOTES,
  ...BROKEN,
];

const ofIpv6 = (rows: readonly Row[]): readonly Row[] =>
  rows.map((row) => ({ ...row, only: "ipv6" }));

export const IPV6_ROWS: readonly Row[] = ofIpv6(ROWS);

/** What a pod offers its clients where their packets grow by so many bytes on the way. */
export function mssRows(bytes: number): readonly Row[] {
  const offers = (...[source, target, sourcePort, mss, more]: Offer): Packet => [
    ipv6({ source, target, ...more }),
    tcp({ sourcePort, targetPort: CLIENT_PORT, flags: SYN | ACK, options: mssOption(mss) }),
  ];
  return ofIpv6([
    {
      title: "an MSS is lowered by what clients' packets get",
      places: POD,
      before: known,
      coming: {
        packet: framed(NEAR_MAC, NEAR_NODE_MAC, offers(widen(NEAR), client, 8080, OFFERED)),
      },
      verdict: "SENT_REPLY",
      leaving: viaGateway(offers(near, client, 80, MTU - HEADERS - bytes, { hopLimit: 63 })),
    },
  ]);
}
