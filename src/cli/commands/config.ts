// SPDX-License-Identifier: Apache-2.0
import type { ConfigValue } from "../../api/gen/ciliate.ts";
import { nearest } from "../../config/nearest.ts";
import { connectAgent } from "../agent-api.ts";
import type { Run } from "../command.ts";
import { CliError } from "../exit.ts";

const DEFAULT_FILE = "/etc/ciliate/ciliate.yaml";

export const getConfig: Run = async (context) => {
  using client = await connectAgent(context);
  const { file, values } = await client.getConfig();
  const [key] = context.args;
  const wanted = key === undefined ? values : values.filter(({ path }) => isUnder(path, key));
  if (wanted.length === 0) throw unknownKey(key ?? "", values);
  const { output } = context;
  if (output.format === "json") {
    output.json(nested(wanted, key));
    return 0;
  }
  const rows = wanted.map(({ path, value, line, pending }) => [
    path,
    inline(JSON.parse(value)),
    line === 0 ? { text: "default", colour: "grey" as const } : `${file}:${line}`,
    pending === ""
      ? ""
      : { text: `after a restart: ${inline(JSON.parse(pending))}`, colour: "yellow" as const },
  ]);
  output.table({
    columns: [{ title: "KEY" }, { title: "VALUE" }, { title: "FROM" }, { title: "" }],
    rows,
  });
  return 0;
};

export const reloadConfig: Run = async (context) => {
  using client = await connectAgent(context);
  const { file, changes } = await client.reloadConfig();
  const { output } = context;
  if (output.format === "json") {
    const read = (text: string): unknown => JSON.parse(text);
    output.json({
      file,
      changes: changes.map((change) => ({
        ...change,
        from: read(change.from),
        to: read(change.to),
      })),
    });
    return 0;
  }
  if (changes.length === 0) output.write(`${file}: nothing has changed\n`);
  for (const { path, from, to, applied } of changes) {
    const change = `${path}: ${inline(JSON.parse(from))} -> ${inline(JSON.parse(to))}`;
    const need = output.paint("yellow", "needs a restart of the agent");
    output.write(`${change} (${applied ? "in force" : need})\n`);
  }
  return 0;
};

export const checkConfig: Run = async ({ args, env, output }) => {
  const file = args[0] ?? env["CILIATE_CONFIG"] ?? DEFAULT_FILE;
  const { ConfigError, loadConfig } = await import("../../config/load.ts");
  try {
    loadConfig(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (output.format !== "json") throw error;
    output.json({ file, problems: error.problems });
    return 1;
  }
  if (output.format === "json") output.json({ file, problems: [] });
  else output.write(`${file}: no faults\n`);
  return 0;
};

function isUnder(path: string, key: string): boolean {
  return path === key || path.startsWith(`${key}.`);
}

function unknownKey(key: string, values: readonly ConfigValue[]): CliError {
  const near = nearest(
    key,
    values.map(({ path }) => path),
  );
  const hint = near === undefined ? "see: ciliate config get" : `did you mean "${near}"?`;
  return new CliError("notFound", `there is no key "${key}"; ${hint}`);
}

/** The values as the file nests them; a single key's value is itself. */
function nested(values: readonly ConfigValue[], key: string | undefined): unknown {
  const root: Record<string, unknown> = {};
  for (const { path, value } of values) {
    if (path === key) return JSON.parse(value);
    let section = root;
    const names = path.split(".");
    for (const name of names.slice(0, -1)) {
      section[name] ??= {};
      section = section[name] as Record<string, unknown>;
    }
    section[names.at(-1) ?? ""] = JSON.parse(value);
  }
  return root;
}

function inline(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
