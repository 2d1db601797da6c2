// SPDX-License-Identifier: Apache-2.0
// Packets to ports that are served at the nodes' own addresses.

import { FrontendKind, NodeAddress, type Port, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import type { Ipv4 } from "../../src/net/address.ts";
import { ipv4, payload, tcp } from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  NEAR,
  NEAR_MAC,
  NEAR_NODE_MAC,
  NODE,
  OTHER_NODE,
  SERVICES,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  CLIENT_PORT,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type Packet,
  type ServiceName,
  SYN,
  tcpTo,
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { addFrontend, serviceChanged, serviceRow } from "./tables.ts";
import { tooBig } from "./too-big.ts";

const BOTH = ["edge", "host"] as const;
const EDGE = ["edge"] as const;
const HOST = ["host"] as const;
const PORTS = {
  far: 30_080,
  near: 30_081,
  farDns: 30_053,
  below: 29_999,
  nobodys: 30_099,
} as const;

/** Gives services ports at the nodes' addresses, of which this node knows two. */
export function serveNodePorts(stage: Stage): void {
  const add = (name: ServiceName, port: number): void =>
    addFrontend(stage, {
      address: 0 as Ipv4,
      port: port as Port,
      protocol: SERVICES[name].protocol === "TCP" ? 6 : 17,
      kind: FrontendKind.nodePort,
      service: serviceRow(stage, name),
    });
  add("far", PORTS.far);
  add("near", PORTS.near);
  add("farDns", PORTS.farDns);
  add("far", PORTS.below);
  const addresses = [
    [NODE, NodeAddress.own],
    [OTHER_NODE, NodeAddress.other],
    [SERVICES.smallMtu.address, NodeAddress.own],
  ] as const;
  for (const [address, whose] of addresses) {
    const key = { address, port: 0 as Port, protocol: 0, kind: FrontendKind.node };
    addFrontend(stage, { ...key, service: whose });
  }
}

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const toFar = (flags: number, at: Ipv4 = NODE): Packet => tcpTo(at, PORTS.far, flags);
const toNear = (flags: number, at: Ipv4 = NODE): Packet => tcpTo(at, PORTS.near, flags);
const large = tcpTo(NODE, PORTS.far, ACK, { payload: 1441 });

const BALANCED: readonly Row[] = [
  {
    title: "a packet to a node port is encapsulated, its destination as it was",
    places: BOTH,
    coming: { packet: arriving(toFar(SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, toFar(SYN))),
    back: true,
  },
  {
    title: "a UDP packet to a node port is too",
    places: BOTH,
    coming: { packet: arriving(udpTo(NODE, PORTS.farDns)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(ipipTo(FAR, udpTo(NODE, PORTS.farDns))),
    back: true,
  },
  {
    title: "a packet that is too big is answered from the node's address",
    shorter: 40,
    places: BOTH,
    coming: { packet: arriving(large) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(large, 1500),
    back: true,
  },
  {
    title: "a packet to a node port of SNAT leaves with the node's address",
    places: BOTH,
    poke: serviceChanged("far", { flags: ServiceFlag.snat }),
    coming: { packet: arriving(toFar(SYN)) },
    verdict: "SENT_NAT",
    leaving: viaGateway(tcpTo(FAR, 8080, SYN, { ip: { source: NODE, ttl: 59 } })),
    back: true,
  },
  {
    title: "a packet to a node port whose pod is of this node is left to the host",
    places: EDGE,
    coming: { packet: arriving(toNear(SYN)) },
    verdict: "PASS_LOCAL",
  },
  {
    title: "a pod of this node gets what comes to the node's port, from the client itself",
    places: HOST,
    coming: { packet: arriving(toNear(SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
  },
];

const PASSED: readonly Row[] = [
  {
    title: "a packet to another node's port passes",
    coming: { packet: arriving(toFar(SYN, OTHER_NODE)) },
  },
  {
    title: "a packet to a node port at no node's address passes",
    coming: { packet: arriving(toFar(SYN, STRANGER)) },
  },
  {
    title: "a port outside the range of node ports is none",
    coming: { packet: arriving(tcpTo(NODE, PORTS.below, SYN)) },
  },
  {
    title: "a port that no service has is the node's own",
    coming: { packet: arriving(tcpTo(NODE, PORTS.nobodys, SYN)) },
  },
  {
    title: "a TCP packet to a port that is served for UDP passes",
    coming: { packet: arriving(tcpTo(NODE, PORTS.farDns, SYN)) },
  },
  {
    title: "a fragment for the node's address is the node's own",
    coming: { packet: arriving(tcpTo(NODE, PORTS.far, ACK, { ip: { moreFragments: true } })) },
  },
  {
    title: "a fragment for an address that services share with a node is the node's own",
    coming: {
      packet: arriving(tcpTo(SERVICES.smallMtu.address, 80, ACK, { ip: { fragmentOffset: 1480 } })),
    },
  },
].map((row) => ({ ...row, places: BOTH, verdict: "PASS_NOT_OURS" }) as const);

const answer = (target: Ipv4, source: Ipv4, port: number, more = {}): Packet => [
  ipv4({ source, target, ttl: 64, id: 9, ...more }),
  tcp({ sourcePort: port, targetPort: CLIENT_PORT, flags: SYN | ACK }),
  payload(""),
];

const RECEIVED: readonly Row[] = [
  {
    title: "what came to another node's port is put into the pod",
    places: HOST,
    coming: { packet: ipipToNear(toNear(SYN, OTHER_NODE)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
  },
  {
    title: "what came to this node's port by another node is, too",
    places: HOST,
    coming: { packet: ipipToNear(toNear(SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
  },
  {
    title: "the reply leaves with the address and port of the node that the client chose",
    places: ["pod"],
    before: [{ packet: ipipToNear(toNear(SYN, OTHER_NODE)) }],
    coming: { packet: framed(NEAR_MAC, NEAR_NODE_MAC, answer(CLIENT, NEAR, 8080)) },
    verdict: "SENT_REPLY",
    leaving: viaGateway(answer(CLIENT, OTHER_NODE, PORTS.near, { ttl: 63 })),
  },
  {
    title: "IPIP to a node port at no node's address is dropped",
    places: HOST,
    coming: { packet: ipipToNear(toNear(SYN, STRANGER)) },
    verdict: "DROP_NO_SERVICE",
  },
  {
    title: "IPIP to a node port of which the pod is no backend is dropped",
    places: HOST,
    coming: { packet: ipipToNear(toFar(SYN, OTHER_NODE)) },
    verdict: "DROP_NOT_A_BACKEND",
  },
];

export const NODE_PORT_ROWS: readonly Row[] = [...BALANCED, ...PASSED, ...RECEIVED];
