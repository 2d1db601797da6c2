// SPDX-License-Identifier: Apache-2.0
// What stands in front of, and behind, the headers of random packets.

import {
  type ErrorSpec,
  type NodeIndex,
  type OuterSpec,
  type PacketSpec,
  THE_NODE,
} from "./event.ts";
import { PODS, PODS_OF_NODE } from "./places.ts";
import type { Prng } from "./prng.ts";

const EXTREMES = [0, 1, 2, 4, 15, 16, 0x40, 0x45, 0x46, 0x4f, 0x7f, 0x80, 0xfe, 0xff] as const;
/** Around the limits of hops. */
const OUTER_TTLS = [
  0, 1, 60, 64, 65, 94, 96, 97, 126, 128, 129, 158, 160, 161, 190, 192, 193, 222, 224, 225, 255,
] as const;

/** Geneve, or an option: what is inside is translated already. */
export function told(prng: Prng, node: NodeIndex, outer: boolean): Partial<PacketSpec> {
  if (!outer && prng.chance(92)) return {};
  if (outer && prng.chance(65)) return {};
  const pod = prng.pick(PODS_OF_NODE[node]);
  if (!outer) return { option: true, ...(prng.chance(80) ? { pod } : {}) };
  const from = outerSpec(prng, node);
  const geneve = prng.weighted<NonNullable<OuterSpec["geneve"]>>(
    [12, "service"],
    [4, "none"],
    [1, "other"],
  );
  const to = prng.weighted([5, THE_NODE], [5, pod], [1, from.pod]);
  return { pod, outer: { ...from, geneve, pod: to } };
}

/** About as much is quoted as has to be, or all. */
export function errorSpec(prng: Prng): ErrorSpec {
  const { moreFragments = false, fragmentOffset = 0 } = fragment(prng, 5);
  const quotedOptionBytes = prng.weighted([12, 0], [1, 4], [1, 40]);
  const l4Bytes = prng.weighted(
    [6, 8],
    [1, 7],
    [1, 9],
    [1, 17],
    [2, 18],
    [4, 20],
    [4, 528],
    [1, 0],
  );
  return {
    type: prng.weighted([12, 3], [2, 11], [2, 12], [1, 5], [1, 8], [1, 0]),
    code: prng.weighted([8, 4], [1, 0], [1, 3]),
    rest: prng.pick([1300, 0, 68, 0xffffffff]),
    quotedBytes: prng.chance(3) ? prng.below(20) : 20 + quotedOptionBytes + l4Bytes,
    quotedOptionBytes,
    quotedMoreFragments: moreFragments,
    quotedFragmentOffset: fragmentOffset,
    checksum: prng.weighted([8, "right"], [1, "wrong"]),
  };
}

export function fragment(prng: Prng, percent: number): Partial<PacketSpec> {
  if (!prng.chance(percent)) return {};
  return prng.pick([
    { moreFragments: true },
    { fragmentOffset: 8 },
    { moreFragments: true, fragmentOffset: 1480 },
    { fragmentOffset: 65_528 },
  ]);
}

export function tcpOptions(prng: Prng): number[] {
  const mss = (value: number): number[] => [2, 4, value >>> 8, value & 255];
  return prng.pick([
    mss(1460),
    mss(1400),
    mss(1401),
    mss(536),
    mss(65_535),
    [1, ...mss(1460)],
    [1, 1, ...mss(1460), 1],
    [4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7, ...mss(1460)],
    [0, ...mss(1460)],
    [5, 0, ...mss(1460)],
    [5, 40, ...mss(1460)],
    [2, 3, 255],
    [2, 4, 255],
    [3],
  ]);
}

export function overwrites(prng: Prng, below: number): [number, number][] {
  return Array.from({ length: 1 + prng.below(2) }, () => [
    12 + prng.below(below),
    prng.chance(70) ? prng.pick(EXTREMES) : prng.below(256),
  ]);
}

export function outerSpec(prng: Prng, node: NodeIndex): OuterSpec {
  const { moreFragments = false, fragmentOffset = 0 } = fragment(prng, 2);
  const sender = (): OuterSpec["from"] =>
    prng.weighted<OuterSpec["from"]>(
      [14, "node"],
      [1, "other node"],
      [3, "load balancer"],
      [1, "prefix"],
      [1, "stranger"],
    );
  const from = sender();
  return {
    from,
    pod: prng.weighted(
      [90, prng.pick(PODS_OF_NODE[node])],
      [6, prng.below(PODS.length)],
      [4, THE_NODE],
    ),
    ttl: prng.pick(OUTER_TTLS),
    ecn: prng.weighted([5, 0], [1, 1], [1, 2], [2, 3]),
    optionBytes: prng.weighted([30, 0], [1, 4], [1, 40]),
    moreFragments,
    fragmentOffset,
    ...(prng.chance(15)
      ? { byNode: { from: sender(), ecn: prng.weighted([5, 0], [1, 1], [2, 3]) } }
      : {}),
    lengthError: prng.weighted([40, 0], [1, 1], [1, -1], [1, -20], [1, -40], [1, 8]),
  };
}
