// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  AddressError,
  formatIpv4,
  ipv4FromNumber,
  ipv4ToBytes,
  parseIpv4,
  readIpv4,
  tryParseIpv4,
} from "./address.ts";
import { formatMac, macFromNumber, macToBytes, parseMac, readMac } from "./mac.ts";
import {
  addressAt,
  formatPrefix,
  parseInterfaceAddress,
  parsePrefix,
  parsePrefix4,
  prefixContains,
  prefixesOverlap,
  prefixOf,
  subnetAt,
} from "./prefix.ts";

test("every IPv4 address survives text and bytes", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => {
      const address = ipv4FromNumber(value);
      assert.equal(parseIpv4(formatIpv4(address)), address);
      assert.equal(readIpv4(ipv4ToBytes(address)), address);
    }),
  );
  assert.equal(parseIpv4("10.0.0.1"), 0x0a000001);
  assert.deepEqual([...ipv4ToBytes(parseIpv4("192.0.2.255"))], [192, 0, 2, 255]);
});

test("what is not an IPv4 address is refused by name", () => {
  for (const text of [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.0.0.1",
    "01.2.3.4",
    "1.2.3.4 ",
    "::1",
    "-1.2.3.4",
  ]) {
    assert.equal(tryParseIpv4(text), undefined, text);
    assert.throws(
      () => parseIpv4(text),
      (error) => {
        assert.ok(error instanceof AddressError);
        assert.ok(error.message.startsWith(JSON.stringify(text)), error.message);
        return true;
      },
    );
  }
  assert.throws(() => ipv4FromNumber(2 ** 32), AddressError);
});

test("a prefix holds exactly the addresses between its ends", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 32 }),
      fc.integer({ min: 0, max: 0xffffffff }),
      (value, length, other) => {
        const prefix = prefixOf(ipv4FromNumber(value), length);
        const last = prefix.address + 2 ** (32 - length) - 1;
        assert.equal(
          prefixContains(prefix, ipv4FromNumber(other)),
          other >= prefix.address && other <= last,
        );
        assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
      },
    ),
  );
});

test("a prefix with host bits is refused and the right spelling is named", () => {
  assert.throws(() => parsePrefix("10.1.2.3/16"), /write 10\.1\.0\.0\/16/);
  assert.throws(() => parsePrefix("10.0.0.0/33"), AddressError);
  assert.throws(() => parsePrefix("10.0.0.0/08"), AddressError);
  assert.deepEqual(parseInterfaceAddress("10.1.2.3/16"), { address: 0x0a010203, length: 16 });
});

test("a prefix is cut into subnets and addresses", () => {
  const prefix = parsePrefix4("10.244.0.0/16");
  assert.equal(formatPrefix(subnetAt(prefix, 24, 3)), "10.244.3.0/24");
  assert.equal(formatIpv4(addressAt(prefix, 258)), "10.244.1.2");
  assert.throws(() => subnetAt(prefix, 24, 256), AddressError);
  assert.throws(() => addressAt(prefix, 65536), AddressError);
  assert.ok(prefixesOverlap(prefix, parsePrefix("10.244.7.0/24")));
  assert.ok(prefixesOverlap(parsePrefix("10.244.7.0/24"), prefix));
  assert.ok(!prefixesOverlap(prefix, parsePrefix("10.245.0.0/16")));
});

test("every MAC survives text and bytes", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffffffff }), (value) => {
      const mac = macFromNumber(value);
      assert.equal(parseMac(formatMac(mac)), mac);
      assert.equal(readMac(macToBytes(mac)), mac);
    }),
  );
  assert.equal(formatMac(parseMac("02:00:0A:00:00:01")), "02:00:0a:00:00:01");
  assert.throws(() => parseMac("02:00:00:00:00"), AddressError);
});
