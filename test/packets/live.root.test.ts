// SPDX-License-Identifier: Apache-2.0
// What test runs can't have: frames that end within their IPv4 header, VLAN tags that the kernel
// has taken off, programs that run within others, and what the kernel makes of a frame. Frames come
// by real devices here, cut at every byte, and each of them must end in one verdict at each place
// that it meets.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { verdictNames } from "../../src/datapath/gen/abi.ts";
import { attachTcx, attachXdp, type Direction } from "../../src/kernel/link.ts";
import { openNetlink } from "../../src/kernel/netlink/socket.ts";
import { addClsact, replaceBpfFilter } from "../../src/kernel/netlink/traffic-control.ts";
import { openPacketSocket, type PacketSocket } from "../../src/kernel/packet-socket.ts";
import { hasFeature } from "../../src/kernel/probe.ts";
import type { BpfProgram } from "../../src/kernel/program.ts";
import { formatFrame } from "../../src/net/dissect.ts";
import { buildPacket, ipv6, tcp, vlan } from "../../src/net/packet.ts";
import { UPLINK_ADDRESSES } from "../differential/places.ts";
import { deviceOf } from "../differential/world.ts";
import { PLACE, type Place } from "../model/numbers.ts";
import { widen } from "../wide/address.ts";
import { CLIENT } from "./cluster.ts";
import { erased, near6 } from "./dispatch-rows.ts";
import { ACK, arriving, FROM_ROUTER, ipipToNear, type Packet, SYN, toService } from "./frames.ts";
import { ack, ackInPod, TTL } from "./owner-rows.ts";
import { openStage, type Stage } from "./stage.ts";
import { waitFor } from "./wait.ts";

const ETHERNET_BYTES = 14;
const CPU_ROWS = 8 * 64;
const VERDICTS = 64;

let stage: Stage;
let wire: PacketSocket;
const parts = new AsyncDisposableStack();

before(async () => {
  stage = parts.use(await openStage());
  const { world, programs } = stage;
  const ifindex = deviceOf(world, "up0");
  world.run(() => {
    attach(ifindex, stage.programs.fromNetwork, "ingress");
    parts.use(attachXdp({ program: programs.edgeIngress, ifindex, mode: "native" }));
  });
  wire = openPacketSocket("up0p", world.path);
  parts.defer(() => wire.close());
});
after(() => parts.disposeAsync());

function attach(ifindex: number, program: BpfProgram, direction: Direction): void {
  if (hasFeature("tcx")) {
    parts.use(attachTcx({ program, ifindex, direction }));
    return;
  }
  using netlink = openNetlink();
  netlink.run(addClsact(ifindex)); // goes with the device
  const place = { device: ifindex, direction, priority: 1, handle: 1 };
  netlink.run(replaceBpfFilter(place, program.fd, program.name));
}

/** Packets by verdict at a place, all CPUs added up. */
function countsAt(place: Place): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [row, { packets }] of stage.maps.metrics.entries()) {
    if (Math.floor((row % CPU_ROWS) / VERDICTS) !== PLACE[place] || packets === 0n) continue;
    const name = (verdictNames[row % VERDICTS] ?? "").toUpperCase();
    counts.set(name, (counts.get(name) ?? 0) + Number(packets));
  }
  return counts;
}

/** What the verdicts at a place were counted up by. */
function since(before: Map<string, number>, place: Place): Record<string, number> {
  const more = [...countsAt(place)].map(([name, count]) => [name, count - (before.get(name) ?? 0)]);
  return Object.fromEntries(more.filter(([, count]) => count !== 0));
}

const sum = (counts: Record<string, number>): number =>
  Object.values(counts).reduce((total, count) => total + count, 0);

/** Sends frames by the wire and tells the verdicts of each place. */
async function sendAll(frames: readonly Uint8Array[]) {
  const before = { edge: countsAt("edge"), host: countsAt("host") };
  for (const frame of frames) wire.send(frame);
  await waitFor(() => sum(since(before.edge, "edge")) >= frames.length, "all frames' arrival");
  const passedOn = (): number =>
    Object.entries(since(before.edge, "edge"))
      .filter(([name]) => name.startsWith("PASS_"))
      .reduce((total, [, count]) => total + count, 0);
  await waitFor(() => sum(since(before.host, "host")) >= passedOn(), "the host's verdicts");
  return { edge: since(before.edge, "edge"), host: since(before.host, "host") };
}

function cutEverywhere(packet: Packet): Uint8Array[] {
  const frame = buildPacket(...packet);
  const lengths = [...Array(frame.length + 1).keys()].slice(ETHERNET_BYTES);
  return lengths.map((length) => frame.subarray(0, length));
}

test("a packet to a service, cut at every byte, is sent once it is whole", async () => {
  const frames = cutEverywhere(arriving(toService("far", ACK)));
  const { edge, host } = await sendAll(frames);
  assert.deepEqual(edge, { PASS_NOT_OURS: frames.length - 1, SENT_ENCAPSULATED: 1 });
  assert.deepEqual(host, { PASS_NOT_OURS: frames.length - 1 });
});

test("IPIP for a pod, cut at every byte, goes into the pod once it is whole", async () => {
  stage.forget();
  const frames = cutEverywhere(ipipToNear(toService("near", ACK)));
  const { edge, host } = await sendAll(frames);
  assert.deepEqual(edge, { PASS_NOT_OURS: frames.length });
  assert.deepEqual(host, { PASS_NOT_OURS: frames.length - 1, SENT_POD: 1 });
});

test("a packet with a VLAN tag passes, wherever the kernel keeps the tag", async () => {
  const frame = buildPacket(FROM_ROUTER, vlan({ id: 7 }), ...toService("far", ACK));
  const { edge, host } = await sendAll([frame]);
  assert.deepEqual(edge, { PASS_NOT_OURS: 1 });
  assert.deepEqual(host, { PASS_NOT_OURS: 1 });
});

test("a note leaves by a device with a program, and its packet goes into the pod", () => {
  stage.forget();
  const send = (packet: Packet) => stage.send({ place: "host", frame: buildPacket(...packet) });
  stage.world.run(() => attach(deviceOf(stage.world, "up0"), stage.programs.fromNode, "egress"));
  send(ipipToNear(toService("cameNear", SYN)));
  const before = countsAt("node");
  const { frame } = send(ipipToNear(ack("cameNear"), { ttl: TTL.second }));
  assert.deepEqual(since(before, "node"), { PASS_NOT_OURS: 1 }, "the note has met the program");
  assert.equal(formatFrame(frame), formatFrame(buildPacket(...ackInPod)));
});

test("the kernel takes a packet of IPv6 whose option was erased", async () => {
  const target = widen(UPLINK_ADDRESSES.up0.address);
  const ip = ipv6({ source: widen(CLIENT), target });
  wire.send(buildPacket(...arriving([ip, erased(near6), tcp({ targetPort: 1, flags: SYN })])));
  await waitFor(() => {
    for (let frame = wire.receive(); frame !== undefined; frame = wire.receive()) {
      if (/ipv6 .* > .*rst/.test(formatFrame(frame))) return true;
    }
    return false;
  }, "a RST of the kernel");
});
