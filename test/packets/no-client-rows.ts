// SPDX-License-Identifier: Apache-2.0
// Sources that no client can have: they get no flow, and nothing is said to them.

import { type Ipv6, parseIpv4, parseIpv6 } from "../../src/net/address.ts";
import { icmp, ipv4, ipv6, payload, tcp } from "../../src/net/packet.ts";
import { widen } from "../wide/address.ts";
import { LOST_CLIENT, NEAR, SERVICES } from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  CLIENT_PORT,
  intoNear,
  type More,
  type Packet,
  type ServiceName,
  SYN,
  tcpTo,
  toService,
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import { expectFlows } from "./tables.ts";

const BOTH = ["edge", "host"] as const;
const HOST = ["host"] as const;
const NOWHERE = ["0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"];
const NOWHERE6 = ["::", "::1", "ff02::1"];
/** A service of UDP, as if it were a client. */
const { address: source, port } = SERVICES.farDns;
const fromService: More = { ip: { source }, udp: { sourcePort: port } };

const dropped = (
  title: string,
  places: Row["places"],
  packet: Packet,
  only: Pick<Row, "only"> = {},
): Row => ({
  title,
  places,
  coming: { packet: arriving(packet) },
  verdict: "DROP_SOURCE",
  ...only,
  check: (stage) => expectFlows(stage),
});

/** A SYN over IPv6 to a service. */
const synFrom = (from: Ipv6, name: ServiceName): Packet => [
  ipv6({ source: from, target: widen(SERVICES[name].address), hopLimit: 60 }),
  tcp({ sourcePort: CLIENT_PORT, targetPort: SERVICES[name].port, flags: SYN }),
];

/** To services to which each address is a stranger. */
const strangers = (what: string, places: Row["places"], name: ServiceName): readonly Row[] => [
  ...NOWHERE.map((from) => {
    const packet = toService(name, SYN, { ip: { source: parseIpv4(from) } });
    return dropped(`${from}, which no client has, ${what}`, places, packet, { only: "ipv4" });
  }),
  ...NOWHERE6.map((from) => {
    const packet = synFrom(parseIpv6(from), name);
    return dropped(`${from}, which no client has, ${what}`, places, packet, { only: "ipv6" });
  }),
];

const loopback = { source: parseIpv4("127.0.0.1") };
const only = { only: "ipv4" } as const;

export const NO_CLIENT_ROWS: readonly Row[] = [
  ...strangers("gets no connection", HOST, "near"),
  ...strangers("isn't told that there is no backend", BOTH, "empty"),
  dropped(
    "nobody is told that a packet is too big whom the answer would not reach",
    BOTH,
    toService("far", ACK, { ip: loopback, payload: 1441 }),
    only,
  ),
  dropped(
    "pings of nobody's aren't answered",
    BOTH,
    [
      ipv4({ ...loopback, target: SERVICES.far.address, ttl: 3 }),
      icmp({ type: 8, rest: 0x00070001 }),
      payload("hello"),
    ],
    only,
  ),
  dropped(
    "a datagram of a service to another begins no flow",
    HOST,
    askService("nearDns", fromService),
  ),
  {
    title: "a datagram of a service's address, but not its port, begins one",
    places: HOST,
    coming: { packet: arriving(askService("nearDns", { ip: { source } })) },
    verdict: "SENT_POD",
    leaving: intoNear(udpTo(NEAR, 5353, { ip: { source } })),
  },
  {
    title: "a connection from a service's address and port, which its pods end, begins",
    places: HOST,
    coming: {
      packet: arriving(toService("near", SYN, { ip: { source }, tcp: { sourcePort: port } })),
    },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN, { ip: { source }, tcp: { sourcePort: port } })),
  },
  {
    title: "an address of those that are reserved may be a client's",
    places: HOST,
    coming: { packet: arriving(toService("near", SYN, { ip: { source: LOST_CLIENT } })) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN, { ip: { source: LOST_CLIENT } })),
  },
];

/** Of a node whose services are forwarded by SNAT. */
export const NO_CLIENT_SNAT_ROWS: readonly Row[] = [
  ...strangers("gets no connection", BOTH, "far"),
  dropped(
    "a datagram of a service to another begins no flow",
    BOTH,
    askService("farDns", fromService),
  ),
];
