// SPDX-License-Identifier: Apache-2.0
// What pods say by ICMP, and what is said of packets that pods sent to services.

import type { Ipv4 } from "../../src/net/address.ts";
import { parseIpv4 } from "../../src/net/address.ts";
import { icmp, ipv4, payload, tcp, udp } from "../../src/net/packet.ts";
import { nodeMac, podMac } from "../differential/places.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  IDLE,
  LOST_CLIENT,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  SERVICES,
  SMALL_MTU,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  arriving,
  askService,
  CLIENT_PORT,
  framed,
  intoNear,
  ipipToNear,
  type Packet,
  type ServiceName,
  SYN,
  toService,
} from "./frames.ts";
import { type About, error } from "./outbound-frames.ts";
import type { Coming, Row } from "./row.ts";
import { limitReached, podGone } from "./tables.ts";

const POD = ["pod"] as const;
const HOST = ["host"] as const;
const ASKER = 2;
const ITSELF = parseIpv4("169.254.42.1");
const TTL = 64;
const FRAG_NEEDED = { type: 3, code: 4, rest: 1300 } as const;

const fromIdle = (packet: Packet): Coming => ({
  packet: framed(podMac(ASKER), nodeMac(ASKER), packet),
  from: ASKER,
});
const fromNear = (packet: Packet): Coming => ({
  packet: framed(NEAR_MAC, NEAR_NODE_MAC, packet),
  from: 0,
});
const intoIdle = (packet: Packet): Packet => framed(nodeMac(ASKER), podMac(ASKER), packet);
const toGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const inPod = (coming: Coming) => [{ ...coming, place: "pod" as const }];

const query = (source: Ipv4, name: ServiceName): Packet => [
  ipv4({ source, target: SERVICES[name].address, ttl: TTL }),
  udp({ sourcePort: CLIENT_PORT, targetPort: SERVICES[name].port }),
  payload("query"),
];
const askedNear = inPod(fromIdle(query(IDLE, "nearDns")));
const askedFar = inPod(fromIdle(query(IDLE, "farDns")));
const askedItself = inPod(fromNear(query(NEAR, "nearDns")));

/** What a client sent, as it sent it and as a pod got it. */
const asSent = (source: Ipv4, name: ServiceName): About => ({
  source,
  sourcePort: CLIENT_PORT,
  target: SERVICES[name].address,
  targetPort: SERVICES[name].port,
  protocol: SERVICES[name].protocol === "UDP" ? "UDP" : "TCP",
});
const asGot = (source: Ipv4, pod: Ipv4, targetPort = 5353): About => ({
  source,
  sourcePort: CLIENT_PORT,
  target: pod,
  targetPort,
  protocol: targetPort === 5353 ? "UDP" : "TCP",
});
/** The other way round. */
const back = ({ source, sourcePort, target, targetPort, ...more }: About): About => ({
  ...more,
  source: target,
  sourcePort: targetPort,
  target: source,
  targetPort: sourcePort,
});

const OF_REQUESTS: readonly Row[] = [
  {
    title: "a pod without the port tells a pod of the same node, in the service's name",
    places: POD,
    before: askedNear,
    coming: fromNear(error({ source: NEAR }, asGot(IDLE, NEAR))),
    verdict: "SENT_RELAYED",
    leaving: intoIdle(
      error({ source: SERVICES.nearDns.address, ttl: TTL - 1 }, asSent(IDLE, "nearDns")),
    ),
  },
  {
    title: "a pod tells itself",
    places: POD,
    before: askedItself,
    coming: fromNear(error({ source: NEAR }, asGot(ITSELF, NEAR))),
    verdict: "SENT_RELAYED",
    leaving: intoNear(
      error({ source: SERVICES.nearDns.address, ttl: TTL - 1 }, asSent(NEAR, "nearDns")),
    ),
  },
  {
    title: "a pod tells a client outside, in the service's name",
    places: POD,
    before: [{ packet: ipipToNear(askService("nearDns")) }],
    coming: fromNear(error({ source: NEAR }, asGot(CLIENT, NEAR))),
    verdict: "SENT_RELAYED",
    leaving: toGateway(
      error({ source: SERVICES.nearDns.address, ttl: TTL - 1 }, asSent(CLIENT, "nearDns")),
    ),
  },
  {
    title: "a pod tells a client outside of TCP",
    places: POD,
    before: [{ packet: ipipToNear(toService("near", SYN)) }],
    coming: fromNear(error({ source: NEAR }, asGot(CLIENT, NEAR, 8080))),
    verdict: "SENT_RELAYED",
    leaving: toGateway(
      error({ source: SERVICES.near.address, ttl: TTL - 1 }, asSent(CLIENT, "near")),
    ),
  },
  {
    title: "a client to which no route leads isn't told",
    places: POD,
    before: [{ packet: ipipToNear(askService("nearDns", { ip: { source: LOST_CLIENT } })) }],
    coming: fromNear(error({ source: NEAR }, asGot(LOST_CLIENT, NEAR))),
    verdict: "DROP_NO_ROUTE",
  },
  {
    title: "errors of pods count as answers of their service",
    places: POD,
    before: askedNear,
    poke: limitReached("nearDns"),
    coming: fromNear(error({ source: NEAR }, asGot(IDLE, NEAR))),
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    title: "an error of a pod whose TTL ends here is left to the kernel",
    places: POD,
    before: askedNear,
    coming: fromNear(error({ source: NEAR, ttl: 1 }, asGot(IDLE, NEAR))),
    verdict: "PASS_TTL",
  },
  {
    title: "an error of a pod in another's name passes",
    places: POD,
    before: askedNear,
    coming: { ...fromNear(error({ source: NEAR }, asGot(IDLE, NEAR))), from: ASKER },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "an error of a pod about what nobody sent passes",
    places: POD,
    coming: fromNear(error({ source: NEAR }, asGot(IDLE, NEAR))),
    verdict: "PASS_NOT_OURS",
  },
];

const OF_REPLIES: readonly Row[] = [
  {
    title: "a pod that awaits no answer tells the backend of the same node",
    places: POD,
    before: askedNear,
    coming: fromIdle(error({ source: IDLE }, back(asSent(IDLE, "nearDns")))),
    verdict: "SENT_RELAYED",
    leaving: intoNear(error({ source: IDLE, ttl: TTL - 1 }, back(asGot(IDLE, NEAR)))),
  },
  {
    title: "a pod that awaits no answer tells itself by its other address",
    places: POD,
    before: askedItself,
    coming: fromNear(error({ source: NEAR }, back(asSent(NEAR, "nearDns")))),
    verdict: "SENT_RELAYED",
    leaving: intoNear(error({ source: ITSELF, ttl: TTL - 1 }, back(asGot(ITSELF, NEAR)))),
  },
  {
    title: "a pod that awaits no answer tells a backend elsewhere",
    places: POD,
    before: askedFar,
    coming: fromIdle(error({ source: IDLE }, back(asSent(IDLE, "farDns")))),
    verdict: "SENT_RELAYED",
    leaving: toGateway(error({ source: IDLE, ttl: TTL - 1 }, back(asGot(IDLE, FAR)))),
  },
  {
    title: "an error too big for the way to a backend is dropped",
    places: POD,
    before: inPod(
      fromIdle([
        ipv4({ source: IDLE, target: SERVICES.smallMtu.address, ttl: TTL }),
        tcp({ sourcePort: CLIENT_PORT, targetPort: 80, flags: SYN }),
      ]),
    ),
    coming: fromIdle([
      ...error({ source: IDLE }, back(asSent(IDLE, "smallMtu"))),
      payload(new Uint8Array(1400)),
    ]),
    verdict: "DROP_TOO_BIG",
  },
];

const FROM_NETWORK: readonly Row[] = [
  {
    title: "what a router says of a pod's packet goes to the pod, about what it sent",
    places: HOST,
    before: askedFar,
    coming: {
      packet: arriving(error({ source: STRANGER, message: FRAG_NEEDED }, asGot(IDLE, FAR))),
    },
    verdict: "SENT_RELAYED",
    leaving: intoIdle(error({ source: STRANGER, message: FRAG_NEEDED }, asSent(IDLE, "farDns"))),
  },
  {
    title: "what a backend elsewhere says of it comes from the service",
    places: HOST,
    before: askedFar,
    coming: { packet: arriving(error({ source: FAR }, asGot(IDLE, FAR))) },
    verdict: "SENT_RELAYED",
    leaving: intoIdle(error({ source: SERVICES.farDns.address }, asSent(IDLE, "farDns"))),
  },
  {
    title: "errors about packets of a pod count as answers of their service",
    places: HOST,
    before: askedFar,
    poke: limitReached("farDns"),
    coming: { packet: arriving(error({ source: FAR }, asGot(IDLE, FAR))) },
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    title: "errors about packets of a pod that is gone are dropped",
    places: HOST,
    before: askedFar,
    poke: podGone(IDLE),
    coming: { packet: arriving(error({ source: FAR }, asGot(IDLE, FAR))) },
    verdict: "DROP_ENDPOINT_GONE",
  },
  {
    title: "errors about packets of a pod to another pod pass",
    places: HOST,
    before: askedFar,
    coming: { packet: arriving(error({ source: SMALL_MTU }, asGot(IDLE, SMALL_MTU))) },
    verdict: "PASS_NOT_OURS",
  },
];

const ping = (target: Ipv4, source = IDLE): Packet => [
  ipv4({ source, target, ttl: TTL, id: 9 }),
  icmp({ type: 8, rest: 0x00070001 }),
  payload("ping"),
];

const PINGS: readonly Row[] = [
  {
    title: "a pod's ping of a service is answered",
    places: POD,
    coming: fromIdle(ping(SERVICES.far.address)),
    verdict: "SENT_ECHO",
    leaving: intoIdle([
      ipv4({ source: SERVICES.far.address, target: IDLE, ttl: 64, id: 9 }),
      icmp({ type: 0, rest: 0x00070001 }),
      payload("ping"),
    ]),
  },
  {
    title: "a pod's ping of somebody else passes",
    places: POD,
    coming: fromIdle(ping(CLIENT)),
    verdict: "PASS_NOT_OURS",
  },
];

export const OUTBOUND_ICMP_ROWS: readonly Row[] = [
  ...OF_REQUESTS,
  ...OF_REPLIES,
  ...FROM_NETWORK,
  ...PINGS,
];
