// SPDX-License-Identifier: Apache-2.0
// Plays a sequence of events on two nodes, each twice, and tells the first difference.

import { KernelError } from "../../src/kernel/error.ts";
import { readJiffies } from "../../src/kernel/jiffies.ts";
import { type Ipv4, readIpv6 } from "../../src/net/address.ts";
import { checksumOf } from "../../src/net/checksum.ts";
import { writeMac } from "../../src/net/mac.ts";
import { get16 } from "../model/bytes.ts";
import type { Outcome } from "../model/node.ts";
import { DIRECTION, FLOW, type Place, PROTOCOL, type Verdict } from "../model/numbers.ts";
import { parseFrame, parseL4 } from "../model/packet.ts";
import { type FlowKey, parseFlowKey } from "../model/tables.ts";
import { narrow } from "../wide/address.ts";
import { compareNotes, compareRun, compareTables } from "./compare.ts";
import { runDrawing } from "./draw.ts";
import type { Event, FabricSpec, NodeIndex, PacketEvent, ReplyEvent } from "./event.ts";
import { clientFrame, type Layers, narrowOf, podFrame } from "./frames.ts";
import {
  NODES,
  PODS,
  PODS_OF_NODE,
  podDevice,
  SERVICE_PORTS,
  UPLINK_MACS,
  UPLINKS,
} from "./places.ts";
import type { Frame, Run } from "./real.ts";
import { applyState, serviceId } from "./state.ts";
import type { Twin } from "./twin.ts";
import { widenPacket } from "./wide-frames.ts";
import { deviceOf, type World } from "./world.ts";

/** Where model and kernel part. */
export interface Failure {
  /** Of the event. */
  readonly index: number;
  readonly differences: readonly string[];
}

/** What sequences have met, for a report. */
export interface Tally {
  packets: number;
  /** By place and verdict. */
  readonly verdicts: Map<string, number>;
}

export interface PlayOptions {
  /** Tables are compared after so many events, and at the end. */
  readonly tablesEvery: number;
}

const SENT_TO_NODES: ReadonlySet<Verdict> = new Set([
  "SENT_ENCAPSULATED",
  "SENT_PLAIN",
  "SENT_PASSED",
  "SENT_FINAL",
  "SENT_NAT",
  "SENT_RELAYED",
  "SENT_OUTBOUND",
]);
/** The longest way: a balancer, and every hop number. */
const MOST_NODES = 8;
const LEAST_SLACK_JIFFIES = 2;
const NO_FABRIC: FabricSpec = { routers: 0, congested: false };
/** Older than any window. */
const LONG_AGO_JIFFIES = 10_000_000;

/** A frame on its way. */
interface Travelling {
  readonly node: NodeIndex;
  readonly edge: boolean;
  readonly frame: Uint8Array;
  readonly uplink: 0 | 1;
  readonly gsoSize: number;
}

export class Play {
  readonly #world: World;
  readonly #twins: readonly [Twin, Twin];
  readonly #layers: Layers;
  readonly tally: Tally = { packets: 0, verdicts: new Map() };
  /** Sent and not yet arrived. */
  readonly #notes: Uint8Array[] = [];
  #slackJiffies = LEAST_SLACK_JIFFIES;
  readonly #clock = startClock();

  constructor(world: World, twins: readonly [Twin, Twin]) {
    this.#world = world;
    this.#twins = twins;
    const { family, model } = twins[0];
    this.#layers =
      family === "ipv4"
        ? (layers) => layers
        : (layers, extensions) => widenPacket(layers, extensions, model.config.hashSeed);
  }

  /** Plays a sequence from empty tables; undefined: there was no difference. */
  run(events: readonly Event[], { tablesEvery }: PlayOptions): Failure | undefined {
    this.#reset();
    for (const [index, event] of events.entries()) {
      const differences = this.#apply(event);
      const isLast = index === events.length - 1;
      if (differences.length === 0 && (index % tablesEvery === tablesEvery - 1 || isLast)) {
        differences.push(...this.#compareTables());
      }
      if (differences.length > 0) return { index, differences };
    }
    return undefined;
  }

  #reset(): void {
    this.#slackJiffies = LEAST_SLACK_JIFFIES;
    this.#notes.length = 0;
    this.#world.sentNotes();
    const since = this.#clock() - LONG_AGO_JIFFIES;
    for (const twin of this.#twins) {
      twin.clear();
      for (const service of SERVICE_PORTS.keys()) {
        twin.putLimitWindow(serviceId(service), { since, passed: 0, told: 0 });
      }
      // Of addresses, whatever the service.
      twin.putLimitWindow(0, { since, passed: 0, told: 0 });
    }
  }

  #compareTables(): string[] {
    return this.#twins.flatMap((twin, node) =>
      compareTables(twin, this.#slackJiffies).map((line) => `node ${node}: ${line}`),
    );
  }

  #apply(event: Event): string[] {
    switch (event.kind) {
      case "packet":
        return this.#sendPacket(event);
      case "reply":
        return this.#sendReply(event);
      default: {
        const twin = this.#twins[event.node];
        // What is stored must not lie ahead of the kernel's own clock.
        const jiffies = this.#clock() - LEAST_SLACK_JIFFIES;
        try {
          applyState({ world: this.#world, twin, jiffies }, event);
          return [];
        } catch (error) {
          // As when the kernel's table is full and the model's isn't.
          return [`node ${event.node}, ${event.kind}: ${String(error)}`];
        }
      }
    }
  }

  #sendPacket(event: PacketEvent): string[] {
    const { node, edge, uplink, packet, fabric } = event;
    const frame = clientFrame(packet, node, UPLINKS[uplink], this.#layers);
    if (packet.inside !== undefined || packet.own === true) {
      return this.#sendFromInside(event, packet.inside?.device, frame, packet.gsoSize ?? 0);
    }
    const gsoSize = edge ? 0 : (packet.gsoSize ?? 0);
    return this.#travel({ node, edge, frame, uplink, gsoSize }, fabric);
  }

  /** Takes a frame of a pod, or of the node, on to another node, if that is where it goes. */
  #sendFromInside(
    { node, edge, uplink, fabric }: Pick<PacketEvent, "node" | "edge" | "uplink" | "fabric">,
    pod: number | undefined,
    frame: Uint8Array,
    gsoSize: number,
  ): string[] {
    const device = pod === undefined ? UPLINKS[uplink] : podDevice(Math.max(0, pod));
    const ifindex = deviceOf(this.#world, device);
    const place = pod === undefined ? "node" : "pod";
    const result = this.#run(node, place, { frame, ifindex, gsoSize });
    if (result.differences.length > 0 || gsoSize > 0) return result.differences;
    const next = this.#nextNode({ node, edge, frame, uplink, gsoSize }, result, fabric);
    return next === undefined || next.node === node ? [] : this.#travel(next, fabric);
  }

  /** Takes a frame from node to node until it is at its end. */
  #travel(first: Travelling, fabric: FabricSpec): string[] {
    let travelling: Travelling | undefined = first;
    for (let visits = 0; travelling !== undefined; visits++) {
      const { node, edge, frame, uplink, gsoSize }: Travelling = travelling;
      if (visits === MOST_NODES) return ["a packet goes round and round", hexOf(frame)];
      const ifindex = deviceOf(this.#world, UPLINKS[uplink]);
      let result = this.#run(node, edge ? "edge" : "host", { frame, ifindex, gsoSize });
      if (result.differences.length > 0) return result.differences;
      if (edge && result.verdict.startsWith("PASS_")) {
        result = this.#run(node, "host", { frame, ifindex, gsoSize });
        if (result.differences.length > 0) return result.differences;
      }
      travelling = this.#nextNode(travelling, result, fabric);
    }
    return this.#deliverNotes(fabric);
  }

  /** Brings notes to the nodes that they are for; they cause none themselves. */
  #deliverNotes(fabric: FabricSpec): string[] {
    for (const frame of this.#notes.splice(0)) {
      const arriving = travel(frame, fabric);
      const node = NODES.slice(0, 2).indexOf(destinationOf(arriving));
      if (node < 0) continue;
      const ifindex = deviceOf(this.#world, UPLINKS[0]);
      writeMac(arriving, 0, UPLINK_MACS[UPLINKS[0]]);
      const input = { frame: arriving, ifindex, gsoSize: 0 };
      const { differences } = this.#run(node === 0 ? 0 : 1, "host", input);
      if (differences.length > 0) return differences;
    }
    return [];
  }

  #nextNode(
    travelling: Travelling,
    { verdict, frame }: { verdict: Verdict; frame: Uint8Array },
    fabric: FabricSpec,
  ): Travelling | undefined {
    if (!SENT_TO_NODES.has(verdict)) return undefined;
    const arriving = travel(frame, fabric);
    writeMac(arriving, 0, UPLINK_MACS[UPLINKS[travelling.uplink]]);
    const target = destinationOf(arriving);
    const node = PODS_OF_NODE.findIndex(
      (pods, index) => NODES[index] === target || pods.some((pod) => PODS[pod] === target),
    );
    return node < 0 ? undefined : { ...travelling, node: node === 0 ? 0 : 1, frame: arriving };
  }

  #sendReply(event: ReplyEvent): string[] {
    const key = pickReply(this.#twins[event.node], event.pick);
    if (key === undefined) return [];
    const { node, edge, uplink } = event;
    const flow = this.#twins[node].model.flow(key);
    const pod = PODS.indexOf(narrowOf(key.source));
    const isHere = PODS_OF_NODE[node].some((one) => one === pod);
    const has = (flag: number): boolean => ((flow?.flags ?? 0) & flag) !== 0;
    const isElsewhere = has(FLOW.snat) || (has(FLOW.outbound) && !isHere);
    const isNear = event.isForged || !isElsewhere;
    const { endpoints } = this.#twins[node].model.tables;
    const isItself = !event.isForged && endpoints.get(key.source)?.ifindex === 0;
    const near = isItself ? "node" : "pod";
    const frame = podFrame(event, key, isNear ? near : "network", this.#layers);
    if (!isNear) {
      const gsoSize = edge ? 0 : event.gsoSize;
      return this.#travel({ node, edge, frame, uplink, gsoSize }, NO_FABRIC);
    }
    const from = { node, edge, uplink, fabric: NO_FABRIC };
    return this.#sendFromInside(from, isItself ? undefined : pod, frame, event.gsoSize);
  }

  #run(
    node: NodeIndex,
    place: Place,
    input: { frame: Uint8Array; ifindex: number; gsoSize: number },
  ): { differences: string[]; verdict: Verdict; frame: Uint8Array } {
    const twin = this.#twins[node];
    if (place !== "edge" && isRefused(input.frame)) {
      return { differences: [], verdict: "PASS_NOT_OURS", frame: input.frame };
    }
    const before = this.#clock();
    const drawn = runDrawing(twin.model, place, { ...input, jiffies: before });
    const model = drawn.outcome;
    const isDrawn = drawn.others.length > 0;
    const summedUp = place === "host" && !isDrawn && input.gsoSize === 0 && isReliedOn(twin, model);
    const real = runReal(twin, place, { ...input, summedUp });
    if (typeof real === "string")
      return {
        differences: [real, hexOf(input.frame)],
        verdict: model.verdict,
        frame: input.frame,
      };
    const slack = this.#clock() - before + LEAST_SLACK_JIFFIES;
    this.#slackJiffies = Math.max(this.#slackJiffies, slack);
    const notes = this.#world.sentNotes();
    this.#notes.push(...notes.map((note) => note.frame));
    const compare = (outcome: Outcome): Compared => {
      const differences = [
        ...compareRun(place, input.frame, outcome, real),
        ...compareNotes(this.#world, outcome.note, notes),
      ];
      // Draws that come to the same packet are told apart by what is written down.
      const isSame = differences.length === 0;
      if (isSame && isDrawn) differences.push(...compareTables(twin, this.#slackJiffies));
      return { differences, verdict: outcome.verdict };
    };
    const { differences, verdict } = isDrawn ? bestOf(drawn.others, compare) : compare(model);
    this.#count(place, verdict);
    if (differences.length === 0) return { differences, verdict, frame: real.frame };
    const where = `node ${node}, ${place}, frame ${hexOf(input.frame)}, gso ${input.gsoSize}`;
    return { differences: [where, ...differences], verdict, frame: real.frame };
  }

  #count(place: Place, verdict: Verdict): void {
    const key = `${place} ${verdict}`;
    this.tally.packets += 1;
    this.tally.verdicts.set(key, (this.tally.verdicts.get(key) ?? 0) + 1);
  }
}

/**
 * Whether a pod or the node's kernel gets a packet, who may rely on what a device summed up;
 * without a checksum of UDP nobody does, and nobody ever does of SCTP, whose sum is another.
 */
function isReliedOn({ model: { family } }: Twin, { way, frame }: Outcome): boolean {
  if (way.to !== "pod" && way.to !== "kernel") return false;
  const ip = parseFrame(frame, family);
  if (ip?.protocol === PROTOCOL.sctp) return false;
  if (ip?.protocol !== PROTOCOL.udp || ip.later) return true;
  const l4 = parseL4(frame, ip);
  return l4 !== undefined && get16(frame, l4.at + 6) !== 0;
}

/** What the kernel made of a frame, or how it lost the sum of a device. */
function runReal(twin: Twin, place: Place, frame: Frame): Run | string {
  try {
    return twin.real.run(place, frame);
  } catch (error) {
    if (!(error instanceof KernelError) || error.code !== "EBADMSG") throw error;
    return `sum at ${place}: what a device summed up isn't the packet's any more`;
  }
}

/** Linux refuses to run tc programs on a frame of IP without a whole IP header. */
function isRefused(frame: Uint8Array): boolean {
  if (isIpv6(frame)) return frame.length < 54;
  return frame.length < 15 || (frame.length < 34 && frame[12] === 0x08 && frame[13] === 0);
}

/** How far an outcome of the model's is from the kernel's. */
interface Compared {
  readonly differences: string[];
  readonly verdict: Verdict;
}

/** The first outcome without a difference, or the last one. */
function bestOf(outcomes: readonly (() => Outcome)[], compare: (outcome: Outcome) => Compared) {
  let compared: Compared = { differences: ["nothing was drawn"], verdict: "DROP_TABLE" };
  for (const next of outcomes) {
    compared = compare(next());
    if (compared.differences.length === 0) break;
  }
  return compared;
}

const READINGS = 10;

/** Jiffies without reading them each time, which is slow. */
function startClock(): () => number {
  const { now, perSecond, start } = readClocks();
  return () => {
    const elapsedNs = Number(process.hrtime.bigint() - start);
    return (now + Math.floor((elapsedNs * perSecond) / 1e9)) >>> 0;
  };
}

function isIpv6(frame: Uint8Array): boolean {
  return frame[12] === 0x86 && frame[13] === 0xdd;
}

function destinationOf(frame: Uint8Array): Ipv4 {
  if (isIpv6(frame)) return narrow(readIpv6(frame, 38));
  return new DataView(frame.buffer, frame.byteOffset).getUint32(30) as Ipv4;
}

function hexOf(frame: Uint8Array): string {
  return Buffer.from(frame.subarray(0, 120)).toString("hex");
}

/** Jiffies and the time that they are of, from the reading that took the shortest. */
function readClocks(): {
  readonly now: number;
  readonly perSecond: number;
  readonly start: bigint;
} {
  const readings = Array.from({ length: READINGS }, () => {
    const before = process.hrtime.bigint();
    const jiffies = readJiffies();
    const start = process.hrtime.bigint();
    return { ...jiffies, start, took: start - before };
  });
  return readings.reduce((best, one) => (one.took < best.took ? one : best));
}

function pickReply(twin: Twin, pick: number): FlowKey | undefined {
  const keys = [...twin.model.tables.conntrack.keys()].map(parseFlowKey);
  const replies = keys
    .filter(({ direction }) => direction === DIRECTION.reply)
    .sort((a, b) => orderOf(a).localeCompare(orderOf(b)));
  return replies[pick % Math.max(1, replies.length)];
}

function orderOf(key: FlowKey): string {
  return JSON.stringify(key, (_, value) => (typeof value === "bigint" ? String(value) : value));
}

/** What routers do to a packet's outermost header. */
function travel(frame: Uint8Array, { routers, congested }: FabricSpec): Uint8Array {
  const arriving = frame.slice();
  const at = (offset: number): number => arriving[14 + offset] ?? 0;
  if (isIpv6(frame)) {
    arriving[14 + 7] = Math.max(1, at(7) - routers);
    if (congested && (at(1) & 0x30) !== 0) arriving[14 + 1] = at(1) | 0x30;
    return arriving;
  }
  const wasRight = checksumOf(arriving.subarray(14, 14 + (at(0) & 15) * 4)) === 0;
  arriving[14 + 8] = Math.max(1, at(8) - routers);
  if (congested && (at(1) & 3) !== 0) arriving[14 + 1] = at(1) | 3;
  if (!wasRight) return arriving;
  arriving.fill(0, 24, 26);
  const checksum = checksumOf(arriving.subarray(14, 14 + (at(0) & 15) * 4));
  arriving[24] = checksum >>> 8;
  arriving[25] = checksum & 255;
  return arriving;
}
