// SPDX-License-Identifier: Apache-2.0
// Pods of this node, and *the node as a backend*, which is an endpoint without a device.

import type { Address } from "./family.ts";
import type { Node, Outcome } from "./node.ts";
import { writeMacs } from "./packet.ts";
import type { Endpoint } from "./tables.ts";

const NO_DEVICE = 0;

/** Whether the node itself is a backend by this address. */
export function isItself(node: Node, address: Address): boolean {
  return node.tables.endpoints.get(address)?.ifindex === NO_DEVICE;
}

/** The pod of this node with this address; undefined: it is none, or the node itself. */
export function podAt(node: Node, address: Address): Endpoint | undefined {
  return isItself(node, address) ? undefined : node.tables.endpoints.get(address);
}

/** Into the pod; what is for the node itself keeps its MACs and goes on. */
export function give(
  verdict: Outcome["verdict"],
  frame: Uint8Array,
  { ifindex, podMac, nodeMac }: Endpoint,
): Outcome {
  if (ifindex === NO_DEVICE) return { verdict, way: { to: "kernel" }, frame };
  writeMacs(frame, podMac, nodeMac);
  return { verdict, way: { to: "pod", ifindex }, frame };
}
