// SPDX-License-Identifier: Apache-2.0
// Another node's word on who has a flow, and what comes of it.

import type { Ipv4 } from "../../src/net/address.ts";
import { ipv4 } from "../../src/net/packet.ts";
import {
  FAR,
  FAR_TWO,
  GATEWAY_MAC,
  LOAD_BALANCER,
  NEAR,
  NEAR_TWO,
  NODE,
  OTHER_NODE,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  framed,
  intoNear,
  ipipToNear,
  type Packet,
  type ServiceName,
  SYN,
  tcpTo,
  toService,
} from "./frames.ts";
import { ack, ackInPod, passed, TTL } from "./owner-rows.ts";
import type { Row } from "./row.ts";
import { expectFlows, limitReached, podGone, ringChanged } from "./tables.ts";

const HOST = ["host"] as const;
const NOTE_TTL = 255;

/** The owner's address stands where TCP has its sequence number. */
const note = (name: ServiceName, owner: Ipv4, from: Ipv4 = OTHER_NODE, ttl = NOTE_TTL): Packet =>
  arriving([
    ipv4({ source: from, target: NODE, ttl }),
    ...toService(name, ACK, { payload: "hello", tcp: { sequence: owner } }),
  ]);

const REMEMBERED = "request 0 alias 0 remote";

export const NOTE_ROWS: readonly Row[] = [
  {
    title: "a note says who has a flow",
    places: HOST,
    coming: { packet: note("cameNear", FAR_TWO) },
    verdict: "SENT_NOTED",
    check: (stage) => expectFlows(stage, REMEMBERED),
  },
  {
    title: "a note is one still after thirty routers",
    places: HOST,
    coming: { packet: note("cameNear", FAR_TWO, OTHER_NODE, NOTE_TTL - 30) },
    verdict: "SENT_NOTED",
    check: (stage) => expectFlows(stage, REMEMBERED),
  },
  {
    title: "a packet for the node itself is no note below the notes' TTL",
    places: HOST,
    poke: podGone(NODE),
    coming: { packet: note("cameNear", FAR_TWO, OTHER_NODE, TTL.final) },
    verdict: "PASS_NOT_OURS",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a load balancer's note is none, but a packet like others",
    places: HOST,
    only: "ipv4",
    coming: { packet: note("cameNear", FAR_TWO, LOAD_BALANCER) },
    verdict: "SENT_PASSED",
    leaving: framed(UPLINK_MAC, GATEWAY_MAC, [
      ipv4({ source: NODE, target: FAR, ttl: TTL.second }),
      ...toService("cameNear", ACK, { payload: "hello", tcp: { sequence: FAR_TWO } }),
    ]),
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a note about a pod of this node says nothing new",
    places: HOST,
    coming: { packet: note("cameNear", NEAR_TWO) },
    verdict: "SENT_NOTED",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a note changes nothing of a flow that this node has",
    places: HOST,
    before: [{ packet: ipipToNear(toService("cameNear", SYN)) }],
    coming: { packet: note("cameNear", FAR_TWO) },
    verdict: "SENT_NOTED",
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a noted flow goes straight to its owner, limit or not",
    places: HOST,
    before: [{ packet: note("cameNear", FAR) }],
    poke: limitReached("cameNear"),
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: passed(ack("cameNear"), TTL.known),
    check: (stage) => expectFlows(stage, "request 1 alias 0 remote"),
  },
  {
    title: "a SYN ends what was noted",
    places: HOST,
    before: [{ packet: note("cameNear", FAR) }],
    coming: { packet: ipipToNear(toService("cameNear", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a packet sent by memory that nobody knows goes back to the present owner",
    places: HOST,
    coming: { packet: ipipToNear(ack("wentFar"), { ttl: TTL.known }) },
    verdict: "SENT_FINAL",
    leaving: passed(ack("wentFar"), TTL.final),
  },
  {
    title: "a final packet ends what was noted",
    places: HOST,
    before: [{ packet: note("cameNear", FAR) }],
    poke: ringChanged("cameNear", "long ago"),
    coming: { packet: ipipToNear(ack("cameNear"), { ttl: TTL.final }) },
    verdict: "SENT_POD",
    leaving: ackInPod,
  },
];
