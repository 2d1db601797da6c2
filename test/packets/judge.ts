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
const PROTOCOLS = "frame.protocols";
const STATUSES = [
  ...["ip", "tcp", "udp", "icmp", "icmpv6", "sctp"].map((name) => `${name}.checksum.status`),
  "_ws.malformed",
];
/** Wireshark's "good" and, for UDP without a checksum, "not present". */
const RIGHT = new Set(["", "1", "3"]);
const UNVERIFIED = "2";
/** An ICMP error has the packet that it is about behind it. */
const QUOTES = /:icmp:ip|:icmpv6:ipv6/;

/** Of each frame, what tshark says of each field: "" where it has none, several between commas. */
export function tsharkFields(
  frames: readonly Uint8Array[],
  fields: readonly string[],
): readonly (readonly string[])[] {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-judge-"));
  try {
    const file = join(directory, "frames.pcap");
    writeFileSync(file, pcapOf(frames));
    const options = CHECKED.flatMap((protocol) => ["-o", `${protocol}.check_checksum:TRUE`]);
    options.push("-o", "sctp.checksum:CRC 32c");
    for (const protocol of UNMEANT) options.push("--disable-protocol", protocol);
    const asked = fields.flatMap((field) => ["-e", field]);
    const shape = ["-T", "fields", "-E", "separator=;", ...asked];
    const text = execFileSync("tshark", ["-n", "-r", file, ...options, ...shape], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const lines = text.split("\n").slice(0, frames.length);
    return lines.map((line) => line.split(";"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What is wrong with frames, one line each. Checksums inside ICMP errors aren't judged. */
export function judgeFrames(frames: readonly Uint8Array[]): string[] {
  const said = tsharkFields(frames, [PROTOCOLS, ...STATUSES]);
  return said.flatMap((values, index) => faultsOf(values, frames[index] ?? new Uint8Array()));
}

function faultsOf([protocols = "", ...values]: readonly string[], frame: Uint8Array): string[] {
  const isQuoting = QUOTES.test(protocols);
  return STATUSES.flatMap((field, index) => {
    const value = values[index] ?? "";
    const isRight = (one: string) => RIGHT.has(one) || (isQuoting && one === UNVERIFIED);
    if (value.split(",").every(isRight)) return [];
    return [`${field} is ${value}: ${Buffer.from(frame).toString("hex")}`];
  });
}
