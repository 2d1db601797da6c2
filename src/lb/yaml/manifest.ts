// SPDX-License-Identifier: Apache-2.0
import { CORE_SCHEMA, load, YAMLException } from "js-yaml";
import { formatPath, type Remark } from "../shape/field.ts";
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
}

/** The objects of one document of a file, with all that there is to say about them. */
export function readManifest(document: DocumentText): ManifestObject[] {
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
    };
  });
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
  if (!/^(?:---)?\s*[{[]/.test(text)) return load(text, { schema: CORE_SCHEMA });
  const json = text.startsWith("---") ? `   ${text.slice(3)}` : text;
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    // YAML's flow style begins like JSON but allows more, and its errors know their line.
    return load(text, { schema: CORE_SCHEMA });
  }
  const repeated = findRepeatedKey(json);
  if (repeated === undefined) return value;
  const line = json.slice(0, repeated.offset).split("\n").length;
  throw new SyntaxFault(`the key "${repeated.key}" is there twice`, line);
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
