// SPDX-License-Identifier: Apache-2.0
// *Told*: packets that another node translated, and whose service it says.

import { tupleOf } from "./affinity.ts";
import { serviceRow } from "./balance.ts";
import { concat, get8, get16, get32 } from "./bytes.ts";
import { deliver } from "./deliver.ts";
import { GENEVE_PORT, geneveHeaders, geneveWords } from "./dispatch.ts";
import { podAt } from "./endpoint.ts";
import type { Address, Ip } from "./family.ts";
import { sendToPod, updateFromPlain } from "./flow.ts";
import { hashOf } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, PROTOCOL } from "./numbers.ts";
import { optionOf, type Said, withoutOption } from "./option.ts";
import { changeHeader, ETHERNET, hasPorts, type L4, parseL4, translate } from "./packet.ts";
import { innerEcn } from "./receive.ts";

const ETHERNET_INSIDE = 0x6558;
const OUR_OPTION = 0x014b8100;
/** UDP and Geneve without any option. */
const BARE_HEADERS = 8 + 8;

/** Undefined: nothing of it is told. */
export function takeTold(node: Node, input: Input, ip: Ip, l4: L4): Outcome | undefined {
  const { nodeAddress, acceptOption } = node.config;
  const isPod = node.tables.endpoints.has(ip.destination);
  const isUdp = ip.protocol === PROTOCOL.udp && l4.destinationPort === GENEVE_PORT;
  // 1.
  if (isUdp && (isPod || ip.destination === nodeAddress)) {
    return ip.fragment ? pass("PASS_NOT_OURS", input.frame) : takeGeneve(node, input, ip);
  }
  // 2.
  const said = acceptOption && isPod ? optionOf(input.frame, ip) : undefined;
  if (said !== undefined && ip.fragment) return pass("PASS_NOT_OURS", input.frame);
  return said === undefined ? undefined : takeOption(node, input, { ip, l4, said });
}

function takeGeneve(node: Node, input: Input, outer: Ip): Outcome {
  const { frame } = input;
  const geneve = outer.at + outer.family.headerBytes + 8;
  const isEthernet =
    outer.headerLength === outer.family.headerBytes &&
    frame.length >= geneve - 8 + geneveHeaders(outer.family) &&
    get8(frame, geneve) >>> 6 === 0 &&
    get16(frame, geneve + 2) === ETHERNET_INSIDE;
  if (!isEthernet) return pass("PASS_NOT_OURS", frame);
  const words = get8(frame, geneve) & 0x3f;
  const optionWords = geneveWords(outer.family);
  if (words === 0) return takeBare(node, input, outer);
  if (words !== optionWords + 1 || get32(frame, geneve + 8) !== (OUR_OPTION | optionWords)) {
    return pass("PASS_NOT_OURS", frame);
  }
  if (node.trust(outer.source) === undefined) return drop("DROP_UNTRUSTED", frame);
  const inner = innerPacket(frame, outer, geneve - 8 + geneveHeaders(outer.family));
  if (inner === undefined) return drop("DROP_INNER_INVALID", frame);
  const { ip } = inner;
  if (!hasPorts(ip.protocol)) return drop("DROP_INNER_PROTOCOL", frame);
  if (ip.fragment) return drop("DROP_FRAGMENT", frame);
  if (inner.l4 === undefined) return drop("DROP_INNER_INVALID", frame);
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", frame);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  const said = {
    address: outer.family.getAddress(frame, geneve + 12),
    port: get16(frame, geneve + 12 + outer.family.addressBytes),
  };
  const sent = frame.slice();
  changeHeader(sent, ip, () => ip.family.setTos(sent, ip.at, (ip.tos & 0xfc) | ecn));
  const bare = concat(sent.subarray(0, ETHERNET), sent.subarray(ip.at));
  return deliverAs(node, input, { frame: bare, pod: ip.destination, said });
}

/** What stands behind an inner Ethernet header. */
function innerPacket(frame: Uint8Array, outer: Ip, ethernet: number) {
  const end = outer.at + outer.totalLength;
  const at = ethernet + ETHERNET;
  if (at > end || get16(frame, at - 2) !== outer.family.etherType) return undefined;
  const ip = outer.family.parse(frame, at, end);
  if (ip === undefined) return undefined;
  return { ip, l4: hasPorts(ip.protocol) && !ip.fragment ? parseL4(frame, ip) : undefined };
}

/** Geneve without any option: later packets of a flow. */
function takeBare(node: Node, input: Input, outer: Ip): Outcome {
  const { frame } = input;
  const isTrusted = node.trust(outer.source) !== undefined;
  const inner = innerPacket(frame, outer, outer.at + outer.family.headerBytes + BARE_HEADERS);
  if (!isTrusted || inner?.l4 === undefined) return pass("PASS_NOT_OURS", frame);
  const { ip, l4 } = inner;
  const flow = node.flow({
    source: ip.destination,
    destination: ip.source,
    sourcePort: l4.destinationPort,
    destinationPort: l4.sourcePort,
    protocol: ip.protocol,
    direction: DIRECTION.reply,
  });
  const endpoint = node.tables.endpoints.get(ip.destination);
  if (flow === undefined || endpoint === undefined) return pass("PASS_NOT_OURS", frame);
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", frame);
  updateFromPlain(node, input, ip, l4, flow);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  const sent = frame.slice();
  changeHeader(sent, ip, () => ip.family.setTos(sent, ip.at, (ip.tos & 0xfc) | ecn));
  const at = outer.at + outer.family.headerBytes + BARE_HEADERS + ETHERNET;
  return sendToPod(concat(sent.subarray(0, ETHERNET), sent.subarray(at)), endpoint);
}

function takeOption(
  node: Node,
  input: Input,
  { ip, l4, said }: { readonly ip: Ip; readonly l4: L4; readonly said: Said },
): Outcome {
  const { frame } = input;
  const asked = { ...ip, destination: said.address };
  const row = node.findService(asked, { ...l4, destinationPort: said.port }, { inner: true });
  if (row === undefined) {
    const isPod = podAt(node, ip.destination) !== undefined;
    return isPod ? drop("DROP_NO_SERVICE", frame) : pass("PASS_NOT_OURS", frame);
  }
  if (!node.admits(serviceRow(node, row), ip.source)) return drop("DROP_SOURCE_RANGE", frame);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  return deliverAs(node, input, { frame: withoutOption(frame, ip), pod: ip.destination, said });
}

/** Goes on with the client's packet: a translated one for a pod, whose service is said. */
function deliverAs(
  node: Node,
  input: Input,
  { frame, pod, said }: { readonly frame: Uint8Array; readonly pod: Address; readonly said: Said },
): Outcome {
  const came = node.family.parse(frame, ETHERNET, frame.length);
  const l4 = came && parseL4(frame, came);
  if (came === undefined || l4 === undefined) throw new Error("a packet was lost on its way");
  translate(frame, came, l4, { destination: said.address, destinationPort: said.port });
  const ip = { ...came, destination: said.address };
  const asked = { ...l4, destinationPort: said.port };
  const hash = hashOf(tupleOf(ip, asked), node.config.hashSeed);
  const arrival = { input, frame, ip, l4: asked, hash, hop: 0, told: true, tos: ip.tos };
  return deliver(node, { ...arrival, outer: undefined }, pod);
}
