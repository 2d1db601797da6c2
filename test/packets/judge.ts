// SPDX-License-Identifier: Apache-2.0
// tshark as a judge of frames: it shares nothing with our own dissector.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ETHERNET = 1;

/** The frames as a pcap file (https://wiki.wireshark.org/Development/LibpcapFileFormat). */
function pcapOf(frames: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(ETHERNET, 20);
  const records = frames.flatMap((frame, index) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(index, 0);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, frame];
  });
  return Buffer.concat([header, ...records]);
}

const CHECKED = ["ip", "tcp", "udp"] as const;
/** What tshark takes for what it is by the port alone. */
const UNMEANT = ["dns", "mdns", "http"] as const;
const FIELDS = [
  ...CHECKED.map((protocol) => `${protocol}.checksum.status`),
  "icmp.checksum.status",
  "_ws.malformed",
] as const;
/** Wireshark's "good" and, for UDP without a checksum, "not present". */
const RIGHT = new Set(["", "1", "3"]);

/** What is wrong with frames, one line each. Checksums inside ICMP errors aren't judged. */
export function judgeFrames(frames: readonly Uint8Array[]): string[] {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-judge-"));
  try {
    const file = join(directory, "frames.pcap");
    writeFileSync(file, pcapOf(frames));
    const options = CHECKED.flatMap((protocol) => ["-o", `${protocol}.check_checksum:TRUE`]);
    for (const protocol of UNMEANT) options.push("--disable-protocol", protocol);
    const fields = FIELDS.flatMap((field) => ["-e", field]);
    const shape = ["-T", "fields", "-E", "separator=;", ...fields];
    const text = execFileSync("tshark", ["-n", "-r", file, ...options, ...shape], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const lines = text.split("\n").slice(0, frames.length);
    return lines.flatMap((line, index) => faultsOf(line, frames[index] ?? new Uint8Array()));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function faultsOf(line: string, frame: Uint8Array): string[] {
  const values = line.split(";");
  return FIELDS.flatMap((field, index) => {
    const value = values[index] ?? "";
    if (value.split(",").every((one) => RIGHT.has(one))) return [];
    return [`${field} is ${value}: ${Buffer.from(frame).toString("hex")}`];
  });
}
