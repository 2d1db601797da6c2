// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { Place, Verdict } from "../src/datapath/gen/abi.ts";
import type { Ipv4 } from "../src/net/address.ts";
import { frameFaults, layerOf, parseFrame } from "../src/net/dissect.ts";
import { loadFloor } from "./floor.ts";
import { FRAME_BYTES, frameTo } from "./frame.ts";
import { frameOfFlow } from "./skb.ts";
import { MANY_FLOWS, openWrapper } from "./variation.ts";
import { BACKENDS, BACKENDS_PER_SERVICE, createWorld, NODE_ADDRESS, VIPS } from "./world.ts";

const XDP_TX = 3;
const SERVICES = 3;
const TARGET = 1;

test("the floors and our programs all send valid IPIP to a backend of the service", async () => {
  using world = await createWorld({ services: SERVICES });
  using floor = loadFloor(SERVICES);
  const { edgeIngress, fromNetwork } = world.datapath.programs;
  const floors = ["floor_hash", "floor_none", "floor_hash_tc", "floor_none_tc"];
  for (const program of [edgeIngress, fromNetwork, ...floors.map((name) => floor.program(name))]) {
    for (const kind of ["tcp_established", "tcp_syn", "udp"] as const) {
      const data = frameTo((VIPS + TARGET) as Ipv4, kind);
      const sent = program.testRun({ data }).data;
      assert.deepEqual(frameFaults(sent), [], `${program.name}, ${kind}`);
      assert.deepEqual(sent.subarray(34), data.subarray(14), "the inner packet is untouched");
      const outer = layerOf(parseFrame(sent), "ipv4");
      assert.equal(outer?.source, NODE_ADDRESS);
      const backend = (outer?.target ?? 0) - BACKENDS - TARGET * BACKENDS_PER_SERVICE;
      assert.ok(
        backend >= 0 && backend < BACKENDS_PER_SERVICE,
        `${program.name} sent to ${backend}`,
      );
    }
  }
});

test("the wrapper gives a program the frame again, from as many flows as asked for", async () => {
  using world = await createWorld({ services: SERVICES });
  using wrapper = openWrapper();
  const { edgeIngress } = world.datapath.programs;
  const traffic = { frame: frameTo(VIPS, "tcp_syn"), flows: MANY_FLOWS, targets: SERVICES };
  wrapper.run(edgeIngress, traffic, { packets: MANY_FLOWS, verdict: XDP_TX });
  assert.equal(world.count(Place.edge, Verdict.sentEncapsulated), MANY_FLOWS);
  const totals = new Map<number, number>();
  for (const [row, { packets, bytes }] of world.datapath.maps.counters.entries()) {
    const backend = row % world.datapath.sizes.counterStride;
    if (packets === 0n) continue;
    assert.equal(bytes, packets * BigInt(FRAME_BYTES));
    totals.set(backend, (totals.get(backend) ?? 0) + Number(packets));
  }
  assert.equal(totals.size, SERVICES * BACKENDS_PER_SERVICE, "every backend gets some");
  const [least, most] = [Math.min(...totals.values()), Math.max(...totals.values())];
  assert.ok(most < least * 1.3, `shares from ${least} to ${most}`);
});

test("flows differ from each other, and nothing else does", () => {
  const frame = frameTo(VIPS, "udp");
  const frames = new Set<string>();
  for (let flow = 0; flow < MANY_FLOWS; flow += 7) {
    frames.add(Buffer.from(frameOfFlow({ frame, flows: MANY_FLOWS }, flow)).toString("latin1"));
  }
  assert.equal(frames.size, Math.ceil(MANY_FLOWS / 7));
});
