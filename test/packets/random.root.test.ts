// SPDX-License-Identifier: Apache-2.0
// Backends by chance: where flows get an entry, and nowhere else.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { type Flow, ServiceFlag, Verdict } from "../../src/datapath/gen/abi.ts";
import { type Family, formatIpv4, type Ipv4 } from "../../src/net/address.ts";
import type { Place } from "../model/numbers.ts";
import { FAR, NEAR } from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  type Packet,
  type ServiceName,
  SYN,
  toService,
} from "./frames.ts";
import { ask, fromIdle } from "./outbound-frames.ts";
import { openStage, type Stage } from "./stage.ts";
import { serviceRow } from "./tables.ts";

const TRIES = 128;
/** By chance alone a side of a coin comes up less often once in a billion times. */
const LEAST = 30;
const SNAT = ServiceFlag.snat;
const RANDOM = ServiceFlag.snat | ServiceFlag.random;
const ROW_SLOTS = 32;

/** Gives a service the near pod besides the far one, each with every other slot. */
function shareOut(stage: Stage, name: ServiceName, flags: number): void {
  const { maps } = stage;
  const row = serviceRow(stage, name);
  const service = maps.services.lookup(row);
  assert.ok(service);
  const far = [...maps.backends.entries()].find(([, { address }]) => address === FAR)?.[1];
  const near = [...maps.backends.entries()].find(([, { address }]) => address === NEAR)?.[1];
  const own = maps.backends.lookup(service.backends);
  assert.ok(far && near && own);
  // Rows behind those of all services.
  const backends = maps.backends.raw.info.maxEntries - (name === "far" ? 2 : 4);
  maps.backends.update(backends, { ...far, port: own.port });
  maps.backends.update(backends + 1, { ...near, port: own.port });
  const backend = Array.from({ length: ROW_SLOTS }, (_, slot) => slot % 2);
  for (let index = 0; index < Math.ceil(service.ringSize / ROW_SLOTS); index++) {
    maps.rings.update(service.ring + index, { backend } as never);
  }
  maps.services.update(row, { ...service, backends, backendCount: 2, flags });
  const key = { service: service.id, pod: NEAR };
  maps.targets.update(key, { port: own.port, flags: 1, counter: near.counter });
}

function sendAs(stage: Stage, place: Place, packet: Packet) {
  return stage.send({ place, frame: stage.build(packet) });
}

const flowOf = (stage: Stage): Flow | undefined => [...stage.maps.conntrack.entries()][0]?.[1];

/** How often the same first packet led to each pod, and with which verdicts. */
function drawn(stage: Stage, send: () => ReturnType<typeof sendAs>) {
  const pods = new Map<string, number>();
  const verdicts = new Set<number>();
  for (let index = 0; index < TRIES; index++) {
    stage.forget();
    for (const { verdict } of send().counted) verdicts.add(verdict);
    const pod = formatIpv4(flowOf(stage)?.pod as Ipv4);
    pods.set(pod, (pods.get(pod) ?? 0) + 1);
  }
  return { pods, verdicts };
}

function expectBoth(pods: ReadonlyMap<string, number>): void {
  assert.deepEqual([...pods.keys()].sort(), [FAR, NEAR].map(formatIpv4).sort());
  for (const [pod, times] of pods) assert.ok(times >= LEAST, `${pod} got ${times} of ${TRIES}`);
}

const FAMILIES = ["ipv4", "ipv6"] as const;

for (const family of FAMILIES) suite(`backends by chance, by ${family}`, () => suiteOf(family));

function suiteOf(family: Family): void {
  let stage: Stage;
  before(async () => {
    stage = await openStage("", family);
  });
  after(() => stage[Symbol.asyncDispose]());
  const onService = (
    title: string,
    name: ServiceName,
    flags: number,
    run: (stage: Stage) => void,
  ): void => {
    test(title, () => {
      stage.forget();
      shareOut(stage, name, flags);
      run(stage);
    });
  };

  onService("one flow has one backend by Maglev", "far", SNAT, (stage) => {
    const { pods } = drawn(stage, () => sendAs(stage, "host", arriving(toService("far", SYN))));
    assert.equal(pods.size, 1);
  });

  onService("new connections go to any backend", "far", RANDOM, (stage) => {
    const syn = () => sendAs(stage, "host", arriving(toService("far", SYN)));
    const { pods, verdicts } = drawn(stage, syn);
    expectBoth(pods);
    assert.deepEqual(verdicts, new Set([Verdict.sentNat, Verdict.sentPod]));
  });

  onService("later packets follow the flow", "far", RANDOM, (stage) => {
    sendAs(stage, "host", arriving(toService("far", SYN)));
    const pod = flowOf(stage)?.pod;
    for (let index = 0; index < TRIES; index++) {
      sendAs(stage, "host", arriving(toService("far", ACK)));
      assert.equal(flowOf(stage)?.pod, pod);
    }
  });

  onService("datagrams stay with the pod that was drawn", "farDns", RANDOM, (stage) => {
    // Of several ports, so that the ring would give some to either pod.
    let sourcePort = 40_000;
    const query = () =>
      sendAs(stage, "host", arriving(askService("farDns", { udp: { sourcePort } })));
    const { pods, verdicts } = drawn(stage, () => {
      sourcePort = sourcePort < 40_007 ? sourcePort + 1 : 40_000;
      return query();
    });
    expectBoth(pods);
    assert.deepEqual(verdicts, new Set([Verdict.sentNat, Verdict.sentPod]));
  });

  onService(
    "XDP leaves the choice to tc, and goes on with what is chosen",
    "far",
    RANDOM,
    (stage) => {
      const first = sendAs(stage, "edge", arriving(toService("far", SYN)));
      assert.equal(first.counted[0]?.verdict, Verdict.passUnresolved);
      for (let index = 0; index < TRIES && flowOf(stage)?.pod !== FAR; index++) {
        stage.forget();
        sendAs(stage, "host", arriving(toService("far", SYN)));
      }
      const later = sendAs(stage, "edge", arriving(toService("far", ACK)));
      assert.equal(later.counted[0]?.verdict, Verdict.sentNat);
    },
  );

  onService("pods' own connections go to any backend", "far", RANDOM, (stage) => {
    const { packet, ...how } = fromIdle(ask("far")(SYN));
    const { pods } = drawn(stage, () =>
      stage.send({ place: "pod", frame: stage.build(packet), ...how }),
    );
    expectBoth(pods);
  });

  onService("who was DSR's goes on by Maglev", "far", RANDOM | ServiceFlag.wasDsr, (stage) => {
    const leads = new Set<string>();
    for (let index = 0; index < TRIES; index++) {
      stage.forget();
      const { frame } = sendAs(stage, "host", arriving(toService("far", ACK)));
      leads.add(Buffer.from(frame).toString("hex"));
    }
    assert.equal(leads.size, 1);
  });
}
