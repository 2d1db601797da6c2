// SPDX-License-Identifier: Apache-2.0
// Pods of this node as clients: what is refused, and what backends answer.

import { icmp, ipv4, mssOption, tcp } from "../../src/net/packet.ts";
import {
  FAR,
  FAR_TWO,
  IDLE,
  NEAR,
  SECOND_GATEWAY_MAC,
  SECOND_UPLINK_MAC,
  SERVICES,
  SMALL_MTU,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  CLIENT_PORT,
  FIN,
  framed,
  intoNear,
  ipipToNear,
  type Packet,
  RST,
  SYN,
} from "./frames.ts";
import {
  ASKER,
  ask,
  asked,
  askItself,
  candidates,
  DF,
  forwarded,
  fromIdle,
  fromNear,
  fromService,
  IDLE_MAC,
  IDLE_NODE_MAC,
  ITSELF,
  inPod,
  intoIdle,
  opened,
  query,
  quoted,
  syn,
  TTL,
  tcpBetween,
  udpBetween,
} from "./outbound-frames.ts";
import type { Row } from "./row.ts";
import {
  expectFlows,
  limitReached,
  podGone,
  portsTaken,
  roomFor,
  serviceChanged,
} from "./tables.ts";

const POD = ["pod"] as const;
const HOST = ["host"] as const;
const SYN_ACK = SYN | ACK;
const RST_ACK = RST | ACK;

const reset = (flags: number, acknowledgement: number): Packet =>
  intoIdle([
    ipv4({ source: SERVICES.empty.address, target: IDLE, ttl: 64, id: 0 }),
    tcp({
      sourcePort: 80,
      targetPort: CLIENT_PORT,
      flags,
      sequence: 0,
      acknowledgement,
      window: 0,
    }),
  ]);

const large = ask("smallMtu")(ACK, { payload: 1361, ip: DF });

const REFUSED: readonly Row[] = [
  {
    title: "a pod is told by RST that a service has no backend",
    places: POD,
    coming: syn("empty"),
    verdict: "SENT_REJECTED",
    leaving: reset(RST_ACK, 1),
    check: (stage) => expectFlows(stage),
  },
  {
    title: "an RST of a pod to a service without backends is dropped",
    places: POD,
    coming: fromIdle(ask("empty")(RST)),
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "answers to pods have a limit",
    places: POD,
    poke: limitReached("empty"),
    coming: syn("empty"),
    verdict: "DROP_ANSWER_LIMIT",
  },
  ...[RST, FIN, 0].map(
    (flags): Row => ({
      title: `flags ${flags} of a flow of a pod that nobody knows are dropped`,
      places: POD,
      coming: fromIdle(ask("far")(flags)),
      verdict: "DROP_UNKNOWN_FLOW",
      check: (stage) => expectFlows(stage),
    }),
  ),
  {
    title: "a pod's packet for a ring outside its table is dropped",
    places: POD,
    poke: serviceChanged("far", { ring: 1_000_000 }),
    coming: syn("far"),
    verdict: "DROP_TABLE",
  },
  {
    title: "a pod whose ports are all in use towards a backend gets no flow",
    places: POD,
    poke: portsTaken([CLIENT_PORT, ...candidates("near")], NEAR, IDLE),
    coming: syn("near"),
    verdict: "DROP_PORT_COLLISION",
  },
  ...[0, 1].map(
    (entries): Row => ({
      title: `a flow of a pod needs two entries, not ${entries}`,
      places: POD,
      poke: roomFor(entries),
      coming: syn("far"),
      verdict: "DROP_CONNTRACK_FULL",
    }),
  ),
  {
    title: "a pod's packet that is too big is answered by the service's address",
    shorter: 20,
    places: POD,
    coming: fromIdle(large),
    verdict: "SENT_FRAG_NEEDED",
    leaving: intoIdle([
      ipv4({ source: SERVICES.smallMtu.address, target: IDLE, ttl: 64, dscp: 48, id: 0 }),
      icmp({ type: 3, code: 4, rest: 1400 }),
      ...quoted(large),
    ]),
    isCut: true,
  },
  {
    title: "a pod's packet that just fits goes",
    shorter: 20,
    places: POD,
    coming: fromIdle(ask("smallMtu")(ACK, { payload: 1360, ip: DF })),
    verdict: "SENT_OUTBOUND",
    leaving: framed(
      SECOND_UPLINK_MAC,
      SECOND_GATEWAY_MAC,
      asked(SMALL_MTU)(ACK, forwarded({ payload: 1360, ip: { ...DF, ttl: TTL - 1 } })),
    ),
  },
  {
    title: "a pod's packet that may be cut is left to the kernel, translated",
    only: "ipv4",
    places: POD,
    coming: fromIdle(ask("smallMtu")(ACK, { payload: 1361, ip: { dontFragment: false } })),
    verdict: "PASS_TOO_BIG",
    leaving: framed(
      IDLE_MAC,
      IDLE_NODE_MAC,
      asked(SMALL_MTU)(ACK, { payload: 1361, ip: { dontFragment: false } }),
    ),
  },
];

/** What the near pod answers to the idle one, and what that sees. */
const answer = tcpBetween({
  source: NEAR,
  sourcePort: 8080,
  target: IDLE,
  targetPort: CLIENT_PORT,
});
const answered = tcpBetween(fromService("near", IDLE));
const answerItself = tcpBetween({
  source: NEAR,
  sourcePort: 8080,
  target: ITSELF,
  targetPort: CLIENT_PORT,
});
const answeredItself = tcpBetween(fromService("near", NEAR));
const REPLIED = ["request 1 replied outbound", "reply 1 replied outbound"] as const;

const REPLIES: readonly Row[] = [
  {
    title: "a backend's answer to a pod of the same node goes into it from the service",
    places: POD,
    before: opened("near"),
    coming: fromNear(answer(SYN_ACK, { tcp: { options: mssOption(1460) } })),
    verdict: "SENT_REPLY",
    leaving: intoIdle(answered(SYN_ACK, forwarded({ tcp: { options: mssOption(1460) } }))),
    check: (stage) => expectFlows(stage, ...REPLIED),
  },
  {
    title: "a pod's answer to itself comes from the service",
    places: POD,
    before: [inPod(fromNear(askItself(SYN)))],
    coming: fromNear(answerItself(SYN_ACK)),
    verdict: "SENT_REPLY",
    leaving: intoNear(answeredItself(SYN_ACK, forwarded())),
    check: (stage) => expectFlows(stage, ...REPLIED),
  },
  {
    title: "an answer to a pod whose TTL ends here is left to the kernel",
    places: POD,
    before: opened("near"),
    coming: fromNear(answer(SYN_ACK, { ip: { ttl: 1 } })),
    verdict: "PASS_TTL",
  },
  {
    title: "an answer in a backend's name from another pod's device passes",
    places: POD,
    before: opened("near"),
    coming: { ...fromNear(answer(SYN_ACK)), from: ASKER },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "an answer in the name of a backend elsewhere from a pod passes",
    places: POD,
    before: opened("far"),
    coming: fromNear(
      tcpBetween({ source: FAR, sourcePort: 8080, target: IDLE, targetPort: CLIENT_PORT })(ACK),
    ),
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "an answer to a pod that is gone is dropped",
    places: POD,
    before: opened("near"),
    poke: podGone(IDLE),
    coming: fromNear(answer(SYN_ACK)),
    verdict: "DROP_ENDPOINT_GONE",
  },
];

const farAnswer = tcpBetween({
  source: FAR,
  sourcePort: 8080,
  target: IDLE,
  targetPort: CLIENT_PORT,
});

const FROM_NETWORK: readonly Row[] = [
  {
    title: "the answer of a backend elsewhere goes into the pod from the service",
    places: HOST,
    before: opened("far"),
    coming: { packet: arriving(farAnswer(SYN_ACK)) },
    verdict: "SENT_POD",
    leaving: intoIdle(tcpBetween(fromService("far", IDLE))(SYN_ACK)),
    check: (stage) => expectFlows(stage, ...REPLIED),
  },
  {
    title: "a UDP answer without a checksum stays without one on its way to a pod",
    places: HOST,
    before: [inPod(fromIdle(query("farDns")()))],
    coming: {
      packet: arriving(
        udpBetween({ source: FAR, sourcePort: 5353, target: IDLE, targetPort: CLIENT_PORT })({
          udp: { checksum: 0 },
        }),
      ),
    },
    verdict: "SENT_POD",
    leaving: intoIdle(udpBetween(fromService("farDns", IDLE))({ udp: { checksum: 0 } })),
  },
  {
    title: "an RST of a backend elsewhere ends the flow",
    places: HOST,
    before: opened("far"),
    coming: { packet: arriving(farAnswer(RST_ACK)) },
    verdict: "SENT_POD",
    leaving: intoIdle(tcpBetween(fromService("far", IDLE))(RST_ACK)),
    check: (stage) =>
      expectFlows(stage, "request 1 reset replied outbound", "reply 1 reset replied outbound"),
  },
  {
    title: "what comes from outside in the name of a pod here, to a client that is one, passes",
    places: HOST,
    before: [{ packet: ipipToNear(ask("near")(SYN)) }],
    coming: { packet: arriving(answer(SYN_ACK)) },
    verdict: "PASS_NOT_OURS",
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "an answer of another backend than the flow's passes",
    places: HOST,
    before: opened("far"),
    coming: {
      packet: arriving(
        tcpBetween({ source: FAR_TWO, sourcePort: 8080, target: IDLE, targetPort: CLIENT_PORT })(
          ACK,
        ),
      ),
    },
    verdict: "PASS_NOT_OURS",
  },
];

export const OUTBOUND_END_ROWS: readonly Row[] = [...REFUSED, ...REPLIES, ...FROM_NETWORK];
