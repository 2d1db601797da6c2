// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { formatPortRange, quote } from "./kind.ts";
import { nearest } from "./nearest.ts";
import { type AnySection, type Config, fields, isSection, schema } from "./schema.ts";
import { type Problem, readYaml, type YamlEntry, type YamlMap, type YamlNode } from "./yaml.ts";

/** A configuration and where it came from. */
export interface LoadedConfig {
  readonly config: Config;
  readonly file: string;
  /** Dotted path of a key → its line in the file; a key that isn't here has its default. */
  readonly lines: ReadonlyMap<string, number>;
}

/** A file that is no configuration: every fault of it, each with its line. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: ErrorOptions) {
    super(problems.join("\n"), options);
    this.problems = problems;
  }
}

/** Reads and checks the file; throws ConfigError with all of its faults. */
export function loadConfig(file: string): LoadedConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError([`cannot read the configuration: ${reason}`], { cause: error });
  }
  return parseConfig(text, file);
}

/** Checks the text of a file named `file`; throws ConfigError with all of its faults. */
export function parseConfig(text: string, file: string): LoadedConfig {
  const yaml = readYaml(text);
  if (!yaml.ok) throw new ConfigError(describe(yaml.problems, file));
  const reading: Reading = { problems: [], lines: new Map() };
  const config = readSection(schema, yaml.root, [], reading) as Config;
  if (reading.problems.length === 0) checkTogether(config, reading);
  if (reading.problems.length > 0) throw new ConfigError(describe(reading.problems, file));
  return { config, file, lines: reading.lines };
}

/** The configuration of an empty file. */
export function defaultConfig(): Config {
  return parseConfig("", "defaults").config;
}

/** The API socket's path. */
export function socketPath(config: Config): string {
  const { runtime, socket } = config.paths;
  return isAbsolute(socket) ? socket : join(runtime, socket);
}

interface Reading {
  readonly problems: Problem[];
  readonly lines: Map<string, number>;
}

function readSection(
  section: AnySection,
  node: YamlNode | undefined,
  path: readonly string[],
  reading: Reading,
): Record<string, unknown> {
  const entries = entriesOf(node, path, reading);
  for (const entry of entries) checkKnown(section, entry, path, reading);
  const values: Record<string, unknown> = {};
  for (const [key, part] of Object.entries(section.keys)) {
    const entry = entries.find((candidate) => candidate.key === key);
    const here = [...path, key];
    if (isSection(part)) {
      values[key] = readSection(part, entry?.value, here, reading);
    } else if (entry === undefined) {
      values[key] = part.fallback;
    } else {
      reading.lines.set(here.join("."), entry.keyAt.line);
      values[key] = part.kind.read(entry.value, (at, text) =>
        reading.problems.push({ at: at.at, path: here.join("."), text }),
      );
    }
  }
  return values;
}

function entriesOf(
  node: YamlNode | undefined,
  path: readonly string[],
  reading: Reading,
): YamlMap["entries"] {
  if (node === undefined || (node.kind === "scalar" && node.value === null)) return [];
  if (node.kind === "map") return node.entries;
  const text = `expected a section with keys, got ${quote(node)}`;
  reading.problems.push({ at: node.at, path: path.join("."), text });
  return [];
}

function checkKnown(
  section: AnySection,
  entry: YamlEntry,
  path: readonly string[],
  reading: Reading,
): void {
  if (Object.hasOwn(section.keys, entry.key)) return;
  const text = `unknown key "${entry.key}"; ${suggestion(section, entry.key)}`;
  reading.problems.push({ at: entry.keyAt, path: path.join("."), text });
}

/** The nearest key of this section, else a key of that name elsewhere, else what there is. */
function suggestion(section: AnySection, key: string): string {
  const here = Object.keys(section.keys);
  const near = nearest(key, here);
  if (near !== undefined) return `did you mean "${near}"?`;
  const elsewhere = new Map<string, string>();
  for (const { path } of fields()) elsewhere.set(path.at(-1) ?? "", path.join("."));
  const far = nearest(key, elsewhere.keys());
  if (far !== undefined) return `did you mean "${elsewhere.get(far)}"?`;
  return `known here: ${here.join(", ")}`;
}

/** What no key can say alone. */
function checkTogether(config: Config, reading: Reading): void {
  const refuse = (path: string, text: string): void => {
    const at = { line: reading.lines.get(path) ?? 1, column: 1 };
    reading.problems.push({ at, path, text });
  };
  if (config.outerSource !== "node" && config.outerSource.length > 30) {
    refuse("outerSource", "expected a prefix of at most 30 bits, so that a hash has room");
  }
  if (Array.isArray(config.devices) && new Set(config.devices).size < config.devices.length) {
    refuse("devices", "a device stands here twice");
  }
  checkPorts(config, refuse);
  const socket = socketPath(config);
  if (Buffer.byteLength(socket) > 90) {
    refuse("paths.socket", `${socket} is too long: the kernel takes socket paths of 107 bytes`);
  }
}

function checkPorts(
  { nodePort, snat }: Config,
  refuse: (path: string, text: string) => void,
): void {
  const { first, last } = snat.ports;
  if (first < 1024 || last !== 65_535) {
    refuse("snat.ports", "expected ports from 1024 or more up to 65535");
  }
  if (nodePort.range !== "off" && nodePort.range.last >= first) {
    const [ours, theirs] = [formatPortRange(snat.ports), formatPortRange(nodePort.range)];
    refuse("nodePort.range", `${theirs} has ports of snat.ports, which are ${ours}`);
  }
}

function describe(problems: readonly Problem[], file: string): string[] {
  const sorted = problems.toSorted((a, b) => a.at.line - b.at.line || a.at.column - b.at.column);
  return sorted.map(({ at, path, text }) => {
    const key = path === "" ? "" : `${path}: `;
    return `${file}:${at.line}:${at.column}: ${key}${text}`;
  });
}
