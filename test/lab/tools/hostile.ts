// SPDX-License-Identifier: Apache-2.0
// Frames that no honest sender makes, put on the wires of a lab.

import { namespacePath } from "../../../src/kernel/netns.ts";
import { openPacketSocket, type PacketSocket } from "../../../src/kernel/packet-socket.ts";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed, placeNamed, podNamed } from "../../../src/lab/plan.ts";
import type { Ipv4 } from "../../../src/net/address.ts";
import { buildPacket, ethernet, type LayerInit } from "../../../src/net/packet.ts";
import { since, verdictsAt } from "./inspect.ts";

/** Sends a packet of these layers, IPv4 first, out of the client. */
export function fromClient(lab: Lab, ...layers: readonly LayerInit[]): void {
  const [own, port] = lab.plan.clientWire;
  const head = ethernet({ source: own.mac, target: port.mac });
  lab.sendFrame("client", own.device, buildPacket(head, ...layers));
}

/** A whole frame as the switch would send it to a node. */
export function towards(lab: Lab, node: string, ...layers: readonly LayerInit[]): Uint8Array {
  const [uplink, port] = nodeNamed(lab.plan, node).wire;
  return buildPacket(ethernet({ source: port.mac, target: uplink.mac }), ...layers);
}

/** A raw socket on a place's device. */
export function openWire(lab: Lab, place: string, device: string): PacketSocket {
  return openPacketSocket(device, namespacePath(placeNamed(lab.plan, place).namespace));
}

export const addressOf = (lab: Lab, pod: string): Ipv4 => podNamed(lab.plan, pod).address;

/** What a node decided since `before`, at one place, without what is none of ours. */
export function decided(
  lab: Lab,
  node: string,
  place: string,
  before: ReadonlyMap<string, number>,
): Record<string, number> {
  const counts = Object.entries(since(before, verdictsAt(lab, node)));
  const prefix = `${place} `;
  return Object.fromEntries(
    counts
      .filter(([what]) => what.startsWith(prefix) && what !== `${prefix}pass not ours`)
      .map(([what, count]) => [what.slice(prefix.length), count]),
  );
}

/** All packets that were counted at a place, by the first word of their verdict. */
export function totals(
  counts: ReadonlyMap<string, number>,
  place: string,
): Readonly<Record<"pass" | "sent" | "drop", number>> {
  const sum = { pass: 0, sent: 0, drop: 0 };
  for (const [what, count] of counts) {
    const [at, kind] = what.split(" ");
    if (at === place && (kind === "pass" || kind === "sent" || kind === "drop")) sum[kind] += count;
  }
  return sum;
}

export const sum = (counts: object = {}): number =>
  Object.values(counts).reduce((all: number, count: number) => all + count, 0);

interface LinkStatistics {
  readonly ifname: string;
  readonly stats64: { readonly rx: { readonly packets: number } };
}

/** Frames that the kernel says came in by each device of a place. */
export async function receivedAt(lab: Lab, place: string): Promise<ReadonlyMap<string, number>> {
  const links = JSON.parse(await lab.output(place, ["ip", "-j", "-s", "link"])) as LinkStatistics[];
  return new Map(links.map(({ ifname, stats64 }) => [ifname, stats64.rx.packets]));
}

const ETHERNET_BYTES = 14;
/** Where a frame's type stands: what is before it, addresses, is any value's right. */
const FIRST_FIELD = 12;

/** The frame cut behind every byte from the Ethernet header on. */
export function cuts(frame: Uint8Array): Uint8Array[] {
  const lengths = Array.from(
    { length: frame.length - ETHERNET_BYTES },
    (_, index) => ETHERNET_BYTES + index,
  );
  return lengths.map((length) => frame.slice(0, length));
}

/** The frame with each word of its headers at its extremes, half a word at a time too. */
export function extremes(frame: Uint8Array, headerBytes: number): Uint8Array[] {
  const mutants: Uint8Array[] = [];
  for (let at = FIRST_FIELD; at + 2 <= headerBytes; at += 2) {
    const old = new DataView(frame.buffer, frame.byteOffset).getUint16(at);
    const values = [
      0,
      0xffff,
      old & 0xff,
      old & 0xff00,
      old | 0xff,
      old | 0xff00,
      old + 1,
      old - 1,
    ];
    for (const value of new Set(values.map((each) => each & 0xffff))) {
      const mutant = frame.slice();
      new DataView(mutant.buffer).setUint16(at, value);
      mutants.push(mutant);
    }
  }
  return mutants;
}
