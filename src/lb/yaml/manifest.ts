// SPDX-License-Identifier: Apache-2.0
import { CORE_SCHEMA, load, YAMLException } from "js-yaml";
import { formatPath, type Path, type Remark } from "../shape/field.ts";
import { type ManifestRow, objectId, readDocument } from "../shape/object.ts";
import { findRepeatedKey } from "./json.ts";
import { findLines } from "./lines.ts";
import type { DocumentText } from "./split.ts";

/** A remark with its place in the file. */
export interface Located {
  readonly line: number;
  /** `spec.ports[0].port`; empty for the document as a whole. */
  readonly field: string;
  readonly text: string;
}

/** One object of a file. */
export interface ManifestObject {
  /** `Service default/web`; undefined where it can't even be guessed. */
  readonly id: string | undefined;
  /** Where it begins. */
  readonly line: number;
  /** Undefined with a fault, and for an object that gives no row. */
  readonly content: ManifestRow | undefined;
  readonly faults: readonly Located[];
  readonly warnings: readonly Located[];
  /** The object as a document of its own; where it was asked for, of objects that give a row. */
  readonly source?: string;
}

/** Objects and values of a YAML document, with those that aliases repeat, per character. */
const MAX_VALUES_PER_CHARACTER = 10;

/** The objects of one document of a file, with all that there is to say about them. */
export function readManifest(document: DocumentText): ManifestObject[] {
  return read(document, false);
}

/** The same, each object with its source. */
export function readManifestSources(document: DocumentText): ManifestObject[] {
  return read(document, true);
}

function read(document: DocumentText, withSource: boolean): ManifestObject[] {
  const { text, line } = document;
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    const { faultLine, reason } = explain(error, text);
    const fault = { line: line + faultLine - 1, field: "", text: reason };
    const begins = line + firstLine(text) - 1;
    return [{ id: guessId(text), line: begins, content: undefined, faults: [fault], warnings: [] }];
  }
  return readDocument(value).map(({ path, id, content, faults, warnings }) => {
    const remarks = [...faults, ...warnings];
    const searched = remarks.length > 0 || path.length > 0;
    const paths = [path, ...remarks.map((remark) => remark.path)];
    const [first = 1, ...lines] = searched ? findLines(text, paths) : [firstLine(text)];
    const locate = (remark: Remark, index: number): Located => ({
      line: line + (lines[index] ?? 1) - 1,
      field: formatPath(remark.path),
      text: remark.text,
    });
    return {
      id,
      line: line + first - 1,
      content,
      faults: faults.map(locate),
      warnings: warnings.map((remark, index) => locate(remark, faults.length + index)),
      ...(withSource && content !== undefined ? { source: sourceOf(text, value, path) } : {}),
    };
  });
}

/** An item of a List as a JSON document; what isn't in a List is its document. */
function sourceOf(text: string, document: unknown, path: Path): string {
  if (path.length === 0) return text;
  const item = path.reduce<unknown>((value, key) => Object(value)[key], document);
  return JSON.stringify(item);
}

/** A text that is not JSON or not YAML, and where it isn't. */
class SyntaxFault extends Error {
  readonly line: number;

  constructor(message: string, line: number) {
    super(message);
    this.line = line;
  }
}

function parse(text: string): unknown {
  if (!/^(?:---)?\s*[{[]/.test(text)) return parseYaml(text);
  const json = text.startsWith("---") ? `   ${text.slice(3)}` : text;
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    // YAML's flow style begins like JSON but allows more, and its errors know their line.
    return parseYaml(text);
  }
  const repeated = findRepeatedKey(json);
  if (repeated === undefined) return value;
  const line = json.slice(0, repeated.offset).split("\n").length;
  throw new SyntaxFault(`the key "${repeated.key}" is there twice`, line);
}

function parseYaml(text: string): unknown {
  const value = load(text, { schema: CORE_SCHEMA });
  const limit = text.length * MAX_VALUES_PER_CHARACTER;
  if (text.includes("*") && exceeds(value, limit)) {
    throw new SyntaxFault("its aliases make it far too large: write out what they stand for", 1);
  }
  return value;
}

/** Whether a value holds more than `limit` others, where one counts as often as it is named. */
function exceeds(value: unknown, limit: number): boolean {
  const open: unknown[] = [value];
  let count = 0;
  while (open.length > 0) {
    const next = open.pop();
    if (typeof next !== "object" || next === null) continue;
    for (const inner of Object.values(next)) {
      if (++count > limit) return true;
      open.push(inner);
    }
  }
  return false;
}

function explain(error: unknown, text: string): { faultLine: number; reason: string } {
  if (error instanceof SyntaxFault) return { faultLine: error.line, reason: error.message };
  if (!(error instanceof YAMLException)) {
    const reason = error instanceof Error ? error.message : String(error);
    return { faultLine: 1, reason: `not YAML: ${reason}` };
  }
  const faultLine = (error.mark?.line ?? 0) + 1;
  if (error.reason !== "duplicated mapping key") {
    return { faultLine, reason: `not YAML: ${error.reason}` };
  }
  const key = /^[\s-]*([^:]*)/.exec(text.split("\n")[faultLine - 1] ?? "")?.[1] ?? "";
  return { faultLine, reason: `the key "${key.trim()}" is there twice` };
}

/** The line of the text's first content, from 1. */
function firstLine(text: string): number {
  const lines = text.split("\n", 64);
  const index = lines.findIndex((line) => !/^(---)?\s*(#.*)?$/.test(line));
  return Math.max(0, index) + 1;
}

/**
 * Which object a text that can't be parsed is meant to be, by its lines: so that the object's
 * previous version stays in force, and not those of the whole file.
 */
function guessId(text: string): string | undefined {
  const kind = /^kind:[ \t]*["']?(\w+)["']?[ \t\r]*$/m.exec(text)?.[1];
  const block = /^metadata:[ \t\r]*\n((?:[ \t]+.*\n?|[ \t\r]*\n)*)/m.exec(text)?.[1];
  if (kind === undefined || block === undefined) return undefined;
  const indent = /^[ \t]+/.exec(block)?.[0] ?? "";
  const read = (key: string): string | undefined =>
    new RegExp(`^${indent}${key}:[ \\t]*["']?([-a-z0-9.]+)["']?[ \\t\\r]*$`, "m").exec(block)?.[1];
  const name = read("name");
  return name === undefined ? undefined : objectId(kind, read("namespace") ?? "default", name);
}
