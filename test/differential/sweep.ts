// SPDX-License-Identifier: Apache-2.0
// Packets cut at every byte, and every byte of their headers at its extremes, on random state.

import type { Family } from "../../src/net/address.ts";
import {
  type Event,
  type Extension,
  type PacketEvent,
  type PacketSpec,
  type ReplyEvent,
  THE_NODE,
} from "./event.ts";
import { generateSequence } from "./generate.ts";
import { PODS_OF_NODE, SERVICE_PORTS } from "./places.ts";
import { Prng } from "./prng.ts";

const STATE_EVENTS = 60;
const ETHERNET = 14;
/** TCP, and what begins after it. */
const TRANSPORT = 20 + 2;
const ICMP = 8;
/** Of a header of IP, of all that Geneve puts in front, and of an option. */
const BYTES = {
  ipv4: { header: 20, geneve: 62, option: 8 },
  ipv6: { header: 40, geneve: 94, option: 24 },
} as const;
/** Headers behind that of IPv6; the last has the most that are walked. */
const EXTENSIONS: readonly (readonly Extension[])[] = [
  [],
  [{ kind: "hopByHop", units: 1 }],
  [
    { kind: "routing", units: 1 },
    { kind: "atomic", units: 1 },
  ],
  [
    { kind: "hopByHop", units: 1 },
    { kind: "destinationOptions", units: 2 },
    { kind: "routing", units: 1 },
    { kind: "atomic", units: 1 },
  ],
];
const UNIT = 8;
const EXTREMES = [0x00, 0x01, 0x7f, 0x80, 0xff] as const;

/** What is cut, or overwritten, of one packet of a sweep. */
type Change = Pick<PacketSpec, "bytes"> | Pick<PacketSpec, "cutBytes">;

/**
 * The packets of one seed: to a service, in IPIP, ICMP errors of both kinds, a pod's, in Geneve or
 * with an option.
 */
export function sweepSequence(seed: number, family: Family): Event[] {
  const { header, geneve, option } = BYTES[family];
  const prng = new Prng(seed);
  const events: Event[] = generateSequence(seed, STATE_EVENTS);
  const [moreBytes, send] = prng.pick([
    () => [0, changesOfPacket(prng, false)] as const,
    () => [header, changesOfPacket(prng, true)] as const,
    () => [header + ICMP, changesOfError(prng, false)] as const,
    () => [2 * header + ICMP, changesOfError(prng, true)] as const,
    () => [0, changesOfReply(prng)] as const,
    () => [geneve, changesOfTold(prng, "geneve")] as const,
    () => [option, changesOfTold(prng, "option")] as const,
  ])();
  const extensions = family === "ipv6" ? prng.pick(EXTENSIONS) : [];
  const units = extensions.reduce((sum, one) => sum + one.units, 0);
  const end = ETHERNET + moreBytes + header + UNIT * units + TRANSPORT;
  const sendChanged = (change: Change): PacketEvent | ReplyEvent => {
    const event = send(change);
    // Pods' replies have none.
    if (event.kind === "reply" || units === 0) return event;
    return { ...event, packet: { ...event.packet, extensions } };
  };
  for (let cutBytes = ETHERNET; cutBytes <= end + 4; cutBytes++)
    events.push(sendChanged({ cutBytes }));
  for (let at = 12; at < end; at++) {
    for (const value of EXTREMES) events.push(sendChanged({ bytes: [[at, value]] }));
  }
  return events;
}

function changesOfPacket(prng: Prng, isIpip: boolean): (change: Change) => PacketEvent {
  const base = basePacket(prng, isIpip);
  return (change) => ({ ...base, packet: { ...base.packet, ...change } });
}

function changesOfError(prng: Prng, isIpip: boolean): (change: Change) => PacketEvent {
  const base = basePacket(prng, isIpip);
  const error = {
    type: prng.pick([3, 11, 12]),
    code: 4,
    rest: 1300,
    quotedBytes: prng.pick([28, 29, 40]),
    quotedOptionBytes: 0,
    quotedMoreFragments: false,
    quotedFragmentOffset: 0,
    checksum: "right",
  } as const;
  const packet = { ...base.packet, error };
  return (change) => ({ ...base, edge: false, packet: { ...packet, ...change } });
}

/** What a balancer translated. */
function changesOfTold(prng: Prng, by: "geneve" | "option"): (change: Change) => PacketEvent {
  const { packet, ...base } = basePacket(prng, true);
  const { outer, ...inner } = packet;
  const pod = prng.pick(PODS_OF_NODE[base.node]);
  if (by === "option" || outer === undefined) {
    return (change) => ({ ...base, packet: { ...inner, pod, option: true, ...change } });
  }
  const geneve = prng.pick(["service", "service", "none"] as const);
  const told = { ...outer, geneve, pod: prng.pick([pod, THE_NODE]) };
  return (change) => ({ ...base, packet: { ...inner, pod, outer: told, ...change } });
}

function basePacket(prng: Prng, isIpip: boolean): PacketEvent {
  const node = prng.pick([0, 1] as const);
  const packet: PacketSpec = {
    client: prng.below(3),
    clientPort: 40_000 + prng.below(3),
    service: prng.below(SERVICE_PORTS.length),
    tcpFlags: prng.pick([2, 16, 17, 24]),
    payloadBytes: 2 + prng.below(3),
    tcpOptions: prng.pick([[], [2, 4, 5, 180]]),
  };
  const outer = {
    from: "node",
    pod: prng.pick(PODS_OF_NODE[node]),
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
    edge: !isIpip && prng.chance(60),
    uplink: 0,
    packet: isIpip ? { ...packet, outer } : packet,
    fabric: { routers: 1, congested: false },
  };
}

function changesOfReply(prng: Prng): (change: Change) => ReplyEvent {
  const base: ReplyEvent = {
    kind: "reply",
    node: prng.pick([0, 1] as const),
    uplink: prng.pick([0, 1] as const),
    edge: prng.chance(50),
    isForged: false,
    error: undefined,
    pick: prng.word(),
    tcpFlags: prng.pick([16, 18, 24]),
    payloadBytes: 2 + prng.below(3),
    ttl: 64,
    tcpOptions: prng.pick([[], [2, 4, 5, 180], [1, 2, 4, 5, 180]]),
    checksum: "right",
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    id: 1,
    bytes: [],
    cutBytes: undefined,
    gsoSize: 0,
  };
  return (change) => ({ ...base, ...change });
}
