// SPDX-License-Identifier: Apache-2.0
// What pods send.

import { icmp, ipv4, type LayerInit, mssOption, payload, tcp, udp } from "../../src/net/packet.ts";
import {
  CLIENT,
  GATEWAY_MAC,
  LOST_CLIENT,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  SERVICES,
  SILENT_CLIENT,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  askService,
  CLIENT_PORT,
  FIN,
  framed,
  ipipToNear,
  type More,
  type Packet,
  RST,
  type ServiceName,
  SYN,
  toService,
} from "./frames.ts";
import type { Row } from "./row.ts";
import { expectFlows } from "./tables.ts";

const POD = ["pod"] as const;
const SYN_ACK = SYN | ACK;
/** MTU less two IPv4 headers and a TCP header. */
const CLAMPED = 1440;

const fromNear = (packet: Packet): Packet => framed(NEAR_MAC, NEAR_NODE_MAC, packet);
const toGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);

/** The pod's TCP packet as it sends it, to the client's port as it sees it. */
function podTcp(flags: number, more: More = {}): Packet {
  return [
    ipv4({ source: NEAR, target: CLIENT, ttl: 64, id: 9, ...more.ip }),
    tcp({ sourcePort: 8080, targetPort: CLIENT_PORT, flags, ...more.tcp }),
    payload(more.payload ?? ""),
  ];
}

/** What the near pod answers to the client's SYN. */
export const podSynAck = fromNear(podTcp(SYN_ACK));

/** The same as the client gets it. */
function replyTcp(name: ServiceName, flags: number, more: More = {}): Packet {
  return [
    ipv4({ source: SERVICES[name].address, target: CLIENT, ttl: 63, id: 9, ...more.ip }),
    tcp({ sourcePort: SERVICES[name].port, targetPort: CLIENT_PORT, flags, ...more.tcp }),
    payload(more.payload ?? ""),
  ];
}

const udpReply = (source: LayerInit, port: number, more: More = {}): Packet => [
  source,
  udp({ sourcePort: port, targetPort: CLIENT_PORT, ...more.udp }),
  payload("answer"),
];
const podUdp = (more: More = {}): Packet =>
  udpReply(ipv4({ source: NEAR, target: CLIENT, ttl: 64 }), 5353, more);
const clientUdp = (more: More = {}): Packet =>
  udpReply(ipv4({ source: SERVICES.nearDns.address, target: CLIENT, ttl: 63 }), 53, more);

const opened = [{ packet: ipipToNear(toService("near", SYN)) }];
const asked = [{ packet: ipipToNear(askService("nearDns")) }];
const openedBy = (source: typeof CLIENT) => [
  { packet: ipipToNear(toService("near", SYN, { ip: { source } })) },
];

const ODD: More = { ip: { options: new Uint8Array(4).fill(1) }, payload: "hello" };

const REPLIES: readonly Row[] = [
  {
    title: "a reply gets the service's address and port and goes straight to the client",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(SYN_ACK)) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", SYN_ACK)),
    check: (stage) => expectFlows(stage, "request 1 replied", "reply 1 replied"),
  },
  {
    title: "a UDP reply does too",
    places: POD,
    before: asked,
    coming: { packet: fromNear(podUdp()) },
    verdict: "SENT_REPLY",
    leaving: toGateway(clientUdp()),
  },
  {
    title: "a UDP reply without a checksum stays without one",
    places: POD,
    before: asked,
    coming: { packet: fromNear(podUdp({ udp: { checksum: 0 } })) },
    verdict: "SENT_REPLY",
    leaving: toGateway(clientUdp({ udp: { checksum: 0 } })),
  },
  {
    title: "a reply to a port that only the pod knows goes to the client's own port",
    places: POD,
    before: [...opened, { packet: ipipToNear(toService("nearToo", SYN)) }],
    coming: { packet: fromNear(podTcp(SYN_ACK, { tcp: { targetPort: 48_853 } })) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("nearToo", SYN_ACK)),
  },
  {
    title: "a reply with options and a payload keeps them",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, ODD)) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", ACK, ODD)),
  },
  {
    title: "what a pod sends by a connection that was found again confirms it in both entries",
    places: POD,
    before: [{ packet: ipipToNear(toService("near", ACK)) }],
    coming: { packet: fromNear(podTcp(ACK)) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", ACK)),
    check: (stage) =>
      expectFlows(stage, "request 1 confirmed replied", "reply 1 confirmed replied"),
  },
  {
    title: "a FIN of both sides closes the flow",
    places: POD,
    before: [...opened, { packet: ipipToNear(toService("near", FIN)) }],
    coming: { packet: fromNear(podTcp(FIN)) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", FIN)),
    check: (stage) =>
      expectFlows(
        stage,
        "request 2 confirmed finClient finPod replied",
        "reply 1 confirmed finClient finPod replied",
      ),
  },
  {
    title: "an RST of the pod resets both entries",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(RST)) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", RST)),
    check: (stage) => expectFlows(stage, "request 1 reset replied", "reply 1 reset replied"),
  },
];

/** TCP options of a SYN, filled up with zeros to whole words. */
function synOptions(...bytes: readonly number[]): Uint8Array {
  const options = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  options.set(bytes);
  return options;
}

const MSS: readonly (readonly [words: string, offered: Uint8Array, clamped: Uint8Array])[] = [
  ["an MSS that is too large is lowered", mssOption(1460), mssOption(CLAMPED)],
  ["an MSS that fits stays", mssOption(CLAMPED), mssOption(CLAMPED)],
  [
    "an MSS at an odd place is lowered",
    synOptions(1, ...mssOption(1460)),
    synOptions(1, ...mssOption(CLAMPED)),
  ],
  [
    "an MSS behind other options is lowered",
    synOptions(4, 2, 3, 3, 7, ...mssOption(1460)),
    synOptions(4, 2, 3, 3, 7, ...mssOption(CLAMPED)),
  ],
  [
    "an MSS behind the end of options is none",
    synOptions(0, ...mssOption(1460)),
    synOptions(0, ...mssOption(1460)),
  ],
];

const CLAMPS: readonly Row[] = [
  ...MSS.map(
    ([title, offered, clamped]): Row => ({
      title,
      places: POD,
      before: opened,
      coming: { packet: fromNear(podTcp(SYN_ACK, { tcp: { options: offered } })) },
      verdict: "SENT_REPLY",
      leaving: toGateway(replyTcp("near", SYN_ACK, { tcp: { options: clamped } })),
    }),
  ),
  {
    title: "an MSS of a packet that is no SYN stays",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, { tcp: { options: mssOption(1460) } })) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", ACK, { tcp: { options: mssOption(1460) } })),
  },
];

const PASSED: readonly Row[] = [
  {
    title: "a packet that belongs to no flow passes",
    places: POD,
    coming: { packet: fromNear(podTcp(ACK)) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a fragment passes",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, { ip: { moreFragments: true } })) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "ICMP passes",
    places: POD,
    before: opened,
    coming: { packet: fromNear([ipv4({ source: NEAR, target: CLIENT }), icmp({})]) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a reply whose TTL ends here is left to the kernel",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, { ip: { ttl: 1 } })) },
    verdict: "PASS_TTL",
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a reply too big for its way out stays the pod's own, for the kernel to answer",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, { payload: 1461 })) },
    verdict: "PASS_TOO_BIG",
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a reply that may be cut goes to the kernel, translated",
    only: "ipv4",
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, { payload: 1461, ip: { dontFragment: false } })) },
    verdict: "PASS_TOO_BIG",
    leaving: fromNear(
      replyTcp("near", ACK, { payload: 1461, ip: { ttl: 64, dontFragment: false } }),
    ),
    check: (stage) =>
      expectFlows(stage, "request 1 confirmed replied", "reply 1 confirmed replied"),
  },
  {
    title: "a reply that just fits goes straight to the client",
    shorter: 20,
    places: POD,
    before: opened,
    coming: { packet: fromNear(podTcp(ACK, { payload: 1460 })) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", ACK, { payload: 1460 })),
  },
  {
    title: "a reply for which there is no route goes to the kernel, translated",
    places: POD,
    before: openedBy(LOST_CLIENT),
    coming: { packet: fromNear(podTcp(SYN_ACK, { ip: { target: LOST_CLIENT } })) },
    verdict: "PASS_STACK",
    leaving: fromNear(replyTcp("near", SYN_ACK, { ip: { target: LOST_CLIENT, ttl: 64 } })),
  },
  {
    title: "a reply whose gateway has no MAC yet is sent by the kernel's neighbour table",
    places: POD,
    before: openedBy(SILENT_CLIENT),
    coming: { packet: fromNear(podTcp(SYN_ACK, { ip: { target: SILENT_CLIENT } })) },
    verdict: "SENT_REPLY",
    leaving: toGateway(replyTcp("near", SYN_ACK, { ip: { target: SILENT_CLIENT } })),
    toNeighbour: true,
  },
];

export const POD_ROWS: readonly Row[] = [...REPLIES, ...CLAMPS, ...PASSED];
