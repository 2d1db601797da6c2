// SPDX-License-Identifier: Apache-2.0
// *Fragments*: the first piece of a packet has the ports, and teaches the others.

import type { Ip } from "./family.ts";
import { elapsed, type Input, type Node } from "./node.ts";
import { type L4, parseL4 } from "./packet.ts";
import { pieceKey } from "./tables.ts";

/** For how many windows of limits a first piece teaches. */
const AGE_WINDOWS = 30;

function keyOf({ source, destination, id, protocol }: Ip): string {
  return pieceKey({ source, destination, id, protocol });
}

/** What stands behind a piece's header; undefined: it isn't whole, or nobody knows its ports. */
export function parsePiece(node: Node, input: Input, ip: Ip): L4 | undefined {
  if (!ip.later) return parseL4(input.frame, ip);
  const { limitWindow } = node.config;
  const first = node.tables.pieces.get(keyOf(ip));
  if (first === undefined) return undefined;
  if (elapsed(input.jiffies, first.seen) > AGE_WINDOWS * limitWindow) return undefined;
  const { sourcePort, destinationPort } = first;
  return { at: ip.at + ip.headerLength, headerLength: 0, sourcePort, destinationPort, flags: 0 };
}

/** Writes down a piece's ports if it is a first one. */
export function teach(node: Node, input: Input, ip: Ip, l4: L4): void {
  if (!ip.fragment || ip.later) return;
  const { sourcePort, destinationPort } = l4;
  node.tables.pieces.set(keyOf(ip), { sourcePort, destinationPort, seen: input.jiffies });
}
