// SPDX-License-Identifier: Apache-2.0
// Packets to services, at the edge and at the host.

import assert from "node:assert/strict";
import { parseIpv4 } from "../../src/net/address.ts";
import { parseMac } from "../../src/net/mac.ts";
import { ethernet, icmp, ipv4, payload, trailer, vlan } from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  LOST_CLIENT,
  ROUTER_MAC,
  SECOND_GATEWAY_MAC,
  SECOND_UPLINK_MAC,
  SERVICES,
  SILENT,
  SMALL_MTU,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  FROM_ROUTER,
  framed,
  ipipTo,
  type Packet,
  SYN,
  tcpTo,
  toService,
} from "./frames.ts";
import type { Row } from "./row.ts";
import { expectCounted, limitReached } from "./tables.ts";
import { tooBig } from "./too-big.ts";

const BOTH = ["edge", "host"] as const;
/** TCP payload of the largest packet that fits an MTU of 1500 with an outer header. */
const FITS = 1500 - 20 - 20 - 20;

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const far = toService("far", ACK, { payload: "hello" });

const BROADCAST = parseMac("ff:ff:ff:ff:ff:ff");

const NOT_OURS: readonly Row[] = [
  {
    title: "a packet to an address that is no service's passes",
    coming: { packet: arriving(tcpTo(LOST_CLIENT, 80, SYN)) },
  },
  {
    title: "ICMP to a service's address that is no ping passes",
    coming: {
      packet: arriving([
        ipv4({ source: CLIENT, target: SERVICES.far.address }),
        icmp({ type: 13 }),
      ]),
    },
  },
  {
    title: "a frame that is no IPv4 passes",
    coming: { packet: [ethernet({ type: 0x0806 }), payload(28)] },
  },
  {
    title: "a frame for everybody passes",
    coming: { packet: framed(ROUTER_MAC, BROADCAST, far) },
  },
  {
    title: "a frame with a VLAN tag passes",
    coming: { packet: [FROM_ROUTER, vlan({ id: 5 }), ...far] },
  },
  {
    title: "an IPv4 packet that is longer than its frame passes",
    coming: { packet: arriving(toService("far", SYN, { ip: { totalLength: 41 } })) },
  },
  {
    title: "a TCP packet without a whole TCP header passes",
    coming: {
      packet: arriving([
        ipv4({ source: CLIENT, target: SERVICES.far.address, protocol: 6 }),
        payload(19),
      ]),
    },
  },
  {
    title: "a TCP header that goes beyond the IPv4 packet isn't whole, even if the frame has it",
    coming: { packet: arriving(toService("far", SYN, { ip: { totalLength: 39 } })) },
  },
  {
    title: "a UDP packet without a whole UDP header passes",
    coming: {
      packet: arriving([
        ipv4({ source: CLIENT, target: SERVICES.farDns.address, protocol: 17 }),
        payload(Uint8Array.of(0x9c, 0x40, 0, 53, 0, 8, 0)),
      ]),
    },
  },
].map((row) => ({ ...row, places: BOTH, verdict: "PASS_NOT_OURS" }) as const);

const ENCAPSULATED: readonly Row[] = [
  {
    title: "a SYN is encapsulated",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("far", SYN))),
    back: true,
    check: (stage) => expectCounted(stage, 1, 54, 1, 0),
  },
  {
    title: "every later packet is encapsulated",
    places: BOTH,
    coming: { packet: arriving(far) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, far)),
    back: true,
    check: (stage) => expectCounted(stage, 1, 59, 0, 0),
  },
  {
    title: "a UDP packet is encapsulated",
    places: BOTH,
    coming: { packet: arriving(askService("farDns")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, askService("farDns"))),
    back: true,
  },
  {
    title: "DSCP and ECN are copied to the outer header",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { dscp: 46, ecn: 3 } })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(
      ipipTo(FAR, toService("far", ACK, { ip: { dscp: 46, ecn: 3 } }), { dscp: 46, ecn: 3 }),
    ),
    back: true,
  },
  {
    title: "an inner packet without DF, with options and a low TTL stays as it was",
    places: BOTH,
    coming: { packet: arriving(oddPacket()) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, oddPacket())),
    back: true,
  },
  {
    title: "a wrong checksum of the client's stays wrong",
    only: "ipv4",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { checksum: 0x1111 } })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("far", ACK, { ip: { checksum: 0x1111 } }))),
    isFaulty: true,
    back: true,
  },
  {
    title: "padding stays at the end and isn't counted in the outer length",
    places: BOTH,
    coming: { packet: [...arriving(toService("far", ACK)), trailer(new Uint8Array(6))] },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway([...ipipTo(FAR, toService("far", ACK)), trailer(new Uint8Array(6))]),
    back: true,
  },
  {
    title: "a packet leaves by another uplink than it came by",
    places: BOTH,
    coming: { packet: arriving(toService("smallMtu", ACK)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(
      SECOND_UPLINK_MAC,
      SECOND_GATEWAY_MAC,
      ipipTo(SMALL_MTU, toService("smallMtu", ACK)),
    ),
  },
  {
    title: "a packet that just fits with its outer header is encapsulated",
    shorter: 40,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: FITS })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("far", ACK, { payload: FITS }))),
    back: true,
  },
];

function oddPacket(): Packet {
  const options = new Uint8Array(8).fill(1);
  return toService("far", ACK, { ip: { dontFragment: false, ttl: 1, options }, payload: "odd" });
}

const large = toService("far", ACK, { payload: FITS + 1 });
const largeWithOptions = toService("far", ACK, {
  payload: FITS,
  ip: { options: new Uint8Array(4).fill(1), dontFragment: false },
});

const TOO_BIG: readonly Row[] = [
  {
    title: "a packet that is one byte too big for its outer header is answered",
    shorter: 40,
    places: BOTH,
    coming: { packet: arriving(large) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(large, 1500),
    back: true,
  },
  {
    title: "a packet without DF is answered too, and its options are quoted",
    shorter: 40,
    places: BOTH,
    coming: { packet: arriving(largeWithOptions) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(largeWithOptions, 1500),
    back: true,
  },
  {
    title: "the MTU is that of the way to the backend",
    shorter: 40,
    places: BOTH,
    coming: { packet: arriving(toService("smallMtu", ACK, { payload: FITS - 99 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("smallMtu", ACK, { payload: FITS - 99 }), 1400),
    back: true,
  },
  {
    title: "the MTU of a way without a MAC yet is the route's",
    shorter: 40,
    places: ["host"],
    coming: { packet: arriving(toService("silent", ACK, { payload: FITS - 99 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("silent", ACK, { payload: FITS - 99 }), 1400),
  },
  {
    title: "when its clients were told often enough, a service's packets are dropped",
    places: BOTH,
    poke: limitReached("far"),
    coming: { packet: arriving(large) },
    verdict: "DROP_ANSWER_LIMIT",
  },
];

const GSO: readonly Row[] = [
  {
    title: "a GSO packet is judged by its segments: one byte too big",
    shorter: 40,
    places: ["host"],
    coming: {
      packet: arriving(toService("far", ACK, { payload: 2920 })),
      gsoSize: FITS + 1,
    },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("far", ACK, { payload: 2920 }), 1500),
  },
  {
    // Test runs can't say that it is TCP, and the kernel refuses to grow GSO packets that aren't.
    title: "a GSO packet whose segments fit would be encapsulated, but the kernel refuses",
    shorter: 40,
    places: ["host"],
    coming: { packet: arriving(toService("far", ACK, { payload: 2920 })), gsoSize: FITS },
    verdict: "DROP_REWRITE",
  },
];

const REFUSED: readonly Row[] = [
  {
    title: "a first fragment for a service's address is dropped",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { moreFragments: true } })) },
    verdict: "DROP_FRAGMENT",
  },
  {
    title: "a later fragment for a service's address is dropped",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { fragmentOffset: 1480 } })) },
    verdict: "DROP_FRAGMENT",
  },
  {
    title: "a fragment for another address passes",
    places: BOTH,
    coming: { packet: arriving(tcpTo(LOST_CLIENT, 80, ACK, { ip: { moreFragments: true } })) },
    verdict: "PASS_NOT_OURS",
  },
];

/** A row of services whose ring begins beyond the table. */
const BROKEN: Row = {
  title: "a service whose ring lies outside its table is dropped",
  places: BOTH,
  poke: ({ maps }) => {
    const rows = maps.services.raw.info.maxEntries;
    const found = [...Array(rows).keys()].flatMap((row) => {
      const service = maps.services.lookup(row);
      return service !== undefined && service.backendCount > 0 ? [{ row, service }] : [];
    });
    assert.ok(found.length > 0);
    const ring = maps.rings.raw.info.maxEntries;
    for (const { row, service } of found) maps.services.update(row, { ...service, ring });
    return () => {
      for (const { row, service } of found) maps.services.update(row, service);
    };
  },
  coming: { packet: arriving(far) },
  verdict: "DROP_TABLE",
};

const UNRESOLVED: readonly Row[] = [
  {
    title: "a packet whose next hop has no MAC yet is left to the host",
    places: ["edge"],
    coming: { packet: arriving(toService("silent", SYN)) },
    verdict: "PASS_UNRESOLVED",
  },
  {
    title: "a packet whose next hop has no MAC yet is sent by the kernel's neighbour table",
    places: ["host"],
    coming: { packet: arriving(toService("silent", SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(SECOND_UPLINK_MAC, GATEWAY_MAC, ipipTo(SILENT, toService("silent", SYN))),
    toNeighbour: true,
  },
  {
    title: "a backend to which no route leads is left to the host",
    places: ["edge"],
    coming: { packet: arriving(toService("nowhere", SYN)) },
    verdict: "PASS_UNRESOLVED",
  },
  {
    title: "a backend to which no route leads is a drop",
    places: ["host"],
    coming: { packet: arriving(toService("nowhere", SYN)) },
    verdict: "DROP_NO_ROUTE",
  },
  {
    title: "a packet for a pod of this node is left to the host",
    places: ["edge"],
    coming: { packet: arriving(toService("near", SYN)) },
    verdict: "PASS_LOCAL",
  },
  {
    title: "a frame for another machine passes",
    places: ["host"],
    coming: { packet: framed(ROUTER_MAC, GATEWAY_MAC, far) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "IPIP is left to the host",
    places: ["edge"],
    coming: { packet: arriving(ipipTo(FAR, far)) },
    verdict: "PASS_NOT_OURS",
  },
];

export const BALANCE_ROWS: readonly Row[] = [
  ...NOT_OURS,
  ...ENCAPSULATED,
  ...TOO_BIG,
  ...GSO,
  ...REFUSED,
  BROKEN,
  ...UNRESOLVED,
];

/** 172.20.0.0/16 with g of each flow under seed 42, worked out by hand. */
const HASHED = {
  syn: parseIpv4("172.20.152.229"),
  dns: parseIpv4("172.20.55.245"),
  moved: parseIpv4("172.20.122.245"),
  carrying: parseIpv4("172.20.132.240"),
} as const;

/** The words of its outer header add up to 0x1ffff. */
const CARRYING = { tcp: { sourcePort: 40_396 }, payload: 163 };

/** For a node with `encapsulate: first`, `fragments: pass` and hashed outer sources. */
export const FIRST_ROWS: readonly Row[] = [
  {
    title: "with outerSource a prefix, its host bits are the flow's hash",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("far", SYN), { source: HASHED.syn })),
    back: true,
  },
  {
    title: "an outer checksum whose carry carries again is right",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN, CARRYING)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("far", SYN, CARRYING), { source: HASHED.carrying })),
    back: true,
  },
  {
    title: "with encapsulate: first, every UDP packet is encapsulated",
    places: BOTH,
    coming: { packet: arriving(askService("farDns")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, askService("farDns"), { source: HASHED.dns })),
    back: true,
  },
  {
    title: "with encapsulate: first, all packets of a slot with former owners are encapsulated",
    places: BOTH,
    coming: { packet: arriving(toService("wentFar", ACK)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("wentFar", ACK), { source: HASHED.moved })),
    back: true,
  },
  {
    title: "with encapsulate: first, a later TCP packet travels plain, one TTL less",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: "hello" })) },
    verdict: "SENT_PLAIN",
    leaving: viaGateway(tcpTo(FAR, 8080, ACK, { payload: "hello", ip: { ttl: 59 } })),
    back: true,
  },
  {
    title: "with encapsulate: first, a later packet that is too big even so is answered",
    shorter: 20,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: 1461 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("far", ACK, { payload: 1461 }), 1520),
    back: true,
  },
  {
    title: "with encapsulate: first, a full-sized later packet keeps the whole MTU",
    shorter: 20,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: 1460 })) },
    verdict: "SENT_PLAIN",
    leaving: viaGateway(tcpTo(FAR, 8080, ACK, { payload: 1460, ip: { ttl: 59 } })),
    back: true,
  },
  {
    title: "with encapsulate: first, a packet whose TTL ends is left to the kernel",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { ttl: 1 } })) },
    verdict: "PASS_TTL",
  },
  {
    title: "with fragments: pass, a fragment for a service's address passes",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { moreFragments: true } })) },
    verdict: "PASS_FRAGMENT",
  },
];
