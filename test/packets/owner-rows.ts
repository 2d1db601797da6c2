// SPDX-License-Identifier: Apache-2.0
// Whose flow it is: adopted, passed along former owners, or dropped.

import type { Port } from "../../src/datapath/gen/abi.ts";
import {
  FAR,
  GATEWAY_MAC,
  LOAD_BALANCER,
  NEAR,
  NEAR_TWO,
  NEAR_TWO_MAC,
  NEAR_TWO_NODE_MAC,
  UPLINK_MAC,
} from "./cluster.ts";
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
  type Packet,
  PSH,
  RST,
  type ServiceName,
  SYN,
  tcpTo,
  toService,
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import {
  expectFlows,
  limitReached,
  podGone,
  portsTaken,
  ringChanged,
  ringIsChanging,
  roomFor,
} from "./tables.ts";
import { tooBig } from "./too-big.ts";

const HOST = ["host"] as const;
export const ack = (name: ServiceName): Packet => toService(name, ACK, { payload: "hello" });
export const ackInPod = intoNear(tcpTo(NEAR, 8080, ACK, { payload: "hello" }));

/** The outer TTLs of hops. */
export const TTL = {
  first: 64,
  second: 96,
  third: 128,
  fourth: 160,
  known: 192,
  final: 224,
} as const;

/** What this node sends to another owner. */
export const passed = (packet: Packet, ttl: number): Packet =>
  framed(UPLINK_MAC, GATEWAY_MAC, ipipTo(FAR, packet, { ttl }));

const ADOPTED: readonly Row[] = [
  {
    title: "an unknown packet of a slot that had one owner only is adopted",
    places: HOST,
    coming: { packet: ipipToNear(ack("near")) },
    verdict: "SENT_POD",
    leaving: ackInPod,
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a SYN is adopted whoever owned the slot before",
    places: HOST,
    coming: { packet: ipipToNear(toService("cameNear", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
  },
  {
    title: "a packet for which the pod has a socket is adopted at once",
    places: HOST,
    coming: {
      packet: ipipToNear(toService("cameNear", ACK, { tcp: { sourcePort: CLIENT_PORT + 1 } })),
    },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, ACK, { tcp: { sourcePort: CLIENT_PORT + 1 } })),
    check: (stage) => expectFlows(stage, "request 1 confirmed", "reply 0 confirmed"),
  },
  {
    title: "a FIN that nobody knows is dropped",
    places: HOST,
    coming: { packet: ipipToNear(toService("near", FIN)) },
    verdict: "DROP_UNKNOWN_FLOW",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "an RST that nobody knows is dropped",
    places: HOST,
    coming: { packet: ipipToNear(toService("near", RST)) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  ...[0, PSH].map(
    (flags): Row => ({
      title: `flags ${flags} that nobody knows are dropped`,
      places: HOST,
      coming: { packet: ipipToNear(toService("near", flags)) },
      verdict: "DROP_UNKNOWN_FLOW",
      check: (stage) => expectFlows(stage),
    }),
  ),
  {
    title: "a flow for which there is no room is dropped and leaves nothing behind",
    places: HOST,
    poke: roomFor(1),
    coming: { packet: ipipToNear(toService("near", SYN)) },
    verdict: "DROP_CONNTRACK_FULL",
    check: (stage) => {
      const port = CLIENT_PORT as Port;
      const left = [...stage.maps.conntrack.entries()].filter(
        ([key]) => key.sourcePort === port || key.destinationPort === port,
      );
      if (left.length > 0) throw new Error(`${left.length} entries were left behind`);
    },
  },
  {
    title: "a packet of a flow whose pod is gone is dropped",
    places: HOST,
    before: [{ packet: ipipToNear(toService("stayedNear", SYN), { target: NEAR_TWO }) }],
    poke: podGone(NEAR_TWO),
    coming: { packet: ipipToNear(ack("stayedNear")) },
    verdict: "DROP_ENDPOINT_GONE",
  },
  {
    title: "a SYN after RST begins anew",
    places: HOST,
    before: [
      { packet: ipipToNear(toService("near", SYN)) },
      { packet: ipipToNear(toService("near", RST)) },
    ],
    coming: { packet: ipipToNear(toService("near", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a repeated SYN of an open flow is a packet of it",
    places: HOST,
    before: [{ packet: ipipToNear(toService("near", SYN)) }],
    coming: { packet: ipipToNear(toService("near", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => expectFlows(stage, "request 2", "reply 0"),
  },
];

/** The first candidates for another client port of the client's flow to `nearToo`. */
export const ALIASES = [48_853, 52_952, 57_051, 61_150, 65_249, 36_580, 40_679, 44_778] as const;
/** The first for one to `near`. */
const ALIAS_NEAR = 34_077;
export const nearToo = ipipToNear(toService("nearToo", SYN));
export const aliased = (port: number): Packet =>
  intoNear(tcpTo(NEAR, 8080, SYN, { tcp: { sourcePort: port } }));

const COLLIDING: readonly Row[] = [
  {
    title: "a second address's flow from the same client port gets another port in the pod",
    places: HOST,
    before: [{ packet: ipipToNear(toService("near", SYN)) }],
    coming: { packet: nearToo },
    verdict: "SENT_POD",
    leaving: aliased(ALIASES[0]),
    check: (stage) =>
      expectFlows(
        stage,
        "request 1",
        "reply 0",
        `request 1 alias ${ALIASES[0]}`,
        `reply 0 alias ${ALIASES[0]}`,
      ),
  },
  {
    title: "the last candidate is taken when all others are in use",
    places: HOST,
    poke: portsTaken([CLIENT_PORT, ...ALIASES.slice(0, -1)]),
    coming: { packet: nearToo },
    verdict: "SENT_POD",
    leaving: aliased(ALIASES[7]),
  },
  {
    title: "a flow for which no client port is free is dropped",
    places: HOST,
    poke: portsTaken([CLIENT_PORT, ...ALIASES]),
    coming: { packet: nearToo },
    verdict: "DROP_PORT_COLLISION",
  },
  {
    title: "a port whose flow is over is free, and that flow goes",
    places: HOST,
    before: [
      { packet: ipipToNear(toService("near", SYN)) },
      { packet: ipipToNear(toService("near", RST)) },
    ],
    coming: { packet: nearToo },
    verdict: "SENT_POD",
    leaving: aliased(CLIENT_PORT),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a flow that comes again leaves its former port to who has it now",
    places: HOST,
    before: [
      { packet: ipipToNear(toService("near", SYN)) },
      { packet: ipipToNear(toService("near", RST)) },
    ],
    poke: portsTaken([CLIENT_PORT]),
    coming: { packet: ipipToNear(toService("near", SYN)) },
    verdict: "SENT_POD",
    leaving: aliased(ALIAS_NEAR),
  },
];

const PASSED: readonly Row[] = [
  {
    title: "a packet after RST is a stranger's and is passed to the slot's former owner",
    places: HOST,
    before: [
      { packet: ipipToNear(toService("cameNear", SYN)) },
      { packet: ipipToNear(toService("cameNear", RST)) },
    ],
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.second),
    check: (stage) => expectFlows(stage),
  },
  {
    title: "an unknown packet is passed to the slot's former owner",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.second),
    check: (stage) => expectFlows(stage),
  },
  {
    title: "while its ring is changing, a slot's owner does not ask itself",
    places: HOST,
    poke: ringIsChanging("cameNear", NEAR, FAR),
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.second),
  },
  {
    title: "while its ring is changing, nobody is sure that a flow is nobody's",
    places: HOST,
    poke: ringIsChanging("cameNear", NEAR),
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "DROP_UNKNOWN_FINAL",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a packet that came without an outer header gets one and is passed",
    places: HOST,
    coming: { packet: arriving(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.second),
  },
  {
    title: "a packet that doesn't fit with the outer header it would get is answered",
    shorter: 40,
    places: HOST,
    coming: { packet: arriving(toService("cameNear", ACK, { payload: 1460 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("cameNear", ACK, { payload: 1460 }), 1500),
  },
  {
    title: "a packet that came with an outer header and is too big for the way on is dropped",
    places: HOST,
    coming: { packet: ipipToNear(toService("cameNear", ACK, { payload: 1460 })) },
    verdict: "DROP_TOO_BIG",
  },
  {
    title: "a UDP packet is passed too",
    places: HOST,
    coming: { packet: ipipToNear(askService("cameNearDns")) },
    verdict: "SENT_PASSED",
    leaving: passed(askService("cameNearDns"), TTL.second),
  },
  {
    title: "one hop follows the other",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.second }) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.third),
  },
  {
    title: "routers on the way don't make it another hop",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.first + 1 }) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.third),
  },
  {
    title: "a load balancer's TTL says nothing",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.final, source: LOAD_BALANCER }) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.second),
  },
  {
    title: "after the last hop the present owner adopts",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.fourth }) },
    verdict: "SENT_POD",
    leaving: ackInPod,
  },
  {
    title: "the last former owner gives it back to the present one",
    places: HOST,
    coming: { packet: ipipToNear(ack("wentFar")) },
    verdict: "SENT_FINAL",
    leaving: passed(ack("wentFar"), TTL.final),
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a former owner that has the flow keeps it",
    places: HOST,
    before: [{ packet: ipipToNear(toService("wentFar", SYN)) }],
    coming: { packet: ipipToNear(ack("wentFar"), { ttl: TTL.second }) },
    verdict: "SENT_POD",
    leaving: ackInPod,
  },
  {
    title: "too many unknown packets are dropped",
    places: HOST,
    poke: limitReached("cameNear"),
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "DROP_PASS_LIMIT",
  },
  {
    title: "an unknown packet whose former owner can't be reached is dropped",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameFromNowhere")) },
    verdict: "DROP_NO_ROUTE",
  },
];

const intoNearTwo = (packet: Packet): Packet => framed(NEAR_TWO_NODE_MAC, NEAR_TWO_MAC, packet);

const FINAL: readonly Row[] = [
  {
    title: "a final packet that nobody knows is dropped while the ring is new",
    places: HOST,
    poke: ringChanged("cameNear", "now"),
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.final }) },
    verdict: "DROP_UNKNOWN_FINAL",
  },
  {
    title: "a final packet that nobody knows is dropped while the ring's change lies ahead",
    places: HOST,
    poke: ringChanged("cameNear", "soon"),
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.final }) },
    verdict: "DROP_UNKNOWN_FINAL",
  },
  {
    title: "a final packet that nobody knows is adopted when the ring is old",
    places: HOST,
    poke: ringChanged("cameNear", "long ago"),
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.final }) },
    verdict: "SENT_POD",
    leaving: ackInPod,
  },
  {
    title: "a final FIN that nobody knows is dropped",
    places: HOST,
    poke: ringChanged("cameNear", "long ago"),
    coming: { packet: ipipToNear(toService("cameNear", FIN), { ttl: TTL.final }) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "a final packet without flags that nobody knows is dropped, also in a new ring",
    places: HOST,
    poke: ringChanged("cameNear", "now"),
    coming: { packet: ipipToNear(toService("cameNear", 0), { ttl: TTL.final }) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "a final UDP packet is adopted",
    places: HOST,
    poke: ringChanged("cameNearDns", "now"),
    coming: { packet: ipipToNear(askService("cameNearDns"), { ttl: TTL.final }) },
    verdict: "SENT_POD",
    leaving: intoNear(udpTo(NEAR, 5353)),
  },
  {
    title: "pods of one node are asked without a packet, and the present owner decides",
    places: HOST,
    poke: ringChanged("stayedNear", "long ago"),
    coming: { packet: arriving(ack("stayedNear")) },
    verdict: "SENT_POD",
    leaving: intoNearTwo(tcpTo(NEAR_TWO, 8080, ACK, { payload: "hello" })),
  },
  {
    title: "pods of one node are asked without a packet, and a new ring drops what none knows",
    places: HOST,
    poke: ringChanged("stayedNear", "now"),
    coming: { packet: arriving(ack("stayedNear")) },
    verdict: "DROP_UNKNOWN_FINAL",
  },
];

export const OWNER_ROWS: readonly Row[] = [...ADOPTED, ...COLLIDING, ...PASSED, ...FINAL];
