// SPDX-License-Identifier: Apache-2.0

// Packets as tshark reads them in captures from several places of the lab, put into one order.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { LabPlan } from "../../src/lab/plan.ts";
import { formatMac } from "../../src/net/mac.ts";

const run = promisify(execFile);
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024;

/** Addresses and ports of one header. */
export interface Header {
  readonly source: string;
  readonly target: string;
}

/** A packet as one capture saw it. */
export interface Sighting {
  /** The place whose capture saw it. */
  readonly at: string;
  readonly timeS: number;
  /** The places at the ends of the wire that it was on. */
  readonly from: string;
  readonly to: string;
  readonly outer: Header | undefined;
  /** Addresses with ports, like 192.0.2.10:40001. */
  readonly inner: Header;
  /** TCP flags as tshark draws them, like ·······AP···. */
  readonly flags: string;
  readonly sequence: string;
  readonly payloadBytes: number;
  /** The largest segment that a SYN offers; 0 where it says nothing. */
  readonly mss: number;
  readonly frameBytes: number;
  /** What must not change on the way: the inner header's identification, TTL and checksums. */
  readonly innerMarks: string;
}

const FIELDS = [
  "frame.time_epoch",
  "eth.src",
  "eth.dst",
  "ip.src",
  "ip.dst",
  "tcp.srcport",
  "tcp.dstport",
  "tcp.flags.str",
  "tcp.seq_raw",
  "tcp.len",
  "tcp.options.mss_val",
  "frame.len",
  "ip.id",
  "ip.ttl",
  "ip.checksum",
  "tcp.checksum",
] as const;

/** The place that has a MAC, for all wires of a lab. */
function placesByMac(plan: LabPlan): Map<string, string> {
  const nodes = plan.nodes.flatMap((node) => [node.wire, ...node.pods.map(({ wire }) => wire)]);
  const ends = [plan.clientWire, ...nodes].flat();
  return new Map(ends.map(({ mac, place }) => [formatMac(mac), place]));
}

/** One line of tshark's fields; undefined for what is no TCP packet. */
export function parseSighting(
  at: string,
  line: string,
  places: ReadonlyMap<string, string>,
): Sighting | undefined {
  const cells = line.split("\t");
  const cell = (name: (typeof FIELDS)[number]): string => cells[FIELDS.indexOf(name)] ?? "";
  /** A field that IPIP has twice, outer first. */
  const last = (name: (typeof FIELDS)[number]): string => cell(name).split(",").at(-1) ?? "";
  if (cell("tcp.srcport") === "") return undefined;
  const sources = cell("ip.src").split(",");
  const targets = cell("ip.dst").split(",");
  const [outerSource = "", outerTarget = ""] = [sources[0], targets[0]];
  return {
    at,
    timeS: Number(cell("frame.time_epoch")),
    from: places.get(cell("eth.src")) ?? cell("eth.src"),
    to: places.get(cell("eth.dst")) ?? cell("eth.dst"),
    outer: sources.length > 1 ? { source: outerSource, target: outerTarget } : undefined,
    inner: {
      source: `${last("ip.src")}:${cell("tcp.srcport")}`,
      target: `${last("ip.dst")}:${cell("tcp.dstport")}`,
    },
    flags: cell("tcp.flags.str"),
    sequence: cell("tcp.seq_raw"),
    payloadBytes: Number(cell("tcp.len")),
    mss: Number(cell("tcp.options.mss_val")),
    frameBytes: Number(cell("frame.len")),
    innerMarks: (["ip.id", "ip.ttl", "ip.checksum", "tcp.checksum"] as const).map(last).join(" "),
  };
}

/** The TCP packets of a capture file. */
async function sightingsIn(
  at: string,
  file: string,
  places: ReadonlyMap<string, string>,
): Promise<Sighting[]> {
  const fields = FIELDS.flatMap((field) => ["-e", field]);
  const argv = ["-n", "-r", file, "-T", "fields", "-E", "occurrence=a", ...fields, "tcp"];
  const { stdout } = await run("tshark", argv, { maxBuffer: OUTPUT_LIMIT_BYTES });
  const lines = stdout.split("\n").filter((line) => line !== "");
  return lines.map((line) => parseSighting(at, line, places)).filter((one) => one !== undefined);
}

/** The TCP packets of captures, by place, in the order of time. */
export async function readCaptures(
  plan: LabPlan,
  files: Readonly<Record<string, string>>,
): Promise<Sighting[]> {
  const places = placesByMac(plan);
  const all = Object.entries(files).map(([at, file]) => sightingsIn(at, file, places));
  return (await Promise.all(all)).flat().sort((a, b) => a.timeS - b.timeS);
}

/** One way over one wire: what one or two captures saw of it. */
export interface Hop {
  readonly from: string;
  readonly to: string;
  readonly seen: readonly Sighting[];
  readonly first: Sighting;
}

/** The wires that one packet took, in order, from what was seen of it at either end. */
export function hopsOf(sightings: readonly Sighting[]): Hop[] {
  const hops: Hop[] = [];
  for (const sighting of sightings) {
    const { from, to } = sighting;
    const known = hops.findIndex((hop) => hop.from === from && hop.to === to);
    const hop = hops[known];
    if (hop === undefined) hops.push({ from, to, seen: [sighting], first: sighting });
    else hops[known] = { ...hop, seen: [...hop.seen, sighting] };
  }
  return hops;
}
