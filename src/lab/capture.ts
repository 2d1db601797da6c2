// SPDX-License-Identifier: Apache-2.0
// Packets on a device of the lab, into a pcapng file that Wireshark and tshark read.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { LabError, type Place } from "./plan.ts";
import { spawnIn } from "./process.ts";

const START_LIMIT_MS = 10_000;
/** The kernel hands packets over after 250 ms at the latest; dumpcap forgets the rest. */
const SETTLE_MS = 350;
const SETTLE_LIMIT_MS = 20_000;
/** A thread of dumpcap that has slept so often since then has looked for packets in between. */
const SLEEPS = 2;
const POLL_MS = 50;

export interface CaptureOptions {
  /** Devices of the place; all of them when left out. */
  readonly devices?: readonly string[];
  /** A pcap filter, like `ip proto 4`. */
  readonly filter?: string;
  /** Ends by itself after so many packets. */
  readonly packets?: number;
  /** Bytes kept of each packet; the whole packet unless said otherwise. */
  readonly snapBytes?: number;
}

/** A capture at work. */
export interface Capture {
  readonly file: string;
  /** Settles when the capture has ended, by `stop` or by itself: packets that had no room. */
  readonly ended: Promise<number>;
  /** Ends it and gives the same; what else had passed before is in the file. */
  stop(): Promise<number>;
}

/**
 * Packets that neither the kernel nor dumpcap had room for, by what dumpcap says at its end. Those
 * that it forgets then ("flushed") are none: they came after the last that is waited for.
 */
function lostOf(told: string): number {
  const counts = told.matchAll(/\(pcap:(\d+)\/dumpcap:(\d+)\//g);
  return [...counts].reduce((sum, [, pcap, dumpcap]) => sum + Number(pcap) + Number(dumpcap), 0);
}

/** Dumpcap says how it goes on its standard error, one line each. */
async function started(child: ChildProcess, place: Place): Promise<void> {
  let text = "";
  const end = AbortSignal.timeout(START_LIMIT_MS);
  const exited = once(child, "close", { signal: end });
  const speaking = new Promise<void>((resolve) => {
    child.stderr?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (/^File: /m.test(text)) resolve();
    });
  });
  const outcome = await Promise.race([speaking.then(() => "running"), exited]).catch(() => "late");
  exited.catch(() => {});
  if (outcome === "running") return;
  child.kill("SIGKILL");
  const why = text.trim().split("\n").at(-1) ?? "";
  throw new LabError(
    `cannot capture in ${place.name}: ${why || "dumpcap gave no sign of life"}; is tshark installed?`,
  );
}

/** How often each thread of a process has gone to sleep by itself; none when it has ended. */
function sleepsOf(pid: number): ReadonlyMap<string, number> {
  const sleeps = new Map<string, number>();
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
      const count = /^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)?.[1];
      if (count !== undefined) sleeps.set(thread, Number(count));
    }
  } catch {
    return new Map();
  }
  return sleeps;
}

/**
 * Waits until dumpcap has had what the kernel has for it, and its file doesn't grow any more. It
 * wakes four times a second; on a busy machine it may have to wait for a processor.
 */
async function settled(file: string, pid: number): Promise<void> {
  const end = performance.now() + SETTLE_LIMIT_MS;
  let size = -1;
  let since = performance.now();
  let before: ReadonlyMap<string, number> | undefined;
  while (performance.now() < end) {
    const now = statSync(file).size;
    if (now !== size) {
      size = now;
      since = performance.now();
      before = undefined;
    } else if (performance.now() - since >= SETTLE_MS) {
      const sleeps = sleepsOf(pid);
      before ??= sleeps;
      const start = before;
      if ([...sleeps].every(([thread, n]) => n - (start.get(thread) ?? n) >= SLEEPS)) return;
    }
    await delay(POLL_MS);
  }
}

/** Starts a capture and returns when it sees packets; throws LabError. */
export async function captureIn(
  place: Place,
  file: string,
  options: CaptureOptions = {},
): Promise<Capture> {
  const devices = options.devices ?? ["any"];
  const argv = [
    "dumpcap",
    ...["-q", "-w", file],
    ...devices.flatMap((device) => ["-i", device]),
    ...(options.filter === undefined ? [] : ["-f", options.filter]),
    ...(options.packets === undefined ? [] : ["-c", String(options.packets)]),
    ...(options.snapBytes === undefined ? [] : ["-s", String(options.snapBytes)]),
  ];
  // In a session of its own: a person's Ctrl-C must not end it before the last packets are in.
  const child = spawnIn(place, argv, { stdio: ["ignore", "ignore", "pipe"], detached: true });
  let told = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    told += chunk.toString();
  });
  const ended = once(child, "close").then(() => lostOf(told));
  await started(child, place);
  return {
    file,
    ended,
    stop: async () => {
      await settled(file, child.pid ?? 0);
      child.kill("SIGINT");
      return await ended;
    },
  };
}
