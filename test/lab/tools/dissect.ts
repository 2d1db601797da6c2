// SPDX-License-Identifier: Apache-2.0

import { execFileSync } from "node:child_process";

/** Fields of the packets of a capture as an independent dissector sees them. */
export function dissect(file: string, filter: string, fields: readonly string[]): string[][] {
  const wanted = fields.flatMap((field) => ["-e", field]);
  const argv = [
    "-r",
    file,
    "-o",
    "ip.check_checksum:TRUE",
    "-Y",
    filter,
    "-T",
    "fields",
    ...wanted,
  ];
  const text = execFileSync("tshark", argv, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return text
    .trimEnd()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t"));
}
