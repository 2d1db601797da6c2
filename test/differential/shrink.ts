// SPDX-License-Identifier: Apache-2.0
// From a sequence that fails to a short one that fails too.

import type { Event, PacketEvent, PacketSpec } from "./event.ts";

/** Plays a sequence; the index of the event at which it fails. */
export type FailsAt = (events: readonly Event[]) => number | undefined;

export interface Shrunk {
  /** Indexes into the first sequence of the events that are needed. */
  readonly kept: readonly number[];
  /** These events with all that isn't needed left out of them too. */
  readonly events: readonly Event[];
}

const MOST_PLAYS = 4000;

/** Leaves out events, then parts of events, as long as the rest still fails. */
export function shrink(events: readonly Event[], failsAt: FailsAt): Shrunk {
  let plays = 0;
  const fails = (tried: readonly Event[]): number | undefined => {
    plays += 1;
    return plays > MOST_PLAYS ? undefined : failsAt(tried);
  };
  const kept = dropEvents(events, fails);
  const simple = simplify(
    kept.flatMap((index) => events[index] ?? []),
    fails,
  );
  return { kept, events: simple };
}

function dropEvents(events: readonly Event[], fails: FailsAt): number[] {
  const at = (kept: readonly number[]) => kept.flatMap((index) => events[index] ?? []);
  let kept = [...events.keys()];
  kept = kept.slice(0, (fails(events) ?? events.length - 1) + 1);
  for (let size = Math.ceil(kept.length / 2); size >= 1; ) {
    let dropped = false;
    for (let start = 0; start < kept.length; ) {
      const fewer = [...kept.slice(0, start), ...kept.slice(start + size)];
      const failed = fewer.length === 0 ? undefined : fails(at(fewer));
      if (failed === undefined) {
        start += size;
        continue;
      }
      kept = fewer.slice(0, failed + 1);
      dropped = true;
    }
    if (size > 1) size = Math.ceil(size / 2);
    else if (!dropped) break;
  }
  return kept;
}

function simplify(events: readonly Event[], fails: FailsAt): Event[] {
  const simple = [...events];
  for (const index of simple.keys()) {
    for (let again = true; again; ) {
      again = false;
      const event = simple[index];
      if (event === undefined) break;
      for (const simpler of simplerEvents(event)) {
        if (fails(simple.with(index, simpler)) === undefined) continue;
        simple[index] = simpler;
        again = true;
        break;
      }
    }
  }
  return simple;
}

const CALM = { routers: 0, congested: false } as const;

function* simplerEvents(event: Event): Generator<Event> {
  if (event.kind === "packet") yield* simplerPackets(event);
  if (event.kind === "reply") {
    if (event.payloadBytes > 0 && event.gsoSize === 0) yield { ...event, payloadBytes: 0 };
    if (event.tcpOptions.length > 0) yield { ...event, tcpOptions: [] };
    if (event.bytes.length > 0) yield { ...event, bytes: event.bytes.slice(1) };
    if (event.cutBytes !== undefined) yield { ...event, cutBytes: undefined };
  }
  if (event.kind === "service") {
    for (const index of event.former.keys()) {
      yield { ...event, former: event.former.toSpliced(index, 1) };
    }
    if (event.broken !== undefined) yield { ...event, broken: undefined };
    if (event.encapsulateFirst) yield { ...event, encapsulateFirst: false };
    if (event.ring.length > 1) yield { ...event, ring: event.ring.slice(0, 1), former: [] };
    for (const index of event.targets.keys()) {
      yield { ...event, targets: event.targets.toSpliced(index, 1) };
    }
  }
}

function* simplerPackets(event: PacketEvent): Generator<Event> {
  const { packet, fabric } = event;
  if (event.edge) yield { ...event, edge: false };
  if (event.uplink !== 0) yield { ...event, uplink: 0 };
  if (fabric.routers !== 0 || fabric.congested) yield { ...event, fabric: CALM };
  for (const name of Object.keys(packet)) {
    if (["client", "clientPort", "service"].includes(name)) continue;
    const rest: Partial<PacketSpec> = { ...packet };
    delete rest[name as keyof PacketSpec];
    const { client, clientPort, service } = packet;
    yield { ...event, packet: { ...rest, client, clientPort, service } };
  }
  if ((packet.payloadBytes ?? 0) > 1) yield { ...event, packet: { ...packet, payloadBytes: 1 } };
}
