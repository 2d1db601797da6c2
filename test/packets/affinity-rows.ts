// SPDX-License-Identifier: Apache-2.0
// Packets to services that keep a client with its backend.

import assert from "node:assert/strict";
import { type Jiffies, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { readJiffies } from "../../src/kernel/jiffies.ts";
import type { Ipv4 } from "../../src/net/address.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  NEAR,
  NODE,
  SECOND_GATEWAY_MAC,
  SECOND_UPLINK_MAC,
  SERVICES,
  SMALL_MTU,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
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
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import type { Stage } from "./stage.ts";
import { serviceChanged, serviceRow } from "./tables.ts";

const BOTH = ["edge", "host"] as const;
const HOST = ["host"] as const;
const { affinity, snat } = ServiceFlag;
const AGE = 100_000;
const YOUNG = 1000;
const OLD = 1_000_000;
/** Another CPU's clock is ahead by less than it can be. */
const AHEAD = -500;
/** By more: it was never written, or ages ago. */
const WRAPPED = -2_000_000;

/** An entry of the client. */
interface Remembered {
  readonly pod: Ipv4;
  readonly backend: number;
  readonly age: number;
  readonly client?: Ipv4;
}

/** Of the pods of a service with affinity the ring names the first one, SMALL_MTU. */
function keeps(name: ServiceName, remembered?: Remembered, flags: number = affinity) {
  return (stage: Stage): (() => void) => {
    const { maps } = stage;
    const id = maps.services.lookup(serviceRow(stage, name))?.id;
    assert.ok(id);
    const all = [...maps.backends.entries()].map(([, backend]) => backend);
    const first = maps.backends.raw.info.maxEntries - 2;
    for (const [index, pod] of [SMALL_MTU, FAR].entries()) {
      const backend = all.find(
        (one) => one.address === pod && one.port === SERVICES.far.targetPort,
      );
      assert.ok(backend);
      maps.backends.update(first + index, backend);
    }
    if (remembered !== undefined) {
      const { pod, backend, age, client = CLIENT } = remembered;
      const seen = ((readJiffies().now - age) >>> 0) as Jiffies;
      maps.affinities.update({ service: id, client }, { pod, backend, seen });
    }
    const change = { flags, backends: first, backendCount: 2, affinityAge: AGE };
    return serviceChanged(name, change)(stage);
  };
}

/** What the client's entry says afterwards, and whether it was seen just now. */
function expectRemembered(
  name: ServiceName,
  wanted?: { pod: Ipv4; backend: number; now: boolean },
) {
  return (stage: Stage): void => {
    const id = stage.maps.services.lookup(serviceRow(stage, name))?.id;
    assert.ok(id);
    const found = stage.maps.affinities.lookup({ service: id, client: CLIENT });
    const { pod, backend, seen } = found ?? {};
    const now = seen !== undefined && (readJiffies().now - seen) >>> 0 < YOUNG;
    assert.deepEqual(found && { pod, backend, now }, wanted);
  };
}

const toFar = (packet: Packet) =>
  ({
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(UPLINK_MAC, GATEWAY_MAC, ipipTo(FAR, packet)),
    back: true,
  }) as const;
const toFirst = (packet: Packet) =>
  ({
    verdict: "SENT_ENCAPSULATED",
    leaving: framed(SECOND_UPLINK_MAC, SECOND_GATEWAY_MAC, ipipTo(SMALL_MTU, packet)),
  }) as const;

const syn = toService("far", SYN);
const ack = toService("far", ACK);
const query = askService("farDns");
const coming = (packet: Packet) => ({ packet: arriving(packet) });
const far = (age: number): Remembered => ({ pod: FAR, backend: 1, age });
const gone: Remembered = { pod: STRANGER, backend: 1, age: YOUNG };

const SYNS: readonly Row[] = [
  {
    title: "a SYN of a new client goes by the ring, and is remembered",
    places: BOTH,
    poke: keeps("far"),
    coming: coming(syn),
    ...toFirst(syn),
    check: expectRemembered("far", { pod: SMALL_MTU, backend: 0, now: true }),
  },
  {
    title: "a SYN goes where its client's last one went, from any port",
    places: BOTH,
    poke: keeps("far", far(YOUNG)),
    coming: coming(toService("far", SYN, { tcp: { sourcePort: 1234 } })),
    ...toFar(toService("far", SYN, { tcp: { sourcePort: 1234 } })),
    check: expectRemembered("far", { pod: FAR, backend: 1, now: true }),
  },
  {
    title: "a pod is found again where a change of the service has moved it",
    places: BOTH,
    poke: keeps("far", { pod: FAR, backend: 0, age: YOUNG }),
    coming: coming(syn),
    ...toFar(syn),
    check: expectRemembered("far", { pod: FAR, backend: 1, now: true }),
  },
  {
    title: "a pod is found again whose index there is no more",
    places: BOTH,
    poke: keeps("far", { pod: FAR, backend: 70_000, age: YOUNG }),
    coming: coming(syn),
    ...toFar(syn),
    check: expectRemembered("far", { pod: FAR, backend: 1, now: true }),
  },
  {
    title: "a SYN whose client's pod is no backend any more goes by the ring",
    places: BOTH,
    poke: keeps("far", gone),
    coming: coming(syn),
    ...toFirst(syn),
    check: expectRemembered("far", { pod: SMALL_MTU, backend: 0, now: true }),
  },
  {
    title: "a SYN of a client who was away for too long goes by the ring",
    places: BOTH,
    poke: keeps("far", far(OLD)),
    coming: coming(syn),
    ...toFirst(syn),
    check: expectRemembered("far", { pod: SMALL_MTU, backend: 0, now: true }),
  },
  {
    title: "a SYN whose client was seen by a CPU whose clock is ahead goes where it went",
    places: BOTH,
    poke: keeps("far", far(AHEAD)),
    coming: coming(syn),
    ...toFar(syn),
    check: expectRemembered("far", { pod: FAR, backend: 1, now: true }),
  },
  {
    title: "a SYN of a client who was away for longer than jiffies count goes by the ring",
    places: BOTH,
    poke: keeps("far", far(WRAPPED)),
    coming: coming(syn),
    ...toFirst(syn),
  },
  {
    title: "another client's pod is not this one's",
    places: BOTH,
    poke: keeps("far", { ...far(YOUNG), client: STRANGER }),
    coming: coming(syn),
    ...toFirst(syn),
  },
  {
    title: "a service that keeps nobody goes by the ring",
    places: BOTH,
    poke: keeps("far", far(YOUNG), 0),
    coming: coming(syn),
    ...toFirst(syn),
    check: expectRemembered("far", { pod: FAR, backend: 1, now: false }),
  },
];

const OTHERS: readonly Row[] = [
  {
    title: "a later packet follows its client, however long ago the last SYN was",
    places: BOTH,
    poke: keeps("far", far(OLD)),
    coming: coming(ack),
    ...toFar(ack),
    check: expectRemembered("far", { pod: FAR, backend: 1, now: false }),
  },
  {
    title: "a later packet of an unknown client goes by the ring, and is not remembered",
    places: BOTH,
    poke: keeps("far"),
    coming: coming(ack),
    ...toFirst(ack),
    check: expectRemembered("far"),
  },
  {
    title: "a later packet whose client's pod is no backend any more goes by the ring",
    places: BOTH,
    poke: keeps("far", gone),
    coming: coming(ack),
    ...toFirst(ack),
    check: expectRemembered("far"),
  },
  {
    title: "a UDP packet goes where its client's last one went",
    places: BOTH,
    poke: keeps("farDns", far(YOUNG)),
    coming: coming(query),
    ...toFar(query),
    check: expectRemembered("farDns", { pod: FAR, backend: 1, now: true }),
  },
  {
    title: "a UDP packet of a client who was away for too long goes by the ring",
    places: BOTH,
    poke: keeps("farDns", far(OLD)),
    coming: coming(query),
    ...toFirst(query),
    check: expectRemembered("farDns", { pod: SMALL_MTU, backend: 0, now: true }),
  },
];

/** A service has affinity; its backends are as they were. */
const withAffinity = (name: ServiceName) => serviceChanged(name, { flags: affinity });
const old = askService("wentFarDns");

const OWNERS: readonly Row[] = [
  {
    title: "what a balancer remembers to be this pod's is a new flow of it, though not by the ring",
    places: HOST,
    poke: withAffinity("wentFarDns"),
    coming: { packet: ipipToNear(old) },
    verdict: "SENT_POD",
    leaving: intoNear(udpTo(NEAR, 5353)),
  },
  {
    title: "what another owner passes on is the ring's to decide",
    places: HOST,
    poke: withAffinity("wentFarDns"),
    coming: { packet: ipipToNear(old, { ttl: 96 }) },
    verdict: "SENT_PASSED",
    leaving: framed(UPLINK_MAC, GATEWAY_MAC, ipipTo(FAR, old, { ttl: 128 })),
  },
];

/** On a node where every service is forwarded by SNAT. */
export const AFFINITY_SNAT_ROWS: readonly Row[] = [
  {
    title: "a new flow goes where its client's last one went",
    places: BOTH,
    poke: keeps("far", far(YOUNG), affinity | snat),
    coming: coming(syn),
    verdict: "SENT_NAT",
    leaving: framed(
      UPLINK_MAC,
      GATEWAY_MAC,
      tcpTo(FAR, 8080, SYN, { ip: { source: NODE, ttl: 59 } }),
    ),
    back: true,
    check: expectRemembered("far", { pod: FAR, backend: 1, now: true }),
  },
  {
    title: "a known flow stays, wherever its client went since",
    places: BOTH,
    before: [coming(syn)],
    poke: keeps("far", { pod: SMALL_MTU, backend: 0, age: OLD }, affinity | snat),
    coming: coming(ack),
    verdict: "SENT_NAT",
    leaving: framed(
      UPLINK_MAC,
      GATEWAY_MAC,
      tcpTo(FAR, 8080, ACK, { ip: { source: NODE, ttl: 59 } }),
    ),
    back: true,
    check: expectRemembered("far", { pod: SMALL_MTU, backend: 0, now: false }),
  },
];

export const AFFINITY_ROWS: readonly Row[] = [...SYNS, ...OTHERS, ...OWNERS];
