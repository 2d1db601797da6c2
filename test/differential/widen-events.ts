// SPDX-License-Identifier: Apache-2.0
// What sequences have for IPv6 besides: extension headers, and what is cut or overwritten further
// behind, where its headers end.

import type { Event, Extension, PacketSpec } from "./event.ts";
import { Prng } from "./prng.ts";

/** Bytes by which a header of IPv6 is longer. */
const LONGER = 20;

/** The same for every play of a seed; sequences of IPv4 draw nothing for it. */
export function widenSequence(events: readonly Event[], seed: number): Event[] {
  const prng = new Prng(seed);
  return events.map((event) => {
    if (event.kind === "reply") return { ...event, ...moved(prng, event, 1) };
    if (event.kind !== "packet") return event;
    const { packet } = event;
    const headers = 1 + (packet.outer === undefined ? 0 : 1) + (packet.error === undefined ? 0 : 1);
    const more = prng.chance(12) ? { extensions: extensions(prng) } : {};
    return { ...event, packet: { ...packet, ...moved(prng, packet, headers), ...more } };
  });
}

type Changes = Pick<PacketSpec, "bytes" | "cutBytes">;

function moved(prng: Prng, { bytes = [], cutBytes }: Changes, headers: number) {
  const by = (): number => LONGER * prng.below(headers + 1);
  return {
    bytes: bytes.map(([at, value]): readonly [number, number] => [at + by(), value]),
    cutBytes: cutBytes === undefined ? undefined : cutBytes + by(),
  };
}

function extensions(prng: Prng): Extension[] {
  const count = prng.weighted([6, 1], [3, 2], [2, 3], [2, 4], [2, 5]);
  return Array.from({ length: count }, () => extension(prng));
}

function extension(prng: Prng): Extension {
  const kind = prng.weighted<Extension["kind"]>(
    [4, "hopByHop"],
    [4, "destinationOptions"],
    [3, "routing"],
    [1, "waypoint"],
    [3, "atomic"],
  );
  return { kind, units: prng.weighted([8, 1], [2, 2], [1, 10], [1, 13], [1, 26], [1, 27]) };
}
