// SPDX-License-Identifier: Apache-2.0
// Whole packets, as they came and as they left, for who captures.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type CapturedPacket, LEASE_MS, PacketCapture } from "../../src/datapath/capture.ts";
import { parseFilter } from "../../src/datapath/capture-filter.ts";
import { type Capture, EventMask } from "../../src/datapath/gen/abi.ts";
import { formatAddress } from "../../src/net/address.ts";
import { parseFrame } from "../../src/net/dissect.ts";
import { CLIENT, FAR, STRANGER } from "./cluster.ts";
import { ACK, arriving, ipipToNear, type Packet, RST, SYN, toService } from "./frames.ts";
import { podSynAck } from "./pod-rows.ts";
import { openStage, type Stage } from "./stage.ts";

type Place = "edge" | "host" | "pod";
type Sent = readonly [place: Place, packet: Packet];

const encapsulated: Sent = ["edge", arriving(toService("far", ACK))];
const refused: Sent = ["edge", arriving(toService("empty", RST))];
const delivered: Sent = ["host", ipipToNear(toService("near", SYN))];
const untrusted: Sent = ["host", ipipToNear(toService("near", SYN), { source: STRANGER })];
const replied: Sent = ["pod", podSynAck];
const strange: Sent = ["host", ipipToNear(toService("near", SYN), { target: STRANGER })];

/** For so long a capture that was killed goes on here. */
const KILLED_NS = 1_500_000_000n;

function capture(
  { pins, world }: Stage,
  filter = "",
  more: Partial<{ rate: number; snapBytes: number }> = {},
): { readonly running: PacketCapture; readonly packets: CapturedPacket[] } {
  const packets: CapturedPacket[] = [];
  const options = {
    pins,
    filter: parseFilter(filter),
    rate: 1000,
    snapBytes: 16_384,
    receive: (packet: CapturedPacket) => packets.push(packet),
    fail: (error: Error) => assert.fail(error),
    ...more,
  };
  const running = world.run(() => new PacketCapture(options));
  return { running, packets };
}

function send(stage: Stage, sent: readonly Sent[]) {
  return sent.map(([place, packet]) => stage.send({ place, frame: stage.build(packet) }));
}

/** What a capture gets of some packets. */
async function captured(
  stage: Stage,
  sent: readonly Sent[],
  filter = "",
): Promise<readonly CapturedPacket[]> {
  const { running, packets } = capture(stage, filter);
  send(stage, sent);
  await running.close();
  return packets;
}

const outline = (packets: readonly CapturedPacket[]): string[] =>
  packets.map(({ place, verdict, left }) => `${place} ${verdict}${left ? " + left" : ""}`);

const eventsOf = (stage: Stage): number => stage.maps.runtime.lookup(0)?.events ?? -1;

for (const family of ["ipv4", "ipv6"] as const) {
  suite(`a capture, by ${family}`, () => {
    let stage: Stage;
    before(async () => {
      stage = await openStage("", family);
    });
    after(() => stage[Symbol.asyncDispose]());

    test("packets are captured as they came and as they left", async () => {
      stage.forget();
      const sent = [encapsulated, delivered, replied, refused, untrusted, strange];
      const { running, packets } = capture(stage);
      const runs = send(stage, sent);
      await running.close();
      assert.deepEqual(outline(packets), [
        "edge sent encapsulated + left",
        "host sent pod + left",
        "pod sent reply + left",
        "edge drop no backend",
        "host drop untrusted",
      ]);
      for (const [index, { came, left, device, service }] of packets.entries()) {
        const [place, packet] = sent[index] ?? encapsulated;
        const frame = stage.build(packet);
        assert.deepEqual([...came.bytes], [...frame]);
        assert.deepEqual([came.lengthBytes, came.segmentBytes], [frame.length, 0]);
        if (left !== undefined) assert.deepEqual([...left.bytes], [...(runs[index]?.frame ?? [])]);
        assert.match(device, place === "pod" ? /pod0$/ : /up0$/);
        assert.equal(service !== 0, packet !== untrusted[1]);
      }
      assert.deepEqual(
        packets.map(({ number }) => number),
        [1, 2, 3, 4, 5],
      );
    });

    test("a filter leaves others out", async () => {
      stage.forget();
      const sent = [encapsulated, delivered, replied, refused, untrusted];
      const one = (packet: Packet, kind: "source" | "target"): string => {
        const layer = parseFrame(stage.build(packet)).findLast(
          (each) => each.kind === "ipv4" || each.kind === "ipv6",
        );
        return layer?.kind === "ipv4" || layer?.kind === "ipv6" ? formatAddress(layer[kind]) : "";
      };
      const service = one(encapsulated[1], "target");
      const nobody = "192.0.2.250";
      const wanted: readonly (readonly [filter: string, outline: readonly string[]])[] = [
        [`host ${service}`, ["edge sent encapsulated + left"]],
        [`dst host ${service} and verdict sent`, ["edge sent encapsulated + left"]],
        [`src host ${service}`, []],
        [`host ${nobody}`, []],
        ["reason drop_untrusted", ["host drop untrusted"]],
        ["reason drop_untrusted and port 80", ["host drop untrusted"]],
        ["place pod", ["pod sent reply + left"]],
        ["place edge and not reason drop", ["edge sent encapsulated + left"]],
        ["udp", []],
        [family === "ipv4" ? "ip6" : "ip", []],
      ];
      for (const [filter, expected] of wanted) {
        stage.forget();
        assert.deepEqual(outline(await captured(stage, sent, filter)), expected, filter);
      }
      stage.forget();
      const untranslated = parseFrame(stage.build(podSynAck)).find(({ kind }) => kind === "tcp");
      const port = untranslated?.kind === "tcp" ? untranslated.sourcePort : 0;
      // The pod's port is known before; the service's only in what leaves.
      for (const filter of [`tcp port ${port}`, "src port 80"]) {
        stage.forget();
        const got = await captured(stage, sent, `place pod and ${filter}`);
        assert.deepEqual(outline(got), ["pod sent reply + left"], filter);
      }
    });

    test("the kernel leaves out what it can tell cheaply", async () => {
      const sent = [encapsulated, delivered, replied, refused, untrusted];
      // Into the outer header of what is refused nobody has looked: it passes.
      const counts: readonly (readonly [filter: string, count: number])[] = [
        ["", 5],
        ["place pod", 1],
        ["reason drop_untrusted", 1],
        ["not reason drop_untrusted", 4],
        [family === "ipv4" ? "ip6" : "ip", 0],
        [family === "ipv4" ? "ip" : "ip6", 5],
        ["host 192.0.2.250", family === "ipv4" ? 1 : 0],
        ["port 81", 1],
        ["port 80", 5],
      ];
      for (const [filter, count] of counts) {
        stage.forget();
        await captured(stage, sent, filter);
        assert.equal(stage.maps.captures.lookup(0)?.packets, BigInt(count), filter);
      }
    });

    test("nothing is told while nobody captures, nor after a capture", async () => {
      stage.forget();
      const row = () => stage.maps.captures.lookup(0)?.packets;
      await captured(stage, [encapsulated]);
      assert.equal(eventsOf(stage) & EventMask.packets, 0);
      const before = row();
      send(stage, [encapsulated, refused]);
      assert.equal(row(), before);
    });
  });
}

suite("a capture of a node", () => {
  let stage: Stage;
  before(async () => {
    stage = await openStage();
  });
  after(() => stage[Symbol.asyncDispose]());

  test("is bounded by its rate, and tells what it left out", async () => {
    const { running, packets } = capture(stage, "", { rate: 1 });
    send(stage, new Array(8).fill(encapsulated));
    await running.close();
    const { beyondRate, lost } = running.missing;
    assert.equal(lost, 0);
    assert.equal(packets.length + beyondRate, 8);
    // As many as there were seconds; a slow machine needs more than one.
    assert.ok(packets.length >= 1 && beyondRate >= 1, `${packets.length} packets`);
  });

  test("keeps the beginning of large frames and says how large they were", async () => {
    const { running, packets } = capture(stage, "", { snapBytes: 128 });
    const { length } = stage.build(arriving(toService("far", ACK, { payload: 900 })));
    send(stage, [["edge", arriving(toService("far", ACK, { payload: 900 }))]]);
    await running.close();
    assert.deepEqual(
      packets.map(({ came, left }) => [
        came.bytes.length,
        came.lengthBytes,
        left?.bytes.length,
        left?.lengthBytes,
      ]),
      [[128, length, 128, length + 20]],
    );
  });

  test("says of a GSO packet how long its segments will be", async () => {
    stage.forget();
    const { running, packets } = capture(stage);
    const frame = stage.build(arriving(toService("far", ACK, { payload: 2920 })));
    stage.send({ place: "host", frame, gsoSize: 1400 });
    await running.close();
    const said = packets.map(({ verdict, came, left }) => [
      verdict,
      came.lengthBytes,
      came.segmentBytes,
      left?.lengthBytes,
      left?.segmentBytes,
    ]);
    // Test runs can't say that it is TCP, and the kernel refuses to grow GSO packets that aren't.
    assert.deepEqual(said, [["drop rewrite", frame.length, 1400, undefined, undefined]]);
  });

  test("that was killed ends by its deadline, and the next one begins", async () => {
    const { running } = capture(stage);
    assert.throws(() => capture(stage), /another capture runs on this node: end it first/);
    await running.close();
    // As if killed: nobody renews the deadline, and nobody clears the bit.
    const killed: Capture = {
      ...(stage.maps.captures.lookup(0) ?? assert.fail()),
      deadline: (process.hrtime.bigint() + KILLED_NS) as Capture["deadline"],
    };
    stage.maps.captures.update(0, killed);
    stage.maps.runtime.update(0, { events: EventMask.packets | EventMask.drops });
    send(stage, [encapsulated]);
    assert.equal(eventsOf(stage), EventMask.packets | EventMask.drops);
    await delay(Number(KILLED_NS / 1_000_000n));
    send(stage, [encapsulated]);
    assert.equal(eventsOf(stage), EventMask.drops);
    stage.maps.runtime.update(0, { events: 0 });
    assert.deepEqual(outline(await captured(stage, [refused])), ["edge drop no backend"]);
  });

  test("that another one has taken over from leaves it alone", async () => {
    const { running: first } = capture(stage);
    // As if it had stood still for longer than its lease.
    const row = stage.maps.captures.lookup(0) ?? assert.fail();
    stage.maps.captures.update(0, { ...row, deadline: 1n as Capture["deadline"] });
    const { running: second, packets } = capture(stage);
    await first.close();
    send(stage, [encapsulated]);
    await second.close();
    assert.deepEqual(outline(packets), ["edge sent encapsulated + left"]);
  });

  test("goes on for longer than its lease", async () => {
    const { running, packets } = capture(stage, `host ${formatAddress(CLIENT)}`);
    await delay(LEASE_MS + 300);
    send(stage, [encapsulated]);
    await running.close();
    assert.deepEqual(outline(packets), ["edge sent encapsulated + left"]);
    const hosts = packets[0]?.left?.layers.flatMap((layer) =>
      layer.kind === "ipv4" ? [layer.target] : [],
    );
    assert.equal(hosts?.[0], FAR);
  });
});
