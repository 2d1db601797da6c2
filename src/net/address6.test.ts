// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { BlockList, isIPv6, SocketAddress } from "node:net";
import test from "node:test";
import fc from "fast-check";
import {
  type Address,
  AddressError,
  addressFromBytes,
  addressToBytes,
  compareAddress,
  familyOf,
  formatAddress,
  formatIpv6,
  type Ipv6,
  ipv4FromNumber,
  ipv6FromBigInt,
  isMapped,
  parseAddress,
  parseIpv6,
  readIpv6,
  tryParseAddress,
  writeIpv6,
} from "./address.ts";
import {
  addressAt,
  comparePrefix,
  formatPrefix,
  hostPrefix,
  isPrefix4,
  parseInterfaceAddress,
  parsePrefix,
  parsePrefix4,
  prefixContains,
  prefixesOverlap,
  prefixOf,
  subnetAt,
} from "./prefix.ts";

/** Groups that are often zero, so that runs of zeros of every length come up. */
const wide: fc.Arbitrary<Ipv6> = fc
  .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), {
    minLength: 8,
    maxLength: 8,
  })
  .map((groups) => ipv6FromBigInt(groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n)))
  .filter((address) => !isMapped(address));
const any: fc.Arbitrary<Address> = fc.oneof(
  wide,
  fc.integer({ min: 0, max: 0xffffffff }).map(ipv4FromNumber),
);

/** WHATWG's spelling, from the URL parser: it shares nothing with ours. */
const urlSpelling = (text: string): string => new URL(`http://[${text}]/`).hostname.slice(1, -1);

test("every address survives text and bytes, and its family with it", () => {
  fc.assert(
    fc.property(any, (address) => {
      const text = formatAddress(address);
      assert.equal(parseAddress(text), address);
      assert.equal(addressFromBytes(addressToBytes(address)), address);
      assert.equal(familyOf(address), text.includes(":") ? "ipv6" : "ipv4");
    }),
  );
  assert.equal(parseIpv6("::1"), 1n);
  assert.equal(addressFromBytes(new Uint8Array(6)), undefined);
  const bytes = new Uint8Array(20);
  writeIpv6(bytes, 3, parseIpv6("2001:db8::f00f"));
  assert.equal(Buffer.from(bytes).toString("hex"), `000000${"20010db8"}${"0".repeat(20)}f00f00`);
  assert.equal(formatIpv6(readIpv6(bytes, 3)), "2001:db8::f00f");
  assert.throws(() => readIpv6(bytes, 5), AddressError);
  assert.throws(() => writeIpv6(bytes, -1, parseIpv6("::")), AddressError);
});

test("IPv6 is spelt as URLs spell it", () => {
  fc.assert(
    fc.property(wide, (address) => {
      const text = formatIpv6(address);
      assert.equal(urlSpelling(text), text);
      const groups = Array.from({ length: 8 }, (_, index) =>
        ((address >> BigInt(112 - index * 16)) & 0xffffn).toString(16).padStart(4, "0"),
      );
      assert.equal(urlSpelling(groups.join(":").toUpperCase()), text);
    }),
  );
});

test("the spellings of RFC 5952 are the right ones", () => {
  const spellings: readonly (readonly [string, string])[] = [
    ["2001:0DB8::0001", "2001:db8::1"],
    ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["1:0:0:0:0:0:0:0", "1::"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:c000:0201", "192.0.2.1"],
  ];
  for (const [given, right] of spellings) assert.equal(formatAddress(parseAddress(given)), right);
  const mapped = readIpv6(Buffer.from("00000000000000000000ffffc0000201", "hex"));
  assert.equal(formatIpv6(mapped), "::ffff:192.0.2.1");
});

test("text is an IPv6 address exactly when Node takes it for one", () => {
  const piece = fc.constantFrom(
    "",
    "0",
    "1",
    "ff",
    "abcd",
    "12345",
    "g",
    ":",
    "::",
    "1.2.3.4",
    ".",
  );
  const noise = fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join(":"));
  const near = fc.tuple(wide, fc.nat(45), piece).map(([address, at, insert]) => {
    const text = formatIpv6(address);
    return text.slice(0, at) + insert + text.slice(at + 1);
  });
  fc.assert(
    fc.property(fc.oneof(noise, near), (text) => {
      const address = text.includes(":") ? tryParseAddress(text) : undefined;
      assert.equal(address !== undefined, isIPv6(text), text);
      if (address === undefined) return;
      const theirs = new SocketAddress({ address: text, family: "ipv6" }).address;
      assert.equal(address, tryParseAddress(theirs), text);
    }),
    { numRuns: 2000 },
  );
});

test("what is not an address is refused by name and with the way out", () => {
  for (const text of [
    "",
    "1.2.3",
    "::1::",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8::",
    "::1.2.3",
  ]) {
    assert.equal(tryParseAddress(text), undefined, text);
    assert.throws(
      () => parseAddress(text),
      (error) => error instanceof AddressError && error.message.startsWith(JSON.stringify(text)),
    );
  }
  assert.throws(() => parseAddress("fe80::1%eth0"), /leave out the zone/);
  assert.throws(() => parseIpv6("::ffff:10.0.0.1"), /stands for IPv4's 10\.0\.0\.1/);
  assert.throws(() => parseIpv6("10.0.0.1"), AddressError);
  assert.throws(() => ipv6FromBigInt(1n << 128n), AddressError);
  assert.throws(() => ipv6FromBigInt(-1n), AddressError);
});

test("addresses of both families stand in one order", () => {
  const sorted = ["0.0.0.0", "9.0.0.1", "10.0.0.0", "255.255.255.255", "::", "::2", "2001:db8::"];
  const addresses = sorted.map(parseAddress);
  assert.deepEqual(addresses.toReversed().sort(compareAddress).map(formatAddress), sorted);
  fc.assert(
    fc.property(any, any, (a, b) => {
      assert.equal(Math.sign(compareAddress(a, b)) + Math.sign(compareAddress(b, a)), 0);
      assert.equal(compareAddress(a, b) === 0, a === b);
    }),
  );
  const prefixes = ["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/8", "::/0", "::/1", "1::/16"];
  const shuffled = prefixes.map(parsePrefix).reverse();
  assert.deepEqual(shuffled.sort(comparePrefix).map(formatPrefix), prefixes);
});

test("a prefix holds what Node's block list says it holds", () => {
  const place = fc.tuple(any, fc.nat(128), any, fc.nat(128), fc.boolean());
  fc.assert(
    fc.property(place, ([address, length, other, flip, near]) => {
      const bits = typeof address === "number" ? 32 : 128;
      const prefix = prefixOf(address, length % (bits + 1));
      // Mostly an address one bit away: the ones far away are all outside.
      const beside =
        typeof address === "number"
          ? ipv4FromNumber((address ^ (1 << (flip % 32))) >>> 0)
          : ipv6FromBigInt(address ^ (1n << BigInt(flip % 128)));
      const asked = near ? beside : other;
      const list = new BlockList();
      list.addSubnet(formatAddress(prefix.address), prefix.length, familyOf(prefix.address));
      const theirs =
        familyOf(asked) === familyOf(address) && list.check(formatAddress(asked), familyOf(asked));
      assert.equal(prefixContains(prefix, asked), theirs);
      assert.equal(prefixesOverlap(prefix, hostPrefix(asked)), theirs);
      assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
    }),
    { numRuns: 500 },
  );
});

test("prefixes of IPv6 are read, refused and cut as those of IPv4", () => {
  assert.throws(() => parsePrefix("2001:db8::1/64"), /write 2001:db8::\/64/);
  assert.throws(() => parsePrefix("2001:db8::/129"), /a length of 0 to 128/);
  assert.throws(() => parsePrefix("2001:db8::/064"), AddressError);
  assert.throws(() => parsePrefix4("2001:db8::/64"), /not an IPv4 address/);
  assert.throws(() => prefixOf(parseIpv6("::"), 129), AddressError);
  assert.deepEqual(parseInterfaceAddress("::1/128"), { address: 1n, length: 128 });
  const network = prefixOf(parseIpv6("2001:db8::"), 48);
  assert.equal(formatPrefix(subnetAt(network, 64, 0xfff)), "2001:db8:0:fff::/64");
  assert.equal(formatAddress(addressAt(network, 2 ** 40)), "2001:db8::100:0:0");
  assert.throws(() => subnetAt(network, 64, 65536), AddressError);
  assert.throws(() => addressAt(prefixOf(network.address, 126), 4), AddressError);
  assert.ok(!prefixesOverlap(parsePrefix("::/0"), parsePrefix("0.0.0.0/0")));
});

test("a mapped prefix is IPv4's, with IPv4's length", () => {
  assert.deepEqual(parsePrefix("::ffff:10.0.0.0/104"), parsePrefix4("10.0.0.0/8"));
  assert.deepEqual(parseInterfaceAddress("::ffff:10.0.0.1/104"), {
    address: 0x0a000001,
    length: 8,
  });
  assert.deepEqual(parsePrefix("::ffff:0:0/96"), parsePrefix4("0.0.0.0/0"));
  assert.ok(isPrefix4(parsePrefix("::ffff:10.0.0.1")));
  assert.throws(() => parsePrefix("::ffff:10.0.0.0/95"), /a length of 96 to 128/);
  assert.throws(() => parsePrefix("::ffff:10.0.0.1/104"), /write 10\.0\.0\.0\/8/);
});
