// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { parseIpv4 } from "./address.ts";
import { buildPacket, ethernet, ipv4, payload, udp } from "./packet.ts";
import { type PcapPacket, pcapngDevice, pcapngPacket, pcapngSection } from "./pcapng.ts";

const [SOURCE, TARGET] = [parseIpv4("192.0.2.1"), parseIpv4("192.0.2.2")];

/** What tshark reads in a file, the fields of each packet. */
function read(blocks: readonly Uint8Array[], fields: readonly string[]): string[][] {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-pcapng-"));
  try {
    const file = join(directory, "test.pcapng");
    writeFileSync(file, Buffer.concat(blocks));
    const wanted = fields.flatMap((field) => ["-e", field]);
    const text = execFileSync("tshark", ["-n", "-r", file, "-T", "fields", ...wanted], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
    return text
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function frame(bytes: number): Uint8Array {
  return buildPacket(
    ethernet(),
    ipv4({ source: SOURCE, target: TARGET }),
    udp({ sourcePort: 1000, targetPort: 2000 }),
    payload(bytes),
  );
}

test("tshark reads packets, their devices, directions and comments", () => {
  const packet = (device: number, more: Partial<PcapPacket>): Uint8Array => {
    const bytes = more.bytes ?? frame(1);
    const lengthBytes = bytes.length;
    const timeNs = 1_700_000_000_123_456_789n;
    return pcapngPacket({
      device,
      timeNs,
      bytes,
      lengthBytes,
      direction: "in",
      comment: "one",
      ...more,
    });
  };
  const whole = frame(200);
  const device = { description: "as they came", snapBytes: 16_384 };
  const blocks = [
    pcapngSection("ciliate test"),
    pcapngDevice({ ...device, name: "eth0/edge in" }),
    packet(0, {}),
    pcapngDevice({ ...device, name: "eth0/edge out" }),
    packet(1, { direction: "out", comment: "dropped: naïve" }),
    packet(0, { bytes: whole.subarray(0, 60), lengthBytes: whole.length }),
  ];
  const rows = read(blocks, [
    "frame.interface_name",
    "frame.packet_flags_direction",
    "frame.comment",
    "frame.time_epoch",
    "frame.cap_len",
    "frame.len",
    "udp.dstport",
  ]);
  assert.deepEqual(rows, [
    ["eth0/edge in", "0x00000001", "one", "1700000000.123456789", "43", "43", "2000"],
    ["eth0/edge out", "0x00000002", "dropped: naïve", "1700000000.123456789", "43", "43", "2000"],
    ["eth0/edge in", "0x00000001", "one", "1700000000.123456789", "60", "242", "2000"],
  ]);
});
