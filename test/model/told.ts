// SPDX-License-Identifier: Apache-2.0
// *Told*: packets that another node translated, and whose service it says.

import { tupleOf } from "./affinity.ts";
import { serviceRow } from "./balance.ts";
import { concat, get8, get16, get32, set8 } from "./bytes.ts";
import { deliver } from "./deliver.ts";
import {
  GENEVE_BYTES,
  GENEVE_HEADERS,
  GENEVE_PORT,
  optionOf,
  type Said,
  withoutOption,
} from "./dispatch.ts";
import { sendToPod, updateFromClient } from "./flow.ts";
import { flowHash } from "./hash.ts";
import { drop, type Input, type Node, type Outcome, pass } from "./node.ts";
import { DIRECTION, PROTOCOL } from "./numbers.ts";
import {
  changeIpv4,
  ETHERNET,
  hasPorts,
  type Ipv4,
  type L4,
  parseIpv4,
  parseL4,
  translate,
} from "./packet.ts";
import { innerEcn } from "./receive.ts";

const ETHERTYPE_IPV4 = 0x0800;
const ETHERNET_INSIDE = 0x6558;
const OUR_OPTION = 0x014b8102;
const OPTION_WORDS = 3;
/** Without the option. */
const BARE_HEADERS = GENEVE_HEADERS - 4 * OPTION_WORDS;
const BARE_BYTES = GENEVE_BYTES - 4 * OPTION_WORDS;

/** Undefined: nothing of it is told. */
export function takeTold(node: Node, input: Input, ip: Ipv4, l4: L4): Outcome | undefined {
  const { nodeAddress, acceptOption } = node.config;
  const isPod = node.tables.endpoints.has(ip.destination);
  const isUdp = ip.protocol === PROTOCOL.udp && l4.destinationPort === GENEVE_PORT;
  // 1.
  if (isUdp && (isPod || ip.destination === nodeAddress)) return takeGeneve(node, input, ip);
  // 2.
  const said = acceptOption && isPod ? optionOf(input.frame, ip) : undefined;
  return said === undefined ? undefined : takeOption(node, input, { ip, l4, said });
}

function takeGeneve(node: Node, input: Input, outer: Ipv4): Outcome {
  const { frame } = input;
  const geneve = outer.at + 20 + 8;
  const isEthernet =
    outer.headerLength === 20 &&
    frame.length >= outer.at + 20 + GENEVE_HEADERS &&
    get8(frame, geneve) >>> 6 === 0 &&
    get16(frame, geneve + 2) === ETHERNET_INSIDE;
  if (!isEthernet) return pass("PASS_NOT_OURS", frame);
  const words = get8(frame, geneve) & 0x3f;
  if (words === 0) return takeBare(node, input, outer);
  if (words !== OPTION_WORDS || get32(frame, geneve + 8) !== OUR_OPTION) {
    return pass("PASS_NOT_OURS", frame);
  }
  if (node.trust(outer.source) === undefined) return drop("DROP_UNTRUSTED", frame);
  const inner = innerPacket(frame, outer, outer.at + 20 + GENEVE_HEADERS);
  if (inner === undefined) return drop("DROP_INNER_INVALID", frame);
  const { ip } = inner;
  if (!hasPorts(ip.protocol)) return drop("DROP_INNER_PROTOCOL", frame);
  if (ip.fragment) return drop("DROP_FRAGMENT", frame);
  if (inner.l4 === undefined) return drop("DROP_INNER_INVALID", frame);
  const ecn = innerEcn(outer.tos & 3, ip.tos & 3);
  if (ecn === undefined) return drop("DROP_ECN", frame);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  const said = { address: get32(frame, geneve + 12), port: get16(frame, geneve + 16) };
  const sent = frame.slice();
  changeIpv4(sent, ip, () => set8(sent, ip.at + 1, (ip.tos & 0xfc) | ecn));
  const bare = concat(sent.subarray(0, ETHERNET), sent.subarray(ip.at));
  return deliverAs(node, input, { frame: bare, pod: ip.destination, said });
}

/** What stands behind an inner Ethernet header. */
function innerPacket(frame: Uint8Array, outer: Ipv4, ethernet: number) {
  const end = outer.at + outer.totalLength;
  const at = ethernet + ETHERNET;
  if (at > end || get16(frame, at - 2) !== ETHERTYPE_IPV4) return undefined;
  const ip = parseIpv4(frame, at, end);
  if (ip === undefined) return undefined;
  return { ip, l4: hasPorts(ip.protocol) && !ip.fragment ? parseL4(frame, ip) : undefined };
}

/** Geneve without any option: later packets of a flow. */
function takeBare(node: Node, input: Input, outer: Ipv4): Outcome {
  const { frame } = input;
  const isTrusted = node.trust(outer.source) !== undefined;
  const inner = innerPacket(frame, outer, outer.at + 20 + BARE_HEADERS);
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
  updateFromClient(node, input, ip, l4, flow);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  const sent = frame.slice();
  changeIpv4(sent, ip, () => set8(sent, ip.at + 1, (ip.tos & 0xfc) | ecn));
  const at = outer.at + BARE_BYTES;
  return sendToPod(concat(sent.subarray(0, ETHERNET), sent.subarray(at)), endpoint);
}

function takeOption(
  node: Node,
  input: Input,
  { ip, l4, said }: { readonly ip: Ipv4; readonly l4: L4; readonly said: Said },
): Outcome {
  const { frame } = input;
  const asked = { ...ip, destination: said.address };
  const row = node.findService(asked, { ...l4, destinationPort: said.port }, { inner: true });
  if (row === undefined) return drop("DROP_NO_SERVICE", frame);
  if (!node.admits(serviceRow(node, row), ip.source)) return drop("DROP_SOURCE_RANGE", frame);
  if (node.around.refusesRoom(input)) return drop("DROP_REWRITE", frame);
  return deliverAs(node, input, { frame: withoutOption(frame, ip), pod: ip.destination, said });
}

/** Goes on with the client's packet: a translated one for a pod, whose service is said. */
function deliverAs(
  node: Node,
  input: Input,
  { frame, pod, said }: { readonly frame: Uint8Array; readonly pod: number; readonly said: Said },
): Outcome {
  const came = parseIpv4(frame, ETHERNET, frame.length);
  const l4 = came && parseL4(frame, came);
  if (came === undefined || l4 === undefined) throw new Error("a packet was lost on its way");
  translate(frame, came, l4, { destination: said.address, destinationPort: said.port });
  const ip = { ...came, destination: said.address };
  const asked = { ...l4, destinationPort: said.port };
  const hash = flowHash(tupleOf(ip, asked), node.config.hashSeed);
  const arrival = { input, frame, ip, l4: asked, hash, hop: 0, told: true, tos: ip.tos };
  return deliver(node, { ...arrival, outer: undefined }, pod);
}
