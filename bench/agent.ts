// SPDX-License-Identifier: Apache-2.0
// An agent with 10 000 services loaded: its memory, and how soon one endpoint's change is in the
// kernel's tables, by the API and by a file.

import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type ApiClient, openApiClient } from "../src/api/client.ts";
import { FrontendKind, maps } from "../src/datapath/gen/abi.ts";
import { TypedMap } from "../src/datapath/maps.ts";
import { bucketOf, highWord, lowWord } from "../src/datapath/tables/hash.ts";
import { createLab, type Lab } from "../src/lab/lab.ts";
import { nodeNamed } from "../src/lab/plan.ts";
import { type ProcessId, until } from "../src/lab/process.ts";
import { removeLab } from "../src/lab/state.ts";
import type { Ipv4 } from "../src/net/address.ts";
import { PROTOCOL } from "../src/net/protocol.ts";
import type { Budget } from "./budget.ts";
import { manifestOf, serviceText, sliceText } from "./manifests.ts";
import { goAhead } from "./process.ts";
import { SERVICES, writeManifests } from "./program.ts";
import { printTable, type Results } from "./results.ts";
import { median, quantile } from "./statistics.ts";
import { BACKENDS_PER_SERVICE, SERVICE_PORT, VIPS } from "./world.ts";

/** The first services are these: half their backends are in a slice that the API is given. */
const BY_API = 500;
const BY_FILE = 25;
/** Calls that find the agent just started, its code not compiled yet. */
const WARM_UP = 50;
const HALF = BACKENDS_PER_SERVICE / 2;
const NODE = "node1";
const HTTP_PORT = 9962;
const IDLE_MS = 5000;
const LIMIT_MS = 120_000;
/** What was garbage of the start is collected by then. */
const SETTLE_MS = 3000;
/** What was freed has gone back to the system by then: see src/agent/memory.ts. */
const TRIMMED_MS = 21_000;
/** Files of the agent are in memory, as /run is on a real machine. */
const MEMORY_DIRECTORY = "/dev/shm/ciliate-bench-";
const CALL_LIMIT_MS = 10_000;
const CONFIG = { tables: { services: 16_384, backends: 131_072, ringEntries: 16_777_216 } };

export async function benchAgent(results: Results, { rounds }: Budget): Promise<void> {
  const name = `bench${process.pid % 100_000}c`;
  const full = rounds > 5;
  const count = full ? BY_API : 50;
  const runtime = mkdtempSync(MEMORY_DIRECTORY);
  try {
    const config = { ...CONFIG, paths: { runtime } };
    const options = { name, nodes: 1, podsPerNode: 0, agents: false, config };
    const lab = await createLab(options);
    writeManifests(nodeNamed(lab.plan, NODE).paths.manifests, count);
    const startMs = performance.now();
    const agent = await startAhead(lab);
    using kernel = openKernel(lab);
    const last = SERVICES - 1;
    await until("all services", LIMIT_MS, () => kernel.backends(last) === BACKENDS_PER_SERVICE);
    const readySeconds = (performance.now() - startMs) / 1000;
    await delay(SETTLE_MS);
    const memory = memoryOf(agent.pid);
    const socket = nodeNamed(lab.plan, NODE).paths.socket;
    using api = await openApiClient({ socket, timeoutMs: CALL_LIMIT_MS });
    await addHalves(api, kernel, count);
    const byApi = await changeByApi(api, kernel, count);
    let byFile: readonly number[] = [];
    const fileChange = await longestHold(lab, async () => {
      byFile = await changeByFile(lab, kernel, full ? BY_FILE : 3);
    });
    const later = memoryOf(agent.pid);
    if (full) await delay(TRIMMED_MS);
    const trimmed = memoryOf(agent.pid);
    mkdirSync(preparedIn(lab));
    writeManifests(preparedIn(lab));
    const load = await longestHold(lab, () => reloadAll(lab, kernel, count));
    const idle = await longestHold(lab, () => delay(full ? IDLE_MS : 1000));
    const held = { load, file_change: fileChange, idle };
    report(results, { readySeconds, byApi, byFile, held, memory, later, trimmed });
  } finally {
    await removeLab(name);
    rmSync(runtime, { recursive: true, force: true });
  }
}

/** The agent is in a session of its own, which must be put ahead as well. */
async function startAhead(lab: Lab): Promise<ProcessId> {
  const ready = lab.startAgent(NODE);
  const { pid } = lab.agent(NODE) ?? (await ready);
  goAhead(pid);
  return ready;
}

/** ms that the agent's event loop didn't turn for at most while `act` ran, seen from outside. */
async function longestHold(lab: Lab, act: () => Promise<void>): Promise<number> {
  let [longest, over] = [0, false];
  const watch = async (): Promise<void> => {
    while (!over) {
      const start = performance.now();
      const answer = await lab.fetch(NODE, HTTP_PORT, "/healthz");
      if (answer?.status !== 200) throw new Error("the agent's /healthz gave no answer");
      longest = Math.max(longest, performance.now() - start);
    }
  };
  await Promise.all([watch(), act().finally(() => (over = true))]);
  return longest;
}

/** Has the agent read all services again, some of which have changed, until they are in force. */
async function reloadAll(lab: Lab, kernel: Kernel, count: number): Promise<void> {
  const { manifests } = nodeNamed(lab.plan, NODE).paths;
  const changed = [SERVICES - 1, ...Array.from({ length: count }, (_, index) => index)];
  for (const name of readdirSync(preparedIn(lab))) {
    renameSync(join(preparedIn(lab), name), join(manifests, name));
  }
  await until("all services, read again", LIMIT_MS, () =>
    changed.every((index) => kernel.backends(index) === BACKENDS_PER_SERVICE),
  );
}

/** Where files wait: making them takes this process as long as reading them the agent. */
function preparedIn(lab: Lab): string {
  return `${nodeNamed(lab.plan, NODE).paths.manifests}-prepared`;
}

interface Kernel extends Disposable {
  /** Backends of the service row that service `index`'s frontend leads to now. */
  backends(index: number): number;
}

/** The pinned tables, by the way that a packet takes through them. */
function openKernel(lab: Lab): Kernel {
  const { pins } = nodeNamed(lab.plan, NODE).paths;
  const frontends = TypedMap.openPinned(pins, maps.frontends);
  const services = TypedMap.openPinned(pins, maps.services);
  const mask = frontends.raw.info.maxEntries - 1;
  return {
    backends(index) {
      const address = (VIPS + index) as Ipv4;
      const key = {
        address,
        port: SERVICE_PORT,
        protocol: PROTOCOL.tcp,
        kind: FrontendKind.service,
      };
      const bucket = bucketOf(lowWord(key), highWord(key), mask);
      for (let probe = 0; probe < 4; probe++) {
        const { slot } = frontends.lookup((bucket + probe) & mask) ?? { slot: [] };
        const found = slot.find(
          (one) =>
            one.address === address && one.port === SERVICE_PORT && one.protocol === PROTOCOL.tcp,
        );
        if (found !== undefined) return services.lookup(found.service)?.backendCount ?? 0;
      }
      return 0;
    },
    [Symbol.dispose]() {
      frontends.close();
      services.close();
    },
  };
}

const apiSlice = (index: number, to = BACKENDS_PER_SERVICE): string =>
  sliceText(index, HALF, to, `s${index}-api`);

async function addHalves(api: ApiClient, kernel: Kernel, count: number): Promise<void> {
  for (let index = 0; index < count; index++) await api.apply({ documents: apiSlice(index) });
  await until("the backends that the API was given", LIMIT_MS, () => {
    for (let index = 0; index < count; index++) {
      if (kernel.backends(index) !== BACKENDS_PER_SERVICE) return false;
    }
    return true;
  });
}

/** ms that each call took which removes one backend; it is gone when the call comes back. */
async function changeByApi(api: ApiClient, kernel: Kernel, count: number): Promise<number[]> {
  const took: number[] = [];
  for (let left = BACKENDS_PER_SERVICE - 1; left > HALF; left--) {
    for (let index = 0; index < count; index++) {
      const documents = apiSlice(index, left);
      const start = performance.now();
      const { inForce } = await api.apply({ documents });
      took.push(performance.now() - start);
      const backends = kernel.backends(index);
      if (inForce && backends === left) continue;
      throw new Error(`service s${index} has ${backends} backends after the call`);
    }
  }
  return took.slice(WARM_UP);
}

/** ms from a file's change to the kernel's tables, for one backend of one service in its file. */
async function changeByFile(lab: Lab, kernel: Kernel, count: number): Promise<number[]> {
  const { manifests } = nodeNamed(lab.plan, NODE).paths;
  const index = SERVICES - 1;
  const share = 100;
  const others = manifestOf(SERVICES - share, index);
  const took: number[] = [];
  for (let round = 1; round <= count; round++) {
    const backends = BACKENDS_PER_SERVICE - (round % BACKENDS_PER_SERVICE);
    const text = [others, serviceText(index), sliceText(index, 0, backends)].join("---\n");
    const hidden = join(manifests, ".next");
    writeFileSync(hidden, text);
    const start = performance.now();
    renameSync(hidden, join(manifests, "services-99.yaml"));
    while (kernel.backends(index) !== backends) {
      if (performance.now() - start > CALL_LIMIT_MS) throw new Error("the file's change got lost");
      await new Promise((resolve) => setImmediate(resolve));
    }
    // A backend that comes waits half a second for its first flows: only removals count.
    if (backends < BACKENDS_PER_SERVICE) took.push(performance.now() - start);
  }
  return took;
}

interface Memory {
  /** MiB: what the process has for itself, and what it maps of the kernel's tables. */
  readonly own: number;
  readonly tables: number;
}

function memoryOf(pid: number): Memory {
  let [all, tables, isTable] = [0, 0, false];
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isTable = line.endsWith("anon_inode:bpf-map");
    const kib = /^Rss:\s+(\d+) kB/.exec(line);
    if (kib === null) continue;
    all += Number(kib[1]) / 1024;
    if (isTable) tables += Number(kib[1]) / 1024;
  }
  return { own: all - tables, tables };
}

interface Figures {
  readonly readySeconds: number;
  readonly byApi: readonly number[];
  readonly byFile: readonly number[];
  /** The longest holds of the event loop in ms, by what went on; idle is what asking costs. */
  readonly held: Readonly<Record<"load" | "file_change" | "idle", number>>;
  /** Once it has started, right after all changes, and when garbage has gone back. */
  readonly memory: Memory;
  readonly later: Memory;
  readonly trimmed: Memory;
}

function report(results: Results, figures: Figures): void {
  const { readySeconds, byApi, byFile, held, memory, later, trimmed } = figures;
  const exactly = (value: number) => ({ value, min: value, max: value });
  const rows: string[][] = [];
  const spread = (values: readonly number[], part: number) => ({
    value: part === 0.5 ? median(values) : quantile(values, part),
    min: Math.min(...values),
    max: Math.max(...values),
  });
  for (const [way, values] of [
    ["api", byApi],
    ["file", byFile],
  ] as const) {
    const [p50, p99] = [spread(values, 0.5), spread(values, 0.99)];
    const key = way === "api" ? "control.one_endpoint_change" : "control.one_endpoint_change.file";
    results.add(`${key}.p50.ms`, "ms", p50);
    results.add(`${key}.p99.ms`, "ms", p99);
    if (way === "api") results.add("control.one_endpoint_change.ms", "ms", p99, "p99");
    const texts = [p50.value, p99.value].map((value) => value.toFixed(2));
    rows.push([`one endpoint's change by ${way}, ms: p50, p99`, texts.join(", ")]);
  }
  results.add("control.agent_start_10k_services.seconds", "s", exactly(readySeconds));
  for (const [during, ms] of Object.entries(held)) {
    const vs = during === "idle" ? "" : `${held.idle.toFixed(1)} ms when idle`;
    results.add(`control.longest_hold.${during}.ms`, "ms", exactly(ms), vs);
    rows.push([`longest hold of the event loop, ${during.replace("_", " ")}, ms`, ms.toFixed(1)]);
  }
  results.add("control.rss.mib", "MiB", exactly(memory.own), "without mapped tables");
  results.add("control.rss_after_changes.mib", "MiB", exactly(later.own), "likewise");
  results.add("control.rss_trimmed.mib", "MiB", exactly(trimmed.own), "likewise, 21 s later");
  results.add("control.rss_tables.mib", "MiB", exactly(memory.tables), "mapped tables alone");
  rows.push(["agent's start to all services in the kernel, s", readySeconds.toFixed(2)]);
  rows.push(["memory of the agent without mapped tables, MiB", memory.own.toFixed(0)]);
  rows.push(["the same after those changes, MiB", later.own.toFixed(0)]);
  rows.push(["the same 21 s later, MiB", trimmed.own.toFixed(0)]);
  rows.push(["mapped tables, MiB", memory.tables.toFixed(0)]);
  printTable("An agent with 10 000 services of 10 backends", rows);
}
