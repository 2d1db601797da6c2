// SPDX-License-Identifier: Apache-2.0
// What is answered in a service's name, or dropped because nobody is there for it.

import type { Jiffies } from "../../src/datapath/gen/abi.ts";
import { ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { readJiffies } from "../../src/kernel/jiffies.ts";
import { ethernet, icmp, ipv4, payload, tcp } from "../../src/net/packet.ts";
import { CLIENT, ROUTER_MAC, SERVICES, STRANGER, UPLINK_MAC } from "./cluster.ts";
import {
  ACK,
  arriving,
  CLIENT_PORT,
  FIN,
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
import { expectFlows, limitReached, serviceChanged } from "./tables.ts";

const BOTH = ["edge", "host"] as const;
const EMPTY = SERVICES.empty.address;
const FAR = SERVICES.far.address;
const NUMBERS = { sequence: 0xfffffffe, acknowledgement: 0x01020304 };
const answered = { back: true } as const;

const toEmpty = (flags: number, more: More = {}): Packet =>
  toService("empty", flags, { ...more, tcp: { ...NUMBERS, ...more.tcp } });

/** From the service without backends. */
function reset(flags: number, sequence: number, acknowledgement: number): Packet {
  return [
    ethernet({ source: UPLINK_MAC, target: ROUTER_MAC }),
    ipv4({ source: EMPTY, target: CLIENT, ttl: 64, id: 0 }),
    tcp({
      sourcePort: SERVICES.empty.port,
      targetPort: CLIENT_PORT,
      flags,
      sequence,
      acknowledgement,
      window: 0,
    }),
  ];
}

const rejected = (title: string, packet: Packet, leaving: Packet): Row => ({
  title,
  places: BOTH,
  coming: { packet: arriving(packet) },
  verdict: "SENT_REJECTED",
  leaving,
  ...answered,
  check: (stage) => expectFlows(stage),
});

const RST_ACK = RST | ACK;

const REJECTED: readonly Row[] = [
  rejected(
    "a SYN to a service without backends is reset",
    toEmpty(SYN),
    reset(RST_ACK, 0, 0xffffffff),
  ),
  rejected(
    "sequence numbers of resets count payload, and begin anew",
    toEmpty(SYN, { payload: "hello" }),
    reset(RST_ACK, 0, 4),
  ),
  rejected("a FIN without ACK counts as one", toEmpty(1), reset(RST_ACK, 0, 0xffffffff)),
  rejected(
    "an ACK is reset by its own number",
    toEmpty(ACK, { payload: "hello" }),
    reset(RST, 0x01020304, 0),
  ),
  rejected("a FIN with ACK is, too", toEmpty(FIN), reset(RST, 0x01020304, 0)),
  rejected(
    "options are left behind",
    toEmpty(SYN, {
      ip: { options: new Uint8Array(8).fill(1) },
      tcp: { options: Uint8Array.of(2, 4, 5, 180) },
      payload: "hello",
    }),
    reset(RST_ACK, 0, 4),
  ),
  {
    title: "an RST is never answered",
    places: BOTH,
    coming: { packet: arriving(toEmpty(RST)) },
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "a service that doesn't reject drops",
    places: BOTH,
    poke: serviceChanged("empty", { flags: 0 }),
    coming: { packet: arriving(toEmpty(SYN)) },
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "resets stay within the service's limit",
    places: BOTH,
    poke: limitReached("empty"),
    coming: { packet: arriving(toEmpty(SYN)) },
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    title: "a UDP packet to a service without backends is answered by ICMP",
    places: BOTH,
    poke: serviceChanged("farDns", { backendCount: 0, flags: ServiceFlag.reject }),
    coming: { packet: arriving(udpTo(FAR, 53, { udp: { checksum: 0 } })) },
    verdict: "SENT_REJECTED",
    leaving: [
      ethernet({ source: UPLINK_MAC, target: ROUTER_MAC }),
      ipv4({ source: FAR, target: CLIENT, ttl: 64, dscp: 48, id: 0 }),
      icmp({ type: 3, code: 3, rest: 0 }),
      ipv4({ source: CLIENT, target: FAR, ttl: 60, id: 7, protocol: 17, totalLength: 33 }),
      payload(udpHeader()),
    ],
    ...answered,
  },
];

/** Of "query" from the client's port to 53, without a checksum. */
function udpHeader(): Uint8Array {
  const header = new DataView(new ArrayBuffer(8));
  header.setUint16(0, CLIENT_PORT);
  header.setUint16(2, 53);
  header.setUint16(4, 13);
  header.setUint16(6, 0);
  return new Uint8Array(header.buffer);
}

const ping = (more = {}, fields = {}): Packet => [
  ipv4({ source: CLIENT, target: FAR, ttl: 3, id: 9, dscp: 10, ...more }),
  icmp({ type: 8, rest: 0x00070001, ...fields }),
  payload("hello"),
];
const pinged = { packet: arriving(ping()) };

function pingsUsedUp({ maps }: Stage): undefined {
  const since = readJiffies().now as Jiffies;
  maps.limits.update(0, { since, passed: 0, told: 1_000_000 });
  return undefined;
}

const PINGS: readonly Row[] = [
  {
    title: "a ping of a service's address is answered",
    places: BOTH,
    coming: pinged,
    verdict: "SENT_ECHO",
    leaving: [
      ethernet({ source: UPLINK_MAC, target: ROUTER_MAC }),
      ipv4({ source: FAR, target: CLIENT, ttl: 64, id: 9, dscp: 10 }),
      icmp({ type: 0, rest: 0x00070001 }),
      payload("hello"),
    ],
    ...answered,
  },
  {
    title: "pings are answered within a limit of their own",
    places: BOTH,
    poke: pingsUsedUp,
    coming: pinged,
    verdict: "DROP_ANSWER_LIMIT",
  },
  ...[
    ["with IP options", ping({ options: new Uint8Array(4).fill(1) })],
    ["with IP options that look like one", ping({ options: Uint8Array.of(8, 0, 0, 0) })],
    ["in fragments", ping({ moreFragments: true })],
    ["of an address that is no service's", ping({ target: STRANGER })],
    ["with a code", ping({}, { code: 1 })],
    ["that is an answer", ping({}, { type: 0 })],
  ].map(([what, packet]) => ({
    title: `a ping ${what} is left alone`,
    places: BOTH,
    coming: { packet: arriving(packet as Packet) },
    verdict: "PASS_NOT_OURS" as const,
  })),
];

const UNKNOWN: readonly Row[] = [
  { title: "a SYN", packet: tcpTo(FAR, 81, SYN) },
  { title: "a UDP packet to a TCP port", packet: udpTo(FAR, 80) },
  { title: "a packet to a port of the nodes", packet: tcpTo(FAR, 30_080, ACK) },
].map(({ title, packet }) => ({
  title: `${title} to a service's address where nobody serves it is dropped`,
  places: BOTH,
  coming: { packet: arriving(packet) },
  verdict: "DROP_UNKNOWN_PORT",
}));

export const ANSWER_ROWS: readonly Row[] = [...REJECTED, ...PINGS, ...UNKNOWN];
