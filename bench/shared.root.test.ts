// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { addressToBytes, parseIpv6 } from "../src/net/address.ts";
import { frameFaults, layerOf, parseFrame } from "../src/net/dissect.ts";
import {
  buildPacket,
  destinationOptions,
  ethernet,
  hopByHop,
  ipv4,
  ipv6,
  type LayerInit,
  payload,
  tcp,
} from "../src/net/packet.ts";
import { PROTOCOL, TCP_FLAG } from "../src/net/protocol.ts";
import { judgeFrames } from "../test/packets/judge.ts";
import { CLIENTS } from "./frame.ts";
import { IN_IPV4, IN_IPV6, loadPrototypes, sizeOf } from "./shared.ts";
import { CLIENT_MAC, NODE_MAC, SERVICE_PORT } from "./world.ts";

const XDP_TX = 3;
const CLIENT6 = parseIpv6("2001:db8:c::1");
const PORT = 40_000;

const frame = (flags: number, ...ip: LayerInit[]): Uint8Array =>
  buildPacket(
    ethernet({ source: CLIENT_MAC, target: NODE_MAC }),
    ...ip,
    tcp({ sourcePort: PORT, targetPort: SERVICE_PORT, flags }),
    payload(20),
  );

test("shared source does for IPv4 what code for IPv4 alone does", () => {
  using prototypes = loadPrototypes();
  const { separate, shared } = prototypes;
  for (const flags of [TCP_FLAG.syn, TCP_FLAG.ack]) {
    const data = frame(flags, ipv4({ source: CLIENTS, target: IN_IPV4.service, dscp: 10, ecn: 1 }));
    const theirs = separate.program("separate4").testRun({ data });
    const ours = shared.program("shared4").testRun({ data });
    assert.deepEqual([theirs.retval, ours.retval], [XDP_TX, XDP_TX]);
    assert.deepEqual(ours.data, theirs.data);
    assert.deepEqual(frameFaults(ours.data), []);
    assert.equal(layerOf(parseFrame(ours.data), "ipv4").target, IN_IPV4.backend);
  }
});

test("the same source puts IPv6 into IPv6, whatever extension headers it has", () => {
  using prototypes = loadPrototypes();
  const program = prototypes.shared.program("shared6");
  const ip = ipv6({ source: CLIENT6, target: IN_IPV6.service, dscp: 10, ecn: 1 });
  const sent = [[], [hopByHop()], [hopByHop(), destinationOptions()]].map((headers) => {
    const data = frame(TCP_FLAG.ack, ip, ...headers);
    const { retval, data: left } = program.testRun({ data });
    assert.equal(retval, XDP_TX);
    assert.deepEqual(frameFaults(left), []);
    assert.deepEqual(left.subarray(54), data.subarray(14), "the inner packet is untouched");
    const { source, target, dscp, ecn, nextHeader } = layerOf(parseFrame(left), "ipv6");
    assert.deepEqual([source, target], [IN_IPV6.balancer, IN_IPV6.backend]);
    assert.deepEqual([dscp, ecn, nextHeader], [10, 1, PROTOCOL.ipv6]);
    return left;
  });
  assert.deepEqual(judgeFrames(sent), []);
});

test("flows of both families are counted in the values' common beginning", () => {
  using prototypes = loadPrototypes();
  const { shared } = prototypes;
  const families = [
    ["shared4", "conntrack4", ipv4({ source: CLIENTS, target: IN_IPV4.service }), CLIENTS, IN_IPV4],
    ["shared6", "conntrack6", ipv6({ source: CLIENT6, target: IN_IPV6.service }), CLIENT6, IN_IPV6],
  ] as const;
  for (const [program, name, ip, client, { service }] of families) {
    const map = shared.map(name);
    const ports = [PORT >>> 8, PORT & 255, 0, SERVICE_PORT, PROTOCOL.tcp, 0, 0, 0];
    const key = Uint8Array.of(...ports, ...addressToBytes(client), ...addressToBytes(service));
    map.update(key, new Uint8Array(map.info.valueSize));
    const data = frame(TCP_FLAG.ack, ip);
    for (let packet = 0; packet < 3; packet++) shared.program(program).testRun({ data });
    const value = map.lookup(key) ?? new Uint8Array(48);
    const view = new DataView(value.buffer, value.byteOffset);
    assert.equal(view.getBigUint64(24, true), 3n, name);
    assert.equal(view.getBigUint64(32, true), BigInt(3 * data.length), name);
  }
});

test("sharing the source costs IPv4 at most 3 % more, for clang and for the verifier", () => {
  using prototypes = loadPrototypes();
  const alone = sizeOf(prototypes.separate.program("separate4"), "separate");
  const four = sizeOf(prototypes.shared.program("shared4"), "shared");
  for (const key of ["instructions", "verified", "jitedBytes"] as const) {
    const ratio = four[key] / alone[key];
    assert.ok(ratio <= 1.03, `${key}: ${four[key]} for ${alone[key]}`);
  }
});
