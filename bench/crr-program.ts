// SPDX-License-Identifier: Apache-2.0
// The program that connects, asks and closes, again and again: bench/crr.c.

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { busySeconds } from "./process.ts";
import { BUILD } from "./variation.ts";

const CRR = `${BUILD}/crr`;
/** Connections or questions under way at a time. */
const OPEN = 32;
/** Short slices taken in turn, so that what else the machine does hits all alike. */
const SLICE_SECONDS = 0.25;
const WORDS = { tcp: "call", udp: "ask" } as const;

export type CrrProtocol = keyof typeof WORDS;

/** Runs a program where the client is, and gives what it prints. */
export type RunClient = (argv: readonly string[]) => Promise<string>;

/** Compiles it. */
export function buildCrr(): void {
  mkdirSync(BUILD, { recursive: true });
  execFileSync("gcc", ["-O2", "-Wall", "-o", CRR, `${import.meta.dirname}/crr.c`]);
}

/** What serves at a port. */
export const crrServer = (port: number): string[] => [CRR, "serve", `${port}`];

/** A single client for a moment, to see whether anybody answers. */
export const crrProbe = (to: string, port: number): string[] => [
  ...[CRR, WORDS.tcp, to, `${port}`],
  ...["1", "0.1"],
];

/** A slice: how many a second, and the µs of CPU time of the whole machine for each. */
export async function sampleCrr(
  run: RunClient,
  protocol: CrrProtocol,
  to: string,
  port: number,
): Promise<{ readonly rate: number; readonly cost: number }> {
  const before = busySeconds();
  const said = await run([CRR, WORDS[protocol], to, `${port}`, `${OPEN}`, `${SLICE_SECONDS}`]);
  const busy = busySeconds() - before;
  const rate = Number.parseInt(said, 10);
  return { rate, cost: (busy * 1e6) / (rate * SLICE_SECONDS) };
}
