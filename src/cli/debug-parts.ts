// SPDX-License-Identifier: Apache-2.0
// What `ciliate debuginfo` collects, file by file.

import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
} from "node:fs";
import { get } from "node:http";
import { arch, cpus, freemem, hostname, release, totalmem, uptime, version } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import type { ApiClient } from "../api/client.ts";
import type { GetStatusResponse } from "../api/gen/ciliate.ts";
import { VERSION } from "../config/version.ts";
import { jsonText } from "./output.ts";
import { hideCredentials, withoutSecrets } from "./secrets.ts";

/** One file of the archive. */
export interface Part {
  readonly path: string;
  /** Its text; a rejection says why it is missing. `cut` tells that it isn't the whole. */
  readonly read: (cut: (why: string) => void) => string | Promise<string>;
}

/** Where things of the node are. */
export interface Places {
  readonly configFile: string;
  readonly pins: string;
  /** `metrics.listen` as the configuration has it; undefined when that isn't known. */
  readonly metrics: string | undefined;
}

/** The door to what loads libbpf. */
const mapDoor = () => import("../datapath/dump-map.ts");
const factsDoor = () => import("../datapath/node-facts.ts");

const MAX_TABLE_BYTES = 4 * 2 ** 20;
const MAX_TABLE_MS = 5000;
const MAX_LOG_BYTES = 4 * 2 ** 20;
const MAX_ROUTES = 20_000;
const METRICS_MS = 5000;

/** What the machine and this program are. */
export function ownParts(): Part[] {
  return [
    {
      path: "version.json",
      read: () => jsonText({ version: VERSION, nodeVersion: process.versions.node }),
    },
    {
      path: "system.json",
      read: () =>
        jsonText({
          host: hostname(),
          kernel: release(),
          kernelBuild: version(),
          architecture: arch(),
          cpus: cpus().length,
          memoryBytes: { all: totalmem(), free: freemem() },
          uptimeSeconds: uptime(),
          collected: new Date().toISOString(),
        }),
    },
  ];
}

/** What the agent says, as `-o json` shows it. */
export function agentParts(agent: Promise<ApiClient>): Part[] {
  const asking = (name: string, ask: (client: ApiClient) => Promise<unknown>): Part => ({
    path: `agent/${name}.json`,
    read: async () => jsonText(await ask(await agent)),
  });
  const every = { namespace: "", name: "", backends: false };
  return [
    asking("version", (client) => client.getVersion()),
    asking("status", (client) => client.getStatus()),
    asking("config", async (client) => plainConfig(await client.getConfig())),
    asking("services", (client) => allOf(client.listServices(every))),
    asking("backends", (client) => allOf(client.listBackends({ namespace: "", service: "" }))),
  ];
}

async function allOf<Row>(rows: AsyncIterable<Row>): Promise<Row[]> {
  const all: Row[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

type AgentConfig = Awaited<ReturnType<ApiClient["getConfig"]>>;

function plainConfig({ file, values }: AgentConfig): unknown {
  const read = (path: string, json: string): unknown =>
    json === "" ? undefined : withoutSecrets(JSON.parse(json), path);
  return {
    file,
    values: values.map(({ path, value, line, pending }) => ({
      path,
      value: read(path, value),
      line,
      pending: read(path, pending),
    })),
  };
}

/** The file's keys; never its text, which may hold more than keys. */
export function configPart(file: string): Part {
  return {
    path: "config.json",
    read: async () => {
      const [{ ConfigError, loadConfig }, { fields }, { plainAt }] = await Promise.all([
        import("../config/load.ts"),
        import("../config/schema.ts"),
        import("../config/change.ts"),
      ]);
      try {
        const { config, lines } = loadConfig(file);
        const values = [...fields()].map(({ path, field }) => {
          const key = path.join(".");
          const value = withoutSecrets(plainAt(config, path, field), key);
          return { path: key, value, line: lines.get(key) ?? 0 };
        });
        return jsonText({ file, values });
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        const quoted = /"(?:[^"\\]|\\.)*"/g;
        throw new Error(error.message.replace(quoted, '"(removed)"'), { cause: error });
      }
    },
  };
}

/** What the agent's HTTP server says, and what the kernel counts. */
export function metricsPart({ metrics }: Places): Part {
  return {
    path: "metrics.txt",
    read: async () => {
      if (metrics === undefined) throw new Error("metrics.listen isn't known: no configuration");
      if (metrics === "off") throw new Error("metrics.listen is off");
      const signal = AbortSignal.timeout(METRICS_MS);
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      get(`http://${metrics}/metrics`, { signal }, (response) => {
        text(response).then(resolve, reject);
      }).on("error", (error) =>
        reject(new Error(`no answer from ${metrics}/metrics: ${error.message}`, { cause: error })),
      );
      return promise;
    },
  };
}

/** Programs, pins and the network around them, of the calling namespace. */
export function kernelParts({ pins }: Places): Part[] {
  type Facts = Awaited<ReturnType<typeof factsDoor>>;
  const fact = (name: string, read: (facts: Facts) => unknown): Part => ({
    path: `${name}.json`,
    read: async () => jsonText(read(await factsDoor())),
  });
  return [
    fact("sysctls", (facts) => facts.readSysctls()),
    fact("devices", (facts) => facts.readDevices()),
    {
      path: "network.json",
      read: async (cut) => {
        const network = (await factsDoor()).readNetwork(MAX_ROUTES);
        for (const [what, count] of Object.entries(network.counts)) {
          if (count > MAX_ROUTES) cut(`has ${MAX_ROUTES} of ${count} ${what}`);
        }
        return jsonText(network);
      },
    },
    fact("pins", (facts) => facts.readPins(pins)),
    fact("programs", (facts) => facts.readPrograms(pins)),
  ];
}

/** A file with one line of JSON for each element, for every table that is pinned. */
export async function tableParts({ pins }: Places): Promise<Part[]> {
  const { dumpMap, pinnedMaps } = await mapDoor();
  const found = pinnedMaps(pins).filter(({ hasElements }) => hasElements);
  if (found.length === 0) throw new Error(`there are no tables in ${pins}`);
  return found.map(({ name }) => ({
    path: `tables/${name}.jsonl`,
    read: (cut) => {
      const end = performance.now() + MAX_TABLE_MS;
      const lines: string[] = [];
      let sizeBytes = 0;
      for (const entry of dumpMap(pins, name, false)) {
        if (sizeBytes > MAX_TABLE_BYTES || performance.now() > end) {
          cut(`has the first ${lines.length} entries; ciliate map dump ${name} has all`);
          break;
        }
        const line = jsonText(entry, true);
        sizeBytes += line.length;
        lines.push(line);
      }
      return lines.join("");
    },
  }));
}

/** The end of the agent's log, where its standard error or a lab's agent.log is a file. */
export function logPart(status: Promise<GetStatusResponse>, { configFile }: Places): Part {
  return {
    path: "agent.log",
    read: async (cut) => {
      const pid = await status.then((answer) => answer.pid).catch(() => undefined);
      const file = logOf(pid) ?? join(dirname(configFile), "agent.log");
      if (existsSync(file)) return hideCredentials(endOf(file, cut));
      throw new Error("the agent's log is no file that is known; try: journalctl -u ciliate");
    },
  };
}

/** The file that an agent's standard error is. */
function logOf(pid: number | undefined): string | undefined {
  if (pid === undefined) return undefined;
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    if (!words.includes("agent")) return undefined;
    const target = readlinkSync(`/proc/${pid}/fd/2`);
    return target.startsWith("/") && !target.startsWith("/dev/") ? target : undefined;
  } catch {
    return undefined;
  }
}

function endOf(file: string, cut: (why: string) => void): string {
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, MAX_LOG_BYTES));
    const read = readSync(fd, bytes, 0, bytes.length, size - bytes.length);
    if (size > bytes.length) cut(`has the last ${bytes.length} of ${size} bytes of ${file}`);
    return bytes.toString("utf8", 0, read);
  } finally {
    closeSync(fd);
  }
}
