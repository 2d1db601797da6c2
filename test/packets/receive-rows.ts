// SPDX-License-Identifier: Apache-2.0
// What the host makes of IPIP from other nodes, before it asks whose flow it is.

import { Trust } from "../../src/datapath/gen/abi.ts";
import { ANY_IPV4 } from "../../src/net/address.ts";
import { icmp, ipv4, payload } from "../../src/net/packet.ts";
import { CLIENT, FAR, IDLE, LOAD_BALANCER, NEAR, SERVICES, STRANGER } from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  intoNear,
  ipipToNear,
  type Packet,
  SYN,
  tcpTo,
  toService,
  udpTo,
} from "./frames.ts";
import { podSynAck } from "./pod-rows.ts";
import type { Row } from "./row.ts";
import { expectCounted, expectFlows } from "./tables.ts";

const HOST = ["host"] as const;
const syn = toService("near", SYN);
const synInPod = intoNear(tcpTo(NEAR, 8080, SYN));

const STRIPPED: readonly Row[] = [
  {
    title: "IPIP from a node is stripped, translated and put into the pod",
    places: HOST,
    coming: { packet: ipipToNear(syn) },
    verdict: "SENT_POD",
    leaving: synInPod,
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 0, 0, 0, 1);
    },
  },
  {
    title: "IPIP from a load balancer is stripped too",
    places: HOST,
    coming: { packet: ipipToNear(syn, { source: LOAD_BALANCER }) },
    verdict: "SENT_POD",
    leaving: synInPod,
  },
  {
    title: "an outer header with options goes as a whole",
    places: HOST,
    coming: { packet: ipipToNear(syn, { options: new Uint8Array(8).fill(1) }) },
    verdict: "SENT_POD",
    leaving: synInPod,
  },
  {
    title: "UDP in IPIP is put into the pod and counted as a connection",
    places: HOST,
    coming: { packet: ipipToNear(askService("nearDns")) },
    verdict: "SENT_POD",
    leaving: intoNear(udpTo(NEAR, 5353)),
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 0, 0, 1, 1);
    },
  },
  {
    title: "a UDP packet without a checksum stays without one",
    places: HOST,
    coming: { packet: ipipToNear(askService("nearDns", { udp: { checksum: 0 } })) },
    verdict: "SENT_POD",
    leaving: intoNear(udpTo(NEAR, 5353, { udp: { checksum: 0 } })),
  },
  {
    title: "inner options stay",
    places: HOST,
    coming: { packet: ipipToNear(withOptions(toService("near", SYN))) },
    verdict: "SENT_POD",
    leaving: intoNear(withOptions(tcpTo(NEAR, 8080, SYN))),
  },
  {
    title: "a packet of a known flow follows it, and confirms nothing that has no answer",
    places: HOST,
    before: [{ packet: ipipToNear(syn) }],
    coming: { packet: ipipToNear(toService("near", ACK, { payload: "hello" })) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, ACK, { payload: "hello" })),
    check: (stage) => expectFlows(stage, "request 2", "reply 0"),
  },
  {
    title: "what the client sends after the pod's answer confirms the flow",
    places: HOST,
    before: [{ packet: ipipToNear(syn) }, { packet: podSynAck, place: "pod" }],
    coming: { packet: ipipToNear(toService("near", ACK)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, ACK)),
    check: (stage) => expectFlows(stage, "request 2 confirmed replied", "reply 1 replied"),
  },
  {
    title: "a SYN that comes again after the pod's answer confirms nothing",
    places: HOST,
    before: [{ packet: ipipToNear(syn) }, { packet: podSynAck, place: "pod" }],
    coming: { packet: ipipToNear(syn) },
    verdict: "SENT_POD",
    leaving: synInPod,
    check: (stage) => expectFlows(stage, "request 2 replied", "reply 1 replied"),
  },
];

function withOptions(packet: Packet): Packet {
  const [ip, ...rest] = packet;
  return ip?.kind === "ipv4" ? [{ ...ip, options: new Uint8Array(12).fill(1) }, ...rest] : packet;
}

interface EcnCase {
  readonly outer: number;
  readonly inner: number;
  readonly after: number;
  readonly words: string;
}

const ECN: readonly EcnCase[] = [
  { outer: 3, inner: 2, after: 3, words: "CE outside makes ECT(0) inside CE" },
  { outer: 3, inner: 1, after: 3, words: "CE outside makes ECT(1) inside CE" },
  { outer: 3, inner: 3, after: 3, words: "CE on both sides stays" },
  { outer: 1, inner: 2, after: 1, words: "ECT(1) outside makes ECT(0) inside ECT(1)" },
  { outer: 2, inner: 1, after: 1, words: "ECT(0) outside leaves ECT(1) inside" },
  { outer: 2, inner: 0, after: 0, words: "ECT(0) outside leaves Not-ECT inside" },
  { outer: 0, inner: 3, after: 3, words: "Not-ECT outside leaves CE inside" },
];

const MARKED: readonly Row[] = [
  ...ECN.map(
    ({ outer, inner, after, words }): Row => ({
      title: words,
      places: HOST,
      coming: {
        packet: ipipToNear(toService("near", SYN, { ip: { ecn: inner, dscp: 10 } }), {
          ecn: outer,
        }),
      },
      verdict: "SENT_POD",
      leaving: intoNear(tcpTo(NEAR, 8080, SYN, { ip: { ecn: after, dscp: 10 } })),
    }),
  ),
  {
    title: "CE outside of Not-ECT inside is a drop",
    places: HOST,
    coming: { packet: ipipToNear(syn, { ecn: 3 }) },
    verdict: "DROP_ECN",
    check: (stage) => expectFlows(stage),
  },
];

const inner = (...packet: Packet): Packet => ipipToNear(packet);

const REFUSED: readonly Row[] = [
  {
    title: "IPIP for an address that is no pod of this node passes",
    places: HOST,
    coming: { packet: ipipToNear(syn, { target: FAR }) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "IPIP from a stranger is dropped",
    places: HOST,
    coming: { packet: ipipToNear(syn, { source: STRANGER }) },
    verdict: "DROP_UNTRUSTED",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "IPIP from no address at all is dropped, whatever is trusted",
    places: HOST,
    poke: ({ maps }) => {
      const all = { prefixLength: 0, address: ANY_IPV4 };
      maps.trusted.update(all, { kind: Trust.loadBalancer });
      return () => maps.trusted.delete(all);
    },
    coming: { packet: ipipToNear(syn, { source: ANY_IPV4 }) },
    verdict: "DROP_UNTRUSTED",
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a first fragment of IPIP is dropped",
    places: HOST,
    coming: { packet: ipipToNear(syn, { moreFragments: true }) },
    verdict: "DROP_OUTER_FRAGMENT",
  },
  {
    title: "a later fragment of IPIP is dropped, whoever sent it",
    places: HOST,
    coming: { packet: ipipToNear(syn, { fragmentOffset: 8, source: STRANGER }) },
    verdict: "DROP_OUTER_FRAGMENT",
  },
  {
    title: "a fragment inside IPIP is dropped",
    places: HOST,
    coming: { packet: ipipToNear(toService("near", SYN, { ip: { moreFragments: true } })) },
    verdict: "DROP_FRAGMENT",
  },
  {
    title: "ICMP inside IPIP is dropped",
    places: HOST,
    coming: {
      packet: inner(ipv4({ source: CLIENT, target: SERVICES.near.address }), icmp({})),
    },
    verdict: "DROP_INNER_PROTOCOL",
  },
  {
    title: "nothing inside IPIP is dropped",
    places: HOST,
    coming: { packet: ipipToNear([payload(0)], { protocol: 4 }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "something inside IPIP that is no IPv4 is dropped",
    places: HOST,
    coming: { packet: ipipToNear([payload(40)], { protocol: 4 }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "an inner packet that is longer than the outer one says is dropped",
    places: HOST,
    coming: { packet: ipipToNear(syn, { totalLength: 59 }) },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "an inner packet without a whole TCP header is dropped",
    places: HOST,
    coming: {
      packet: inner(
        ipv4({ source: CLIENT, target: SERVICES.near.address, protocol: 6 }),
        payload(19),
      ),
    },
    verdict: "DROP_INNER_INVALID",
  },
  {
    title: "IPIP whose inner destination is no service is dropped",
    places: HOST,
    coming: { packet: ipipToNear(tcpTo(STRANGER, 80, SYN)) },
    verdict: "DROP_NO_SERVICE",
  },
  {
    title: "IPIP to a pod that is no backend of the service is dropped",
    places: HOST,
    coming: { packet: ipipToNear(syn, { target: IDLE }) },
    verdict: "DROP_NOT_A_BACKEND",
  },
  {
    title: "GSO in IPIP would be stripped, but the kernel refuses a GSO packet of no kind",
    places: HOST,
    coming: { packet: ipipToNear(toService("near", ACK, { payload: 2000 })), gsoSize: 1400 },
    verdict: "DROP_REWRITE",
  },
];

const UNENCAPSULATED: readonly Row[] = [
  {
    title: "a packet for a pod of this node is delivered by the balancer itself, and counted",
    places: HOST,
    coming: { packet: arriving(syn) },
    verdict: "SENT_POD",
    leaving: synInPod,
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 1, 54, 1, 1);
    },
  },
  {
    title: "a plain packet of a flow whose first one came in IPIP goes into its pod",
    places: HOST,
    before: [{ packet: ipipToNear(syn) }, { packet: podSynAck, place: "pod" }],
    coming: { packet: arriving(tcpTo(NEAR, 8080, ACK, { payload: "hello" })) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, ACK, { payload: "hello" })),
    // By the REQUEST entry a full table would take the flow for half-open.
    check: (stage) =>
      expectFlows(stage, "request 1 confirmed replied", "reply 2 confirmed replied"),
  },
  {
    title: "a plain packet that belongs to no flow passes",
    places: HOST,
    coming: { packet: arriving(tcpTo(NEAR, 8080, ACK)) },
    verdict: "PASS_NOT_OURS",
  },
];

export const RECEIVE_ROWS: readonly Row[] = [...STRIPPED, ...MARKED, ...REFUSED, ...UNENCAPSULATED];
