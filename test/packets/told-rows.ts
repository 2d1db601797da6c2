// SPDX-License-Identifier: Apache-2.0
// What a backend's node makes of Geneve.

import { dsrGeneveOption } from "../../src/net/dsr.ts";
import {
  ethernet,
  geneve,
  geneveOption,
  type Init,
  icmp,
  ipv4,
  payload,
  udp,
} from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  IDLE,
  LOAD_BALANCER,
  NEAR,
  NODE,
  OTHER_NODE,
  SERVICES,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  framed,
  intoNear,
  type Packet,
  type ServiceName,
  SYN,
  tcpTo,
  toService,
} from "./frames.ts";
import { podSynAck } from "./pod-rows.ts";
import type { Row } from "./row.ts";
import { expectCounted, expectFlows } from "./tables.ts";
import { tooBig } from "./too-big.ts";

const HOST = ["host"] as const;
const MTU = 1500;
/** The largest payload of TCP that fits with IPIP. */
const LARGEST = MTU - 40 - 20;
const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);

interface Shape {
  readonly ip?: Init<"ipv4">;
  readonly geneve?: Init<"geneve">;
  readonly inner?: Packet;
  readonly type?: number;
}

/** Geneve of a balancer, for the near pod. */
export function coming(name: ServiceName, flags: number, shape: Shape = {}): Packet {
  const { address, port } = SERVICES[name];
  return arriving([
    ipv4({ source: OTHER_NODE, target: NODE, ttl: 64, dontFragment: true, ...shape.ip }),
    udp({ sourcePort: 50_000, checksum: 0 }),
    geneve({
      vni: 2,
      critical: true,
      options: dsrGeneveOption(address, port),
      ...shape.geneve,
    }),
    ethernet(shape.type === undefined ? {} : { type: shape.type }),
    ...(shape.inner ?? tcpTo(NEAR, 8080, flags)),
  ]);
}

const intoPod = {
  places: HOST,
  verdict: "SENT_POD",
  leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
} as const;

const GENEVE_RECEIVED: readonly Row[] = [
  {
    ...intoPod,
    title: "Geneve from a node is put into the pod, as the client's flow",
    coming: { packet: coming("near", SYN) },
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 0, 0, 0, 1);
    },
  },
  {
    ...intoPod,
    title: "Geneve to the pod's own address, from a balancer that doesn't know its node",
    coming: { packet: coming("near", SYN, { ip: { target: NEAR } }) },
  },
  {
    ...intoPod,
    title: "Geneve from a load balancer is believed too",
    coming: { packet: coming("near", SYN, { ip: { source: LOAD_BALANCER } }) },
  },
  {
    title: "a congestion mark of Geneve's outer header comes through",
    places: HOST,
    coming: {
      packet: coming("near", SYN, {
        ip: { ecn: 3 },
        inner: tcpTo(NEAR, 8080, SYN, { ip: { ecn: 2 } }),
      }),
    },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN, { ip: { ecn: 3 } })),
  },
  {
    title: "a congestion mark on what can't carry it is a drop",
    places: HOST,
    coming: { packet: coming("near", SYN, { ip: { ecn: 3 } }) },
    verdict: "DROP_ECN",
  },
  {
    title: "a later packet in Geneve without an option follows its flow",
    places: HOST,
    before: [{ packet: coming("near", SYN) }, { packet: podSynAck, place: "pod" }],
    coming: {
      packet: coming("near", ACK, { geneve: { options: new Uint8Array(), critical: false } }),
    },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, ACK)),
    check: (stage) =>
      expectFlows(stage, "request 1 confirmed replied", "reply 2 confirmed replied"),
  },
  {
    title: "a flow that nobody knows here goes from Geneve to its slot's former owner in IPIP",
    places: HOST,
    coming: { packet: coming("cameNear", ACK) },
    verdict: "SENT_PASSED",
    leaving: viaGateway([
      ipv4({ source: NODE, target: FAR, ttl: 96, id: 0, dontFragment: true }),
      ...toService("cameNear", ACK),
    ]),
  },
];

const GENEVE_REFUSED: readonly Row[] = [
  {
    title: "what came in Geneve and is too big to go on in IPIP is answered",
    shorter: 40,
    places: HOST,
    coming: {
      packet: coming("cameNear", ACK, {
        inner: tcpTo(NEAR, 8080, ACK, { payload: LARGEST + 1 }),
      }),
    },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("cameNear", ACK, { payload: LARGEST + 1 }), MTU),
    isCut: true,
  },
  {
    title: "a later packet that ends behind its Geneve passes",
    places: HOST,
    before: [{ packet: coming("near", SYN) }],
    coming: {
      packet: coming("near", ACK, {
        ip: { totalLength: 89 },
        geneve: { options: new Uint8Array(), critical: false },
      }),
    },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a packet that ends behind its Geneve is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { ip: { totalLength: 101 } }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "Geneve that ends before the packet begins is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { ip: { totalLength: 61 } }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "Geneve with a service from a stranger is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { ip: { source: STRANGER } }) },
    verdict: "DROP_UNTRUSTED",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "Geneve with a service whose backend the pod isn't is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { inner: tcpTo(IDLE, 8080, SYN) }) },
    verdict: "DROP_NOT_A_BACKEND",
  },
  {
    title: "Geneve with no service of ours is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { geneve: { options: dsrGeneveOption(STRANGER, 80) } }) },
    verdict: "DROP_NO_SERVICE",
  },
  {
    title: "no whole IPv4 behind a service is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { type: 0x0800, inner: [payload(12)] }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "no IPv4 at all behind a service is dropped",
    places: HOST,
    coming: { packet: coming("near", SYN, { type: 0x0806, inner: [payload(28)] }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "ICMP behind a service is dropped",
    places: HOST,
    coming: {
      packet: coming("near", SYN, { inner: [ipv4({ source: CLIENT, target: NEAR }), icmp({})] }),
    },
    verdict: "DROP_INNER_PROTOCOL",
  },
  {
    title: "a fragment behind a service is dropped",
    places: HOST,
    coming: {
      packet: coming("near", SYN, {
        inner: tcpTo(NEAR, 8080, SYN, { ip: { moreFragments: true } }),
      }),
    },
    verdict: "DROP_FRAGMENT",
  },
  ...(
    [
      [
        "Geneve of somebody else",
        { geneve: { options: geneveOption(0x102, 3, new Uint8Array(8)) } },
      ],
      ["Geneve without options of no flow of ours", { geneve: { options: new Uint8Array() } }],
      ["Geneve with something else than Ethernet inside", { geneve: { type: 0x0800 } }],
      ["Geneve for another node", { ip: { target: OTHER_NODE } }],
    ] as const
  ).map(
    ([what, shape]): Row => ({
      title: `${what} passes`,
      places: HOST,
      coming: { packet: coming("near", SYN, shape) },
      verdict: "PASS_NOT_OURS",
    }),
  ),
];

export const TOLD_ROWS: readonly Row[] = [...GENEVE_RECEIVED, ...GENEVE_REFUSED];
