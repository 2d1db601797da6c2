// SPDX-License-Identifier: Apache-2.0
// What is told of a packet, at every place and for every kind of end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventMask, PacketEvent, Place, Verdict } from "../../src/datapath/gen/abi.ts";
import { RingStream } from "../../src/kernel/ring-stream.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { buildPacket } from "../../src/net/packet.ts";
import { deviceOf } from "../differential/world.ts";
import { STRANGER } from "./cluster.ts";
import { ACK, arriving, ipipToNear, type Packet, RST, SYN, toService } from "./frames.ts";
import { podSynAck } from "./pod-rows.ts";
import { openStage, type Stage } from "./stage.ts";
import { waitFor } from "./wait.ts";

let stage: Stage;
before(async () => {
  stage = await openStage();
});
after(() => stage[Symbol.asyncDispose]());

/** The last part of an address that isn't 0. */
const brief = (address: PacketEvent["source"]): string =>
  address === 0 ? "-" : formatIpv4(address);

/** An event without its time, service and device, as `VERDICT place from > to …`. */
function brieflyOf(event: PacketEvent): string {
  const name = (names: Readonly<Record<string, number>>, value: number): string =>
    Object.entries(names).find(([, one]) => one === value)?.[0] ?? String(value);
  const { source, sourcePort, destination, destinationPort, tcpFlags, protocol, length } = event;
  return [
    `${name(Verdict, event.verdict)} at ${name(Place, event.place)}:`,
    `${brief(source)}:${sourcePort} > ${brief(destination)}:${destinationPort}`,
    `protocol ${protocol} flags ${tcpFlags}, ${length} bytes,`,
    `outer ${brief(event.outerSource)} > ${brief(event.outerDestination)},`,
    `backend ${brief(event.backend)}`,
  ].join(" ");
}

/** What programs write while they are told this wish: nothing but the ring is in between. */
async function eventsOf(
  wish: keyof typeof EventMask,
  packets: readonly { readonly place: "edge" | "host" | "pod"; readonly packet: Packet }[],
  count: number,
): Promise<readonly PacketEvent[]> {
  const heard: PacketEvent[] = [];
  const failures: Error[] = [];
  const stream = new RingStream(stage.maps.events, {
    receive: (batch) => batch.each((offset) => heard.push(PacketEvent.decode(batch.view, offset))),
    fail: (error) => failures.push(error),
  });
  stage.maps.runtime.update(0, { events: EventMask[wish] });
  try {
    for (const { place, packet } of packets) stage.send({ place, frame: buildPacket(...packet) });
    await waitFor(() => heard.length >= count);
  } finally {
    stage.maps.runtime.update(0, { events: 0 });
    await stream.close();
  }
  assert.deepEqual(failures, []);
  return heard;
}

const syn = toService("near", SYN);

test("a packet that is sent is told with all that is known of it", async () => {
  stage.forget();
  const packets = [
    { place: "edge", packet: arriving(toService("far", ACK)) },
    { place: "host", packet: ipipToNear(syn) },
    { place: "pod", packet: podSynAck },
  ] as const;
  const events = await eventsOf("traces", packets, 3);
  assert.deepEqual(events.map(brieflyOf), [
    "sentEncapsulated at edge: 198.51.100.7:40000 > 192.0.2.1:80 protocol 6 flags 16, 54 bytes, outer - > -, backend 10.2.0.21",
    "sentPod at host: 198.51.100.7:40000 > 192.0.2.2:80 protocol 6 flags 2, 74 bytes, outer 172.16.0.2 > 10.1.0.11, backend 10.1.0.11",
    "sentReply at pod: 10.1.0.11:8080 > 198.51.100.7:40000 protocol 6 flags 18, 54 bytes, outer - > -, backend 10.1.0.11",
  ]);
  const devices = ["up0", "up0", "pod0"].map((name) => deviceOf(stage.world, name));
  assert.deepEqual(
    events.map(({ ifindex }) => ifindex),
    devices,
  );
  const services = new Set(events.map(({ service }) => service));
  assert.equal(services.size, 2);
  assert.equal(events[1]?.service, events[2]?.service);
});

test("who listens to drops hears of drops alone", async () => {
  stage.forget();
  const packets = [
    { place: "host", packet: ipipToNear(syn) },
    { place: "host", packet: ipipToNear(syn, { source: STRANGER }) },
    { place: "edge", packet: arriving(toService("empty", RST)) },
  ] as const;
  const events = await eventsOf("drops", packets, 2);
  assert.deepEqual(events.map(brieflyOf), [
    "dropUntrusted at host: 198.18.0.1:0 > 10.1.0.11:0 protocol 4 flags 0, 74 bytes, outer 198.18.0.1 > 10.1.0.11, backend -",
    "dropNoBackend at edge: 198.51.100.7:40000 > 192.0.2.4:80 protocol 6 flags 4, 54 bytes, outer - > -, backend -",
  ]);
});

test("packets that are none of ours are never told", async () => {
  stage.forget();
  const packets = [
    { place: "host", packet: ipipToNear(syn, { target: STRANGER }) },
    { place: "host", packet: ipipToNear(syn) },
  ] as const;
  const events = await eventsOf("traces", packets, 1);
  assert.deepEqual(
    events.map(({ verdict }) => verdict),
    [Verdict.sentPod],
  );
});
