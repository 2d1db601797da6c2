// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIpv4, parseIpv6 } from "./address.ts";
import { layerOf, parseFrame, parseIpPacket } from "./dissect.ts";
import { dsrDestinationOptions, dsrGeneveOption, dsrOption4, readDsr } from "./dsr.ts";
import { formatLayer } from "./format-layer.ts";
import { buildPacket, ethernet, geneve, geneveOption, ipv4, ipv6, tcp, udp } from "./packet.ts";

const vip = parseIpv6("2001:db8:5::7");
const vip4 = parseIpv4("198.51.100.7");
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("what DSR says is read back, whatever options are around it", () => {
  const pads = [Uint8Array.of(), Uint8Array.of(1, 1), Uint8Array.of(0x44, 4, 0, 0)];
  for (const pad of pads) {
    const options = Uint8Array.of(...pad, ...dsrOption4(vip4, 8080), ...pad);
    const [layer = assert.fail()] = parseIpPacket(buildPacket(ipv4({ options }), tcp()));
    assert.deepEqual(readDsr(layer), { address: vip4, port: 8080 });
    assert.match(formatLayer(layer), / options [0-9a-f]+ for 198\.51\.100\.7:8080$/);
  }
  const other = geneveOption(0x0102, 3, new Uint8Array(8));
  for (const address of [vip4, vip]) {
    const options = Uint8Array.of(...other, ...dsrGeneveOption(address, 443));
    const layers = parseFrame(
      buildPacket(ethernet(), ipv4(), udp({ targetPort: 6081 }), geneve({ options })),
    );
    assert.deepEqual(readDsr(layerOf(layers, "geneve")), { address, port: 443 });
  }
  const wideLayers = parseIpPacket(buildPacket(ipv6(), dsrDestinationOptions(vip, 443), tcp()));
  const header = layerOf(wideLayers, "destinationOptions");
  assert.deepEqual(readDsr(header), { address: vip, port: 443 });
  assert.match(formatLayer(header), / for \[2001:db8:5::7\]:443$/);
});

test("options that say no service, or are cut, are read as none", () => {
  const none = (options: Uint8Array): void => {
    const [layer = assert.fail()] = parseIpPacket(buildPacket(ipv4({ options })));
    assert.equal(readDsr(layer), undefined, hex(options));
  };
  none(Uint8Array.of(1, 1, 1, 1));
  none(Uint8Array.of(0, ...dsrOption4(vip4, 80), 0, 0, 0));
  none(Uint8Array.of(0x44, 0, 0x9a, 8));
  none(dsrOption4(vip4, 80).subarray(0, 4));
  const layer = { kind: "geneve", options: geneveOption(0x014b, 0x82, new Uint8Array(8)) } as const;
  const rest = { type: 0x6558, vni: 2, control: false, critical: false };
  assert.equal(readDsr({ ...layer, ...rest }), undefined);
});
