// SPDX-License-Identifier: Apache-2.0
// Short conversations of the client with a service, each by a client port of its own, and what the
// wires and pods must see of them: docs/packet-path.md in the form of lists.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../../src/lab/plan.ts";
import { formatIpv4 } from "../../../src/net/address.ts";
import { formatMac } from "../../../src/net/mac.ts";
import { nodesOf } from "./inspect.ts";
import { ECHO_PORT, echo, HTTP_PORT } from "./programs.ts";
import type { Frame } from "./wire.ts";

const CLIENT = "192.0.2.10";
/** Enough for several segments. */
const BODY_BYTES = 40_000;
const DATAGRAM = "d".repeat(1200);
/** From here on the client's ports are used, once each; SNAT keeps ports from 32768 on. */
const FIRST_CLIENT_PORT = 40_000;
const HEADER_BYTES = 20;
const LANES = 6;

/** Who is asked, and who will answer. */
export interface Asked {
  readonly what: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** The node that gets the client's packets. */
  readonly entry: string;
  readonly pod: string;
  readonly snat: boolean;
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

/** Has conversations, some at a time; each must succeed. */
export async function converse(lab: Lab, all: readonly Conversation[]): Promise<void> {
  const queue = all.values();
  const lane = async (): Promise<void> => {
    for (const one of queue) await (one.protocol === "tcp" ? upAndDown(lab, one) : ask(lab, one));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** A body up and down again, over one connection. */
async function upAndDown(lab: Lab, { address, port, clientPort, what }: Conversation) {
  const file = (name: string): string => join(lab.plan.state, `${name}-${clientPort}`);
  const body = Buffer.alloc(BODY_BYTES, `${what} `);
  writeFileSync(file("up"), body);
  const url = `http://${address}:${port}/body-${clientPort}`;
  const curl = ["-sS", "-f", "-m", "15", "--local-port", String(clientPort)];
  const up = [...curl, "-T", file("up"), url];
  const down = [...curl, "-o", file("down"), url];
  await lab.output("client", ["curl", ...up, "--next", ...down]);
  assert.ok(readFileSync(file("down")).equals(body), `${what}: the body came back otherwise`);
}

async function ask(lab: Lab, { address, port, clientPort, what }: Conversation): Promise<void> {
  const text = `${what} ${DATAGRAM}`;
  const answer = await echo(lab, address, port, text, `,sourceport=${clientPort}`);
  assert.equal(answer, text, what);
}

/** The lines that nginx of a pod must have written for these conversations, sorted. */
export function expectedLog(lab: Lab, pod: string, all: readonly Conversation[]): string[] {
  return all
    .filter((one) => one.pod === pod && one.protocol === "tcp")
    .flatMap((one) => {
      const who = isTranslated(lab, one) ? nodeAddress(lab, one.entry) : CLIENT;
      return [`${who} ${HTTP_PORT} GET 200`, `${who} ${HTTP_PORT} PUT 201`];
    })
    .sort();
}

const nodeAddress = (lab: Lab, node: string): string =>
  formatIpv4(nodeNamed(lab.plan, node).address.address);

/** A pod of the node that is asked sees the client in every mode. */
const isTranslated = (lab: Lab, { snat, pod, entry }: Asked): boolean =>
  snat && podNamed(lab.plan, pod).node !== entry;

function expected(lab: Lab, one: Conversation): Seen {
  const { address, port, clientPort, entry, protocol } = one;
  const { node, address: podIp } = podNamed(lab.plan, one.pod);
  const podAddress = formatIpv4(podIp);
  const pod = `${podAddress}:${protocol === "tcp" ? HTTP_PORT : ECHO_PORT}`;
  const client = `${CLIENT}:${clientPort}`;
  const service = `${address}:${port}`;
  const answer = `${service} > ${client}`;
  const direct = [`${client} > ${pod}`, `${pod} > ${client}`];
  if (node === entry) return { wires: [`${node}: ${answer}`], pod: direct };
  const balancer = nodeAddress(lab, entry);
  if (!one.snat) {
    const outer = `${balancer} > ${podAddress} | ${client} > ${service}`;
    return { wires: [`${entry}: ${outer}`, `${node}: ${answer}`], pod: direct };
  }
  const masked = `${balancer}:${clientPort}`;
  const [there, back] = [`${masked} > ${pod}`, `${pod} > ${masked}`];
  return {
    wires: [`${entry}: ${there}`, `${entry}: ${answer}`, `${node}: ${back}`],
    pod: [there, back],
  };
}

/** "SOURCE > TARGET", with the outer header's, if there is one, in front. */
function describe({ ip, ports }: Frame): string {
  const [source, target] = ports;
  return ip
    .map((header, index) =>
      index === ip.length - 1
        ? `${header.source}:${source} > ${header.target}:${target}`
        : `${header.source} > ${header.target}`,
    )
    .join(" | ");
}

function kinds(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort();
}

/** What nodes of a lab sent, as tshark saw it. */
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
    const sent = wires.filter(({ sender }) => this.#nodes.has(sender));
    for (const frame of [...sent, ...pods]) assertWhole(frame);
    const known = new Set<number>();
    for (const one of all) {
      const { clientPort, what } = one;
      known.add(clientPort);
      const isIts = ({ ports }: Frame): boolean => ports.includes(clientPort);
      const seen = {
        wires: kinds(sent.filter(isIts).map((frame) => this.#describeSent(frame))),
        pod: kinds(pods.filter(isIts).map(describe)),
      };
      const wanted = expected(this.#lab, one);
      assert.deepEqual(seen, { wires: kinds(wanted.wires), pod: kinds(wanted.pod) }, what);
    }
    const others = [...sent, ...pods]
      .filter(({ ports }) => !ports.some((port) => known.has(port)))
      .filter(({ ip }) => ip[0]?.target !== CLIENT);
    assert.deepEqual(kinds(others.map(describe)), [], "packets of no conversation");
  }

  /** "node1: SOURCE > TARGET". */
  #describeSent(frame: Frame): string {
    return `${this.#nodes.get(frame.sender)}: ${describe(frame)}`;
  }
}

function assertWhole(frame: Frame): void {
  const text = JSON.stringify(frame);
  assert.deepEqual(frame.wrong, [], `wrong checksums in ${text}`);
  for (const { headerBytes } of frame.ip) assert.equal(headerBytes, HEADER_BYTES, text);
}
