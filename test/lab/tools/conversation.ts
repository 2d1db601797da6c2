// SPDX-License-Identifier: Apache-2.0
// Short conversations of the client with a service, each by a client port of its own, and what the
// wires and pods must see of them: docs/packet-path.md in the form of lists.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../../src/lab/plan.ts";
import { formatAddress } from "../../../src/net/address.ts";
import { formatMac } from "../../../src/net/mac.ts";
import { budget } from "./budget.ts";
import { nodesOf } from "./inspect.ts";
import { ECHO_PORT, echo, HTTP_PORT, inUrl } from "./programs.ts";
import type { Frame, IpHeader } from "./wire.ts";

/** The usual size is enough for several segments. */
const BODY_BYTES = budget("bodyBytes", 40_000);
const DATAGRAMS = budget("datagrams", 1);
const DATAGRAM = "d".repeat(1200);
/** From here on the client's ports are used, once each; SNAT keeps ports from 32768 on. */
const FIRST_CLIENT_PORT = 40_000;
const HEADER_BYTES = { ipv4: 20, ipv6: 40 } as const;
/** Of the option that says the service. */
const OPTION_BYTES = { ipv4: 8, ipv6: 24 } as const;
/** Of a whole frame of the lab's MTU. */
const WIRE_BYTES = 1514;
const LANES = 6;
const LIMIT_SECONDS = 60;
const SYN = 0x02;
const SYN_ACK_RST_FIN = 0x17;
/** What headers may be within. */
const OUTER: ReadonlyMap<number, string> = new Map([
  [4, "ipip"],
  [17, "geneve"],
  [41, "ip6ip6"],
]);

/**
 * How what is for a pod of another node gets there: by SNAT, or with the client's address: all of
 * it within IP-in-IP, or only a flow's first packets; within Geneve, or with an option.
 */
export type Way = "snat" | "ipip" | "ipip-first" | "geneve" | "option";

/** Who is asked, and who will answer. */
export interface Asked {
  readonly what: string;
  /** Of either family. */
  readonly address: string;
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** The node that gets the client's packets. */
  readonly entry: string;
  readonly pod: string;
  readonly way: Way;
}

export interface Conversation extends Asked {
  readonly clientPort: number;
}

/** Which packets there were, each kind once. */
interface Seen {
  readonly wires: readonly string[];
  readonly pod: readonly string[];
}

let nextPort = FIRST_CLIENT_PORT;

/** Gives a conversation its client port. */
export function conversation(asked: Asked): Conversation {
  return { ...asked, clientPort: nextPort++ };
}

/** Does something with each of them, some at a time. */
export async function inLanes<T>(all: readonly T[], act: (one: T) => Promise<void>): Promise<void> {
  const queue = all.values();
  const lane = async (): Promise<void> => {
    for (const one of queue) await act(one);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** Has one conversation; throws unless it succeeds. */
export function converseOnce(lab: Lab, one: Conversation): Promise<void> {
  return one.protocol === "tcp" ? upAndDown(lab, one) : ask(lab, one);
}

/** Has conversations, some at a time; each must succeed. */
export function converse(lab: Lab, all: readonly Conversation[]): Promise<void> {
  return inLanes(all, (one) => converseOnce(lab, one));
}

/** A body up and down again, over one connection. */
async function upAndDown(lab: Lab, { address, port, clientPort, what }: Conversation) {
  const file = (name: string): string => join(lab.plan.state, `${name}-${clientPort}`);
  const body = Buffer.alloc(BODY_BYTES, `${what} `);
  writeFileSync(file("up"), body);
  const url = `http://${inUrl(address)}:${port}/body-${clientPort}`;
  const curl = ["-sS", "-f", "-m", String(LIMIT_SECONDS), "--local-port", String(clientPort)];
  const up = [...curl, "-T", file("up"), url];
  const down = [...curl, "-o", file("down"), url];
  await lab.output("client", ["curl", ...up, "--next", ...down]);
  assert.ok(readFileSync(file("down")).equals(body), `${what}: the body came back otherwise`);
}

async function ask(lab: Lab, { address, port, clientPort, what }: Conversation): Promise<void> {
  for (let number = 0; number < DATAGRAMS; number++) {
    const text = `${number} ${what} ${DATAGRAM}`;
    const answer = await echo(lab, address, port, text, `,sourceport=${clientPort}`);
    assert.equal(answer, text, what);
  }
}

/** The lines that nginx of a pod must have written for these conversations, sorted. */
export function expectedLog(lab: Lab, pod: string, all: readonly Conversation[]): string[] {
  return all
    .filter((one) => one.pod === pod && one.protocol === "tcp")
    .flatMap((one) => {
      const ends = endsOf(lab, one);
      const who = isTranslated(lab, one) ? ends.balancer : ends.client;
      return [`${who} ${HTTP_PORT} GET 200`, `${who} ${HTTP_PORT} PUT 201`];
    })
    .sort();
}

/** A pod of the node that is asked sees the client in every mode. */
const isTranslated = (lab: Lab, { way, pod, entry }: Asked): boolean =>
  way === "snat" && placeOf(lab, pod).node !== entry;

/** Of a pod, or of a node that is a backend itself. */
function placeOf({ plan }: Lab, name: string) {
  const host = plan.nodes.find(({ place }) => place.name === name);
  if (host === undefined) return { ...podNamed(plan, name), isNode: false };
  const [address, address6] = [host.address.address, host.address6.address];
  return { node: name, address, address6, isNode: true };
}

/** Addresses of the family in which a conversation is. */
function endsOf(lab: Lab, { address, entry, pod }: Asked) {
  const { plan } = lab;
  const [node, place] = [nodeNamed(plan, entry), placeOf(lab, pod)];
  const home = nodeNamed(plan, place.node);
  const [client, balancer, end, peer] = address.includes(":")
    ? [plan.clientAddress6, node.address6, { address: place.address6 }, home.address6]
    : [plan.clientAddress, node.address, place, home.address];
  return {
    client: formatAddress(client.address),
    balancer: formatAddress(balancer.address),
    pod: formatAddress(end.address),
    /** The pod's node. */
    peer: formatAddress(peer.address),
  };
}

function expected(lab: Lab, one: Conversation): Seen {
  const { wires, pod } = expectedOf(lab, one);
  // What reaches a node's own sockets is on its uplink, and has no other device.
  return { wires, pod: placeOf(lab, one.pod).isNode ? [] : pod };
}

function expectedOf(lab: Lab, one: Conversation): Seen {
  const { address, port, clientPort, entry, protocol, way } = one;
  const { node } = placeOf(lab, one.pod);
  const ends = endsOf(lab, one);
  const pod = `${inUrl(ends.pod)}:${protocol === "tcp" ? HTTP_PORT : ECHO_PORT}`;
  const client = `${inUrl(ends.client)}:${clientPort}`;
  const service = `${inUrl(address)}:${port}`;
  const answer = `${service} > ${client}`;
  /** TCP's first packet and all others of a way are told apart. */
  const first = (text: string): string => (protocol === "tcp" ? `${text} SYN` : text);
  const both = (text: string): string[] => [first(text), text];
  const direct = [...both(`${client} > ${pod}`), `${pod} > ${client}`];
  if (node === entry) return { wires: [`${node}: ${answer}`], pod: direct };
  if (way === "snat") {
    const masked = `${inUrl(ends.balancer)}:${clientPort}`;
    const back = `${pod} > ${masked}`;
    return {
      wires: [...both(`${entry}: ${masked} > ${pod}`), `${entry}: ${answer}`, `${node}: ${back}`],
      pod: [...both(`${masked} > ${pod}`), back],
    };
  }
  const family = address.includes(":") ? "ipv6" : "ipv4";
  const kind = family === "ipv6" ? "ip6ip6" : "ipip";
  const within = `${ends.balancer} > ${ends.pod} ${kind} 64 | ${client} > ${service}`;
  const toPod = `${client} > ${pod}`;
  const requests: Readonly<Record<Exclude<Way, "snat">, readonly string[]>> = {
    ipip: both(within),
    "ipip-first": [first(within), protocol === "tcp" ? toPod : within],
    geneve: both(`${ends.balancer} > ${ends.peer} geneve 64 | ${toPod}`),
    option: both(`${toPod} option ${OPTION_BYTES[family]}`),
  };
  const sent = requests[way].map((text) => `${entry}: ${text}`);
  return { wires: [...sent, `${node}: ${answer}`], pod: direct };
}

/** "SOURCE > TARGET", behind it options' bytes; in front the outer header's, its kind and TTL. */
function describe({ ip, ports, tcpFlags = 0 }: Frame): string {
  const [source, target] = ports;
  const inner = (header: IpHeader): string => {
    const options = header.headerBytes - HEADER_BYTES[header.family];
    const ends = `${inUrl(header.source)}:${source} > ${inUrl(header.target)}:${target}`;
    return options === 0 ? ends : `${ends} option ${options}`;
  };
  const outer = (header: IpHeader): string =>
    `${header.source} > ${header.target} ${OUTER.get(header.protocol)} ${header.ttl}`;
  const headers = ip.map((header, index) =>
    index === ip.length - 1 ? inner(header) : outer(header),
  );
  return headers.join(" | ") + ((tcpFlags & SYN_ACK_RST_FIN) === SYN ? " SYN" : "");
}

function kinds(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort();
}

/** What passed the wires and reached pods, as tshark saw it. */
export class Judge {
  readonly #lab: Lab;
  /** By the MACs of their uplinks. */
  readonly #nodes: ReadonlyMap<string, string>;

  constructor(lab: Lab) {
    this.#lab = lab;
    this.#nodes = new Map(
      nodesOf(lab).map((node) => [formatMac(nodeNamed(lab.plan, node).wire[0].mac), node]),
    );
  }

  /**
   * Fails unless wires and pods saw exactly what they must of these conversations, and of others
   * nothing but what clients are told.
   */
  assertRight(all: readonly Conversation[], wires: readonly Frame[], pods: readonly Frame[]): void {
    for (const one of all) this.assertOne(one, wires, pods);
    this.assertNoOthers(all, wires, pods);
  }

  assertOne(one: Conversation, wires: readonly Frame[], pods: readonly Frame[]): void {
    const isIts = ({ ports }: Frame): boolean => ports.includes(one.clientPort);
    const sent = this.#sent(wires).filter(isIts);
    const got = pods.filter(isIts);
    for (const frame of [...sent, ...got]) assertWhole(frame);
    const seen = {
      wires: kinds(sent.map((frame) => this.#describeSent(frame))),
      pod: kinds(got.map(describe)),
    };
    const wanted = expected(this.#lab, one);
    assert.deepEqual(seen, { wires: kinds(wanted.wires), pod: kinds(wanted.pod) }, one.what);
  }

  assertNoOthers(
    all: readonly Conversation[],
    wires: readonly Frame[],
    pods: readonly Frame[],
  ): void {
    const known = new Set(all.map(({ clientPort }) => clientPort));
    const { clientAddress, clientAddress6 } = this.#lab.plan;
    const clients = [clientAddress, clientAddress6].map(({ address }) => formatAddress(address));
    const others = [...this.#sent(wires), ...pods]
      .filter(({ ports }) => !ports.some((port) => known.has(port)))
      .filter(({ ip }) => !clients.includes(ip[0]?.target ?? ""));
    assert.deepEqual(kinds(others.map(describe)), [], "packets of no conversation");
  }

  #sent(wires: readonly Frame[]): Frame[] {
    return wires.filter(({ sender }) => this.#nodes.has(sender));
  }

  /** "node1: SOURCE > TARGET". */
  #describeSent(frame: Frame): string {
    return `${this.#nodes.get(frame.sender)}: ${describe(frame)}`;
  }
}

function assertWhole(frame: Frame): void {
  const text = JSON.stringify(frame);
  assert.deepEqual(frame.wrong, [], `wrong checksums in ${text}`);
  assert.ok(frame.bytes <= WIRE_BYTES, `too large for the wire: ${text}`);
  for (const { family, headerBytes } of frame.ip.slice(0, -1)) {
    assert.equal(headerBytes, HEADER_BYTES[family], `options in ${text}`);
  }
}
