// SPDX-License-Identifier: Apache-2.0
// Packets to services that have source ranges.

import { ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { parsePrefix4 } from "../../src/net/prefix.ts";
import { FAR, GATEWAY_MAC, NEAR, NODE, UPLINK_MAC } from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  framed,
  intoNear,
  ipipTo,
  ipipToNear,
  type Packet,
  type ServiceName,
  SYN,
  tcpTo,
  toService,
} from "./frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { expectFlows, serviceChanged, serviceRow } from "./tables.ts";

const BOTH = ["edge", "host"] as const;
const { snat, sourceDeny, sourceRanges } = ServiceFlag;
/** Prefixes with the client, and without it. */
const WITH = ["198.51.100.7/32", "198.51.100.0/24", "198.51.100.6/31", "0.0.0.0/0"];
const WITHOUT = ["198.51.100.6/32", "198.51.100.8/29", "198.51.101.0/24", "128.0.0.0/2"];

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const syn = { packet: arriving(toService("far", SYN)) };
const encapsulated = {
  verdict: "SENT_ENCAPSULATED",
  leaving: viaGateway(ipipTo(FAR, toService("far", SYN))),
  back: true,
} as const;
const refused = { verdict: "DROP_SOURCE_RANGE" } as const;

/** A service lists prefixes; its row's flags are these. */
function lists(name: ServiceName, flags: number, prefixes: readonly string[], of = name) {
  return (stage: Stage): (() => void) => {
    const { services, sourceRanges } = stage.maps;
    const service = services.lookup(serviceRow(stage, of));
    if (service === undefined) throw new Error(`service ${of} has no row`);
    const keys = prefixes.map(parsePrefix4).map(({ address, length }) => ({
      prefixLength: 32 + length,
      service: service.id,
      address,
    }));
    for (const key of keys) sourceRanges.update(key, { listed: 1 });
    const restore = serviceChanged(name, { flags })(stage);
    return () => {
      restore();
      for (const key of keys) sourceRanges.delete(key);
    };
  };
}

const LISTED: readonly Row[] = [
  ...WITH.flatMap((prefix): Row[] => [
    {
      title: `a client in ${prefix} gets in where it is listed`,
      places: BOTH,
      poke: lists("far", sourceRanges, [prefix]),
      coming: syn,
      ...encapsulated,
    },
    {
      title: `a client in ${prefix} is shut out where it is denied`,
      places: BOTH,
      poke: lists("far", sourceRanges | sourceDeny, [prefix]),
      coming: syn,
      ...refused,
    },
  ]),
  ...WITHOUT.flatMap((prefix): Row[] => [
    {
      title: `a client who isn't in ${prefix} is shut out`,
      places: BOTH,
      poke: lists("far", sourceRanges, [prefix]),
      coming: syn,
      ...refused,
    },
    {
      title: `a client who isn't in ${prefix} gets in where it is denied`,
      places: BOTH,
      poke: lists("far", sourceRanges | sourceDeny, [prefix]),
      coming: syn,
      ...encapsulated,
    },
  ]),
];

const OTHERS: readonly Row[] = [
  {
    title: "a service that lists nobody lets nobody in",
    places: BOTH,
    poke: lists("far", sourceRanges, []),
    coming: syn,
    ...refused,
  },
  {
    title: "another service's list is none",
    places: BOTH,
    poke: lists("far", sourceRanges, WITH, "near"),
    coming: syn,
    ...refused,
  },
  {
    title: "a list counts for nothing without the service's word",
    places: BOTH,
    poke: lists("far", sourceDeny, WITH),
    coming: syn,
    ...encapsulated,
  },
  {
    title: "every packet of a client that is shut out is dropped, in the middle of a flow too",
    places: BOTH,
    poke: lists("far", sourceRanges, WITHOUT),
    coming: { packet: arriving(toService("far", ACK)) },
    ...refused,
  },
  {
    title: "a UDP packet of a client that is shut out is dropped",
    places: BOTH,
    poke: lists("farDns", sourceRanges, WITHOUT),
    coming: { packet: arriving(askService("farDns")) },
    ...refused,
  },
  {
    title: "a client that is shut out doesn't learn that there are no backends",
    places: BOTH,
    poke: lists("empty", sourceRanges, WITHOUT),
    coming: { packet: arriving(toService("empty", SYN)) },
    ...refused,
  },
  {
    title: "a client that is shut out doesn't reach a pod of this node",
    places: BOTH,
    poke: lists("near", sourceRanges, WITHOUT),
    coming: { packet: arriving(toService("near", SYN)) },
    ...refused,
  },
  {
    title: "what another node's balancer let in isn't asked again",
    places: ["host"],
    poke: lists("near", sourceRanges, WITHOUT),
    coming: { packet: ipipToNear(toService("near", SYN)) },
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
  },
];

const natSyn = viaGateway(tcpTo(FAR, 8080, SYN, { ip: { source: NODE, ttl: 59 } }));
const natAck = viaGateway(tcpTo(FAR, 8080, ACK, { ip: { source: NODE, ttl: 59 } }));

/** On a node where every service is forwarded by SNAT. */
export const SOURCE_SNAT_ROWS: readonly Row[] = [
  {
    title: "a client that is listed gets in",
    places: BOTH,
    poke: lists("far", snat | sourceRanges, WITH),
    coming: syn,
    verdict: "SENT_NAT",
    leaving: natSyn,
    back: true,
  },
  {
    title: "a client that is shut out makes no flow",
    places: BOTH,
    poke: lists("far", snat | sourceRanges, WITHOUT),
    coming: syn,
    ...refused,
    check: (stage) => expectFlows(stage),
  },
  {
    title: "a client that is shut out doesn't reach a pod of this node",
    places: BOTH,
    poke: lists("near", snat | sourceRanges, WITHOUT),
    coming: { packet: arriving(toService("near", SYN)) },
    ...refused,
  },
  {
    title: "a flow that was let in goes on when its client is shut out",
    places: BOTH,
    before: [syn],
    poke: lists("far", snat | sourceRanges, WITHOUT),
    coming: { packet: arriving(toService("far", ACK)) },
    verdict: "SENT_NAT",
    leaving: natAck,
    back: true,
  },
];

export const SOURCE_ROWS: readonly Row[] = [...LISTED, ...OTHERS];
