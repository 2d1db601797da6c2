// SPDX-License-Identifier: Apache-2.0
import type { Plain } from "./kind.ts";
import { type AnyField, type AnySection, isSection, schema } from "./schema.ts";

/** docs/configuration.md, written from the schema. */
export function documentConfig(): string {
  const head = [
    "# Configuration",
    "",
    "<!-- Written from src/config/schema.ts by src/config/generate.ts; a test fails when it differs. -->",
    "",
    "One YAML file per node, `/etc/ciliate/ciliate.yaml` unless `ciliate agent --config` names another;",
    "`deploy/ciliate.yaml` is an example with every key. Every key has a default, and an empty file is a",
    "valid one. A key that isn't listed here is an error.",
    "",
    "**Change**: a key marked `live` is taken over by `ciliate config reload` (or SIGHUP); one marked",
    "`restart` needs a new agent, and the reload says so. A file with a fault changes nothing.",
    "Connections go on in all three cases.",
    "",
    "Durations are written with their unit: `500ms`, `60s`, `90m`, `2h13m20s`, `1d`.",
    "",
  ];
  return [...head, ...documentSection(schema, [])].join("\n");
}

function documentSection(section: AnySection, path: readonly string[]): string[] {
  const rows: string[] = [];
  const inner: string[] = [];
  for (const [key, part] of Object.entries(section.keys)) {
    const here = [...path, key];
    if (isSection(part)) inner.push(...documentSection(part, here));
    else rows.push(documentField(here.join("."), part));
  }
  const doc = section.doc === "" ? [] : [section.doc, ""];
  const head = ["| key | value | default | change | |", "| --- | --- | --- | --- | --- |"];
  return [`## ${path.join(".") || "Top level"}`, "", ...doc, ...head, ...rows, "", ...inner];
}

function documentField(path: string, field: AnyField): string {
  const fallback = inline(field.kind.plain(field.fallback));
  const cells = [`\`${path}\``, field.kind.expected, `\`${fallback}\``, field.change, field.doc];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

/** deploy/ciliate.yaml: every key with its meaning and its default, commented out. */
export function exampleConfig(): string {
  const head = [
    "# Ciliate's configuration of one node: /etc/ciliate/ciliate.yaml",
    "# Every key is optional; what is commented out is its default. docs/configuration.md tells more.",
    "# Written from src/config/schema.ts by src/config/generate.ts; a test fails when it differs.",
    "",
  ];
  return `${[...head, ...exampleKeys(schema, "")].join("\n").trimEnd()}\n`;
}

function exampleKeys(section: AnySection, indent: string): string[] {
  return Object.entries(section.keys).flatMap(([key, part]) => {
    const doc = wrap(part.doc, 96 - indent.length).map((line) => `${indent}# ${line}`);
    if (isSection(part)) return [...doc, `${indent}${key}:`, ...exampleKeys(part, `${indent}  `)];
    return [...doc, `${indent}#${key}: ${inline(part.kind.plain(part.fallback))}`, ""];
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

/** A value on one line, in YAML's flow style. */
export function inline(value: Plain): string {
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const pairs = Object.entries(value).map(([key, inner]) => `${key}: ${inline(inner)}`);
    return `{${pairs.join(", ")}}`;
  }
  return String(value);
}
