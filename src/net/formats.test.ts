// SPDX-License-Identifier: Apache-2.0
// Every format that packets are built in, with tshark as the judge: it shares nothing with us.

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { judgeFrames, tsharkFields } from "../../test/packets/judge.ts";
import { addressToBytes, ipv6FromBigInt, parseIpv4, parseIpv6 } from "./address.ts";
import { crc32c } from "./crc32c.ts";
import { formatFrame, frameFaults, layerOf, parseFrame, parseIpPacket } from "./dissect.ts";
import { dsrDestinationOptions, dsrGeneveOption, dsrOption4 } from "./dsr.ts";
import { icmpError, icmpv6Error, neighbourAdvertisement, neighbourSolicitation } from "./icmp.ts";
import { BROADCAST_MAC, parseMac } from "./mac.ts";
import {
  arp,
  buildPacket,
  destinationOptions,
  ethernet,
  fragment,
  geneve,
  geneveOption,
  hopByHop,
  icmpv6,
  ipv4,
  ipv6,
  type LayerInit,
  mssOption,
  payload,
  routing,
  sctp,
  sctpChunk,
  tcp,
  trailer,
  udp,
  vlan,
} from "./packet.ts";
import { PROTOCOL, TCP_FLAG } from "./protocol.ts";

const client = parseIpv6("2001:db8:c::1");
const vip = parseIpv6("2001:db8:5::7");
const pod = parseIpv6("2001:db8:244:1::5");
const balancer = parseIpv6("2001:db8::1");
const client4 = parseIpv4("192.0.2.1");
const vip4 = parseIpv4("198.51.100.7");
const balancer4 = parseIpv4("10.0.0.1");
const node4 = parseIpv4("10.0.0.2");
const pod4 = parseIpv4("10.244.1.5");
const ownMac = parseMac("02:00:00:00:00:01");
const otherMac = parseMac("02:00:00:00:00:02");

const eth = ethernet({ source: ownMac, target: otherMac });
const innerEth = ethernet({ source: parseMac("02:00:00:00:00:11"), target: otherMac });
const toVip = ipv6({ source: client, target: vip });
const toVip4 = ipv4({ source: client4, target: vip4 });
const toPod = ipv6({ source: client, target: pod, hopLimit: 63 });
const toPod4 = ipv4({ source: client4, target: pod4, ttl: 63 });
const syn = tcp({
  sourcePort: 40000,
  targetPort: 80,
  flags: TCP_FLAG.syn,
  options: mssOption(1440),
});
const datagram = udp({ sourcePort: 40000, targetPort: 5353 });
/** RFC 9260, 3.3.2: tag, window, streams out and in, first TSN. */
const init = sctpChunk(1, 0, Uint8Array.of(0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9));
const between4 = ipv4({ source: balancer4, target: node4 });
const between = ipv6({ source: balancer, target: parseIpv6("2001:db8::2") });
const quoted4 = buildPacket(toVip4, datagram, payload(40));
const quoted6 = buildPacket(toVip, datagram, payload(2000));

/** Segments that are left count backwards (RFC 8754, 2): the first is the last one's target. */
const segments = Uint8Array.of(1, 0, 0, 0, ...addressToBytes(pod), ...addressToBytes(vip));

const samples: Record<string, readonly LayerInit[]> = {
  "tcp over IPv6": [
    eth,
    ipv6({ source: client, target: vip, dscp: 46, ecn: 1, flowLabel: 0xabcde, hopLimit: 7 }),
    syn,
  ],
  "udp over IPv6": [eth, toVip, datagram, payload("odd")],
  "tagged, padded udp over IPv6": [
    eth,
    vlan({ id: 7 }),
    toVip,
    datagram,
    trailer(new Uint8Array(6).fill(0x55)),
  ],
  "IPv6 in IPv6": [eth, ipv6({ source: balancer, target: pod }), toVip, syn],
  "IPv6 in IPv4": [eth, between4, toVip, syn],
  "IPv4 in IPv6": [eth, between, toVip4, syn],
  "all extension headers": [
    eth,
    toVip,
    hopByHop({ options: Uint8Array.of(5, 2, 0, 0) }),
    destinationOptions(),
    routing({ type: 4, segmentsLeft: 1, data: segments }),
    fragment({ id: 0x12345678 }),
    destinationOptions({ options: Uint8Array.of(0x1e, 3, 1, 2, 3) }),
    syn,
    payload("x"),
  ],
  "mobile's routing header": [
    eth,
    toVip,
    routing({ type: 2, segmentsLeft: 1, data: Uint8Array.of(0, 0, 0, 0, ...addressToBytes(pod)) }),
    datagram,
  ],
  "a later fragment": [
    eth,
    toVip,
    fragment({ nextHeader: PROTOCOL.udp, fragmentOffset: 1448, id: 3 }),
    payload(32),
  ],
  "echo over IPv6": [eth, toVip, icmpv6({ type: 128, rest: 0x00010002 }), payload(56)],
  "packet too big": [
    eth,
    ipv6({ source: vip, target: client }),
    ...icmpv6Error({ type: 2, rest: 1460 }, quoted6),
  ],
  "fragmentation needed": [
    eth,
    ipv4({ source: vip4, target: client4 }),
    ...icmpError({ type: 3, code: 4, rest: 1480 }, quoted4),
  ],
  "port unreachable with a long quote": [
    eth,
    ipv4({ source: vip4, target: client4 }),
    ...icmpError({ type: 3, code: 3 }, quoted4, 68),
  ],
  "sctp over IPv4": [eth, toVip4, sctp({ sourcePort: 40000, targetPort: 3868 }), payload(init)],
  "sctp over IPv6": [
    eth,
    toVip,
    sctp({ sourcePort: 40000, targetPort: 3868, verificationTag: 0xfedcba98 }),
    payload(sctpChunk(0, 3, Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 65))),
  ],
  "geneve with options": [
    eth,
    between4,
    udp({ sourcePort: 50000 }),
    geneve({
      vni: 0x123456,
      options: Uint8Array.of(
        ...geneveOption(0x0102, 0x03, Uint8Array.of(1, 2, 3, 4)),
        ...dsrGeneveOption(vip4, 80),
      ),
    }),
    innerEth,
    toPod4,
    syn,
  ],
  "geneve over IPv6": [
    eth,
    between,
    udp({ sourcePort: 50000 }),
    geneve({ vni: 2, options: dsrGeneveOption(vip, 443) }),
    innerEth,
    toPod,
    datagram,
    payload("quic"),
  ],
  "geneve without Ethernet": [eth, between4, udp(), geneve({ control: true }), toVip4, syn],
  "the option of DSR": [
    eth,
    ipv4({ source: client4, target: pod4, options: dsrOption4(vip4, 80) }),
    syn,
  ],
  "the header of DSR": [eth, toPod, dsrDestinationOptions(vip, 443), syn],
  "who has": [
    ethernet({ source: ownMac, target: BROADCAST_MAC }),
    arp({ senderMac: ownMac, senderAddress: client4, targetAddress: vip4 }),
    trailer(new Uint8Array(18)),
  ],
  "is at": [
    eth,
    arp({
      operation: 2,
      senderMac: ownMac,
      senderAddress: client4,
      targetMac: otherMac,
      targetAddress: vip4,
    }),
  ],
  "neighbour solicitation": [
    eth,
    ipv6({ source: client, target: parseIpv6("ff02::1:ff00:7"), hopLimit: 255 }),
    ...neighbourSolicitation(vip, ownMac),
  ],
  "neighbour advertisement": [
    eth,
    ipv6({ source: vip, target: client, hopLimit: 255 }),
    ...neighbourAdvertisement(vip, otherMac),
  ],
};

const built = (name: string): Uint8Array => buildPacket(...(samples[name] ?? []));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("every format has right checksums, reads back as it was, and tshark finds nothing", () => {
  const frames = Object.entries(samples).map(([name, layers]) => {
    const frame = buildPacket(...layers);
    assert.deepEqual(frameFaults(frame), [], name);
    const parsed = parseFrame(frame);
    assert.deepEqual(buildPacket(...parsed), frame, name);
    assert.deepEqual(
      parsed.map(({ kind }) => kind),
      layers.map(({ kind }) => kind),
      name,
    );
    return frame;
  });
  assert.deepEqual(judgeFrames(frames), []);
});

/** By sample, tshark's fields and what it must say of them. */
const EXPECTED: Record<string, Record<string, string>> = {
  "tcp over IPv6": {
    "ipv6.src": "2001:db8:c::1",
    "ipv6.dst": "2001:db8:5::7",
    "ipv6.plen": "24",
    "ipv6.hlim": "7",
    "ipv6.tclass.dscp": "46",
    "ipv6.tclass.ecn": "1",
    "ipv6.flow": "0x0abcde",
    "tcp.dstport": "80",
  },
  "tagged, padded udp over IPv6": { "vlan.id": "7", "vlan.trailer": "555555555555" },
  "IPv6 in IPv4": { "frame.protocols": "eth:ethertype:ip:ipv6:tcp", "ip.proto": "41" },
  "IPv4 in IPv6": { "frame.protocols": "eth:ethertype:ipv6:ip:tcp", "ipv6.nxt": "4" },
  "all extension headers": {
    "ipv6.hopopts.nxt": "60",
    "ipv6.dstopts.nxt": "43,6",
    "ipv6.routing.type": "4",
    "ipv6.routing.segleft": "1",
    "ipv6.routing.srh.addr": "2001:db8:244:1::5,2001:db8:5::7",
    "ipv6.fraghdr.ident": "0x12345678",
    "ipv6.opt.type": "0x05,0x01,0x01,0x1e,0x00",
    "tcp.srcport": "40000",
  },
  "a later fragment": { "ipv6.fraghdr.offset": "181", "ipv6.fraghdr.more": "0" },
  "packet too big": { "icmpv6.type": "2", "icmpv6.mtu": "1460", "frame.len": "1294" },
  "fragmentation needed": { "icmp.type": "3", "icmp.code": "4", "icmp.mtu": "1480" },
  "sctp over IPv4": { "sctp.chunk_type": "1", "sctp.init_initial_tsn": "9" },
  "sctp over IPv6": { "sctp.verification_tag": "0xfedcba98", "sctp.chunk_length": "17" },
  "geneve with options": {
    "udp.dstport": "6081",
    "geneve.vni": "0x123456",
    "geneve.proto_type": "0x6558",
    "geneve.flags.critical": "1",
    "geneve.option.class": "0x0102,0x014b",
    "geneve.option.type": "0x03,0x81",
    "geneve.option.length": "20,8,12",
    "geneve.option.unknown.data": "01020304,c633640700500000",
    "tcp.dstport": "80",
  },
  "geneve over IPv6": {
    "geneve.vni": "0x000002",
    "geneve.option.class": "0x014b",
    "geneve.option.length": "24,24",
    "geneve.option.unknown.data": "20010db8000500000000000000000007" + "01bb0000",
  },
  "geneve without Ethernet": { "geneve.flags.oam": "1", "geneve.proto_type": "0x0800" },
  "the option of DSR": { "ip.hdr_len": "28", "tcp.dstport": "80" },
  "the header of DSR": {
    "ipv6.nxt": "60",
    "ipv6.dstopts.len_oct": "24",
    "ipv6.opt.type": "0x1b",
    "ipv6.opt.length": "20",
    "ipv6.opt.unknown": "20010db8000500000000000000000007" + "01bb0000",
  },
  "who has": {
    "arp.opcode": "1",
    "arp.src.hw_mac": "02:00:00:00:00:01",
    "arp.src.proto_ipv4": "192.0.2.1",
    "arp.dst.proto_ipv4": "198.51.100.7",
  },
  "is at": { "arp.opcode": "2", "arp.dst.hw_mac": "02:00:00:00:00:02" },
  "neighbour solicitation": {
    "icmpv6.nd.ns.target_address": "2001:db8:5::7",
    "icmpv6.opt.linkaddr": "02:00:00:00:00:01",
    "icmpv6.opt.type": "1",
  },
  "neighbour advertisement": {
    "icmpv6.nd.na.target_address": "2001:db8:5::7",
    "icmpv6.nd.na.flag.s": "1",
    "icmpv6.nd.na.flag.o": "1",
    "icmpv6.opt.type": "2",
  },
};

test("tshark reads in every format what was put in", () => {
  const fields = [...new Set(Object.values(EXPECTED).flatMap((values) => Object.keys(values)))];
  const names = Object.keys(EXPECTED);
  const said = tsharkFields(names.map(built), fields);
  const found = names.map((name, index) => {
    const of = (field: string) => said[index]?.[fields.indexOf(field)] ?? "";
    return [
      name,
      Object.fromEntries(Object.keys(EXPECTED[name] ?? {}).map((one) => [one, of(one)])),
    ];
  });
  assert.deepEqual(Object.fromEntries(found), EXPECTED);
});

test("the bytes of DSR are those that Cilium's nodes write and read", () => {
  assert.equal(hex(dsrOption4(vip4, 8080)), "9a08901f076433c6");
  assert.equal(hex(dsrGeneveOption(vip4, 8080)), "014b8102c63364071f900000");
  const address = "20010db8000500000000000000000007";
  assert.equal(hex(dsrGeneveOption(vip, 8080)), `014b8105${address}1f900000`);
  const header = buildPacket(dsrDestinationOptions(vip, 8080), tcp());
  assert.equal(hex(header.slice(0, 24)), `06021b14${address}1f900000`);
});

test("CRC32c is that of RFC 9260, also of nothing", () => {
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array()), 0);
});

const wide = fc.bigInt({ min: 1n << 125n, max: (1n << 126n) - 1n }).map(ipv6FromBigInt);
const bytes = fc.uint8Array({ maxLength: 60 });
// Neither by its port nor by its looks may tshark take a payload for another protocol's.
const port = fc.integer({ min: 28_000, max: 29_000 });
const plain = fc.nat({ max: 60 }).map((length) => new Uint8Array(length).fill(0x7a));
const extension = fc.oneof(
  // 0x1e: an option for experiments, to be skipped by who doesn't know it (RFC 4727).
  bytes.map((data) => destinationOptions({ options: Uint8Array.of(0x1e, data.length, ...data) })),
  fc.tuple(wide, fc.boolean()).map(([last, isLeft]) =>
    routing({
      type: 2,
      segmentsLeft: isLeft ? 1 : 0,
      data: Uint8Array.of(0, 0, 0, 0, ...addressToBytes(last)),
    }),
  ),
  fc.nat().map((id) => fragment({ id })),
);
const transport = fc.oneof(
  fc.tuple(port, port).map(([p, q]) => tcp({ sourcePort: p, targetPort: q })),
  fc.tuple(port, port).map(([p, q]) => udp({ sourcePort: p, targetPort: q })),
  port.map((p) => icmpv6({ rest: p })),
);
const chain = fc
  .tuple(wide, wide, fc.array(extension, { maxLength: 3 }), transport, plain)
  .map(([source, target, headers, l4, data]) => [
    eth,
    ipv6({ source, target }),
    // At most one of a kind, as tshark judges by the first.
    ...headers.filter((one, at) => headers.findIndex(({ kind }) => kind === one.kind) === at),
    l4,
    payload(data),
  ]);

test("any chain of headers is right by tshark, and survives bytes", () => {
  const frames: Uint8Array[] = [];
  fc.assert(
    fc.property(chain, (layers) => {
      const frame = buildPacket(...layers);
      assert.deepEqual(frameFaults(frame), []);
      assert.deepEqual(buildPacket(...parseFrame(frame)), frame);
      frames.push(frame);
    }),
    { numRuns: 300 },
  );
  assert.deepEqual(judgeFrames(frames), []);
});

test("a frame of any format, cut anywhere, is read without an error", () => {
  for (const layers of Object.values(samples)) {
    const frame = buildPacket(...layers, trailer(new Uint8Array(6)));
    for (let length = 0; length <= frame.length; length++) {
      const cut = frame.slice(0, length);
      frameFaults(cut);
      formatFrame(cut);
    }
  }
});

test("a flipped bit behind Ethernet is a fault that we and tshark find", () => {
  const names = ["tcp over IPv6", "sctp over IPv4", "sctp over IPv6", "echo over IPv6"];
  const frames = [...names, "geneve over IPv6"].map((name) => {
    const frame = built(name);
    frame[frame.length - 1] = (frame[frame.length - 1] ?? 0) ^ 1;
    return frame;
  });
  assert.deepEqual(frames.map(frameFaults), [
    ["tcp checksum is wrong"],
    ["sctp checksum is wrong"],
    ["sctp checksum is wrong"],
    ["icmpv6 checksum is wrong"],
    ["udp checksum is wrong", "udp checksum is wrong"],
  ]);
  assert.equal(judgeFrames(frames).length, frames.length);
});

test("UDP without a checksum is right over IPv4 alone", () => {
  const none = udp({ checksum: 0 });
  assert.deepEqual(frameFaults(buildPacket(eth, toVip4, none)), []);
  assert.deepEqual(frameFaults(buildPacket(eth, toVip, none)), [
    "udp checksum is 0, which IPv6 forbids",
  ]);
  // One that comes out as 0 is written as all ones: the payload is what is missing to that.
  const empty = buildPacket(toVip, udp(), payload(Uint8Array.of(0, 0)));
  const sum = (empty[46] ?? 0) * 256 + (empty[47] ?? 0);
  const full = buildPacket(toVip, udp(), payload(Uint8Array.of(sum >>> 8, sum & 255)));
  assert.equal(layerOf(parseIpPacket(full), "udp").checksum, 0xffff);
});

test("what an ICMP error quotes is read as a packet that was cut", () => {
  const frame = parseFrame(built("packet too big"));
  const quote = parseIpPacket(layerOf(frame, "payload").bytes);
  assert.deepEqual(
    quote.map(({ kind }) => kind),
    ["ipv6", "udp", "payload"],
  );
  assert.equal(layerOf(quote, "ipv6").target, vip);
  const short = parseIpPacket(layerOf(parseFrame(built("fragmentation needed")), "payload").bytes);
  assert.deepEqual(
    short.map(({ kind }) => kind),
    ["ipv4", "udp"],
  );
});

test("a line for a person names the layers of every format", () => {
  assert.equal(
    formatFrame(built("all extension headers")),
    "eth 02:00:00:00:00:01 > 02:00:00:00:00:02" +
      " / ipv6 2001:db8:c::1 > 2001:db8:5::7 hops 64 len 97 / hopByHop 050200000100" +
      ` / destinationOptions 010400000000 / routing type 4 left 1 ${hex(segments)}` +
      " / fragment 0 id 305419896 / destinationOptions 1e0301020300" +
      " / tcp 40000 > 80 syn seq 0 ack 0 / payload 1 bytes",
  );
  assert.match(formatFrame(built("who has")), /arp 1 192\.0\.2\.1 is 02:.*:01 to 198\.51\.100\.7/);
  assert.match(
    formatFrame(built("geneve over IPv6")),
    /udp 50000 > 6081 .*geneve vni 2 options 014b/,
  );
});

test("lengths that no header can have are refused", () => {
  assert.throws(() => buildPacket(routing({ data: new Uint8Array(8) })), /routing options of 8/);
  assert.throws(() => buildPacket(geneve({ options: new Uint8Array(3) })), /geneve options of 3/);
  assert.throws(() => geneveOption(1, 2, new Uint8Array(2)), /geneve option of 2 bytes/);
});
