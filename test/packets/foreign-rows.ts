// SPDX-License-Identifier: Apache-2.0
// IPIP of load balancers that are no nodes, addressed to this node or to the service.

import type { Ipv4 } from "../../src/net/address.ts";
import { type Init, ipv4, payload } from "../../src/net/packet.ts";
import {
  FAR,
  GATEWAY_MAC,
  LOAD_BALANCER,
  NEAR,
  NODE,
  OTHER_NODE,
  SERVICES,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import { arriving, framed, intoNear, type Packet, SYN, tcpTo, toService } from "./frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { backendIsNode, expectCounted, expectFlows, podGone } from "./tables.ts";

const HOST = ["host"] as const;

const intoPod = {
  places: HOST,
  verdict: "SENT_POD",
  leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
} as const;

/** IPIP of a load balancer that leaves the choice to the node. */
function foreign(target: Ipv4, packet: Packet, ip: Init<"ipv4"> = {}): Packet {
  return arriving([ipv4({ source: LOAD_BALANCER, target, ttl: 60, ...ip }), ...packet]);
}

/** Of a SYN in IPIP; of IPv6 there are two headers, of which expectCounted knows one. */
const bytesOf = ({ family }: Stage): number => (family === "ipv6" ? 94 : 74);

const near = toService("near", SYN);

/** Two things that come between. */
function both(...pokes: readonly ((stage: Stage) => () => void)[]) {
  return (stage: Stage): (() => void) => {
    const undo = pokes.map((poke) => poke(stage));
    return () => {
      for (const one of undo) one();
    };
  };
}

export const FOREIGN_ROWS: readonly Row[] = [
  {
    ...intoPod,
    title: "IPIP of a load balancer to this node is put into the pod that the ring says",
    coming: { packet: foreign(NODE, near) },
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 1, bytesOf(stage), 1, 1);
    },
  },
  {
    ...intoPod,
    title: "IPIP of a load balancer to the service itself, too",
    coming: { packet: foreign(SERVICES.near.address, near) },
  },
  {
    title: "IPIP of a load balancer for a pod of another node is sent there, as if we had chosen",
    places: HOST,
    coming: { packet: foreign(NODE, toService("far", SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(UPLINK_MAC, GATEWAY_MAC, [
      ipv4({ source: NODE, target: FAR, ttl: 64 }),
      ...toService("far", SYN),
    ]),
    check: (stage) => expectCounted(stage, 1, bytesOf(stage), 1, 0),
  },
  {
    title: "a stranger's IPIP to this node passes",
    places: HOST,
    coming: { packet: foreign(NODE, near, { source: STRANGER }) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a node's IPIP to a node that is no backend passes",
    places: HOST,
    poke: podGone(NODE),
    coming: { packet: foreign(NODE, near, { source: OTHER_NODE }) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "IPIP of a load balancer to nobody passes",
    places: HOST,
    coming: { packet: foreign(STRANGER, near) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a fragment of a load balancer's IPIP is dropped",
    places: HOST,
    coming: { packet: foreign(NODE, near, { moreFragments: true }) },
    verdict: "DROP_OUTER_FRAGMENT",
  },
  {
    title: "a load balancer's packet for no service is dropped",
    places: HOST,
    coming: { packet: foreign(NODE, tcpTo(STRANGER, 80, SYN)) },
    verdict: "DROP_NO_SERVICE",
  },
  {
    title: "a load balancer's packet for a service without backends is dropped",
    places: HOST,
    coming: { packet: foreign(NODE, toService("empty", SYN)) },
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "a load balancer's packet to a pod without a route is dropped",
    places: HOST,
    coming: { packet: foreign(NODE, toService("nowhere", SYN)) },
    verdict: "DROP_NO_ROUTE",
  },
  {
    title: "no whole packet of a load balancer is dropped",
    places: HOST,
    coming: { packet: foreign(NODE, [payload(12)], { protocol: 4 }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "a load balancer's packet for a pod that is gone is dropped",
    places: HOST,
    poke: podGone(NEAR),
    coming: { packet: foreign(NODE, near) },
    verdict: "DROP_ENDPOINT_GONE",
  },
  {
    title: "a load balancer's packet for this node that is not to be one is dropped once",
    places: HOST,
    poke: both(backendIsNode(NEAR, NODE), podGone(NODE)),
    coming: { packet: foreign(NODE, near) },
    verdict: "DROP_ENDPOINT_GONE",
    check: (stage) => expectCounted(stage, 0, 0, 0, 0),
  },
];
