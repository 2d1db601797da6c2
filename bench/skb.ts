// SPDX-License-Identifier: Apache-2.0
// tc programs, timed packet by packet: an skb that was encapsulated stays marked so, and no program
// can take that back, so every run gets a fresh one.

import type { BpfProgram } from "../src/kernel/program.ts";
import type { Family } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { isWide } from "./frame.ts";
import { trimmedMean } from "./statistics.ts";
import { MANY_FLOWS, type Traffic } from "./variation.ts";

/** Where the fields are that tell flows apart: the last four bytes of addresses, and a port. */
export interface FlowFields {
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
}

export type FieldsOfFamilies = Readonly<Record<Family, FlowFields>>;

/** Behind Ethernet and one IP header. */
export const PLAIN: FieldsOfFamilies = {
  ipv4: { source: 26, destination: 30, sourcePort: 34 },
  ipv6: { source: 34, destination: 50, sourcePort: 54 },
};
/** Behind an outer header too. */
export const IN_IPIP: FieldsOfFamilies = {
  ipv4: { source: 46, destination: 50, sourcePort: 54 },
  ipv6: { source: 74, destination: 90, sourcePort: 94 },
};
/** Of a reply: what the client is, it goes to. */
export const REPLY: FieldsOfFamilies = {
  ipv4: { source: 30, destination: 26, sourcePort: 36 },
  ipv6: { source: 50, destination: 34, sourcePort: 56 },
};

export interface SkbRunner {
  /** The trimmed mean of ns per packet over a sample's packets, of flows in random order. */
  run(program: BpfProgram, traffic: Traffic, fields?: FieldsOfFamilies, ifindex?: number): number;
}

/** The frame of one flow: low 12 bits in the client's address, the others in its port. */
export function frameOfFlow(
  { frame, targets }: Traffic,
  flow: number,
  families: FieldsOfFamilies = PLAIN,
): Uint8Array {
  const fields = families[isWide(frame) ? "ipv6" : "ipv4"];
  const bytes = frame.slice();
  const view = new DataView(bytes.buffer);
  view.setUint16(fields.source + 2, view.getUint16(fields.source + 2) | (flow & 0xfff));
  view.setUint16(fields.sourcePort, view.getUint16(fields.sourcePort) ^ (flow >> 12));
  if (targets !== undefined && targets > 1) {
    const target = Math.floor((flow * targets) / MANY_FLOWS);
    view.setUint16(fields.destination + 2, view.getUint16(fields.destination + 2) | target);
  }
  return bytes;
}

/** Packets of a sample, of those that XDP's sample has: a call costs far more than its packet. */
const SHARE = 125;

export function createSkbRunner({ packets, cpu }: Budget): SkbRunner {
  const count = Math.ceil(packets / SHARE);
  return {
    run(program, traffic, fields = PLAIN, ifindex = undefined) {
      const took: number[] = [];
      for (let packet = 0; packet < count; packet++) {
        const flow = Math.floor(Math.random() * traffic.flows);
        const { durationNs } = program.testRun({
          data: frameOfFlow(traffic, flow, fields),
          ...(cpu === undefined ? {} : { cpu }),
          ...(ifindex === undefined ? {} : { skb: { ifindex } }),
        });
        took.push(durationNs);
      }
      return trimmedMean(took);
    },
  };
}
