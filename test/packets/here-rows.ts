// SPDX-License-Identifier: Apache-2.0
// The node itself as a backend: by its own address, without a device of a pod.

import type { Ipv4 } from "../../src/net/address.ts";
import { dsrGeneveOption, dsrOption4 } from "../../src/net/dsr.ts";
import {
  ethernet,
  geneve,
  icmp,
  ipv4,
  mssOption,
  payload,
  tcp,
  udp,
} from "../../src/net/packet.ts";
import { flowHash } from "../model/hash.ts";
import {
  CLIENT,
  GATEWAY_MAC,
  LOAD_BALANCER,
  NODE,
  OTHER_NODE,
  protocolOf,
  SERVICES,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  CLIENT_PORT,
  FIN,
  framed,
  type More,
  type Packet,
  RST,
  SYN,
  tcpTo,
  toService,
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { expectCounted, expectFlows, podGone, portsTaken } from "./tables.ts";

const HOST = ["host"] as const;
const NODE_PLACE = ["node"] as const;
const { here, hereDns } = SERVICES;

/** The port by which the node knows a client whose own one is another flow's. */
export const ALIAS =
  0x8000 |
  (flowHash(
    {
      client: CLIENT,
      clientPort: CLIENT_PORT,
      service: here.address,
      servicePort: here.port,
      protocol: protocolOf("here"),
    },
    42n,
  ).low &
    0x7fff);

/** What another node sends to this one. */
const ipip = (packet: Packet, ip: Parameters<typeof ipv4>[0] = {}): Packet =>
  arriving([ipv4({ source: OTHER_NODE, target: NODE, ttl: 64, ...ip }), ...packet]);
const fromNode = (packet: Packet): Packet => [
  ipv4({ source: OTHER_NODE, target: NODE, ttl: 64 }),
  ...packet,
];
const forNobody = [
  ipv4({ source: STRANGER, target: CLIENT }),
  ipv4({ source: STRANGER, target: CLIENT }),
  icmp({}),
];
const opened = [{ packet: ipip(toService("here", SYN)) }];
const asked = [{ packet: ipip(askService("hereDns")) }];

const intoNode = (packet: Packet) =>
  ({ places: HOST, verdict: "SENT_POD", goesOn: true, leaving: arriving(packet) }) as const;
const atNode = (flags: number, more: More = {}): Packet => tcpTo(NODE, 8080, flags, more);
const passes = { places: HOST, verdict: "PASS_NOT_OURS" } as const;

const geneveTo = (packet: Packet, source = OTHER_NODE): Packet =>
  arriving([
    ipv4({ source, target: NODE, ttl: 64, dontFragment: true }),
    udp({ sourcePort: 50_000, checksum: 0 }),
    geneve({ vni: 2, critical: true, options: dsrGeneveOption(here.address, here.port) }),
    ethernet({}),
    ...packet,
  ]);

const REQUESTS: readonly Row[] = [
  {
    ...intoNode(atNode(SYN)),
    title: "IPIP for the node as a backend is stripped, translated, and goes on to its sockets",
    coming: { packet: ipip(toService("here", SYN)) },
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 0, 0, 0, 1);
    },
  },
  {
    ...intoNode(atNode(ACK, { payload: "hello" })),
    title: "a later packet of the node's flow does, too",
    before: opened,
    coming: { packet: ipip(toService("here", ACK, { payload: "hello" })) },
    check: (stage) => expectFlows(stage, "request 2", "reply 0"),
  },
  {
    ...intoNode(udpTo(NODE, 5353)),
    title: "a datagram for the node as a backend goes on to its sockets",
    coming: { packet: ipip(askService("hereDns")) },
  },
  {
    ...intoNode(atNode(SYN)),
    title: "what the balancer itself is the backend of goes on to its sockets",
    coming: { packet: arriving(toService("here", SYN)) },
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    ...intoNode(atNode(SYN)),
    title: "Geneve for the node as a backend is stripped and goes on to its sockets",
    coming: { packet: geneveTo(atNode(SYN)) },
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    ...intoNode(atNode(SYN)),
    title: "IPIP of a load balancer goes to the node itself if the ring says so",
    coming: { packet: ipip(toService("here", SYN), { source: LOAD_BALANCER }) },
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    ...intoNode(atNode(SYN)),
    title: "IPIP in another node's IPIP, both to the node itself, goes on to its sockets",
    coming: { packet: ipip(fromNode(toService("here", SYN))) },
  },
  {
    ...passes,
    title: "IPIP for nobody of which the node itself has taken an outer header counts as it came",
    coming: { packet: ipip(fromNode(forNobody)) },
    leaving: ipip(forNobody),
  },
  {
    ...intoNode(atNode(SYN, { ip: { ecn: 3 } })),
    title: "a congestion mark of a load balancer's IPIP comes through to the node itself",
    coming: {
      packet: ipip(toService("here", SYN, { ip: { ecn: 2 } }), { source: LOAD_BALANCER, ecn: 3 }),
    },
  },
  {
    title: "a congestion mark of a load balancer's IPIP that the node can't carry is a drop",
    places: HOST,
    coming: { packet: ipip(toService("here", SYN), { source: LOAD_BALANCER, ecn: 3 }) },
    verdict: "DROP_ECN",
  },
  {
    ...intoNode(atNode(ACK, { payload: "hello" })),
    title: "a plain packet of the node's flow goes on as it is",
    before: opened,
    coming: { packet: arriving(atNode(ACK, { payload: "hello" })) },
    check: (stage) => expectFlows(stage, "request 1", "reply 1"),
  },
  {
    title: "a RST of a flow that nobody knows doesn't reach the node",
    places: HOST,
    coming: { packet: ipip(toService("here", RST)) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "IPIP for a service of which the node is no backend is dropped",
    places: HOST,
    coming: { packet: ipip(toService("near", SYN)) },
    verdict: "DROP_NOT_A_BACKEND",
  },
  {
    title: "a flow of the node that is no backend any more is dropped",
    places: HOST,
    before: opened,
    poke: podGone(NODE),
    coming: { packet: arriving(toService("here", ACK)) },
    verdict: "DROP_ENDPOINT_GONE",
  },
];

/** What has nothing to do with services. */
const STRANGE: readonly Row[] = [
  {
    ...passes,
    title: "a tunnel between nodes carries what is for no service",
    coming: { packet: ipip(tcpTo(STRANGER, 80, SYN)) },
    check: (stage) => expectFlows(stage),
  },
  {
    ...passes,
    title: "a tunnel between nodes carries pings",
    coming: { packet: ipip([ipv4({ target: STRANGER }), icmp({ type: 8 }), payload(8)]) },
  },
  {
    ...passes,
    title: "a tunnel between nodes carries errors about what is for no service",
    coming: {
      packet: ipip([
        ipv4({ target: STRANGER }),
        icmp({ type: 3, code: 1 }),
        ipv4({ source: STRANGER, target: CLIENT }),
        tcp({ sourcePort: 80, targetPort: CLIENT_PORT, flags: ACK }),
      ]),
    },
  },
  {
    ...passes,
    title: "a tunnel between nodes carries other protocols",
    coming: { packet: ipip([ipv4({ target: STRANGER, protocol: 89 }), payload(24)]) },
  },
  {
    ...passes,
    title: "a tunnel between nodes carries pieces",
    coming: { packet: ipip(tcpTo(STRANGER, 80, ACK, { ip: { moreFragments: true } })) },
  },
  {
    ...passes,
    title: "a tunnel between nodes comes in pieces",
    coming: { packet: ipip(tcpTo(STRANGER, 80, ACK), { moreFragments: true }) },
  },
  {
    ...passes,
    title: "a stranger's IPIP for the node passes, whatever is inside",
    coming: { packet: ipip(toService("here", SYN), { source: STRANGER }) },
  },
  {
    ...passes,
    title: "a connection to the node's own port passes",
    coming: { packet: arriving(atNode(SYN)) },
  },
  {
    ...passes,
    title: "Geneve of an operator passes",
    coming: {
      packet: arriving([
        ipv4({ source: OTHER_NODE, target: NODE, ttl: 64 }),
        udp({ sourcePort: 50_000, checksum: 0 }),
        geneve({ vni: 7 }),
        ethernet({}),
        ...tcpTo(STRANGER, 80, SYN),
      ]),
    },
  },
];

const replyFrom = (source: Ipv4, sourcePort: number, more: More = {}): Packet => [
  ipv4({ source, target: CLIENT, ttl: 64, id: 9, ...more.ip }),
  tcp({ sourcePort, targetPort: CLIENT_PORT, flags: SYN | ACK, ...more.tcp }),
  payload(more.payload ?? ""),
];
const out = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const answers = { places: NODE_PLACE, verdict: "SENT_REPLY", goesOn: true } as const;
const untouched = { places: NODE_PLACE, verdict: "PASS_NOT_OURS" } as const;

const REPLIES: readonly Row[] = [
  {
    ...answers,
    title: "the node's answer to a client outside comes from the service",
    before: opened,
    coming: { packet: out(replyFrom(NODE, 8080)) },
    leaving: out(replyFrom(here.address, here.port)),
    check: (stage) => expectFlows(stage, "request 1 replied", "reply 1 replied"),
  },
  {
    ...answers,
    title: "the time to live of what the node answers stays, as nobody has forwarded it",
    before: opened,
    coming: { packet: out(replyFrom(NODE, 8080, { ip: { ttl: 1 }, tcp: { flags: FIN } })) },
    leaving: out(replyFrom(here.address, here.port, { ip: { ttl: 1 }, tcp: { flags: FIN } })),
    check: (stage) =>
      expectFlows(stage, "reply 1 confirmed finPod replied", "request 1 confirmed finPod replied"),
  },
  {
    ...answers,
    title: "the node's answer goes to the client's own port",
    poke: (stage: Stage) => {
      portsTaken([CLIENT_PORT], NODE)(stage);
      stage.send({ place: "host", frame: stage.build(ipip(toService("here", SYN))) });
      return undefined;
    },
    coming: { packet: out(replyFrom(NODE, 8080, { tcp: { targetPort: ALIAS } })) },
    leaving: out(replyFrom(here.address, here.port)),
  },
  {
    ...answers,
    title: "the node's datagram comes from the service",
    before: asked,
    coming: {
      packet: out([
        ipv4({ source: NODE, target: CLIENT, ttl: 64 }),
        udp({ sourcePort: 5353, targetPort: CLIENT_PORT }),
        payload("answer"),
      ]),
    },
    leaving: out([
      ipv4({ source: hereDns.address, target: CLIENT, ttl: 64 }),
      udp({ sourcePort: hereDns.port, targetPort: CLIENT_PORT }),
      payload("answer"),
    ]),
  },
  {
    ...answers,
    title: "the MSS that the node offers leaves room for the outer header",
    before: opened,
    coming: { packet: out(replyFrom(NODE, 8080, { tcp: { options: mssOption(8940) } })) },
    leaving: out(replyFrom(here.address, here.port, { tcp: { options: mssOption(1440) } })),
    only: "ipv4",
  },
  {
    ...untouched,
    title: "what the node says to a client of no flow stays",
    coming: { packet: out(replyFrom(NODE, 8080)) },
  },
  {
    ...untouched,
    title: "what the node says from another port stays",
    before: opened,
    coming: { packet: out(replyFrom(NODE, 8081)) },
  },
  {
    ...untouched,
    title: "what the node sends to a service is its sockets' business",
    coming: { packet: out(toService("far", SYN, { ip: { source: NODE } })) },
  },
];

const AROUND: readonly Row[] = [
  {
    title: "a router's error about what the node answered goes on to the node",
    places: HOST,
    before: opened,
    coming: {
      packet: arriving([
        ipv4({ source: STRANGER, target: here.address, ttl: 55 }),
        icmp({ type: 3, code: 4, rest: 1300 }),
        ...replyFrom(here.address, here.port, { payload: 8 }),
      ]),
    },
    verdict: "SENT_RELAYED",
    goesOn: true,
    leaving: arriving([
      ipv4({ source: STRANGER, target: NODE, ttl: 55 }),
      icmp({ type: 3, code: 4, rest: 1300 }),
      ...replyFrom(NODE, 8080, { payload: 8 }),
    ]),
    isCut: true,
  },
  {
    title: "a router's error that another node relays goes on to the node",
    places: HOST,
    before: opened,
    coming: {
      packet: ipip([
        ipv4({ source: STRANGER, target: here.address, ttl: 55 }),
        icmp({ type: 3, code: 4, rest: 1300 }),
        ...replyFrom(here.address, here.port, { payload: 8 }),
      ]),
    },
    verdict: "SENT_RELAYED",
    goesOn: true,
    leaving: arriving([
      ipv4({ source: STRANGER, target: NODE, ttl: 55 }),
      icmp({ type: 3, code: 4, rest: 1300 }),
      ...replyFrom(NODE, 8080, { payload: 8 }),
    ]),
    isCut: true,
  },
];

const withOption = (service: Ipv4): Packet =>
  arriving(atNode(SYN, { ip: { options: dsrOption4(service, here.port) } }));

/** On a node that believes options. */
export const HERE_OPTION_ROWS: readonly Row[] = [
  {
    ...intoNode(atNode(SYN)),
    title: "a packet with an option for the node as a backend goes on without it",
    coming: { packet: withOption(here.address) },
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    ...passes,
    title: "a packet for the node with an option of no service passes",
    coming: { packet: withOption(STRANGER) },
    check: (stage) => expectFlows(stage),
  },
];

export const HERE_ROWS: readonly Row[] = [...REQUESTS, ...STRANGE, ...REPLIES, ...AROUND];
