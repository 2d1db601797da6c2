// SPDX-License-Identifier: Apache-2.0
import { placeNames, verdictNames } from "../datapath/gen/abi.ts";

/** `drop untrusted`, `sent pod`: a verdict as people read it. */
export function verdictText(verdict: number): string {
  return verdictNames[verdict]?.replaceAll("_", " ") ?? `verdict ${verdict}`;
}

/** `edge`, `host`, `pod` or `socket`. */
export function placeText(place: number): string {
  return placeNames[place] ?? `place ${place}`;
}

/** `tcp`, `udp`, `sctp`, or the number. */
export function protocolText(protocol: number): string {
  if (protocol === 6) return "tcp";
  if (protocol === 17) return "udp";
  return protocol === 132 ? "sctp" : `protocol ${protocol}`;
}

const TCP_FLAGS = ["F", "S", "R", "P", ".", "U", "E", "W"] as const;

/** TCP's flags as tcpdump writes them: `S`, `S.`, `P.`. */
export function tcpFlagsText(flags: number): string {
  return TCP_FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0)
    .toSorted((a, b) => Number(a === ".") - Number(b === "."))
    .join("");
}
