// SPDX-License-Identifier: Apache-2.0
// One source for two families (bench/shared.bpf.c) against one for IPv4 alone
// (bench/separate.bpf.c): what docs/decisions/ipv6-packet-path.md stands on.

import { FrontendKind, NexthopFlag } from "../src/datapath/gen/abi.ts";
import { type LoadedObject, openObject } from "../src/kernel/object.ts";
import type { BpfProgram } from "../src/kernel/program.ts";
import { type Address, addressToBytes, isIpv4, parseIpv6 } from "../src/net/address.ts";
import { macToBytes } from "../src/net/mac.ts";
import { PROTOCOL } from "../src/net/protocol.ts";
import { outerChecksum } from "../src/node/outer.ts";
import type { Budget } from "./budget.ts";
import { frameTo } from "./frame.ts";
import { instructionsOf } from "./ledger.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { interleave } from "./statistics.ts";
import { BUILD, MANY_FLOWS, openWrapper } from "./variation.ts";
import {
  BACKENDS,
  GATEWAY_MAC,
  LOOPBACK,
  NODE_ADDRESS,
  NODE_MAC,
  SERVICE_PORT,
  TARGET_PORT,
  VIPS,
} from "./world.ts";

const XDP_TX = 3;
const BUCKETS = 1024;
const MTU = 1500;

/** The one service and its one backend, as every prototype has them. */
export const IN_IPV4 = { service: VIPS, backend: BACKENDS, balancer: NODE_ADDRESS };
export const IN_IPV6 = {
  service: parseIpv6("2001:db8:5::7"),
  backend: parseIpv6("2001:db8:244::5"),
  balancer: parseIpv6("2001:db8::1"),
};

const u16 = (...values: readonly number[]) => [...new Uint8Array(Uint16Array.from(values).buffer)];
const u32 = (...values: readonly number[]) => [...new Uint8Array(Uint32Array.from(values).buffer)];
const port = (number: number) => [number >>> 8, number & 255];

/** Every bucket has the service in its first slot, so that no hash need be known here. */
function fillFrontends(object: LoadedObject, address: Address, protocol: number): void {
  const key = [...port(SERVICE_PORT), protocol, FrontendKind.service];
  const bytes = addressToBytes(address);
  const row = isIpv4(address) ? [...bytes, ...key] : [...key, ...u32(0), ...bytes];
  const map = object.map(isIpv4(address) ? "frontends" : "frontends6");
  const bucket = new Uint8Array(map.info.valueSize);
  bucket.set(row);
  for (let index = 0; index < BUCKETS; index++) map.update(Uint8Array.from(u32(index)), bucket);
}

/** The rest of a backend, then its address: the packet path of today has it the other way round. */
function fillBackend(object: LoadedObject, map: string, address: Address, isLast: boolean): void {
  const common = [...port(TARGET_PORT), ...u16(0)];
  const rest = u32(0, 0);
  const bytes = addressToBytes(address);
  const fields = isLast ? [...common, ...rest, ...bytes] : [...bytes, ...common, ...rest];
  const value = new Uint8Array(object.map(map).info.valueSize);
  value.set(fields);
  object.map(map).update(Uint8Array.from(u32(0)), value);
}

function fillCommon(object: LoadedObject): void {
  const first = Uint8Array.from(u32(0));
  // id, ring, slots, backends, their number, flags, changed, affinity
  object.map("services").update(first, Uint8Array.from(u32(1, 0, 1021, 0, 1, 0, 0, 0)));
  const flags = NexthopFlag.resolved | NexthopFlag.edge;
  const macs = [...macToBytes(GATEWAY_MAC), ...macToBytes(NODE_MAC)];
  const source = addressToBytes(NODE_ADDRESS);
  object
    .map("nexthops")
    .update(
      first,
      Uint8Array.from([
        ...u32(LOOPBACK),
        ...u16(MTU, flags),
        ...macs,
        ...u32(0),
        ...source,
        ...u32(outerChecksum(NODE_ADDRESS)),
      ]),
    );
}

/** Both objects, loaded, each with the TCP service. */
export interface Prototypes extends Disposable {
  readonly separate: LoadedObject;
  readonly shared: LoadedObject;
}

export function loadPrototypes(): Prototypes {
  using separateFile = openObject(`${BUILD}/separate.bpf.o`);
  using sharedFile = openObject(`${BUILD}/shared.bpf.o`);
  const separate = separateFile.load();
  const shared = sharedFile.load();
  for (const object of [separate, shared]) {
    fillCommon(object);
    fillFrontends(object, IN_IPV4.service, PROTOCOL.tcp);
  }
  fillFrontends(shared, IN_IPV6.service, PROTOCOL.tcp);
  fillBackend(separate, "backends", IN_IPV4.backend, false);
  fillBackend(shared, "backends4", IN_IPV4.backend, true);
  fillBackend(shared, "backends6", IN_IPV6.backend, true);
  const source = addressToBytes(IN_IPV6.balancer);
  shared.map("outer_sources6").update(Uint8Array.from(u32(0)), source);
  return {
    separate,
    shared,
    [Symbol.dispose]: () => {
      separate.close();
      shared.close();
    },
  };
}

/** What a program is, once by clang and once by this kernel. */
export interface Size {
  readonly instructions: number;
  readonly verified: number;
  readonly jitedBytes: number;
}

export function sizeOf(program: BpfProgram, object: "separate" | "shared"): Size {
  const instructions = instructionsOf(`${BUILD}/${object}.bpf.o`).get(program.name) ?? 0;
  const { verifiedInstructions, jitedBytes } = program.info();
  return { instructions, verified: verifiedInstructions, jitedBytes };
}

/** Sizes of all three, and what the two of IPv4 take; the lookup of a flow finds none. */
export function benchShared(results: Results, budget: Budget): void {
  using wrapper = openWrapper();
  using prototypes = loadPrototypes();
  const { separate, shared } = prototypes;
  const programs = [
    ["ipv4_alone", separate.program("separate4"), "separate"],
    ["ipv4_shared", shared.program("shared4"), "shared"],
    ["ipv6_shared", shared.program("shared6"), "shared"],
  ] as const;
  const rows = [["source", "instructions", "verified", "jited bytes"]];
  for (const [name, program, object] of programs) {
    const size = sizeOf(program, object);
    const exactly = (value: number) => ({ value, min: value, max: value });
    results.add(`families.${name}.instructions`, "instructions", exactly(size.instructions));
    results.add(`families.${name}.verified`, "instructions", exactly(size.verified));
    rows.push([name, ...Object.values(size).map(String)]);
  }
  printTable("One source for both families: sizes", rows);
  const frame = frameTo(VIPS, "tcp_established");
  const times = [["source", "flows", "ns"]];
  for (const flows of [1, MANY_FLOWS]) {
    const contender = (name: string, program: BpfProgram) => ({
      name,
      sample: () => wrapper.run(program, { frame, flows }, { ...budget, verdict: XDP_TX }),
    });
    const both = programs.slice(0, 2).map(([name, program]) => contender(name, program));
    const nothing = contender("nothing", wrapper.object.program("nothing"));
    for (const [name, summary] of interleave(both, budget.rounds, nothing)) {
      results.add(`families.${name}.${flows}_flows.ns`, "ns", summary);
      times.push([name, String(flows), formatSummary(summary)]);
    }
  }
  printTable("One source for both families, net ns per IPv4 packet: median (min–max)", times);
}
