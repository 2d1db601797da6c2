// SPDX-License-Identifier: Apache-2.0
// Pods of this node as clients: what they send to services.

import { FrontendKind, NodeAddress, type Port } from "../../src/datapath/gen/abi.ts";
import type { Ipv4 } from "../../src/net/address.ts";
import { mssOption } from "../../src/net/packet.ts";
import { CLIENT, FAR, IDLE, NEAR, NOWHERE, OTHER_NODE, SERVICES, SILENT } from "./cluster.ts";
import { ACK, framed, intoNear, RST, type ServiceName, SYN } from "./frames.ts";
import {
  ask,
  asked,
  askedItself,
  askItself,
  at,
  candidates,
  DIRECT,
  FLOWS,
  forwarded,
  fromIdle,
  fromNear,
  HAIRPIN,
  IDLE_MAC,
  IDLE_NODE_MAC,
  inPod,
  opened,
  queried,
  query,
  syn,
  TTL,
  tcpBetween,
  toGateway,
} from "./outbound-frames.ts";
import type { Coming, Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import {
  addFrontend,
  expectCounted,
  expectFlows,
  removeFrontend,
  serviceChanged,
  serviceRow,
} from "./tables.ts";

const POD = ["pod"] as const;

const REQUESTS: readonly Row[] = [
  {
    title: "a pod's SYN to a service goes to a backend elsewhere, which sees the pod",
    places: POD,
    coming: syn("far"),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(FAR)(SYN, forwarded())),
    check: (stage) => {
      expectFlows(stage, ...FLOWS);
      expectCounted(stage, 1, 54, 1, 0);
    },
  },
  {
    title: "a pod's UDP packet does, and is a connection",
    places: POD,
    coming: fromIdle(query("farDns")()),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(queried(FAR)(forwarded())),
    check: (stage) => expectCounted(stage, 1, 47, 1, 0),
  },
  {
    title: "a pod's UDP packet without a checksum stays without one",
    places: POD,
    coming: fromIdle(query("farDns")({ udp: { checksum: 0 } })),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(queried(FAR)(forwarded({ udp: { checksum: 0 } }))),
  },
  {
    title: "a backend of the same node gets a pod's packet at once",
    places: POD,
    coming: syn("near"),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR)(SYN, forwarded())),
    check: (stage) => expectFlows(stage, ...FLOWS),
  },
  {
    title: "a pod that asks itself is told that somebody else does",
    places: POD,
    coming: fromNear(askItself(SYN)),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(askedItself(SYN, forwarded())),
    check: (stage) => expectFlows(stage, ...FLOWS),
  },
  {
    title: "a later packet of a pod follows its flow, with options and payload as they were",
    places: POD,
    before: opened("far"),
    coming: fromIdle(
      ask("far")(ACK, { ip: { options: new Uint8Array(8).fill(1) }, payload: "hi" }),
    ),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(
      asked(FAR)(ACK, { ip: { ttl: TTL - 1, options: new Uint8Array(8).fill(1) }, payload: "hi" }),
    ),
    check: (stage) => {
      expectFlows(stage, "request 2 outbound", "reply 0 outbound");
      expectCounted(stage, 2, 54 + 64, 1, 0);
    },
  },
  {
    title: "a flow of a pod that is lost is found again",
    places: POD,
    coming: fromIdle(ask("far")(ACK)),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(FAR)(ACK, forwarded())),
    check: (stage) => expectFlows(stage, "request 1 outbound", "reply 0 outbound"),
  },
  {
    title: "a second service with the same pod and port gets another port of the pod that asks",
    places: POD,
    before: opened("near"),
    coming: syn("nearToo"),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR, candidates("nearToo")[0])(SYN, forwarded())),
    check: (stage) =>
      expectFlows(
        stage,
        ...FLOWS,
        `request 1 alias ${candidates("nearToo")[0]} outbound`,
        `reply 0 alias ${candidates("nearToo")[0]} outbound`,
      ),
  },
  {
    title: "a flow that is over gives its port to the next",
    places: POD,
    before: [...opened("near"), inPod(fromIdle(ask("near")(RST)))],
    coming: syn("nearToo"),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR)(SYN, forwarded())),
    check: (stage) => expectFlows(stage, ...FLOWS),
  },
  {
    title: "a SYN after a reset is a new flow",
    places: POD,
    before: [...opened("far"), inPod(fromIdle(ask("far")(RST)))],
    coming: syn("far"),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(FAR)(SYN, forwarded())),
    check: (stage) => expectFlows(stage, ...FLOWS),
  },
  {
    title: "a port by which a pod talks to the backend directly is left alone",
    places: POD,
    coming: fromIdle(ask("near")(SYN, { tcp: { sourcePort: DIRECT } })),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR, candidates("near", DIRECT)[0])(SYN, forwarded())),
  },
  {
    title: "an MSS stays, as nothing is added to the packet",
    places: POD,
    coming: fromIdle(ask("far")(SYN, { tcp: { options: mssOption(1460) } })),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(FAR)(SYN, forwarded({ tcp: { options: mssOption(1460) } }))),
  },
  {
    title: "a backend whose gateway has no MAC yet is left to the kernel's neighbour table",
    places: POD,
    coming: syn("silent"),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(SILENT)(SYN, forwarded())),
    toNeighbour: true,
  },
  {
    title: "a backend to which no route leads is left to the kernel, translated",
    places: POD,
    coming: syn("nowhere"),
    verdict: "PASS_STACK",
    leaving: framed(IDLE_MAC, IDLE_NODE_MAC, asked(NOWHERE)(SYN)),
  },
];

/** A frontend that only who is inside sees, leading to a service. */
function inside(name: ServiceName, key: { address: Ipv4; port: number; kind: number }) {
  return (stage: Stage): (() => void) => {
    const frontend = {
      ...key,
      port: key.port as Port,
      protocol: 6,
      service: serviceRow(stage, name),
    };
    addFrontend(stage, frontend);
    return () => removeFrontend(stage, frontend);
  };
}

function nodePort(kind: number, port: number, address = OTHER_NODE) {
  return (stage: Stage): (() => void) => {
    const undo = [
      inside("near", { address: 0 as Ipv4, port, kind })(stage),
      inside("far", { address: 0 as Ipv4, port, kind: FrontendKind.nodePort })(stage),
    ];
    const node = { address, port: 0 as Port, protocol: 0, kind: FrontendKind.node };
    addFrontend(stage, { ...node, service: NodeAddress.other });
    return () => {
      removeFrontend(stage, { ...node, service: NodeAddress.other });
      for (const one of undo) one();
    };
  };
}

const atNode = (targetPort: number, target = OTHER_NODE): Coming =>
  fromIdle(tcpBetween({ source: IDLE, target, targetPort })(SYN));

const LOOKUPS: readonly Row[] = [
  {
    title: "what only who is inside sees wins over what all see",
    places: POD,
    poke: inside("near", { address: SERVICES.far.address, port: 80, kind: FrontendKind.internal }),
    coming: syn("far"),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR)(SYN, forwarded())),
  },
  {
    title: "an address that only who is inside sees is a service's",
    places: POD,
    poke: inside("near", { address: CLIENT, port: 81, kind: FrontendKind.internal }),
    coming: fromIdle(tcpBetween({ source: IDLE, target: CLIENT, targetPort: 81 })(SYN)),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR)(SYN, forwarded())),
  },
  {
    title: "a node port is served at any node's address",
    places: POD,
    poke: nodePort(FrontendKind.service, 30_080),
    coming: atNode(30_080),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(FAR)(SYN, forwarded())),
  },
  {
    title: "a node port may lead elsewhere for who is inside",
    places: POD,
    poke: nodePort(FrontendKind.internal, 30_080),
    coming: atNode(30_080),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR)(SYN, forwarded())),
  },
  {
    title: "a node port at an address that is no node's is none",
    places: POD,
    poke: nodePort(FrontendKind.internal, 30_080),
    coming: atNode(30_080, CLIENT),
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a port beyond those of nodes is none",
    places: POD,
    poke: nodePort(FrontendKind.internal, 29_999),
    coming: atNode(29_999),
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a packet of a pod with another pod's address passes",
    places: POD,
    coming: { ...syn("far"), from: HAIRPIN },
    verdict: "PASS_NOT_OURS",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a packet of a pod with an address that no pod has passes",
    places: POD,
    coming: fromIdle(tcpBetween({ source: CLIENT, ...at("far") })(SYN)),
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a packet of a pod whose TTL ends here is left to the kernel",
    places: POD,
    coming: fromIdle(ask("far")(SYN, { ip: { ttl: 1 } })),
    verdict: "PASS_TTL",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "source ranges are for clients outside",
    places: POD,
    poke: serviceChanged("far", { flags: 8 }),
    coming: syn("far"),
    verdict: "SENT_OUTBOUND",
    leaving: toGateway(asked(FAR)(SYN, forwarded())),
  },
];

export const OUTBOUND_ROWS: readonly Row[] = [...REQUESTS, ...LOOKUPS];
