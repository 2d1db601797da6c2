// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { MetricRegistry, Sample } from "./metrics.ts";

/** Resident memory in bytes. */
export interface ResidentMemory {
  /** Of the program, and of nobody else once it ends. */
  readonly own: number;
  /** Of mapped kernel tables, which are there without the program, too. */
  readonly tables: number;
}

/** How proc(5) names a mapped BPF map. Its pages count as RssFile. */
const BPF_MAP = "anon_inode:bpf-map";

/** This process's resident memory; a reading takes about a millisecond. */
export function residentMemory(): ResidentMemory {
  let own = 0;
  let tables = 0;
  let inTable = false;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inTable = line.endsWith(BPF_MAP);
    if (!line.startsWith("Rss:")) continue;
    const bytes = Number.parseInt(line.slice(4), 10) * 1024;
    if (inTable) tables += bytes;
    else own += bytes;
  }
  return { own, tables };
}

const QUANTILES = [50, 90, 99] as const;

/** How late the event loop turns; every reading starts a new window. */
export interface LoopDelay {
  /** Quantile (percent) → seconds, and the largest, since the last reading. */
  read(): { readonly quantiles: ReadonlyMap<number, number>; readonly max: number };
  close(): void;
}

/** Starts to measure the event loop's delay; the timer doesn't keep the process alive. */
export function startLoopDelay(): LoopDelay {
  const resolutionMs = 10;
  const monitor = monitorEventLoopDelay({ resolution: resolutionMs });
  monitor.enable();
  // The monitor records the whole interval between two ticks, not only its excess.
  const late = (ns: number): number => Math.max(0, ns / 1e9 - resolutionMs / 1000);
  return {
    read() {
      const empty = monitor.count === 0;
      const quantiles = new Map(QUANTILES.map((q) => [q, empty ? 0 : late(monitor.percentile(q))]));
      const max = empty ? 0 : late(monitor.max);
      monitor.reset();
      return { quantiles, max };
    },
    close: () => monitor.disable(),
  };
}

/** Adds what is known of any process: memory, CPU, descriptors, start, the event loop's delay. */
export function addProcessMetrics(registry: MetricRegistry, delay: LoopDelay): void {
  const startSeconds = Date.now() / 1000 - process.uptime();
  const gauge = (name: string, help: string, samples: () => Iterable<Sample>): void =>
    registry.collect({ name, type: "gauge", help }, samples);
  gauge(
    "ciliate_process_resident_bytes",
    "Resident memory: the program's own, and that of mapped kernel tables.",
    () => {
      return Object.entries(residentMemory()).map(([kind, value]) => ({ labels: { kind }, value }));
    },
  );
  gauge("ciliate_process_heap_used_bytes", "JavaScript heap in use.", () => [
    { value: process.memoryUsage().heapUsed },
  ]);
  gauge("ciliate_process_open_files", "Open file descriptors.", () => [
    { value: readdirSync("/proc/self/fd").length },
  ]);
  gauge("ciliate_process_start_time_seconds", "Start of the process, since 1970.", () => [
    { value: startSeconds },
  ]);
  registry.collect(
    {
      name: "ciliate_process_cpu_seconds_total",
      type: "counter",
      help: "CPU time by mode.",
    },
    () => {
      const { user, system } = process.cpuUsage();
      return [
        { labels: { mode: "user" }, value: user / 1e6 },
        { labels: { mode: "system" }, value: system / 1e6 },
      ];
    },
  );
  gauge(
    "ciliate_event_loop_delay_seconds",
    "How late the event loop turned since the last scrape; quantile 1 is the worst.",
    () => {
      const { quantiles, max } = delay.read();
      const samples = [...quantiles].map(([percent, value]) => ({
        labels: { quantile: String(percent / 100) },
        value,
      }));
      return [...samples, { labels: { quantile: "1" }, value: max }];
    },
  );
}
