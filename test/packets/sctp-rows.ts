// SPDX-License-Identifier: Apache-2.0
// SCTP: addresses are translated, and never ports, as its checksum covers them alone.

import { dsrGeneveOption, dsrOption4 } from "../../src/net/dsr.ts";
import {
  buildPacket,
  geneve,
  type Init,
  icmp,
  ipv4,
  type LayerInit,
  payload,
  sctp,
  sctpChunk,
  udp,
} from "../../src/net/packet.ts";
import { NODE_MACS } from "../differential/places.ts";
import { flowHash } from "../model/hash.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  IDLE,
  LOST_CLIENT,
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
import {
  arriving,
  CLIENT_PORT,
  FROM_ROUTER,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type Packet,
  type ServiceName,
} from "./frames.ts";
import {
  fromNear as fromHairpin,
  fromIdle,
  ITSELF,
  intoIdle,
  toGateway,
} from "./outbound-frames.ts";
import type { Row } from "./row.ts";
import { expectCounted, expectFlows } from "./tables.ts";

const BOTH = ["edge", "host"] as const;
const HOST = ["host"] as const;
const POD = ["pod"] as const;
const PORT = SERVICES.farTalk.port;
const TAG = 0x01020304;
/** Bytes of a frame with an INIT. */
const INIT_BYTES = 66;

/** The parameter without which an INIT ACK is none. */
const COOKIE = [0, 7, 0, 8, 1, 2, 3, 4] as const;

/** Chunks by what they are; no other value than these is looked at. */
const CHUNK = {
  data: sctpChunk(0, 3, new Uint8Array(16)),
  init: sctpChunk(1, 0, new Uint8Array(16)),
  initAck: sctpChunk(2, 0, Uint8Array.of(...new Uint8Array(16), ...COOKIE)),
  abort: sctpChunk(6, 0, new Uint8Array()),
  shutdown: sctpChunk(7, 0, new Uint8Array(4)),
  shutdownAck: sctpChunk(8, 0, new Uint8Array()),
  cookieAck: sctpChunk(11, 0, new Uint8Array()),
  shutdownComplete: sctpChunk(14, 0, new Uint8Array()),
} as const;
type Chunk = keyof typeof CHUNK;

type Ip = Init<"ipv4">;

/** A packet between two addresses; INIT has no tag yet. */
function talk(ip: Ip, sourcePort: number, chunk: Chunk, targetPort = PORT): Packet {
  const verificationTag = chunk === "init" ? 0 : TAG;
  return [
    ipv4({ ttl: 60, id: 7, ...ip }),
    sctp({ sourcePort, targetPort, verificationTag }),
    payload(CHUNK[chunk]),
  ];
}

const toService = (name: ServiceName, chunk: Chunk, ip: Ip = {}, port = CLIENT_PORT): Packet =>
  talk({ source: CLIENT, target: SERVICES[name].address, ...ip }, port, chunk);
const toPod = (target: Ip["target"], chunk: Chunk, ip: Ip = {}, port = CLIENT_PORT): Packet =>
  talk({ source: CLIENT, ...(target && { target }), ...ip }, port, chunk);
const back = (ip: Ip, chunk: Chunk, port = CLIENT_PORT): Packet => talk(ip, PORT, chunk, port);

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const fromNear = (packet: Packet): Packet => framed(NEAR_MAC, NEAR_NODE_MAC, packet);
const delivered = (chunk: Chunk) => ({ packet: ipipToNear(toService("nearTalk", chunk)) });
const answered = (chunk: Chunk) =>
  ({
    place: "pod",
    packet: fromNear(back({ source: NEAR, target: CLIENT, ttl: 64 }, chunk)),
  }) as const;

const BALANCED: readonly Row[] = [
  {
    title: "an INIT is encapsulated, untouched, and is a connection",
    places: BOTH,
    coming: { packet: arriving(toService("farTalk", "init")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("farTalk", "init"))),
    back: true,
    check: (stage) => expectCounted(stage, 1, INIT_BYTES, 1, 0),
  },
  {
    title: "what follows an INIT is encapsulated, and no connection",
    places: BOTH,
    coming: { packet: arriving(toService("farTalk", "data")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toService("farTalk", "data"))),
    back: true,
    check: (stage) => expectCounted(stage, 1, INIT_BYTES, 0, 0),
  },
  {
    title: "SCTP without a chunk passes",
    places: BOTH,
    coming: { packet: arriving(toService("farTalk", "init").slice(0, 2)) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "SCTP to a port of a service that has only TCP is dropped",
    places: BOTH,
    coming: {
      packet: arriving(talk({ source: CLIENT, target: SERVICES.far.address }, 1, "init", 80)),
    },
    verdict: "DROP_UNKNOWN_PORT",
  },
  {
    title: "an INIT to a service without backends is answered by ICMP",
    places: BOTH,
    coming: { packet: arriving(toService("emptyTalk", "init")) },
    verdict: "SENT_REJECTED",
    leaving: [
      ...framed(UPLINK_MAC, ROUTER_MAC, []),
      ipv4({ source: SERVICES.emptyTalk.address, target: CLIENT, ttl: 64, dscp: 48, id: 0 }),
      icmp({ type: 3, code: 3, rest: 0 }),
      payload(buildPacket(...toService("emptyTalk", "init")).slice(0, 28)),
    ],
    isCut: true,
    back: true,
  },
  {
    title: "an ABORT to a service without backends isn't answered",
    places: BOTH,
    coming: { packet: arriving(toService("emptyTalk", "abort")) },
    verdict: "DROP_NO_BACKEND",
  },
];

/** However packets of TCP travel. */
export const ONE_ASSOCIATION: Row = {
  title: "two addresses of a pod can't have associations of one client's port",
  places: HOST,
  before: [delivered("init")],
  coming: { packet: ipipToNear(toService("nearTalkToo", "init")) },
  verdict: "DROP_PORT_COLLISION",
};

const DELIVERED: readonly Row[] = [
  {
    title: "an INIT goes into the pod, its address alone translated",
    places: HOST,
    coming: delivered("init"),
    verdict: "SENT_POD",
    leaving: intoNear(toPod(NEAR, "init")),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "what follows an INIT that has no answer yet confirms nothing",
    places: HOST,
    before: [delivered("init")],
    coming: delivered("data"),
    verdict: "SENT_POD",
    leaving: intoNear(toPod(NEAR, "data")),
    check: (stage) => expectFlows(stage, "request 2", "reply 0"),
  },
  {
    title: "what follows the pod's INIT ACK says that the client is there",
    places: HOST,
    before: [delivered("init"), answered("initAck")],
    coming: delivered("data"),
    verdict: "SENT_POD",
    leaving: intoNear(toPod(NEAR, "data")),
    check: (stage) => expectFlows(stage, "request 2 confirmed replied", "reply 1 replied"),
  },
  {
    title: "an ABORT ends the association in both entries",
    places: HOST,
    before: [delivered("init")],
    coming: delivered("abort"),
    verdict: "SENT_POD",
    leaving: intoNear(toPod(NEAR, "abort")),
    check: (stage) => expectFlows(stage, "request 2 reset", "reply 0 reset"),
  },
  {
    title: "an ABORT of no known association is dropped",
    places: HOST,
    coming: delivered("abort"),
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "an INIT after a shutdown is another association",
    places: HOST,
    before: [
      delivered("init"),
      delivered("shutdown"),
      answered("shutdownAck"),
      delivered("shutdownComplete"),
    ],
    coming: delivered("init"),
    verdict: "SENT_POD",
    leaving: intoNear(toPod(NEAR, "init")),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  ONE_ASSOCIATION,
  {
    title: "a pod's INIT ACK gets the service's address and goes straight to the client",
    places: POD,
    before: [delivered("init")],
    coming: answered("initAck"),
    verdict: "SENT_REPLY",
    leaving: viaGateway(
      back({ source: SERVICES.nearTalk.address, target: CLIENT, ttl: 63 }, "initAck"),
    ),
    check: (stage) => expectFlows(stage, "request 1 replied", "reply 1 replied"),
  },
  {
    title: "a pod's shutdown after the client's ends both sides",
    places: POD,
    before: [delivered("init"), delivered("shutdown")],
    coming: answered("shutdownAck"),
    verdict: "SENT_REPLY",
    leaving: viaGateway(
      back({ source: SERVICES.nearTalk.address, target: CLIENT, ttl: 63 }, "shutdownAck"),
    ),
    check: (stage) =>
      expectFlows(stage, "request 2 finClient finPod replied", "reply 1 finClient finPod replied"),
  },
];

/** What a router says of a packet, which it quotes. */
function told(target: Ip["target"], about: Packet, bytes: number): Packet {
  return [
    ipv4({ source: STRANGER, ...(target && { target }), ttl: 55, dscp: 48, id: 3 }),
    icmp({ type: 3, code: 4, rest: 1300 }),
    payload(buildPacket(...about).slice(0, bytes)),
  ];
}

const ERRORS: readonly Row[] = [28, 1500].map((bytes) => ({
  title: `frag-needed about SCTP, ${bytes} bytes quoted or less, goes into the pod`,
  places: HOST,
  before: [delivered("init")],
  coming: {
    packet: arriving(
      told(
        SERVICES.nearTalk.address,
        back({ source: SERVICES.nearTalk.address, target: CLIENT }, "data"),
        bytes,
      ),
    ),
  },
  verdict: "SENT_RELAYED",
  leaving: intoNear(told(NEAR, back({ source: NEAR, target: CLIENT }, "data"), bytes)),
  isCut: true,
}));

const fromAsker = (name: ServiceName, chunk: Chunk): Packet =>
  talk({ source: IDLE, target: SERVICES[name].address, ttl: 64 }, CLIENT_PORT, chunk);

const OUTBOUND: readonly Row[] = [
  {
    title: "a pod's INIT to a service goes to a backend, which sees the pod",
    places: POD,
    coming: fromIdle(fromAsker("farTalk", "init")),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(talk({ source: IDLE, target: FAR, ttl: 63 }, CLIENT_PORT, "init")),
    check: (stage) => expectCounted(stage, 1, INIT_BYTES, 1, 0),
  },
  {
    title: "a pod's second association by one port to one pod is dropped",
    places: POD,
    before: [{ place: "pod", ...fromIdle(fromAsker("nearTalk", "init")) }],
    coming: fromIdle(fromAsker("nearTalkToo", "init")),
    verdict: "DROP_PORT_COLLISION",
  },
  {
    title: "a pod that asks itself by SCTP is told that somebody else does",
    places: POD,
    coming: fromHairpin(
      talk({ source: NEAR, target: SERVICES.nearTalk.address, ttl: 64 }, CLIENT_PORT, "init"),
    ),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(talk({ source: ITSELF, target: NEAR, ttl: 63 }, CLIENT_PORT, "init")),
  },
  {
    title: "a pod of this node answers a pod as the service",
    places: POD,
    before: [{ place: "pod", ...fromIdle(fromAsker("nearTalk", "init")) }],
    coming: { packet: fromNear(back({ source: NEAR, target: IDLE, ttl: 64 }, "initAck")) },
    verdict: "SENT_REPLY",
    leaving: intoIdle(
      back({ source: SERVICES.nearTalk.address, target: IDLE, ttl: 63 }, "initAck"),
    ),
  },
];

export const SCTP_ROWS: readonly Row[] = [...BALANCED, ...DELIVERED, ...ERRORS, ...OUTBOUND];

const spreadPort =
  0x8000 |
  (flowHash(
    {
      client: CLIENT,
      clientPort: CLIENT_PORT,
      service: SERVICES.farTalk.address,
      servicePort: PORT,
      protocol: 132,
    },
    42n,
  ).high &
    0x7fff);

export const SCTP_GENEVE_ROWS: readonly Row[] = [
  {
    title: "an INIT is sent in Geneve, its address translated",
    places: BOTH,
    coming: { packet: arriving(toService("farTalk", "init")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(UPLINK_MAC, NODE_MACS[1] ?? GATEWAY_MAC, [
      ipv4({ source: NODE, target: OTHER_NODE, ttl: 64, id: 0, dontFragment: true }),
      udp({ sourcePort: spreadPort, checksum: 0 }),
      geneve({
        vni: 2,
        critical: true,
        options: dsrGeneveOption(SERVICES.farTalk.address, PORT),
      }),
      FROM_ROUTER,
      ...toPod(FAR, "init"),
    ]),
    back: true,
  },
];

export const SCTP_OPTION_ROWS: readonly Row[] = [
  {
    title: "an INIT is sent with an option, its address translated",
    places: BOTH,
    coming: { packet: arriving(toService("farTalk", "init")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(
      toPod(FAR, "init", { ttl: 59, options: dsrOption4(SERVICES.farTalk.address, PORT) }),
    ),
    back: true,
  },
];

const opened = (chunk: Chunk = "init", ip: Ip = {}, port = CLIENT_PORT) => ({
  packet: arriving(toService("farTalk", chunk, ip, port)),
});
const atPod = (chunk: Chunk, port = CLIENT_PORT): Packet =>
  toPod(FAR, chunk, { source: NODE, ttl: 59 }, port);
/** A port that SNAT gives to nobody else. */
const LOW = 2905;

const snatReply = (port: number): Row => ({
  title: `a reply by SNAT to port ${port} gets the service's address`,
  places: BOTH,
  before: [opened("init", {}, port)],
  coming: { packet: arriving(back({ source: FAR, target: NODE, ttl: 62 }, "initAck", port)) },
  verdict: "SENT_NAT_REPLY",
  leaving: viaGateway(
    back({ source: SERVICES.farTalk.address, target: CLIENT, ttl: 61 }, "initAck", port),
  ),
  back: true,
});

export const SCTP_SNAT_ROWS: readonly Row[] = [
  ...[CLIENT_PORT, LOW].map(
    (port): Row => ({
      title: `an INIT from port ${port} gets the node's address, and keeps its port`,
      places: BOTH,
      coming: opened("init", {}, port),
      verdict: "SENT_NAT",
      leaving: viaGateway(atPod("init", port)),
      back: true,
      check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
    }),
  ),
  snatReply(CLIENT_PORT),
  snatReply(LOW),
  {
    title: "an association whose port another client's to the pod has is dropped",
    places: BOTH,
    before: [opened()],
    coming: opened("init", { source: LOST_CLIENT }),
    verdict: "DROP_NAT_EXHAUSTED",
  },
  {
    title: "an ABORT of no known association is dropped by SNAT",
    places: BOTH,
    coming: opened("abort"),
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "frag-needed about what SNAT has sent goes to the client",
    places: HOST,
    before: [opened()],
    coming: {
      packet: arriving(told(NODE, talk({ source: NODE, target: FAR }, CLIENT_PORT, "data"), 28)),
    },
    verdict: "SENT_RELAYED",
    leaving: viaGateway(
      told(CLIENT, toService("farTalk", "data"), 28).map((layer) =>
        layer.kind === "ipv4" ? { ...layer, source: SERVICES.farTalk.address, ttl: 54 } : layer,
      ),
    ),
    isCut: true,
  },
];

const first = (ip: Ip): Packet => [
  ipv4({ id: 7, ttl: 60, moreFragments: true, dontFragment: false, source: CLIENT, ...ip }),
  sctp({ sourcePort: CLIENT_PORT, targetPort: PORT, verificationTag: TAG, checksum: 0x12345678 }),
  payload(CHUNK.data),
];
const later = (ip: Ip): Packet => [
  ipv4({
    ...{ id: 7, ttl: 60, fragmentOffset: 32, dontFragment: false, protocol: 132 },
    source: CLIENT,
    ...ip,
  } satisfies Omit<Extract<LayerInit, { kind: "ipv4" }>, "kind">),
  payload(24),
];

export const SCTP_FRAGMENT_ROWS: readonly Row[] = [
  {
    title: "a first piece of SCTP goes into the pod, translated",
    places: HOST,
    coming: { packet: ipipToNear(first({ target: SERVICES.nearTalk.address })) },
    verdict: "SENT_POD",
    leaving: intoNear(first({ target: NEAR })),
    isFaulty: true,
  },
  {
    title: "a later piece of SCTP follows into the pod",
    places: HOST,
    before: [{ packet: ipipToNear(first({ target: SERVICES.nearTalk.address })) }],
    coming: { packet: ipipToNear(later({ target: SERVICES.nearTalk.address })) },
    verdict: "SENT_POD",
    leaving: intoNear(later({ target: NEAR })),
    isCut: true,
  },
];
