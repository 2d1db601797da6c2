// SPDX-License-Identifier: Apache-2.0
// A row: one packet through one program, and what comes of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { verdictNames } from "../../src/datapath/gen/abi.ts";
import type { Family } from "../../src/net/address.ts";
import { formatFrame, frameFaults } from "../../src/net/dissect.ts";
import { PLACE, type Place, type Verdict } from "../model/numbers.ts";
import type { Packet } from "./frames.ts";
import type { Stage } from "./stage.ts";

/** A packet on its way in. */
export interface Coming {
  readonly packet: Packet;
  /** Number of the uplink, or of the pod, that it comes from. */
  readonly from?: number;
  /** The device by which it leaves the node, if that isn't an uplink. */
  readonly device?: string;
  /** Of a packet that the kernel would still have to cut. */
  readonly gsoSize?: number;
}

export interface Row {
  /** The packet and its fate, as a sentence. */
  readonly title: string;
  /** The programs of which this is true. */
  readonly places: readonly Place[];
  /** Packets that have come before, to the host unless they say so. */
  readonly before?: readonly (Coming & { readonly place?: Place })[];
  /** Comes between: what no writer of ours would write. What it gives takes it back. */
  readonly poke?: (stage: Stage) => (() => void) | undefined;
  readonly coming: Coming;
  readonly verdict: Verdict;
  /** The frame that leaves; the one that came when left out. Of no meaning for drops. */
  readonly leaving?: Packet;
  /** A checksum of it is wrong, as it was before. */
  readonly isFaulty?: true;
  /** It quotes a part of a packet, whose checksum nobody can judge. */
  readonly isCut?: true;
  /** The kernel fills in the MACs. */
  readonly toNeighbour?: true;
  /** It was sent by the node, and goes where it would have gone. */
  readonly goesOn?: true;
  /** It goes back out of the device that it came from. */
  readonly back?: true;
  /** By so many bytes its packet has to be shorter to have the same fate over IPv6. */
  readonly shorter?: number;
  /** The other family has no such thing. */
  readonly only?: Family;
  /** Looks at tables afterwards. */
  readonly check?: (stage: Stage) => void;
}

/** What tests of rows have seen. */
export interface Seen {
  /** `place VERDICT`. */
  readonly verdicts: Set<string>;
  /** Frames that left, for a judge that isn't ours. */
  readonly frames: Uint8Array[];
}

const XDP = { drop: 1, pass: 2, tx: 3, redirect: 4 } as const;
const TC = { next: -1, shot: 2, redirect: 7 } as const;
const MACS = 12;
/** What comes so leaves so. */
const NO_CHECKSUM = "udp checksum is 0, which IPv6 forbids";

function returnCode(place: Place, { verdict, back, goesOn }: Row): number {
  const isPass = verdict.startsWith("PASS_") || goesOn === true;
  if (isPass) return place === "edge" ? XDP.pass : TC.next;
  const isDrop = verdict.startsWith("DROP_") || verdict === "SENT_NOTED";
  if (isDrop) return place === "edge" ? XDP.drop : TC.shot;
  if (place !== "edge") return TC.redirect;
  return back ? XDP.tx : XDP.redirect;
}

/** Declares a test for each row at each of its places. */
export function testRows(
  rows: readonly Row[],
  family: Family,
  stage: () => Stage,
  seen: Seen,
): void {
  for (const row of rows) {
    if ((row.only ?? family) !== family) continue;
    for (const place of row.places) {
      test(`${place}: ${row.title}`, () => {
        stage().forget();
        for (const { packet, place: earlier = "host", ...how } of row.before ?? []) {
          const frame = stage().build(packet, row.shorter);
          stage().send({ place: earlier, frame, ...how });
        }
        const restore = row.poke?.(stage());
        try {
          runRow(stage(), place, row, seen);
        } finally {
          restore?.();
        }
      });
    }
  }
}

function runRow(stage: Stage, place: Place, row: Row, seen: Seen): void {
  const { packet, ...how } = row.coming;
  const { gsoSize = 0 } = how;
  const frame = stage.build(packet, row.shorter);
  const segment = gsoSize - (stage.family === "ipv6" ? (row.shorter ?? 0) : 0);
  const summedUp = place === "host" && staysHere(stage, row, frame);
  const run = stage.send({ place, frame, ...how, gsoSize: Math.max(0, segment), summedUp });
  const counted = run.counted.map(({ verdict, bytes }) => `${nameOf(verdict)} ${bytes}`);
  assert.deepEqual(counted, [`${row.verdict} ${frame.length}`]);
  assert.equal(run.retval, returnCode(place, row), "return code");
  if (!row.verdict.startsWith("DROP_")) compareFrames(stage, run.frame, row, frame);
  row.check?.(stage);
  seen.verdicts.add(`${place} ${row.verdict}`);
  const isWhole = row.leaving !== undefined && !row.isFaulty && !row.isCut;
  if (isWhole && !frameFaults(run.frame).includes(NO_CHECKSUM)) seen.frames.push(run.frame);
}

/** Of uplinks, up to the last byte. */
const UPLINK = "0200000003";
/** Where a frame has its source. */
const SOURCE = 6;

/**
 * Whether the node's kernel or a pod gets the packet, who may rely on what a network's device has
 * summed up; without a checksum of UDP nobody does.
 */
function staysHere(stage: Stage, row: Row, came: Uint8Array): boolean {
  if (row.verdict.startsWith("DROP_")) return false;
  const left = row.leaving === undefined ? came : stage.build(row.leaving, row.shorter);
  const source = Buffer.from(left.subarray(SOURCE, SOURCE + 5)).toString("hex");
  const isUnchecked = row.coming.packet.some((one) => one.kind === "udp" && one.checksum === 0);
  return source !== UPLINK && !isUnchecked;
}

const nameOf = (verdict: number): string => (verdictNames[verdict] ?? "").toUpperCase();

function compareFrames(stage: Stage, left: Uint8Array, row: Row, came: Uint8Array): void {
  const wanted = row.leaving === undefined ? came : stage.build(row.leaving, row.shorter);
  const from = row.toNeighbour ? MACS : 0;
  if (!row.toNeighbour) assert.equal(formatFrame(left), formatFrame(wanted));
  const hex = (frame: Uint8Array): string => Buffer.from(frame.subarray(from)).toString("hex");
  assert.equal(hex(left), hex(wanted), `${formatFrame(left)}, wanted ${formatFrame(wanted)}`);
  if (row.leaving !== undefined && !row.isFaulty) {
    const faults = frameFaults(left).filter((fault) => fault !== NO_CHECKSUM);
    assert.deepEqual(faults, []);
  }
}

/** Fails when a verdict that can occur at a place has no row. */
export function expectVerdicts(place: Place, verdicts: readonly Verdict[], seen: Seen): void {
  const missing = verdicts.filter((verdict) => !seen.verdicts.has(`${place} ${verdict}`));
  assert.deepEqual(missing, [], `verdicts without a row at the ${place} (${PLACE[place]})`);
}
