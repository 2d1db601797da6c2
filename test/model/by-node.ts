// SPDX-License-Identifier: Apache-2.0
// *By its node*: IPIP to a pod elsewhere that goes by the address of the pod's node.

import { concat, get32 } from "./bytes.ts";
import type { Address, Ip } from "./family.ts";
import { drop, type Input, type Node, type Outcome, pass, type Route } from "./node.ts";
import { DISPATCH } from "./numbers.ts";
import { changeHeader, ETHERNET, encapsulate, type Outer, writeMacs } from "./packet.ts";
import { redirect } from "./pass.ts";
import { innerEcn } from "./receive.ts";

const TTL = 64;

/** A way to a pod of another node. */
export interface Passage {
  readonly route: Route;
  /** The pod's node, if it goes there; else to the pod itself. */
  readonly by: Address | undefined;
  /** What outer headers add to a packet that has none. */
  readonly extra: number;
}

/** The node by which a pod elsewhere is reached; undefined: by its own address. */
export function peerOf({ config, tables }: Node, pod: Address): Address | undefined {
  return config.dispatch === DISPATCH.geneve ? tables.peers.get(pod) : undefined;
}

/** What the FIB says of a packet of `bytes`, outer headers not counted. */
export function passageTo(
  node: Node,
  input: Input,
  pod: Address,
  bytes: number,
): Passage | undefined {
  const { family, config } = node;
  const by = peerOf(node, pod);
  const extra = family.headerBytes * (by === undefined ? 1 : 2);
  const route = node.route(input, config.nodeAddress, by ?? pod, bytes + extra);
  return route && { route, by, extra };
}

/** What goes there: `frame` as it is now, with an outer header or without one. */
interface Carried {
  readonly input: Input;
  readonly frame: Uint8Array;
  readonly outer: Ip | undefined;
  readonly ip: Ip;
}

/** The packet with its outer header as it leaves; undefined: the kernel has no room for it. */
export function sendBy(
  node: Node,
  { input, frame: came, outer, ip }: Carried,
  { route, by }: Passage,
  header: Outer,
): Uint8Array | undefined {
  const grows = outer === undefined || by !== undefined;
  if (grows && node.around.refusesRoom(input)) return undefined;
  let frame: Uint8Array = came.slice();
  if (outer === undefined) frame = encapsulate(frame, ip, header);
  else redirect(frame, outer, header);
  if (by !== undefined) frame = encapsulateAgain(node, frame, by);
  if (route.macs !== undefined) writeMacs(frame, route.macs.destination, route.macs.source);
  return frame;
}

/** A second outer header in front of the first. */
export function encapsulateAgain(node: Node, frame: Uint8Array, by: Address): Uint8Array {
  const first = node.family.parse(frame, ETHERNET, frame.length);
  if (first === undefined) throw new TypeError("there is no outer header");
  const spread = get32(frame, ETHERNET) & 0xfffff;
  const ends = { source: node.config.nodeAddress, destination: by };
  return encapsulate(frame, first, { ...ends, ttl: TTL, spread });
}

/** What another node sent to a pod by this node's address; `receive` goes on with it. */
export function takeByNode(
  node: Node,
  input: Input,
  outer: Ip,
  receive: (input: Input, outer: Ip) => Outcome,
): Outcome {
  const { frame } = input;
  const at = outer.at + outer.headerLength;
  const ip = node.family.parse(frame, at, outer.at + outer.totalLength);
  const isOurs = ip?.protocol === node.family.protocols.outer;
  if (outer.fragment || ip === undefined || !isOurs || !node.tables.endpoints.has(ip.destination))
    return pass("PASS_NOT_OURS", frame);
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", frame);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  const tos = (ip.tos & 0xfc) | ecn;
  const marked = frame.slice();
  changeHeader(marked, ip, () => ip.family.setTos(marked, ip.at, tos));
  const left = concat(marked.subarray(0, ETHERNET), marked.subarray(at));
  const taken = (input.taken ?? 0) + frame.length - left.length;
  return receive({ ...input, frame: left, taken }, { ...ip, at: ETHERNET, tos });
}
