// SPDX-License-Identifier: Apache-2.0
// What was on a wire, as tshark sees it: the judge of checksums and headers.

import { execFile } from "node:child_process";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import type { Lab } from "../../../src/lab/lab.ts";
import type { Family } from "../../../src/net/address.ts";

/** One header of IPv4 or IPv6; hop limit, traffic class and next header by their names of IPv4. */
export interface IpHeader {
  readonly family: Family;
  readonly source: string;
  readonly target: string;
  readonly ttl: number;
  /** Always of IPv6, which routers don't cut. */
  readonly dontFragment: boolean;
  readonly tos: number;
  readonly protocol: number;
  /** With options: of IPv4, and those of IPv6's for the destination. */
  readonly headerBytes: number;
  readonly totalBytes: number;
}

export interface Frame {
  /** Of the capture's devices, from 0. */
  readonly device: number;
  readonly sender: string;
  readonly bytes: number;
  /** Outermost first; behind an ICMP error's, those that it quotes. */
  readonly ip: readonly IpHeader[];
  /** Of the innermost TCP or UDP header. */
  readonly ports: readonly number[];
  readonly tcpFlags: number | undefined;
  /** Of either family. */
  readonly icmp: { readonly type: number; readonly code: number; readonly mtu: number } | undefined;
  /** Names of the headers whose checksum is wrong. */
  readonly wrong: readonly string[];
}

const FIELDS = [
  "frame.interface_id",
  "frame.protocols",
  "eth.src",
  "frame.len",
  "ip.src",
  "ip.dst",
  "ip.ttl",
  "ip.flags.df",
  "ip.dsfield",
  "ip.proto",
  "ip.hdr_len",
  "ip.len",
  "ipv6.src",
  "ipv6.dst",
  "ipv6.hlim",
  "ipv6.tclass",
  "ipv6.nxt",
  "ipv6.plen",
  "ipv6.dstopts.len_oct",
  "tcp.srcport",
  "tcp.dstport",
  "udp.srcport",
  "udp.dstport",
  "tcp.flags",
  "icmp.type",
  "icmp.code",
  "icmp.mtu",
  "icmpv6.type",
  "icmpv6.code",
  "icmpv6.mtu",
  "ip.checksum.status",
  "tcp.checksum",
  "tcp.checksum.status",
  "udp.checksum.status",
  "icmp.checksum.status",
  "icmpv6.checksum.status",
] as const;
type Values = Readonly<Record<(typeof FIELDS)[number], readonly string[]>>;

const CHECKS = ["ip", "tcp", "udp", "icmp", "icmpv6"] as const;
const IPV6_HEADER_BYTES = 40;
/** All but what nodes speak with their neighbours alone. */
const USUAL = "ip or (ipv6 and not icmpv6.type >= 130)";
/** What tshark calls a wrong checksum, and one of zero where there has to be one. */
const BAD = "0";
const MISSING = "4";
const OUTPUT_LIMIT_BYTES = 256 * 1024 * 1024;

/** The frames of a capture, in order; `filter` as tshark's -Y has it. */
export async function readFrames(file: string, filter = USUAL): Promise<Frame[]> {
  const check = ["ip", "tcp", "udp"].flatMap((name) => ["-o", `${name}.check_checksum:TRUE`]);
  // Juniper's mirror sees packets in packets of the node port 30030.
  const plain = ["--disable-protocol", "jmirror"];
  // HTTP and its like cost time and say nothing here.
  const quick = ["-n", "-o", "tcp.desegment_tcp_streams:FALSE", "-o", "ip.defragment:FALSE"];
  const fields = FIELDS.flatMap((field) => ["-e", field]);
  const args = ["-r", file, ...plain, ...quick, ...check, "-Y", filter, "-T", "fields", ...fields];
  const { stdout } = await promisify(execFile)("tshark", args, { maxBuffer: OUTPUT_LIMIT_BYTES });
  return stdout.split("\n").slice(0, -1).map(readFrame);
}

function readFrame(line: string): Frame {
  const cells = line.split("\t").map((cell) => (cell === "" ? [] : cell.split(",")));
  const values = Object.fromEntries(
    FIELDS.map((field, index) => [field, cells[index] ?? []]),
  ) as unknown as Values;
  const [flags] = values["tcp.flags"];
  const protocols = (values["frame.protocols"][0] ?? "").split(":");
  const transport = protocols.findLast((name) => name === "tcp" || name === "udp");
  return {
    device: Number(values["frame.interface_id"][0] ?? 0),
    sender: values["eth.src"][0] ?? "",
    bytes: Number(values["frame.len"][0]),
    ip: readIps(values, protocols),
    ports: transport === undefined ? [] : portsOf(values, transport === "tcp" ? "tcp" : "udp"),
    tcpFlags: flags === undefined ? undefined : Number(flags),
    icmp: readIcmp(values, "icmp") ?? readIcmp(values, "icmpv6"),
    wrong: CHECKS.filter((name) => isWrong(values, name, protocols)),
  };
}

function readIcmp(values: Values, name: "icmp" | "icmpv6"): Frame["icmp"] {
  const [type] = values[`${name}.type`];
  if (type === undefined) return undefined;
  const [[code], [mtu = 0]] = [values[`${name}.code`], values[`${name}.mtu`]];
  return { type: Number(type), code: Number(code), mtu: Number(mtu) };
}

/**
 * Where Linux computes a checksum of TCP in place of a device it writes all ones for zero, as UDP
 * has it. Either is right to whoever adds up (RFC 1624), but tshark wants zero. Geneve has none,
 * in IPv6 too (RFC 6935).
 */
function isWrong(
  values: Values,
  name: (typeof CHECKS)[number],
  protocols: readonly string[],
): boolean {
  if (name === "tcp" && values["tcp.checksum"].includes("0xffff")) return false;
  const [first, ...others] = values[`${name}.checksum.status`];
  if (others.includes(BAD) || others.includes(MISSING) || first === BAD) return true;
  return first === MISSING && !protocols.includes("geneve");
}

function portsOf(values: Values, transport: "tcp" | "udp"): number[] {
  const fields = [values[`${transport}.srcport`], values[`${transport}.dstport`]];
  return fields.map((field) => Number(field.at(-1)));
}

/** tshark tells a frame's fields of each family apart; their order is that of its protocols. */
function readIps(values: Values, protocols: readonly string[]): IpHeader[] {
  const read = { ip: 0, ipv6: 0, options: 0 };
  return protocols.flatMap((name, index) => {
    if (name === "ip") return readIpv4(values, read.ip++);
    if (name !== "ipv6") return [];
    const header = readIpv6(values, read.ipv6++);
    if (protocols[index + 1] !== "ipv6.dstopts") return header;
    const options = Number(values["ipv6.dstopts.len_oct"][read.options++]);
    return { ...header, headerBytes: header.headerBytes + options };
  });
}

function readIpv4(values: Values, index: number): IpHeader {
  const number = (field: keyof Values): number => Number(values[field][index]);
  return {
    family: "ipv4",
    source: values["ip.src"][index] ?? "",
    target: values["ip.dst"][index] ?? "",
    ttl: number("ip.ttl"),
    dontFragment: /^(1|True)$/.test(values["ip.flags.df"][index] ?? ""),
    tos: number("ip.dsfield"),
    protocol: number("ip.proto"),
    headerBytes: number("ip.hdr_len"),
    totalBytes: number("ip.len"),
  };
}

function readIpv6(values: Values, index: number): IpHeader {
  const number = (field: keyof Values): number => Number(values[field][index]);
  return {
    family: "ipv6",
    source: values["ipv6.src"][index] ?? "",
    target: values["ipv6.dst"][index] ?? "",
    ttl: number("ipv6.hlim"),
    dontFragment: true,
    tos: number("ipv6.tclass"),
    protocol: number("ipv6.nxt"),
    headerBytes: IPV6_HEADER_BYTES,
    totalBytes: IPV6_HEADER_BYTES + number("ipv6.plen"),
  };
}

/** How a capture is asked for: "PLACE", "PLACE:DEVICE" or "PLACE:DEVICE,DEVICE". */
export interface Watch {
  readonly at: string;
  readonly filter?: string;
  /** Enough of them. */
  readonly packets?: number;
}

let serial = 0;

/** What passes these places while `act` runs. */
export async function watch<const Names extends string>(
  t: TestContext,
  lab: Lab,
  places: Readonly<Record<Names, Watch>>,
  act: () => Promise<void>,
): Promise<Readonly<Record<Names, Frame[]>>> {
  const entries = Object.entries<Watch>(places);
  let first = 0;
  const plans = entries.map(([name, { at, ...options }]) => {
    const [place = "", list = "eth0"] = at.split(":");
    const devices = list.split(",");
    const plan = { name, place, options: { ...options, devices }, first };
    first += devices.length;
    return plan;
  });
  const start = ++serial;
  // In the lab's directory, which goes with it.
  const fileOf = (name: string): string => join(lab.plan.state, `wire-${start}-${name}.pcapng`);
  const captures = await Promise.all(
    plans.map(({ name, place, options }) => lab.capture(place, fileOf(name), options)),
  );
  t.after(() => Promise.all(captures.map((capture) => capture.stop().catch(() => {}))));
  await act();
  for (const [index, lost] of (await Promise.all(captures.map((one) => one.stop()))).entries()) {
    if (lost > 0)
      t.diagnostic(`the capture of ${plans[index]?.name} had no room for ${lost} packets`);
  }
  // Most of what tshark costs is its start: one for all.
  const all = fileOf("all");
  const files = captures.map(({ file }) => file);
  await promisify(execFile)("mergecap", ["-I", "none", "-w", all, ...files]);
  const frames = await readFrames(all);
  const seen = plans.map(({ name, first: least, options: { devices } }) => [
    name,
    frames.filter(({ device }) => device >= least && device < least + devices.length),
  ]);
  return Object.fromEntries(seen) as Record<Names, Frame[]>;
}
