// SPDX-License-Identifier: Apache-2.0
// ICMP errors about packets of SNAT: to the client about what it sent, to the pod about its answer.

import type { Ipv4 } from "../../src/net/address.ts";
import { buildPacket, type Init, icmp, ipv4, payload } from "../../src/net/packet.ts";
import { CLIENT, FAR, LOST_CLIENT, NODE, SERVICES, SMALL_MTU, STRANGER } from "./cluster.ts";
import {
  ACK,
  arriving,
  CLIENT_PORT,
  ipipToNear,
  type Packet,
  type ServiceName,
  SYN,
  toService,
} from "./frames.ts";
import { type Ends, tcpBetween, udpBetween } from "./outbound-frames.ts";
import type { Row } from "./row.ts";
import { CANDIDATE, opened, viaGateway } from "./snat-rows.ts";
import { expectFlows, limitReached } from "./tables.ts";

const HOST = ["host"] as const;
/** What RFC 792 asks routers to quote, and all of a packet. */
const LEAST = 28;
const ALL = 1500;
const PAYLOAD = 100;
const TTL = 55;
const LARGEST_SMALL = 1332;

/** A flow to a service, as its client and as its pod sees it. */
interface Flow {
  readonly name: ServiceName;
  readonly client?: Ipv4;
  /** Of this node's address, in the client's place. */
  readonly port?: number;
  readonly pod?: Ipv4;
  readonly checksum?: number;
  readonly bytes?: number;
}

/** The same packet before SNAT and behind it, and whose it is. */
interface Sides {
  readonly before: Packet;
  readonly behind: Packet;
  readonly from: Ipv4;
  readonly to: Ipv4;
}

/** What SNAT makes of a packet of a client, or of a pod. */
type Way = "request" | "reply";

function between({ name, checksum, bytes = PAYLOAD }: Flow, ends: Ends): Packet {
  const udp = checksum === undefined ? {} : { checksum };
  return SERVICES[name].protocol === "UDP"
    ? udpBetween(ends)({ payload: bytes, udp })
    : tcpBetween(ends)(ACK, { payload: bytes });
}

function sidesOf(flow: Flow, way: Way): Sides {
  const { name, client = CLIENT, port = CLIENT_PORT, pod = FAR } = flow;
  const { address: service, port: servicePort, targetPort: podPort } = SERVICES[name];
  const ofClient = { source: client, sourcePort: CLIENT_PORT };
  const atClient = { ...ofClient, target: service, targetPort: servicePort };
  const atPod = { source: NODE, sourcePort: port, target: pod, targetPort: podPort };
  const turned = (ends: Required<Ends>): Ends => ({
    source: ends.target,
    sourcePort: ends.targetPort,
    target: ends.source,
    targetPort: ends.sourcePort,
  });
  return way === "request"
    ? {
        before: between(flow, atClient),
        behind: between(flow, atPod),
        from: service,
        to: client,
      }
    : {
        before: between(flow, turned(atPod)),
        behind: between(flow, turned(atClient)),
        from: NODE,
        to: pod,
      };
}

interface Message {
  readonly type: number;
  readonly code: number;
  readonly rest: number;
}

const FRAG_NEEDED: Message = { type: 3, code: 4, rest: 1300 };

interface How {
  readonly message?: Message;
  readonly quoted?: number;
  readonly ip?: Init<"ipv4">;
}

function error(about: Packet, ip: Init<"ipv4">, { message = FRAG_NEEDED, ...how }: How): Packet {
  return [
    ipv4({ ttl: TTL, dscp: 48, id: 3, ...ip, ...how.ip }),
    icmp(message),
    payload(buildPacket(...about).slice(0, how.quoted ?? ALL)),
  ];
}

/** What a router says of a packet that SNAT has sent. */
function told(flow: Flow, way: Way, how: How = {}): Packet {
  const { behind } = sidesOf(flow, way);
  const [ip] = behind;
  const target = ip?.kind === "ipv4" && ip.source !== undefined ? { target: ip.source } : {};
  return error(behind, { source: STRANGER, ...target }, how);
}

/** What its sender hears. */
function heard(flow: Flow, way: Way, how: How = {}): Packet {
  const { before, from, to } = sidesOf(flow, way);
  return viaGateway(error(before, { source: from, target: to, ttl: TTL - 1 }, how));
}

const asked = (name: ServiceName) => {
  const { protocol, address, port } = SERVICES[name];
  const ends = { source: CLIENT, target: address, targetPort: port };
  return [
    { packet: arriving(protocol === "UDP" ? udpBetween(ends)() : tcpBetween(ends)(SYN)) },
  ] as const;
};

const WAYS = ["request", "reply"] as const;
const TO = { request: "the client", reply: "the pod" } as const;
const MESSAGES: readonly (readonly [words: string, how: How])[] = [
  ["frag-needed with 28 bytes quoted", { quoted: LEAST }],
  ["frag-needed with all quoted", {}],
  ["time exceeded", { message: { type: 11, code: 0, rest: 0 }, quoted: LEAST }],
  ["port unreachable", { message: { type: 3, code: 3, rest: 0 } }],
];

const relayed = (way: Way, flow: Flow, how: How = {}): Omit<Row, "title"> => ({
  places: HOST,
  coming: { packet: arriving(told(flow, way, how)) },
  verdict: "SENT_RELAYED",
  leaving: heard(flow, way, how),
  ...(how.quoted === undefined ? {} : { isCut: true }),
});

const RELAYED: readonly Row[] = WAYS.flatMap((way) =>
  (["far", "farDns"] as const).flatMap((name) =>
    MESSAGES.map(
      ([words, how]): Row => ({
        ...relayed(way, { name }, how),
        title: `${words} about a ${SERVICES[name].protocol} ${way} by SNAT goes to ${TO[way]}, about its own packet`,
        before: asked(name),
        check: (stage) => expectFlows(stage, "request 1 snat", "reply 0 snat"),
      }),
    ),
  ),
);

const MOVED: Flow = { name: "wentFar", port: CANDIDATE.wentFar };
const SMALL: Flow = { name: "smallMtu", pod: SMALL_MTU };

const BY_WAY: readonly Row[] = WAYS.flatMap((way): readonly Row[] => [
  {
    ...relayed(way, MOVED),
    title: `an error about a ${way} by another port than the client's names the port of ${TO[way]}`,
    before: [...opened, ...asked("wentFar")],
  },
  {
    ...relayed(way, { name: "farDns", checksum: 0 }),
    title: `a quoted UDP checksum of 0 in a ${way} by SNAT stays 0`,
    before: asked("farDns"),
  },
  {
    title: `an error about a ${way} by SNAT whose time to live ends is left to the kernel`,
    places: HOST,
    before: opened,
    coming: { packet: arriving(told({ name: "far" }, way, { ip: { ttl: 1 } })) },
    verdict: "PASS_TTL",
  },
  {
    title: `errors about a ${way} by SNAT count as answers of its service`,
    places: HOST,
    before: opened,
    poke: limitReached("far"),
    coming: { packet: arriving(told({ name: "far" }, way)) },
    verdict: "DROP_ANSWER_LIMIT",
  },
]);

const NOWHERE_TO_GO: readonly Row[] = [
  {
    title: "an error about what this node has sent, and no flow of SNAT, is its own",
    places: HOST,
    before: opened,
    coming: { packet: arriving(told({ name: "far", port: CLIENT_PORT + 1 }, "request")) },
    verdict: "PASS_NOT_OURS",
  },
  {
    title: "an error to a client without a route is dropped",
    places: HOST,
    before: [{ packet: arriving(toService("far", SYN, { ip: { source: LOST_CLIENT } })) }],
    coming: { packet: arriving(told({ name: "far", client: LOST_CLIENT }, "request")) },
    verdict: "DROP_NO_ROUTE",
  },
  {
    title: "an error too big for the way to the pod is dropped",
    places: HOST,
    before: asked("smallMtu"),
    coming: { packet: arriving(told({ ...SMALL, bytes: LARGEST_SMALL + 1 }, "reply")) },
    verdict: "DROP_TOO_BIG",
  },
  {
    title: "an error about a reply by SNAT in IPIP is dropped",
    places: HOST,
    before: opened,
    coming: { packet: ipipToNear(told({ name: "far" }, "reply")) },
    verdict: "DROP_UNKNOWN_FLOW",
  },
];

export const SNAT_ERROR_ROWS: readonly Row[] = [...RELAYED, ...BY_WAY, ...NOWHERE_TO_GO];
