// SPDX-License-Identifier: Apache-2.0
// IPIP in IPIP: what goes by a pod's node, where the fabric may know no pods.

import { type Init, icmp, ipv4, payload } from "../../src/net/packet.ts";
import {
  FAR,
  GATEWAY_MAC,
  LOAD_BALANCER,
  NEAR,
  NODE,
  OTHER_NODE,
  OTHER_NODE_MAC,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type Packet,
  SYN,
  tcpTo,
  toService,
} from "./frames.ts";
import { ack, TTL } from "./owner-rows.ts";
import { aboutNearsReply, aboutReplyOf } from "./relay-rows.ts";
import type { Row } from "./row.ts";
import { expectFlows } from "./tables.ts";
import { tooBig } from "./too-big.ts";

const HOST = ["host"] as const;
const MTU = 1500;
/** The largest payload of TCP that fits with two outer headers. */
const LARGEST = MTU - 40 - 2 * 20;

/** What this node sends to the far pod, by its node. */
const byNode = (packet: Packet, ip: Init<"ipv4"> = {}, outer: Init<"ipv4"> = {}): Packet =>
  framed(UPLINK_MAC, OTHER_NODE_MAC, ipipTo(OTHER_NODE, ipipTo(FAR, packet, ip), outer));
const big = (more: number): Packet => toService("cameNear", ACK, { payload: LARGEST + more });

/** A first piece, by one byte too big. */
const bigPiece = toService("far", ACK, { payload: LARGEST + 1, ip: { moreFragments: true } });

const SENT: readonly Row[] = [
  {
    title: "a flow that nobody knows here goes to its slot's former owner by that one's node",
    places: HOST,
    coming: { packet: ipipToNear(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: byNode(ack("cameNear"), { ttl: TTL.second }),
  },
  {
    title: "what came without an outer header goes there with two",
    places: HOST,
    coming: { packet: arriving(ack("cameNear")) },
    verdict: "SENT_PASSED",
    leaving: byNode(ack("cameNear"), { ttl: TTL.second }),
  },
  {
    title: "back to the present owner by its node, too",
    places: HOST,
    coming: { packet: ipipToNear(ack("wentFar"), { ttl: TTL.fourth }) },
    verdict: "SENT_FINAL",
    leaving: byNode(ack("wentFar"), { ttl: TTL.final }),
  },
  {
    title: "a second outer header has the first one's DSCP and ECN",
    places: HOST,
    coming: {
      packet: ipipToNear(toService("cameNear", ACK, { ip: { dscp: 46, ecn: 2 } }), {
        dscp: 46,
        ecn: 3,
      }),
    },
    verdict: "SENT_PASSED",
    leaving: byNode(
      toService("cameNear", ACK, { ip: { dscp: 46, ecn: 2 } }),
      { ttl: TTL.second, dscp: 46, ecn: 3 },
      { dscp: 46, ecn: 3 },
    ),
  },
  {
    title: "the largest packet that fits with two outer headers goes",
    shorter: 60,
    places: HOST,
    coming: { packet: arriving(big(0)) },
    verdict: "SENT_PASSED",
    leaving: byNode(big(0), { ttl: TTL.second }),
  },
  {
    title: "one byte more is told to the client, with an MTU that leaves room for two headers",
    shorter: 60,
    places: HOST,
    coming: { packet: arriving(big(1)) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(big(1), MTU - 20),
    isCut: true,
  },
  {
    title: "what came with an outer header and doesn't fit with another one is dropped",
    shorter: 60,
    places: HOST,
    coming: { packet: ipipToNear(big(1)) },
    verdict: "DROP_TOO_BIG",
  },
  {
    title: "an error about a reply of a pod elsewhere goes by that one's node",
    places: HOST,
    coming: { packet: arriving(aboutReplyOf("far")) },
    verdict: "SENT_RELAYED",
    leaving: byNode(aboutReplyOf("far"), { dscp: 48 }, { dscp: 48 }),
    isCut: true,
  },
  {
    title: "a piece that doesn't fit with two outer headers is answered",
    only: "ipv4",
    places: HOST,
    coming: { packet: arriving(bigPiece) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(bigPiece, MTU - 20),
    isCut: true,
  },
  {
    title: "IPIP of a load balancer to this node for a pod elsewhere goes by that one's node",
    places: HOST,
    coming: {
      packet: arriving([
        ipv4({ source: LOAD_BALANCER, target: NODE, ttl: 60 }),
        ...toService("far", SYN),
      ]),
    },
    verdict: "SENT_ENCAPSULATED",
    leaving: byNode(toService("far", SYN)),
  },
];

/** What another node sends to the near pod by this node's address. */
const comingBy = (packet: Packet, outer: Init<"ipv4"> = {}): Packet => {
  const [ethernet, ...rest] = packet;
  if (ethernet === undefined) throw new TypeError("there is no packet");
  return [ethernet, ipv4({ source: OTHER_NODE, target: NODE, ttl: 60, ...outer }), ...rest];
};

const RECEIVED: readonly Row[] = [
  {
    title: "IPIP in a node's IPIP to this node is put into the pod",
    places: HOST,
    coming: { packet: comingBy(ipipToNear(toService("near", SYN))) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "it is at the hop that its inner outer header says",
    places: HOST,
    coming: { packet: comingBy(ipipToNear(ack("wentFar"), { ttl: TTL.fourth })) },
    verdict: "SENT_FINAL",
    leaving: framed(UPLINK_MAC, GATEWAY_MAC, ipipTo(FAR, ack("wentFar"), { ttl: TTL.final })),
  },
  {
    title: "an error in it about a reply is put into the pod",
    places: HOST,
    before: [{ packet: arriving(toService("near", SYN)) }],
    coming: { packet: comingBy(ipipToNear(aboutReplyOf("near"))) },
    verdict: "SENT_RELAYED",
    leaving: intoNear(aboutNearsReply),
    isCut: true,
  },
  {
    title: "a congestion mark of the outermost header comes through",
    places: HOST,
    coming: {
      packet: comingBy(ipipToNear(toService("near", SYN, { ip: { ecn: 2 } }), { ecn: 2 }), {
        ecn: 3,
      }),
    },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN, { ip: { ecn: 3 } })),
  },
  {
    title: "a congestion mark of the outermost header on what can't carry it is a drop",
    places: HOST,
    coming: { packet: comingBy(ipipToNear(toService("near", SYN)), { ecn: 3 }) },
    verdict: "DROP_ECN",
  },
  {
    title: "a stranger's IPIP in a node's is dropped",
    places: HOST,
    coming: { packet: comingBy(ipipToNear(toService("near", SYN), { source: STRANGER })) },
    verdict: "DROP_UNTRUSTED",
  },
  ...(
    [
      [
        "IPIP in a stranger's IPIP",
        comingBy(ipipToNear(toService("near", SYN)), { source: STRANGER }),
      ],
      [
        "IPIP for no pod of this node in a node's",
        comingBy(arriving(ipipTo(FAR, toService("far", SYN)))),
      ],
      [
        "IPIP in a node's IPIP to another node",
        comingBy(ipipToNear(toService("near", SYN)), { target: OTHER_NODE }),
      ],
      [
        "a piece of IPIP in a node's IPIP",
        comingBy(ipipToNear(toService("near", SYN)), { moreFragments: true }),
      ],
      [
        "a node's own IPIP with a ping",
        comingBy(arriving([ipv4({ source: OTHER_NODE, target: NEAR }), icmp({})])),
      ],
      ["a node's own IPIP with nothing whole", comingBy(arriving([payload(12)]), { protocol: 4 })],
    ] as const
  ).map(
    ([what, packet]): Row => ({
      title: `${what} passes`,
      places: HOST,
      coming: { packet },
      verdict: "PASS_NOT_OURS",
    }),
  ),
  {
    title: "IPIP in a load balancer's IPIP to this node is dropped",
    places: HOST,
    coming: { packet: comingBy(ipipToNear(toService("near", SYN)), { source: LOAD_BALANCER }) },
    verdict: "DROP_INNER_PROTOCOL",
  },
];

/** Of a node with `dispatch: geneve`. */
export const BY_NODE_ROWS = SENT;
/** Of any node. */
export const PEER_ROWS = RECEIVED;
