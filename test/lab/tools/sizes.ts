// SPDX-License-Identifier: Apache-2.0
// Who says what to whom of a packet that is too large: docs/packet-path.md in the form of lists.

import assert from "node:assert/strict";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../../src/lab/plan.ts";
import { type Family, formatAddress } from "../../../src/net/address.ts";
import type { Way } from "./conversation.ts";
import type { Mode } from "./modes.ts";
import { HTTP_PORT } from "./programs.ts";
import { VIP_PORT } from "./stage.ts";
import type { Frame } from "./wire.ts";

/** The pod of all services. */
export const POD = "pod2-1";
/** The pod's node. */
export const HOME = "node2";
/** What a dispatch adds to a full-sized segment. */
const OUTER_BYTES: Readonly<Record<Way, Readonly<Record<Family, number>>>> = {
  snat: { ipv4: 0, ipv6: 0 },
  ipip: { ipv4: 20, ipv6: 40 },
  "ipip-first": { ipv4: 0, ipv6: 0 },
  geneve: { ipv4: 62, ipv6: 94 },
  option: { ipv4: 8, ipv6: 24 },
};
const TOO_BIG = { ipv4: { type: 3, code: 4 }, ipv6: { type: 2, code: 0 } } as const;
/** What is told comes from near. */
const LEAST_TTL = 60;

/** MTUs, by which of them they are: nobody but who stands before a wire knows how narrow it is. */
export interface Widths {
  /** Between the pod's node and the switch. */
  readonly fabric: number;
  /** Between the pod and its node. */
  readonly pod: number;
  /** From the switch to the clients. */
  readonly client: number;
}

/** A client that sends and gets bulk by a service. */
export interface Transfer {
  readonly what: string;
  readonly mode: Mode;
  readonly family: Family;
  /** The node that gets the client's packets; the pod's own, or another. */
  readonly entry: "node1" | "node2";
  readonly vip: string;
  readonly client: string;
}

/** The next size that a client hears of; undefined where its segments fit. */
export function toldUp({ mode, family, entry }: Transfer, { fabric, pod }: Widths) {
  const outer = entry === HOME ? 0 : OUTER_BYTES[mode.ways.tcp][family];
  return pod > fabric - outer ? fabric - outer : undefined;
}

/** Addresses of whoever has a part in it. */
function endsOf({ plan }: Lab, { mode, family, entry, client }: Transfer) {
  const isTranslated = mode.ways.tcp === "snat" && entry !== HOME;
  const [balancer, home, pod] = [
    nodeNamed(plan, entry),
    nodeNamed(plan, HOME),
    podNamed(plan, POD),
  ];
  // Linux tells from its address where a message leaves; of IPv6, where its cause came in.
  const [own, homeAddress, podAddress, router, gateway] =
    family === "ipv4"
      ? [balancer.address, home.address, pod.address, balancer.gateway, plan.clientGateway]
      : [
          balancer.address6,
          home.address6,
          pod.address6,
          (isTranslated ? balancer : home).gateway6,
          plan.clientGateway6,
        ];
  const node = formatAddress(own.address);
  return {
    node,
    home: formatAddress(homeAddress.address),
    pod: formatAddress(podAddress),
    router: formatAddress(router),
    clientGateway: formatAddress(gateway),
    /** Whom the pod speaks to, and who tells it of the clients' wire. */
    peer: isTranslated ? node : client,
    teller: isTranslated ? node : formatAddress(router),
    isTranslated,
  };
}

/** Whom the pod takes for its client. */
export function peerOf(lab: Lab, transfer: Transfer): string {
  return endsOf(lab, transfer).peer;
}

/** A message about a size, and nothing wrong with it; a relayed one has outer headers. */
function assertMessage(frame: Frame, family: Family, headers = 2): void {
  const text = JSON.stringify(frame);
  // The quoted one of TCP is as the sender left it to its device.
  const wrong = frame.wrong.filter((name) => name !== "tcp");
  assert.deepEqual(wrong, [], `wrong checksums in ${text}`);
  assert.deepEqual({ ...frame.icmp, mtu: 0 }, { ...TOO_BIG[family], mtu: 0 }, text);
  assert.equal(frame.ip.length, headers, text);
}

/** "SOURCE > TARGET" of each header, and the quoted packet's port that is the service's. */
const routesOf = ({ ip }: Frame): string[] =>
  ip.map(({ source, target }) => `${source} > ${target}`);

/** What the client was told on its way up. */
export function assertClientTold(
  lab: Lab,
  frames: readonly Frame[],
  transfer: Transfer,
  widths: Widths,
): void {
  const { family, entry, vip, client } = transfer;
  const told = frames.filter(({ icmp, ip }) => icmp !== undefined && ip[0]?.target === client);
  const wanted = toldUp(transfer, widths);
  assert.equal(told.length > 0, wanted !== undefined, `${told.length} messages to the client`);
  const teller = entry === HOME ? endsOf(lab, transfer).clientGateway : vip;
  for (const frame of told) {
    assertMessage(frame, family);
    assert.deepEqual(routesOf(frame), [`${teller} > ${client}`, `${client} > ${vip}`]);
    assert.deepEqual([frame.icmp?.mtu, frame.ports[1]], [wanted, VIP_PORT]);
    assert.ok((frame.ip[0]?.ttl ?? 0) >= LEAST_TTL);
  }
}

/** What the pod was told on its way down: by its own node's kernel, and by the router. */
export function assertPodTold(
  lab: Lab,
  frames: readonly Frame[],
  transfer: Transfer,
  widths: Widths,
): void {
  const { pod, peer, teller } = endsOf(lab, transfer);
  const told = frames.filter(({ icmp, ip }) => icmp !== undefined && ip[1]?.target === peer);
  const sizes = new Set(told.map(({ icmp }) => icmp?.mtu));
  const wanted = [widths.client, ...(widths.pod > widths.fabric ? [widths.fabric] : [])];
  assert.deepEqual([...sizes].sort(), wanted.sort(), "sizes that the pod was told");
  for (const frame of told) {
    assertMessage(frame, transfer.family);
    assert.equal(frame.ports[0], HTTP_PORT);
    const [outer, quoted] = routesOf(frame);
    assert.equal(quoted, `${pod} > ${peer}`);
    if (frame.icmp?.mtu === widths.client) assert.equal(outer, `${teller} > ${pod}`);
  }
}

/** How what the router told the balancer came to the pod's node. */
export function assertRelayed(lab: Lab, frames: readonly Frame[], transfer: Transfer): void {
  const { mode, family, entry, vip, client } = transfer;
  const { node, home, pod, router, isTranslated } = endsOf(lab, transfer);
  const isOurs = ({ icmp, ip }: Frame): boolean =>
    icmp !== undefined && ip.length > 2 && ip.at(-1)?.target === client;
  const relayed = frames.filter(isOurs);
  assert.equal(relayed.length > 0, entry !== HOME && !isTranslated, `${relayed.length} relayed`);
  for (const frame of relayed) {
    const routes = [`${node} > ${pod}`, `${router} > ${vip}`, `${vip} > ${client}`];
    // Where Geneve goes to nodes, so does this.
    if (mode.ways.tcp === "geneve") routes.unshift(`${node} > ${home}`);
    assertMessage(frame, family, routes.length);
    assert.deepEqual(routesOf(frame), routes);
    assert.equal(frame.ports[0], VIP_PORT);
  }
}
