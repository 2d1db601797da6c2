// SPDX-License-Identifier: Apache-2.0
// The node itself as a client of services, and as the backend of one.

import type { Ipv4 } from "../../src/net/address.ts";
import { icmp, ipv4, tcp } from "../../src/net/packet.ts";
import { podDevice, UPLINK_ADDRESSES } from "../differential/places.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  IDLE,
  NEAR,
  NODE,
  SECOND_GATEWAY_MAC,
  SECOND_UPLINK_MAC,
  SERVICES,
  SMALL_MTU,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  CLIENT_PORT,
  FIN,
  framed,
  intoNear,
  type Packet,
  RST,
  type ServiceName,
  SYN,
} from "./frames.ts";
import {
  ASKER,
  fromIdle,
  fromNear,
  ITSELF,
  intoIdle,
  quoted,
  TTL,
  tcpBetween,
} from "./outbound-frames.ts";
import type { Coming, Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { expectCounted, expectFlows, limitReached } from "./tables.ts";

const NODE_PLACE = ["node"] as const;
const POD = ["pod"] as const;
const HOST = ["host"] as const;
const SYN_ACK = SYN | ACK;
const RST_ACK = RST | ACK;

const out = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
/** From the node to its own sockets. */
const home = (packet: Packet): Packet => framed(UPLINK_MAC, UPLINK_MAC, packet);
/** In place of what it answers. */
const answerTo = (packet: Packet): Packet => framed(GATEWAY_MAC, UPLINK_MAC, packet);

const ask = (name: ServiceName, target = SERVICES[name].address) =>
  tcpBetween({ source: NODE, target, targetPort: SERVICES[name].port });
const asked = (target = FAR) => tcpBetween({ source: NODE, target, targetPort: 8080 });
const syn = (name: ServiceName): Coming => ({ packet: out(ask(name)(SYN)) });
const opened = (name: ServiceName) => [{ ...syn(name), place: "node" as const }];
const answer = (source = FAR) =>
  tcpBetween({ source, sourcePort: 8080, target: NODE, targetPort: CLIENT_PORT });
const answered = (name: ServiceName) =>
  tcpBetween({
    source: SERVICES[name].address,
    sourcePort: SERVICES[name].port,
    target: NODE,
    targetPort: CLIENT_PORT,
  });
const large = ask("smallMtu")(ACK, { payload: 1361 });

/** The far service's backend is the node itself, by one of its addresses. */
const servedAt =
  (address: Ipv4) =>
  ({ maps }: Stage): (() => void) => {
    const changed = [...maps.backends.entries()].filter(([, backend]) => backend.address === FAR);
    for (const [row, backend] of changed) maps.backends.update(row, { ...backend, address });
    return () => {
      for (const [row, backend] of changed) maps.backends.update(row, backend);
    };
  };
const servedHere = servedAt(NODE);
/** Which the kernel has for its own here. */
const LOCAL = UPLINK_ADDRESSES.up0.address;

const toIdle = tcpBetween({
  source: NODE,
  sourcePort: 8080,
  target: IDLE,
  targetPort: CLIENT_PORT,
});

/** A pod has a flow to the node as a backend. */
function askedByIdle(stage: Stage): () => void {
  const undo = servedHere(stage);
  const target = SERVICES.far.address;
  const { packet } = fromIdle(tcpBetween({ source: IDLE, target, targetPort: 80 })(SYN));
  stage.send({ place: "pod", from: ASKER, frame: stage.build(packet) });
  return undo;
}

const REQUESTS: readonly Row[] = [
  {
    title: "the node's SYN to a service goes to a backend elsewhere",
    places: NODE_PLACE,
    coming: syn("far"),
    verdict: "SENT_OUTBOUND",
    leaving: out(asked()(SYN)),
    check: (stage) => {
      expectFlows(stage, "request 1 outbound node", "reply 0 outbound node");
      expectCounted(stage, 1, 54, 1, 0);
    },
  },
  {
    title: "the node's SYN to a service goes into a pod of it",
    places: NODE_PLACE,
    coming: syn("near"),
    verdict: "SENT_OUTBOUND",
    leaving: intoNear(asked(NEAR)(SYN)),
  },
  {
    title: "the node that asks itself is told that somebody else does",
    places: NODE_PLACE,
    poke: servedHere,
    coming: syn("far"),
    verdict: "SENT_OUTBOUND",
    leaving: home(tcpBetween({ source: ITSELF, target: NODE, targetPort: 8080 })(SYN)),
  },
  {
    title: "the node asks itself by an address to which no route leads",
    places: NODE_PLACE,
    poke: servedAt(LOCAL),
    coming: { packet: out(ask("far")(SYN, { ip: { source: LOCAL } })) },
    verdict: "SENT_OUTBOUND",
    leaving: home(tcpBetween({ source: ITSELF, target: LOCAL, targetPort: 8080 })(SYN)),
  },
  {
    title: "a later packet of the node follows its flow",
    places: NODE_PLACE,
    before: opened("far"),
    coming: { packet: out(ask("far")(ACK, { payload: "hi", ip: { ttl: 1 } })) },
    verdict: "SENT_OUTBOUND",
    leaving: out(asked()(ACK, { payload: "hi", ip: { ttl: 1 } })),
    check: (stage) => expectFlows(stage, "request 2 outbound node", "reply 0 outbound node"),
  },
  {
    title: "what is for no service goes out",
    places: NODE_PLACE,
    coming: { packet: out(asked(CLIENT)(SYN)) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "a FIN of the node that belongs to no flow is dropped",
    places: NODE_PLACE,
    coming: { packet: out(ask("far")(FIN)) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "a backend to which no route leads gets nothing of the node",
    places: NODE_PLACE,
    coming: syn("nowhere"),
    verdict: "DROP_NO_ROUTE",
  },
  {
    title: "the node is told by RST that a service has no backend",
    places: NODE_PLACE,
    coming: syn("empty"),
    verdict: "SENT_REJECTED",
    leaving: answerTo([
      ipv4({ source: SERVICES.empty.address, target: NODE, ttl: 64, id: 0 }),
      tcp({
        sourcePort: 80,
        targetPort: CLIENT_PORT,
        flags: RST_ACK,
        acknowledgement: 1,
        window: 0,
      }),
    ]),
  },
  {
    title: "answers to the node have a limit",
    places: NODE_PLACE,
    poke: limitReached("empty"),
    coming: syn("empty"),
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    title: "the node's packet that is too big is answered by the service's address",
    shorter: 20,
    places: NODE_PLACE,
    coming: { packet: out(large) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: answerTo([
      ipv4({ source: SERVICES.smallMtu.address, target: NODE, ttl: 64, dscp: 48, id: 0 }),
      icmp({ type: 3, code: 4, rest: 1400 }),
      ...quoted(large),
    ]),
    isCut: true,
  },
  {
    title: "the node's packet that just fits goes",
    shorter: 20,
    places: NODE_PLACE,
    coming: { packet: out(ask("smallMtu")(ACK, { payload: 1360 })) },
    verdict: "SENT_OUTBOUND",
    leaving: framed(
      SECOND_UPLINK_MAC,
      SECOND_GATEWAY_MAC,
      asked(SMALL_MTU)(ACK, { payload: 1360 }),
    ),
  },
];

const ANSWERS: readonly Row[] = [
  {
    title: "the answer of a backend elsewhere to the node comes from the service",
    places: HOST,
    before: opened("far"),
    coming: { packet: arriving(answer()(SYN_ACK)) },
    verdict: "PASS_STACK",
    leaving: arriving(answered("far")(SYN_ACK)),
    check: (stage) =>
      expectFlows(stage, "request 1 replied outbound node", "reply 1 replied outbound node"),
  },
  {
    title: "the answer of a pod of the node to the node comes from the service",
    places: POD,
    before: opened("near"),
    coming: fromNear(answer(NEAR)(SYN_ACK)),
    verdict: "PASS_STACK",
    leaving: fromNear(answered("near")(SYN_ACK, { ip: { ttl: TTL - 1 } })).packet,
  },
  {
    title: "the node's answer to itself comes from the service",
    places: NODE_PLACE,
    poke: (stage) => {
      const undo = servedHere(stage);
      stage.send({ place: "node", frame: stage.build(syn("far").packet) });
      return undo;
    },
    coming: {
      packet: out(
        tcpBetween({ source: NODE, sourcePort: 8080, target: ITSELF, targetPort: CLIENT_PORT })(
          SYN_ACK,
        ),
      ),
    },
    verdict: "SENT_REPLY",
    leaving: home(answered("far")(SYN_ACK)),
  },
  {
    title: "the node's answer to a pod of it comes from the service, by the pod's device",
    places: NODE_PLACE,
    poke: askedByIdle,
    coming: { packet: intoIdle(toIdle(SYN_ACK)), device: podDevice(ASKER) },
    verdict: "SENT_REPLY",
    leaving: intoIdle(
      tcpBetween({
        source: SERVICES.far.address,
        sourcePort: SERVICES.far.port,
        target: IDLE,
        targetPort: CLIENT_PORT,
      })(SYN_ACK),
    ),
    goesOn: true,
  },
  {
    title: "the node's answer to a pod by another device is left alone",
    places: NODE_PLACE,
    poke: askedByIdle,
    coming: { packet: intoIdle(toIdle(SYN_ACK)), device: podDevice(0) },
    verdict: "PASS_NOT_OURS",
  },
];

export const OWN_ROWS: readonly Row[] = [...REQUESTS, ...ANSWERS];
