// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { parseIpv4 } from "./address.ts";
import { formatFrame, frameFaults, layerOf, parseFrame } from "./dissect.ts";
import { parseMac } from "./mac.ts";
import {
  buildPacket,
  ethernet,
  icmp,
  ipv4,
  type LayerInit,
  mssOption,
  payload,
  tcp,
  trailer,
  udp,
  vlan,
} from "./packet.ts";
import { TCP_FLAG } from "./protocol.ts";

const client = parseIpv4("192.0.2.1");
const vip = parseIpv4("198.51.100.7");
const pod = parseIpv4("10.244.1.5");
const balancer = parseIpv4("10.0.0.1");
const eth = ethernet({
  source: parseMac("02:00:00:00:00:01"),
  target: parseMac("02:00:00:00:00:02"),
});

const samples: Record<string, LayerInit[]> = {
  udp: [
    eth,
    ipv4({ source: client, target: vip }),
    udp({ sourcePort: 1, targetPort: 53 }),
    payload("odd"),
  ],
  "tcp syn in ipip": [
    eth,
    ipv4({ source: balancer, target: pod, dscp: 46, ecn: 1 }),
    ipv4({ source: client, target: vip, ttl: 3 }),
    tcp({ sourcePort: 40000, targetPort: 80, flags: TCP_FLAG.syn, options: mssOption(1460) }),
  ],
  "padded udp": [
    eth,
    ipv4({ source: client, target: vip }),
    udp({ sourcePort: 1, targetPort: 9 }),
    trailer(new Uint8Array(18).fill(0x55)),
  ],
  "tagged icmp": [
    eth,
    vlan({ id: 100, priority: 5 }),
    ipv4({ source: client, target: vip, options: Uint8Array.of(148, 4, 0, 0) }),
    icmp({ type: 3, code: 4, rest: 1480 }),
    payload(28),
  ],
};

test("what is built has right checksums and reads back as it was", () => {
  for (const [name, layers] of Object.entries(samples)) {
    const frame = buildPacket(...layers);
    assert.deepEqual(frameFaults(frame), [], name);
    assert.deepEqual(buildPacket(...parseFrame(frame)), frame, name);
  }
});

test("any layers survive bytes", () => {
  const port = fc.integer({ min: 0, max: 65535 });
  const word = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(
      word,
      word,
      port,
      port,
      word,
      fc.uint8Array({ maxLength: 99 }),
      (a, b, p, q, n, data) => {
        const ip = { source: a as typeof client, target: b as typeof client };
        const l4 =
          n % 2 === 0 ? tcp({ sourcePort: p, targetPort: q, sequence: n }) : udp({ sourcePort: p });
        const frame = buildPacket(eth, ipv4(ip), ipv4({ ...ip, id: q }), l4, payload(data));
        assert.deepEqual(frameFaults(frame), []);
        assert.deepEqual(buildPacket(...parseFrame(frame)), frame);
      },
    ),
  );
});

test("a frame cut anywhere is read without an error", () => {
  for (const layers of Object.values(samples)) {
    const frame = buildPacket(...layers, trailer(new Uint8Array(6)));
    for (let length = 0; length <= frame.length; length++) {
      const cut = frame.slice(0, length);
      parseFrame(cut);
      frameFaults(cut);
    }
  }
});

test("wrong checksums are named", () => {
  const ip = { source: client, target: vip };
  assert.deepEqual(frameFaults(buildPacket(eth, ipv4({ ...ip, checksum: 1 }), udp())), [
    "ipv4 checksum of 192.0.2.1 is wrong",
  ]);
  assert.deepEqual(frameFaults(buildPacket(eth, ipv4(ip), tcp({ checksum: 1 }))), [
    "tcp checksum is wrong",
  ]);
  assert.deepEqual(frameFaults(buildPacket(eth, ipv4(ip), udp({ checksum: 0 }))), []);
});

test("a line for a person names every layer", () => {
  const frame = buildPacket(...(samples["tcp syn in ipip"] ?? []));
  assert.equal(
    formatFrame(frame),
    "eth 02:00:00:00:00:01 > 02:00:00:00:00:02" +
      " / ipv4 10.0.0.1 > 10.244.1.5 ttl 64 len 64 dscp 46 ecn 1" +
      " / ipv4 192.0.2.1 > 198.51.100.7 ttl 3 len 44 / tcp 40000 > 80 syn seq 0 ack 0",
  );
  assert.equal(layerOf(parseFrame(frame), "ipv4", 1).target, vip);
  assert.throws(
    () => layerOf(parseFrame(frame), "udp"),
    /no udp layer number 0 in ethernet \/ ipv4/,
  );
});
