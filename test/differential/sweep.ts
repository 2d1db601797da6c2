// SPDX-License-Identifier: Apache-2.0
// Packets cut at every byte, and every byte of their headers at its extremes, on random state.

import type { Event, PacketEvent, PacketSpec } from "./event.ts";
import { generateSequence } from "./generate.ts";
import { PODS_OF_NODE } from "./places.ts";
import { Prng } from "./prng.ts";

const STATE_EVENTS = 20;
const HEADERS = { plain: 14 + 20 + 20 + 2, outer: 14 + 20 + 20 + 20 + 2 } as const;
const EXTREMES = [0x00, 0x01, 0x7f, 0x80, 0xff] as const;

/** The packets of one seed: half of all seeds have an outer header. */
export function sweepSequence(seed: number): Event[] {
  const prng = new Prng(seed);
  const outer = prng.chance(50);
  const end = outer ? HEADERS.outer : HEADERS.plain;
  const base = basePacket(prng, outer);
  const send = (more: Partial<PacketSpec>): PacketEvent => ({
    ...base,
    packet: { ...base.packet, ...more },
  });
  const events: Event[] = generateSequence(seed, STATE_EVENTS);
  for (let cutBytes = 14; cutBytes <= end + 4; cutBytes++) events.push(send({ cutBytes }));
  for (let at = 12; at < end; at++) {
    for (const value of EXTREMES) events.push(send({ bytes: [[at, value]] }));
  }
  return events;
}

function basePacket(prng: Prng, outer: boolean): PacketEvent {
  const node = prng.pick([0, 1] as const);
  const packet: PacketSpec = {
    client: prng.below(3),
    clientPort: 40_000 + prng.below(3),
    service: prng.below(6),
    tcpFlags: prng.pick([2, 16, 17, 24]),
    payloadBytes: 2 + prng.below(3),
    tcpOptions: prng.pick([[], [2, 4, 5, 180]]),
  };
  const pod = prng.pick(PODS_OF_NODE[node]);
  const header = {
    from: "node",
    pod,
    ttl: prng.pick([60, 90, 192, 224, 255]),
    ecn: 0,
    optionBytes: 0,
    moreFragments: false,
    fragmentOffset: 0,
    lengthError: 0,
  } as const;
  return {
    kind: "packet",
    node,
    edge: !outer && prng.chance(60),
    uplink: 0,
    packet: outer ? { ...packet, outer: header } : packet,
    fabric: { routers: 1, congested: false },
  };
}
