// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EventSink } from "../api/event-stream.ts";
import { MonitorRequest, type PacketEvent as Told } from "../api/gen/ciliate.ts";
import { type AnyPacketEvent, decodeEvent, type EventBatch } from "../datapath/events.ts";
import { PacketEvent, PacketEvent6, Place, Verdict } from "../datapath/gen/abi.ts";
import type { Codec } from "../kernel/codec.ts";
import { ANY_IPV4, ANY_IPV6, parseIpv4, parseIpv6 } from "../net/address.ts";
import { monitorEvents } from "./monitor.ts";

const COMMON = {
  time: 1n,
  ifindex: 2,
  length: 94,
  sourcePort: 40_000,
  destinationPort: 80,
  protocol: 6,
  tcpFlags: 2,
  verdict: Verdict.sentPod,
  place: Place.host,
  service: 7,
};

/** A record as the ring has it, read again. */
function recorded<Event extends AnyPacketEvent>(
  codec: Codec<Event>,
  event: object,
): AnyPacketEvent {
  const view = new DataView(new ArrayBuffer(codec.size));
  codec.encode(view, 0, { ...COMMON, ...event } as unknown as Event);
  return decodeEvent(view, 0, codec.size) ?? assert.fail();
}

const NARROW = recorded(PacketEvent, {
  source: parseIpv4("198.51.100.7"),
  destination: parseIpv4("192.0.2.10"),
  outerSource: parseIpv4("203.0.113.9"),
  outerDestination: parseIpv4("10.1.0.10"),
  backend: ANY_IPV4,
});
const WIDE = recorded(PacketEvent6, {
  source: parseIpv6("2001:db8::7"),
  destination: parseIpv6("2001:db8:0:0:1::10"),
  outerSource: ANY_IPV6,
  outerDestination: ANY_IPV6,
  backend: parseIpv6("2001:db8:1::10"),
});

/** What is told to who asks for this. */
function told(request: Partial<MonitorRequest>): Told[] {
  const events: Told[] = [];
  const sink = { push: (event: Told) => void events.push(event) } as unknown as EventSink;
  const source = {
    listen(_: string, receive: (batch: EventBatch) => void) {
      receive({ events: [NARROW, WIDE], lost: 0 });
      return () => undefined;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const names = { device: () => "eth0", service: (id: number) => `service ${id}` };
  monitorEvents(source, names, MonitorRequest.fromPartial(request), sink);
  return events;
}

test("records of both families are told, each with its own addresses", () => {
  const lines = told({ traces: true }).map(
    ({ source, destination, outerSource, outerDestination, backend, service }) =>
      [source, destination, outerSource, outerDestination, backend, service].join(" "),
  );
  assert.deepEqual(lines, [
    "198.51.100.7 192.0.2.10 203.0.113.9 10.1.0.10  service 7",
    "2001:db8::7 2001:db8::1:0:0:10   2001:db8:1::10 service 7",
  ]);
});

test("an address of either family, however it is spelled, chooses events", () => {
  const sources = (address: string): string[] => told({ address }).map(({ source }) => source);
  assert.deepEqual(sources("2001:DB8:0::7"), ["2001:db8::7"]);
  assert.deepEqual(sources("2001:db8:1::10"), ["2001:db8::7"]);
  assert.deepEqual(sources("::ffff:10.1.0.10"), ["198.51.100.7"]);
  assert.deepEqual(sources("2001:db8::8"), []);
  assert.throws(
    () => told({ address: "web" }),
    /^ApiError: address: expected an address, got "web"/,
  );
});

test("a record that is too short for either family is none", () => {
  const view = new DataView(new ArrayBuffer(PacketEvent6.size));
  assert.equal(decodeEvent(view, 0, PacketEvent.size - 1), undefined);
  const short = decodeEvent(view, 0, PacketEvent6.size - 1);
  assert.equal(typeof short?.source, "number");
});
