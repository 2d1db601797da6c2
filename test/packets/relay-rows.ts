// SPDX-License-Identifier: Apache-2.0
// ICMP errors about replies: relayed to the pods that sent them.

import type { Ipv4 } from "../../src/net/address.ts";
import {
  buildPacket,
  icmp,
  ipv4,
  type LayerInit,
  payload,
  tcp,
  udp,
} from "../../src/net/packet.ts";
import {
  CLIENT,
  FAR,
  FAR_TWO,
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
  askService,
  CLIENT_PORT,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type Packet,
  RST,
  type ServiceName,
  SYN,
  toService,
} from "./frames.ts";
import { TTL } from "./owner-rows.ts";
import type { Row } from "./row.ts";
import { expectFlows, limitReached, podGone, ringIsChanging } from "./tables.ts";

const HOST = ["host"] as const;
const FRAG_NEEDED = { type: 3, code: 4, rest: 1300 } as const;
/** What RFC 792 asks routers to quote; all of a reply, so that its checksum can be judged. */
const LEAST = 28;
const ALL = 1500;

/** A reply, as it left or as the pod sent it. */
interface Reply {
  readonly source: Ipv4;
  readonly port: number;
  readonly protocol?: "TCP" | "UDP";
  readonly target?: Ipv4;
  readonly targetPort?: number;
  readonly checksum?: number;
  readonly options?: Uint8Array;
  readonly moreFragments?: boolean;
  readonly fragmentOffset?: number;
  readonly payloadBytes?: number;
}

function replyBytes(reply: Reply): Uint8Array {
  const { source, port: sourcePort, protocol = "TCP", target = CLIENT } = reply;
  const ports = { sourcePort, targetPort: reply.targetPort ?? CLIENT_PORT };
  const { options = new Uint8Array(), moreFragments = false, fragmentOffset = 0 } = reply;
  const checksum = reply.checksum === undefined ? {} : { checksum: reply.checksum };
  const l4: LayerInit =
    protocol === "TCP"
      ? tcp({ ...ports, sequence: 77, ...checksum })
      : udp({ ...ports, ...checksum });
  const ip = ipv4({ source, target, ttl: 61, id: 9, options, moreFragments, fragmentOffset });
  return buildPacket(ip, l4, payload(reply.payloadBytes ?? 100));
}

interface How {
  readonly message?: { readonly type: number; readonly code: number; readonly rest: number };
  readonly bytes?: number;
  readonly to?: Ipv4;
  /** Overwritten in what is quoted. */
  readonly lies?: readonly (readonly [at: number, value: number])[];
  readonly moreFragments?: boolean;
}

/** What a router says of a reply, to whoever has its source. */
function told(reply: Reply, { message = FRAG_NEEDED, bytes = ALL, ...how }: How = {}): Packet {
  const quote = replyBytes(reply).slice(0, bytes);
  for (const [at, value] of how.lies ?? []) quote[at] = value;
  const target = how.to ?? reply.source;
  const { moreFragments = false } = how;
  return [
    ipv4({ source: STRANGER, target, ttl: 55, dscp: 48, id: 3, moreFragments }),
    icmp(message),
    payload(quote),
  ];
}

const replyOf = (name: ServiceName, more: Partial<Reply> = {}): Reply => {
  const { address: source, port, protocol } = SERVICES[name];
  return { source, port, protocol: protocol === "UDP" ? "UDP" : "TCP", ...more };
};

const fromNear = (more: Partial<Reply> = {}): Reply => ({ source: NEAR, port: 8080, ...more });
const dnsFromNear = (more: Partial<Reply> = {}): Reply =>
  fromNear({ port: 5353, protocol: "UDP", ...more });

/** Of a service's reply, and of what the near pod sent. */
export const aboutReplyOf = (name: ServiceName): Packet => told(replyOf(name));
export const aboutNearsReply: Packet = told(fromNear());

/** As this node passes it on, in an outer header that it wrote or that came. */
const relayed = (packet: Packet, pod: Ipv4, ttl: number = TTL.first): Packet =>
  framed(UPLINK_MAC, GATEWAY_MAC, ipipTo(pod, packet, { dscp: 48, ttl }));
const passed = (packet: Packet, pod: Ipv4, ttl: number): Packet =>
  framed(UPLINK_MAC, GATEWAY_MAC, ipipTo(pod, packet, { ttl }));

const known = [{ packet: arriving(toService("near", SYN)) }];
const dnsKnown = [{ packet: arriving(askService("nearDns")) }];
const FLOW = ["request 1", "reply 0"] as const;

const INTO_POD: readonly Row[] = [
  ...[LEAST, LEAST + 8, LEAST + 10, ALL].map(
    (bytes): Row => ({
      title: `frag-needed with ${bytes} bytes quoted or less goes into the flow's pod, which sees its own packet`,
      places: HOST,
      before: known,
      coming: { packet: arriving(told(replyOf("near"), { bytes })) },
      verdict: "SENT_RELAYED",
      leaving: intoNear(told(fromNear(), { bytes })),
      ...(bytes === ALL ? {} : { isCut: true }),
      check: (stage) => expectFlows(stage, ...FLOW),
    }),
  ),
  ...[
    { type: 11, code: 0, rest: 0 },
    { type: 3, code: 3, rest: 0 },
    { type: 12, code: 0, rest: 0x14000000 },
  ].map(
    (message): Row => ({
      title: `ICMP ${message.type}/${message.code} about UDP goes into the flow's pod`,
      places: HOST,
      before: dnsKnown,
      coming: { packet: arriving(told(replyOf("nearDns"), { message, bytes: LEAST })) },
      verdict: "SENT_RELAYED",
      leaving: intoNear(told(dnsFromNear(), { message, bytes: LEAST })),
      isCut: true,
    }),
  ),
  {
    title: "a quoted UDP checksum of 0 stays 0",
    places: HOST,
    before: dnsKnown,
    coming: { packet: arriving(told(replyOf("nearDns", { checksum: 0 }))) },
    verdict: "SENT_RELAYED",
    leaving: intoNear(told(dnsFromNear({ checksum: 0 }))),
  },
  {
    title: "a quoted header with options is translated, too",
    only: "ipv4",
    places: HOST,
    before: known,
    coming: { packet: arriving(told(replyOf("near", { options: new Uint8Array(40).fill(1) }))) },
    verdict: "SENT_RELAYED",
    leaving: intoNear(told(fromNear({ options: new Uint8Array(40).fill(1) }))),
  },
  {
    title: "a first fragment of a reply is quoted like a whole one",
    only: "ipv4",
    places: HOST,
    before: dnsKnown,
    coming: { packet: arriving(told(replyOf("nearDns", { moreFragments: true }))) },
    verdict: "SENT_RELAYED",
    leaving: intoNear(told(dnsFromNear({ moreFragments: true }))),
  },
  {
    title: "an error that came in IPIP is stripped, at whatever hop",
    places: HOST,
    before: known,
    coming: { packet: ipipToNear(told(replyOf("near")), { ttl: TTL.known }) },
    verdict: "SENT_RELAYED",
    leaving: intoNear(told(fromNear())),
  },
  {
    title: "an error about a flow whose pod sees another client port names that one",
    places: HOST,
    before: [...known, { packet: arriving(toService("nearToo", SYN)) }],
    coming: { packet: arriving(told(replyOf("nearToo"))) },
    verdict: "SENT_RELAYED",
    leaving: intoNear(told(fromNear({ targetPort: 48_853 }))),
  },
  {
    title: "an error for a pod that is gone is dropped",
    places: HOST,
    before: known,
    poke: podGone(NEAR),
    coming: { packet: arriving(told(replyOf("near"))) },
    verdict: "DROP_ENDPOINT_GONE",
  },
  {
    title: "errors count as answers of their service",
    places: HOST,
    before: known,
    poke: limitReached("near"),
    coming: { packet: arriving(told(replyOf("near"))) },
    verdict: "DROP_ANSWER_LIMIT",
  },
];

const far = told(replyOf("far"));
const came = told(replyOf("cameNear"));
const went = told(replyOf("wentFar"));

const ON_THE_WAY: readonly Row[] = [
  {
    title: "an error about a flow of another node goes there in IPIP",
    places: HOST,
    coming: { packet: arriving(far) },
    verdict: "SENT_RELAYED",
    leaving: relayed(far, FAR),
    check: (stage) => expectFlows(stage),
  },
  {
    title: "an error about UDP goes there, too",
    places: HOST,
    coming: { packet: arriving(told(replyOf("farDns"))) },
    verdict: "SENT_RELAYED",
    leaving: relayed(told(replyOf("farDns")), FAR),
  },
  {
    title: "a relay to another node counts as an answer, too",
    places: HOST,
    poke: limitReached("far"),
    coming: { packet: arriving(far) },
    verdict: "DROP_ANSWER_LIMIT",
  },
  {
    title: "an error goes to who is known to have the flow",
    places: HOST,
    before: [
      {
        packet: arriving([
          ipv4({ source: OTHER_NODE, target: NODE, ttl: 255 }),
          ...toService("near", ACK, { payload: "hello", tcp: { sequence: FAR_TWO } }),
        ]),
      },
    ],
    coming: { packet: ipipToNear(told(replyOf("near")), { ttl: TTL.fourth }) },
    verdict: "SENT_RELAYED",
    leaving: passed(told(replyOf("near")), FAR_TWO, TTL.known),
    check: (stage) => expectFlows(stage, "request 0 alias 0 remote"),
  },
  {
    title: "an error that was sent by memory isn't sent by memory again",
    places: HOST,
    before: [
      {
        packet: arriving([
          ipv4({ source: OTHER_NODE, target: NODE, ttl: 255 }),
          ...toService("near", ACK, { payload: "hello", tcp: { sequence: FAR_TWO } }),
        ]),
      },
    ],
    coming: { packet: ipipToNear(told(replyOf("near")), { ttl: TTL.known }) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "a balancer that has the owner's pod, but not the flow, asks the former owner",
    places: HOST,
    coming: { packet: arriving(came) },
    verdict: "SENT_RELAYED",
    leaving: relayed(came, FAR, TTL.second),
  },
  {
    title: "a former owner is asked one hop further",
    places: HOST,
    coming: { packet: ipipToNear(came, { ttl: TTL.third }) },
    verdict: "SENT_RELAYED",
    leaving: passed(came, FAR, TTL.fourth),
  },
  {
    title: "after three hops nobody is asked",
    places: HOST,
    coming: { packet: ipipToNear(came, { ttl: TTL.fourth }) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "the last former owner asks nobody",
    places: HOST,
    coming: { packet: ipipToNear(went) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "who is asked out of turn begins with the present owner",
    places: HOST,
    coming: { packet: ipipToNear(went, { target: IDLE }) },
    verdict: "SENT_RELAYED",
    leaving: passed(went, FAR, TTL.second),
  },
  {
    title: "pods of this node are passed over",
    places: HOST,
    poke: ringIsChanging("cameNear", IDLE, FAR_TWO),
    coming: { packet: arriving(came) },
    verdict: "SENT_RELAYED",
    leaving: relayed(came, FAR_TWO, TTL.second),
  },
  {
    title: "a load balancer's errors come at no hop",
    places: HOST,
    coming: { packet: ipipToNear(came, { source: LOAD_BALANCER, ttl: TTL.fourth }) },
    verdict: "SENT_RELAYED",
    leaving: passed(came, FAR, TTL.second),
  },
  {
    title: "a flow that was reset is nobody's",
    places: HOST,
    before: [...known, { packet: arriving(toService("near", RST)) }],
    coming: { packet: arriving(told(replyOf("near"))) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
  {
    title: "an error about a service without backends is dropped",
    places: HOST,
    coming: { packet: arriving(told(replyOf("empty"))) },
    verdict: "DROP_NO_BACKEND",
  },
  {
    title: "an error to a backend without a route is dropped",
    places: HOST,
    coming: { packet: arriving(told(replyOf("nowhere"))) },
    verdict: "DROP_NO_ROUTE",
  },
  {
    title: "an error that doesn't fit is dropped, and nobody is told",
    places: HOST,
    coming: { packet: arriving(told(replyOf("smallMtu", { payloadBytes: 1313 }))) },
    verdict: "DROP_TOO_BIG",
  },
  {
    title: "GSO in an error would get an outer header, but the kernel refuses",
    places: HOST,
    coming: { packet: arriving(far), gsoSize: 100 },
    verdict: "DROP_REWRITE",
  },
];

const near = replyOf("near");
/** What isn't an error about a reply, and why. */
const OTHERS: readonly (readonly [words: string, packet: Packet])[] = [
  [
    "an answer to a ping",
    [ipv4({ source: CLIENT, target: near.source }), icmp({ type: 0 }), payload(64)],
  ],
  ["a redirect", told(near, { message: { type: 5, code: 1, rest: 0 } })],
  ["an error about seven bytes", told(near, { bytes: LEAST - 1 })],
  ["an error about nothing", told(near, { bytes: 0 })],
  ["an error that is a fragment", told(near, { moreFragments: true })],
  ["an error about somebody else's packet", told(near, { to: SERVICES.far.address })],
  ["an error about a later fragment", told(replyOf("near", { fragmentOffset: 8 }))],
  ["an error about another version of IP", told(near, { lies: [[0, 0x65]] })],
  [
    "an error about a packet shorter than its ports",
    told(near, {
      lies: [
        [2, 0],
        [3, 27],
      ],
    }),
  ],
  ["an error about an error", told(near, { lies: [[9, 1]] })],
];

/** The same of headers whose length only IPv4 has. */
const OTHERS4: typeof OTHERS = [
  ["an error about a short header", told(near, { lies: [[0, 0x44]] })],
  ["an error about a header longer than the quote", told(near, { bytes: 40, lies: [[0, 0x49]] })],
];

function refused([words, packet]: (typeof OTHERS)[number]): readonly Row[] {
  return [
    {
      title: `${words} passes`,
      places: HOST,
      before: known,
      coming: { packet: arriving(packet) },
      verdict: "PASS_NOT_OURS",
    },
    {
      title: `${words} in IPIP is dropped`,
      places: HOST,
      before: known,
      coming: { packet: ipipToNear(packet) },
      verdict: "DROP_INNER_PROTOCOL",
    },
  ];
}

const REFUSED: readonly Row[] = [
  ...OTHERS.flatMap(refused),
  ...OTHERS4.flatMap(refused).map((row) => ({ ...row, only: "ipv4" }) as const),
  {
    title: "the edge leaves errors to the host",
    places: ["edge"],
    coming: { packet: arriving(far) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "an error about no service's packet passes",
    places: HOST,
    coming: { packet: arriving(told({ source: NODE, port: 22 })) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "an error about no service's packet in IPIP is dropped",
    places: HOST,
    coming: { packet: ipipToNear(told({ source: NODE, port: 22 })) },
    verdict: "DROP_NO_SERVICE",
  },
  {
    title: "an error in IPIP from a stranger is dropped",
    places: HOST,
    before: known,
    coming: { packet: ipipToNear(told(near), { source: STRANGER }) },
    verdict: "DROP_UNTRUSTED",
  },
  {
    title: "an error is no note",
    places: HOST,
    before: known,
    coming: {
      packet: arriving([ipv4({ source: OTHER_NODE, target: NODE, ttl: 255 }), ...told(near)]),
    },
    verdict: "DROP_INNER_PROTOCOL",
  },
];

export const RELAY_ROWS: readonly Row[] = [...INTO_POD, ...ON_THE_WAY, ...REFUSED];
