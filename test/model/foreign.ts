// SPDX-License-Identifier: Apache-2.0
// *IPIP of foreign balancers*: they address the node, or the service, and leave it the choice.

import { chooseBackend, slotFor, tupleOf } from "./affinity.ts";
import { countSent, segmentSize, serviceRow, wayOf } from "./balance.ts";
import { passageTo, sendBy } from "./by-node.ts";
import { concat } from "./bytes.ts";
import { deliver } from "./deliver.ts";
import { isItself } from "./endpoint.ts";
import type { Address, Ip } from "./family.ts";
import { hashOf } from "./hash.ts";
import { drop, type Input, type Node, type Outcome } from "./node.ts";
import { BACKEND, KIND, NODE_ADDRESS } from "./numbers.ts";
import { changeHeader, ETHERNET, hasPorts, type L4, parseL4, writeAddress } from "./packet.ts";
import { innerEcn } from "./receive.ts";

/** What a foreign balancer may address in place of a pod. */
export function isForeignTarget(node: Node, address: Address): boolean {
  return (
    address === node.config.nodeAddress ||
    node.frontend(address, 0, 0, KIND.node)?.service === NODE_ADDRESS.own ||
    node.isServiceAddress(address)
  );
}

/** `receive` goes on with what is led to a pod of this node. */
export function takeForeign(
  node: Node,
  input: Input,
  outer: Ip,
  receive: (input: Input, outer: Ip) => Outcome,
): Outcome {
  const { frame } = input;
  if (outer.fragment) return drop("DROP_OUTER_FRAGMENT", frame);
  const ip = node.family.parse(frame, outer.at + outer.headerLength, outer.at + outer.totalLength);
  if (ip === undefined) return drop("DROP_INNER_INVALID", frame);
  if (!hasPorts(ip.protocol)) return drop("DROP_INNER_PROTOCOL", frame);
  if (ip.fragment) return drop("DROP_FRAGMENT", frame);
  const l4 = parseL4(frame, ip);
  if (l4 === undefined) return drop("DROP_INNER_INVALID", frame);
  const row = node.findService(ip, l4, { inner: true });
  if (row === undefined) return drop("DROP_NO_SERVICE", frame);
  const service = serviceRow(node, row);
  if (!node.admits(service, ip.source)) return drop("DROP_SOURCE_RANGE", frame);
  if (service.backendCount === 0) return drop("DROP_NO_BACKEND", frame);
  const hash = hashOf(tupleOf(ip, l4), node.config.hashSeed);
  const slot = slotFor(node, service, ip, l4, hash);
  const backend = chooseBackend(node, service, { input, ip, l4 }, slot);
  if (backend === undefined) return drop("DROP_TABLE", frame);
  const counted = { input, ip, l4, hash, service, slot, backend };
  if ((backend.flags & BACKEND.local) === 0) {
    const sent = sendOn(node, input, outer, { ip, l4, pod: backend.address });
    if (sent.verdict === "SENT_ENCAPSULATED") countSent(node, counted);
    return sent;
  }
  if (!node.tables.endpoints.has(backend.address)) return drop("DROP_ENDPOINT_GONE", frame);
  countSent(node, counted);
  if (isItself(node, backend.address)) return stripped(node, outer, counted);
  const led = frame.slice();
  changeHeader(led, outer, () => writeAddress(led, outer, "destination", backend.address));
  return receive({ ...input, frame: led }, { ...outer, destination: backend.address });
}

/** 3: the node itself is chosen, whom the outer header says nothing more. */
function stripped(
  node: Node,
  outer: Ip,
  { input, ip, hash, backend }: Parameters<typeof countSent>[1],
): Outcome {
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", input.frame);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", input.frame);
  const tos = (ip.tos & 0xfc) | ecn;
  const whole = input.frame.slice();
  changeHeader(whole, ip, () => ip.family.setTos(whole, ip.at, tos));
  const frame = concat(whole.subarray(0, ETHERNET), whole.subarray(ip.at));
  const inner = node.family.parse(frame, ETHERNET, frame.length);
  const ports = inner && parseL4(frame, inner);
  if (inner === undefined || ports === undefined) throw new Error("a packet was lost on its way");
  const arrival = { input, frame, outer: undefined, ip: inner, l4: ports, hash, hop: 0, tos };
  return deliver(node, { ...arrival, told: true }, backend.address);
}

function sendOn(
  node: Node,
  input: Input,
  outer: Ip,
  { ip, l4, pod }: { readonly ip: Ip; readonly l4: L4; readonly pod: Address },
): Outcome {
  const source = node.config.nodeAddress;
  const bytes = segmentSize(ip, l4, input.gsoSize);
  const passage = passageTo(node, input, pod, bytes);
  if (passage === undefined) return drop("DROP_NO_ROUTE", input.frame);
  const { route, extra } = passage;
  if (bytes + extra > route.mtu) return drop("DROP_TOO_BIG", input.frame);
  const header = { source, destination: pod, ttl: 64, spread: 0 };
  const frame = sendBy(node, { input, frame: input.frame, outer, ip }, passage, header);
  if (frame === undefined) return drop("DROP_REWRITE", input.frame);
  return { verdict: "SENT_ENCAPSULATED", way: wayOf(route), frame };
}
