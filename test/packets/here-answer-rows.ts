// SPDX-License-Identifier: Apache-2.0
// The node itself as a backend: what it says of packets that it can't take, and answers in pieces.

import type { Ipv4 } from "../../src/net/address.ts";
import { icmp, ipv4, payload } from "../../src/net/packet.ts";
import { CLIENT, IDLE, NEAR, NODE, SERVICES, STRANGER } from "./cluster.ts";
import { first, later } from "./fragment-rows.ts";
import {
  arriving,
  askService,
  CLIENT_PORT,
  ipipToNear,
  type Packet,
  SYN,
  toService,
} from "./frames.ts";
import { ALIAS } from "./here-rows.ts";
import { type About, error, fromIdle, inPod, query, toGateway } from "./outbound-frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { limitReached, podGone, portsTaken } from "./tables.ts";

const { here, hereDns } = SERVICES;
const untouched = { places: ["node"], verdict: "PASS_NOT_OURS" } as const;
const told = { places: ["node"], verdict: "SENT_RELAYED", goesOn: true } as const;
const asked = [{ packet: arriving(askService("hereDns")) }];

/** What the client sent, and what the node's sockets got of it. */
const sent: About = {
  source: CLIENT,
  sourcePort: CLIENT_PORT,
  target: hereDns.address,
  targetPort: hereDns.port,
};
const got: About = { ...sent, target: NODE, targetPort: 5353 };
const tcp = { protocol: "TCP" } as const;
const sentTcp = { ...sent, ...tcp, target: here.address, targetPort: here.port };
const gotTcp = { ...got, ...tcp, targetPort: 8080 };
const ADMINISTRATIVELY = { type: 3, code: 10, rest: 0 } as const;

const ping = (target: Ipv4): Packet => [
  ipv4({ source: NODE, target, ttl: 64 }),
  icmp({ type: 8 }),
  payload(8),
];

/** The node knows the client by another port than its own. */
function adopted(stage: Stage): undefined {
  portsTaken([CLIENT_PORT], NODE)(stage);
  stage.send({ place: "host", frame: stage.build(arriving(toService("here", SYN))) });
}

const fromNode = { source: NODE, target: CLIENT, ttl: 64 };
const fromService = { ...fromNode, source: hereDns.address };
const ports = { sourcePort: 5353, targetPort: CLIENT_PORT, checksum: 0x1234 };
const firstOut = toGateway(first(fromNode, { ...ports, checksum: 0 }));
const laterOut = toGateway(later(fromNode));
const answers = { places: ["node"], verdict: "SENT_REPLY", goesOn: true, isCut: true } as const;
const answered = [...asked, { place: "node" as const, packet: firstOut }];

/** On a node that tracks no fragments. */
export const HERE_ANSWER_ROWS: readonly Row[] = [
  {
    ...told,
    title: "a closed port of the node is the service's to the client",
    before: asked,
    coming: { packet: toGateway(error({ source: NODE }, got)) },
    leaving: toGateway(error({ source: hereDns.address }, sent)),
  },
  {
    ...told,
    title: "what a firewall of the node says of a connection is, too",
    before: [{ packet: arriving(toService("here", SYN)) }],
    coming: { packet: toGateway(error({ source: NODE, message: ADMINISTRATIVELY }, gotTcp)) },
    leaving: toGateway(error({ source: here.address, message: ADMINISTRATIVELY }, sentTcp)),
  },
  {
    ...told,
    title: "what the node says is about the client's own port",
    poke: adopted,
    coming: { packet: toGateway(error({ source: NODE }, { ...gotTcp, sourcePort: ALIAS })) },
    leaving: toGateway(error({ source: here.address }, sentTcp)),
  },
  {
    ...told,
    title: "the time to live of what the node says stays, as nobody has forwarded it",
    before: asked,
    coming: { packet: toGateway(error({ source: NODE, ttl: 1 }, got)) },
    leaving: toGateway(error({ source: hereDns.address, ttl: 1 }, sent)),
  },
  {
    ...told,
    title: "the node may quote no more than the client's ports",
    before: asked,
    coming: { packet: toGateway(error({ source: NODE }, { ...got, bytes: 28 })) },
    leaving: toGateway(error({ source: hereDns.address }, { ...sent, bytes: 28 })),
    isCut: true,
    only: "ipv4",
  },
  {
    title: "what the node says counts as an answer of the service",
    places: ["node"],
    before: asked,
    poke: limitReached("hereDns"),
    coming: { packet: toGateway(error({ source: NODE }, got)) },
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    ...untouched,
    title: "what the node says of a packet that nobody has translated stays",
    coming: { packet: toGateway(error({ source: NODE }, got)) },
  },
  {
    ...untouched,
    title: "what is said in another's name of the node's packets stays",
    before: asked,
    coming: { packet: toGateway(error({ source: STRANGER }, got)) },
  },
  {
    ...untouched,
    title: "what is said of a pod's packets is none of the node's",
    before: [{ packet: ipipToNear(askService("nearDns")) }],
    coming: { packet: toGateway(error({ source: NEAR }, { ...got, target: NEAR })) },
  },
  {
    ...untouched,
    title: "what the node says stays when it is no backend any more",
    before: asked,
    poke: podGone(NODE),
    coming: { packet: toGateway(error({ source: NODE }, got)) },
  },
  {
    ...untouched,
    title: "what the node says to a pod that asked stays",
    before: [inPod(fromIdle(query("hereDns")()))],
    coming: { packet: toGateway(error({ source: NODE }, { ...got, source: IDLE })) },
  },
  {
    ...untouched,
    title: "the node's ping of a service stays",
    coming: { packet: toGateway(ping(hereDns.address)) },
  },
  {
    ...untouched,
    title: "a piece of what the node answers stays where nobody tracks fragments",
    before: asked,
    coming: { packet: firstOut },
  },
];

/** On a node that tracks fragments. */
export const HERE_FRAGMENT_ROWS: readonly Row[] = [
  {
    ...answers,
    title: "the first piece of what the node answers comes from the service",
    before: asked,
    coming: { packet: firstOut },
    leaving: toGateway(first(fromService, { ...ports, sourcePort: hereDns.port, checksum: 0 })),
  },
  {
    ...answers,
    title: "a later piece of what the node answers follows the first",
    before: answered,
    coming: { packet: laterOut },
    leaving: toGateway(later(fromService)),
  },
  {
    ...untouched,
    title: "a later piece of the node without a first stays",
    before: asked,
    coming: { packet: laterOut },
  },
  {
    ...untouched,
    title: "a later piece of another datagram of the node stays",
    before: answered,
    coming: { packet: toGateway(later({ ...fromNode, id: 8 })) },
  },
  {
    ...untouched,
    title: "a first piece of the node that answers nobody teaches nothing",
    before: [{ place: "node" as const, packet: firstOut }, ...asked],
    coming: { packet: laterOut },
  },
];
