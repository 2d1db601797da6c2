// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import { parseAddress } from "../net/address.ts";
import { parseFrame } from "../net/dissect.ts";
import { buildPacket, ethernet, ipv4, ipv6, type LayerInit, tcp, udp } from "../net/packet.ts";
import { formatPrefix } from "../net/prefix.ts";
import { FilterError, kernelPart, matches, parseFilter, type Subject } from "./capture-filter.ts";
import { Place, Verdict } from "./gen/abi.ts";

function narrow(source: string, target: string): LayerInit {
  const [from, to] = [parseAddress(source), parseAddress(target)];
  if (typeof from === "number" && typeof to === "number") return ipv4({ source: from, target: to });
  if (typeof from === "bigint" && typeof to === "bigint") return ipv6({ source: from, target: to });
  throw new Error(`${source} and ${target} are of different families`);
}

function subject(verdict: Verdict, place: Place, ...layers: readonly LayerInit[]): Subject {
  return { verdict, place, layers: parseFrame(buildPacket(ethernet(), ...layers)) };
}

const SUBJECTS = {
  ipip: subject(
    Verdict.sentEncapsulated,
    Place.edge,
    narrow("172.16.0.1", "10.1.0.5"),
    narrow("198.51.100.7", "192.0.2.1"),
    tcp({ sourcePort: 40_000, targetPort: 80 }),
  ),
  dns: subject(
    Verdict.sentPod,
    Place.host,
    narrow("198.51.100.9", "192.0.2.2"),
    udp({ sourcePort: 5000, targetPort: 53 }),
  ),
  wide: subject(
    Verdict.dropUnknownPort,
    Place.edge,
    narrow("2001:db8::7", "2001:db8:1::1"),
    tcp({ sourcePort: 40_000, targetPort: 81 }),
  ),
} as const;

/** A filter, and the subjects that it is for. */
const MEANINGS: readonly (readonly [filter: string, who: string])[] = [
  ["", "ipip dns wide"],
  ["tcp", "ipip wide"],
  ["udp", "dns"],
  ["ip", "ipip dns"],
  ["ip6", "wide"],
  ["icmp or sctp", ""],
  ["host 192.0.2.1", "ipip"],
  ["192.0.2.1", "ipip"],
  ["host 10.1.0.5", "ipip"],
  ["src 198.51.100.7", "ipip"],
  ["dst host 198.51.100.7", ""],
  ["net 192.0.2.0/24", "ipip dns"],
  ["src net 198.51.100.0/24", "ipip dns"],
  ["dst net 2001:db8:1::/48", "wide"],
  ["port 80", "ipip"],
  ["src port 40000", "ipip wide"],
  ["dst port 40000", ""],
  ["tcp port 53", ""],
  ["udp dst port 53", "dns"],
  ["ip6 port 81", "wide"],
  ["not tcp", "dns"],
  ["!tcp", "dns"],
  ["reason drop_unknown_port", "wide"],
  ["reason drop-unknown-port", "wide"],
  ["verdict sent", "ipip dns"],
  ["place edge", "ipip wide"],
  ["place edge and not verdict drop", "ipip"],
  ["(port 80 or port 53) and place host", "dns"],
  // As in pcap-filter, from left to right.
  ["udp or tcp and place host", "dns"],
  ["udp or (tcp and place edge)", "ipip dns wide"],
  ["tcp && !port 80 || udp", "dns wide"],
];

test("filters are for the packets that they name", () => {
  for (const [text, who] of MEANINGS) {
    const filter = parseFilter(text);
    const found = Object.entries(SUBJECTS).filter(([, one]) => matches(filter, one));
    assert.equal(found.map(([name]) => name).join(" "), who, text);
  }
});

test("what programs test is never less than the filter wants", () => {
  for (const [text] of MEANINGS) {
    const filter = parseFilter(text);
    const { verdicts, places, prefix, port, version } = kernelPart(filter);
    for (const one of Object.values(SUBJECTS).filter((each) => matches(filter, each))) {
      assert.ok(verdicts & (1n << BigInt(one.verdict)), text);
      assert.ok(places & (1 << one.place), text);
      const kernels = [
        prefix === undefined ? "" : `net ${formatPrefix(prefix)}`,
        port === undefined ? "" : `port ${port}`,
        version === undefined ? "" : version === 4 ? "ip" : "ip6",
      ];
      for (const part of kernels) assert.ok(matches(parseFilter(part), one), `${text}: ${part}`);
    }
  }
});

test("programs test addresses, ports, places and verdicts that all wanted packets have", () => {
  const part = (text: string) => kernelPart(parseFilter(text));
  const both = part("tcp dst port 80 and src net 192.0.2.0/24 and place edge");
  assert.equal(both.port, 80);
  assert.equal(both.prefix && formatPrefix(both.prefix), "192.0.2.0/24");
  assert.deepEqual([both.places, both.version], [1 << Place.edge, 4]);
  assert.equal(part("reason drop_ecn or reason drop_bind").verdicts, (1n << 44n) | (1n << 57n));
  assert.equal(part("not reason drop_ecn").verdicts & (1n << 44n), 0n);
  const other = part("port 80 or port 81");
  assert.equal(other.port, undefined);
  assert.equal(part("not port 80").port, undefined);
});

test("a text that is no filter is refused with what was expected", () => {
  const wrong: readonly (readonly [text: string, message: RegExp])[] = [
    ["bost 192.0.2.1", /^expected an address or one of tcp, .*, got "bost"$/],
    ["host", /^expected an address, it ends there$/],
    ["port 0", /^expected a port from 1 to 65535, got "0"$/],
    ["port http", /^expected a port from 1 to 65535, got "http"$/],
    ["net 192.0.2.0/33", /^expected a prefix such as 192\.0\.2\.0\/24, got "192\.0\.2\.0\/33"$/],
    ["reason tired", /^expected a verdict: one of pass_local, .*, got "tired"$/],
    ["place moon", /^expected a place: one of edge, host, pod, node, got "moon"$/],
    ["tcp udp", /^expected "and", "or" or the end, got "udp"$/],
    ["(tcp", /^expected "\)", it ends there$/],
    ["tcp and", /^expected a filter, it ends there$/],
  ];
  for (const [text, message] of wrong) {
    assert.throws(
      () => parseFilter(text),
      (error: unknown) => error instanceof FilterError && message.test(error.message),
      text,
    );
  }
});
