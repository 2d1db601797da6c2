// SPDX-License-Identifier: Apache-2.0
// What differs between the model and the kernel, in words.

import { formatFrame } from "../../src/net/dissect.ts";
import type { Note, Outcome, Way } from "../model/node.ts";
import { type Place, VERDICT } from "../model/numbers.ts";
import {
  type Affinity,
  type Flow,
  flowKey,
  pairKey,
  parseFlowKey,
  pieceKey,
} from "../model/tables.ts";
import { abiKey, modelFlow, modelPieceKey } from "./abi.ts";
import type { Run } from "./real.ts";
import type { Twin } from "./twin.ts";
import type { SentNote, World } from "./world.ts";

const XDP = { drop: 1, pass: 2, tx: 3, redirect: 4 } as const;
const TC = { next: -1, shot: 2, redirect: 7 } as const;
const MACS = 12;

const NAMES = new Map<number, string>(
  Object.entries(VERDICT).map(([name, value]) => [value, name]),
);

/** What a program returns for where the model sends a frame. */
function returnCode(place: Place, way: Way): number {
  if (way.to === "kernel") return place === "edge" ? XDP.pass : TC.next;
  if (way.to === "nowhere") return place === "edge" ? XDP.drop : TC.shot;
  if (place !== "edge") return TC.redirect;
  return way.to === "where it came from" ? XDP.tx : XDP.redirect;
}

function verdictText(counted: Run["counted"]): string {
  const names = counted.map(({ verdict, bytes }) => `${NAMES.get(verdict) ?? verdict}/${bytes}`);
  return names.length === 0 ? "none" : names.join(" and ");
}

/** Compares what both made of one frame. */
export function compareRun(place: Place, frame: Uint8Array, model: Outcome, real: Run): string[] {
  const differences: string[] = [];
  const wanted = `${model.verdict}/${frame.length}`;
  const counted = verdictText(real.counted);
  if (counted !== wanted) differences.push(`verdict: model ${wanted}, kernel ${counted}`);
  const code = returnCode(place, model.way);
  if (code !== real.retval) differences.push(`return: model ${code}, kernel ${real.retval}`);
  if (differences.length > 0 || model.way.to === "nowhere") return differences;
  const from = model.way.to === "neighbour" ? MACS : 0;
  const [ours, theirs] = [model.frame.subarray(from), real.frame.subarray(from)];
  if (Buffer.compare(ours, theirs) !== 0) {
    differences.push(frameDifference(model.frame, real.frame, from));
  }
  return differences;
}

/** Compares what left besides. */
export function compareNotes(
  world: World,
  model: Note | undefined,
  real: readonly SentNote[],
): string[] {
  const count = model === undefined ? 0 : 1;
  if (real.length !== count) return [`notes: model ${count}, kernel ${real.length}`];
  const [sent] = real;
  if (model === undefined || sent === undefined) return [];
  const device = world.devices.get(sent.device);
  if (device !== model.ifindex) return [`note: model device ${model.ifindex}, kernel ${device}`];
  if (Buffer.compare(model.frame, sent.frame) === 0) return [];
  return [`note: ${frameDifference(model.frame, sent.frame, 0)}`];
}

function frameDifference(model: Uint8Array, real: Uint8Array, from: number): string {
  const length = Math.min(model.length, real.length);
  const at: number[] = [];
  for (let i = from; i < length; i++) if (model[i] !== real[i]) at.push(i);
  const hex = (frame: Uint8Array): string => Buffer.from(frame.subarray(0, 120)).toString("hex");
  return [
    `frame: ${model.length} and ${real.length} bytes, different at ${at.slice(0, 12).join(", ")}`,
    `  model  ${describe(model)}\n         ${hex(model)}`,
    `  kernel ${describe(real)}\n         ${hex(real)}`,
  ].join("\n");
}

function describe(frame: Uint8Array): string {
  try {
    return formatFrame(frame);
  } catch {
    return "no frame that can be told in words";
  }
}

/**
 * Compares all that programs write; `slackJiffies` is how far apart clocks may be.
 */
export function compareTables(twin: Twin, slackJiffies: number): string[] {
  return [
    ...compareConntrack(twin, slackJiffies),
    ...compareAffinities(twin, slackJiffies),
    ...comparePieces(twin, slackJiffies),
    ...compareLimitWindows(twin, slackJiffies),
    ...compareCounters(twin),
  ];
}

function isNear(model: number, real: number, slackJiffies: number): boolean {
  const ahead = (real - model) >>> 0;
  return ahead <= slackJiffies || ahead >= 2 ** 32 - slackJiffies;
}

function compareConntrack({ model, real }: Twin, slackJiffies: number): string[] {
  const differences: string[] = [];
  const { conntrack } = model.tables;
  let count = 0;
  for (const [key, value] of real.maps.conntrack.entries()) {
    count += 1;
    const text = flowKey(key);
    const [ours, theirs] = [conntrack.get(text), modelFlow(value)];
    if (ours === undefined) differences.push(`conntrack: kernel alone has ${text}`);
    else differences.push(...flowDifferences(text, ours, theirs, slackJiffies));
  }
  if (count !== conntrack.size || differences.length > 0) {
    for (const [text, flow] of conntrack) {
      if (real.maps.conntrack.lookup(abiKey(parseFlowKey(text))) === undefined) {
        differences.push(`conntrack: model alone has ${text} with flags ${flow.flags}`);
      }
    }
  }
  return differences;
}

function flowDifferences(text: string, model: Flow, real: Flow, slackJiffies: number): string[] {
  const differences: string[] = [];
  for (const name of Object.keys(real) as (keyof Flow)[]) {
    const isTime = name === "seen" || name === "created";
    const same = isTime
      ? isNear(model[name], real[name], slackJiffies)
      : model[name] === real[name];
    if (!same) differences.push(`${text}: ${name}: model ${model[name]}, kernel ${real[name]}`);
  }
  return differences.map((line) => `conntrack: ${line}`);
}

function compareAffinities({ model, real }: Twin, slackJiffies: number): string[] {
  const differences: string[] = [];
  const rest = new Map(model.tables.affinities);
  for (const [{ service, client }, { pod, backend, seen }] of real.maps.affinities.entries()) {
    const key = pairKey(service, client);
    const ours = rest.get(key);
    rest.delete(key);
    const same = ours?.pod === pod && ours.backend === backend;
    if (!same || !isNear(ours.seen, seen, slackJiffies)) {
      const theirs = affinityText({ pod, backend, seen });
      differences.push(`affinity ${key}: model ${affinityText(ours)}, kernel ${theirs}`);
    }
  }
  return [...differences, ...[...rest.keys()].map((key) => `affinity ${key}: model alone has it`)];
}

function affinityText(affinity: Affinity | undefined): string {
  if (affinity === undefined) return "none";
  const { pod, backend, seen } = affinity;
  return `pod ${pod}, backend ${backend}, seen ${seen}`;
}

function comparePieces({ model, real }: Twin, slackJiffies: number): string[] {
  const differences: string[] = [];
  const rest = new Map(model.tables.pieces);
  for (const [key, theirs] of real.maps.fragments.entries()) {
    const text = pieceKey(modelPieceKey(key));
    const ours = rest.get(text);
    rest.delete(text);
    const { sourcePort, destinationPort } = theirs;
    const same = ours?.sourcePort === sourcePort && ours.destinationPort === destinationPort;
    if (!same || !isNear(ours.seen, theirs.seen, slackJiffies)) {
      const [model, kernel] = [JSON.stringify(ours), JSON.stringify(theirs)];
      differences.push(`pieces of ${text}: model ${model}, kernel ${kernel}`);
    }
  }
  return [...differences, ...[...rest.keys()].map((key) => `pieces of ${key}: model alone`)];
}

function compareLimitWindows({ model, real }: Twin, slackJiffies: number): string[] {
  const differences: string[] = [];
  for (const [service, window] of model.tables.limitWindows) {
    const found = real.maps.limits.lookup(service);
    if (found === undefined) continue;
    const same = found.passed === window.passed && found.told === window.told;
    if (!same || !isNear(window.since, found.since, slackJiffies)) {
      differences.push(
        `limits of service ${service}: model ${JSON.stringify(window)}, ` +
          `kernel ${JSON.stringify(found)}`,
      );
    }
  }
  return differences;
}

function compareCounters(twin: Twin): string[] {
  const differences: string[] = [];
  const real = twin.realCounters();
  const model = twin.model.tables.counters;
  for (const row of new Set([...real.keys(), ...model.keys()])) {
    const traffic = model.get(row);
    const ours = traffic
      ? [traffic.packets, traffic.bytes, traffic.connections, traffic.adopted].join(" ")
      : "0 0 0 0";
    const theirs = (real.get(row) ?? [0, 0, 0, 0]).join(" ");
    if (ours !== theirs) {
      differences.push(
        `counter ${row} (packets bytes connections adopted): model ${ours}, kernel ${theirs}`,
      );
    }
  }
  return differences;
}
