// SPDX-License-Identifier: Apache-2.0
import { createWriteStream, statSync, unlinkSync } from "node:fs";
import { hostname } from "node:os";
import { basename } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { ApiClient } from "../../api/client.ts";
import type { ConfigValue } from "../../api/gen/ciliate.ts";
import { connectAgent } from "../agent-api.ts";
import type { Context, Run } from "../command.ts";
import {
  agentParts,
  configPart,
  kernelParts,
  logPart,
  metricsPart,
  ownParts,
  type Part,
  type Places,
  tableParts,
} from "../debug-parts.ts";
import { CliError } from "../exit.ts";
import { formatBytes } from "../output.ts";
import { pinsOf } from "../pins.ts";
import { TAR_END, tarEntry } from "../tar.ts";

const DEFAULT_FILE = "/etc/ciliate/ciliate.yaml";
const ENDING = /\.(tar\.gz|tgz)$/;

export const debuginfo: Run = async (context) => {
  const file = fileOf(context);
  const agent = connectAgent(context);
  agent.catch(() => undefined); // each file that misses it tells
  const report: Report = { files: [], missing: [] };
  try {
    const parts = await collect(context, agent, report);
    await writeArchive(file, parts, report, context.signal);
  } finally {
    await agent.then((client) => client[Symbol.dispose]()).catch(() => undefined);
  }
  tell(context, file, report);
  return 0;
};

function fileOf({ option }: Context): string {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const file = option("write") ?? `ciliate-debuginfo-${hostname()}-${time}.tar.gz`;
  if (ENDING.test(file)) return file;
  throw new CliError("usage", `--write: expected a name that ends in .tar.gz, got "${file}"`);
}

/** What is in the archive, and what isn't, or not as a whole, with the reason. */
interface Report {
  readonly files: string[];
  readonly missing: { readonly what: string; readonly why: string }[];
}

async function collect(
  context: Context,
  agent: Promise<ApiClient>,
  { missing }: Report,
): Promise<Part[]> {
  const places = await findPlaces(context, agent);
  const status = agent.then((client) => client.getStatus());
  status.catch(() => undefined);
  const tables = await tableParts(places).catch((error: unknown): Part[] => {
    missing.push({ what: "tables/", why: reasonOf(error) });
    return [];
  });
  return [
    ...ownParts(),
    ...agentParts(agent),
    configPart(places.configFile),
    metricsPart(places),
    ...kernelParts(places),
    ...tables,
    logPart(status, places),
  ];
}

/** What the command line and the environment say, else the agent, else its file. */
async function findPlaces(context: Context, agent: Promise<ApiClient>): Promise<Places> {
  const { option, env } = context;
  const answer = await agent.then((client) => client.getConfig()).catch(() => undefined);
  const configFile = option("config") ?? answer?.file ?? env["CILIATE_CONFIG"] ?? DEFAULT_FILE;
  const { formatListen, loadConfig } = await configDoor();
  let file: Pick<Places, "pins" | "metrics"> | undefined;
  try {
    const { metrics, paths } = loadConfig(configFile).config;
    const listen = metrics.listen === "off" ? "off" : formatListen(metrics.listen);
    file = { pins: paths.bpffs, metrics: listen };
  } catch {
    // config.json tells.
  }
  const values = answer?.values ?? [];
  const isTold = (option("bpffs") ?? env["CILIATE_BPFFS"]) !== undefined;
  const known = configured(values, "paths.bpffs") ?? file?.pins;
  return {
    configFile,
    pins: isTold ? pinsOf(context) : (known ?? pinsOf(context)),
    metrics: configured(values, "metrics.listen") ?? file?.metrics,
  };
}

async function configDoor() {
  const [{ loadConfig }, { formatListen }] = await Promise.all([
    import("../../config/load.ts"),
    import("../../config/kind.ts"),
  ]);
  return { loadConfig, formatListen };
}

function configured(values: readonly ConfigValue[], path: string): string | undefined {
  const found = values.find((one) => one.path === path);
  return found === undefined ? undefined : String(JSON.parse(found.value));
}

/** Each part is read when its turn comes, and forgotten once it is packed. */
async function* pack(file: string, parts: readonly Part[], report: Report): AsyncGenerator<Buffer> {
  const folder = folderOf(file);
  const entry = (path: string, text: string): Buffer => {
    report.files.push(path);
    return tarEntry(`${folder}/${path}`, Buffer.from(text), Date.now());
  };
  for (const { path, read } of parts) {
    try {
      const text = await read((why) => void report.missing.push({ what: path, why }));
      yield entry(path, text);
    } catch (error) {
      report.missing.push({ what: path, why: reasonOf(error) });
    }
  }
  const lines = report.missing.map(({ what, why }) => `${what}: ${why}\n`);
  yield entry("missing.txt", lines.join("") || "nothing is missing\n");
  yield TAR_END;
}

const MAX_FOLDER_BYTES = 60;

function folderOf(file: string): string {
  const name = basename(file).replace(ENDING, "");
  return name !== "" && Buffer.byteLength(name) <= MAX_FOLDER_BYTES ? name : "ciliate-debuginfo";
}

/** Makes a new file for its owner only; none is left of what fails. */
async function writeArchive(
  file: string,
  parts: readonly Part[],
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  const out = createWriteStream(file, { flags: "wx", mode: 0o600 });
  const opened = new Promise((resolve, reject) => out.once("open", resolve).once("error", reject));
  await opened.catch((error: NodeJS.ErrnoException) => {
    const hint = error.code === "EEXIST" ? "it is there already; name another file" : error.message;
    throw new CliError("failed", `cannot write ${file}: ${hint}`, { cause: error });
  });
  try {
    await pipeline(Readable.from(pack(file, parts, report)), createGzip(), out, { signal });
  } catch (error) {
    unlinkSync(file);
    throw new CliError("failed", `cannot write ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

function tell({ output }: Context, file: string, { files, missing }: Report): void {
  if (output.format === "json") {
    output.json({ file, files, missing });
    return;
  }
  const size = formatBytes(statSync(file).size);
  output.write(`${file}: ${files.length} files, ${size}; it has addresses and names\n`);
  if (missing.length === 0) return;
  output.write(`${output.paint("yellow", "missing or cut")}\n`);
  for (const { what, why } of missing) output.write(`  ${what}: ${why}\n`);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
