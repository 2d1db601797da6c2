// SPDX-License-Identifier: Apache-2.0
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from "yaml";

/** Where something stands in a file; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A YAML value that still knows where it was written. */
export type YamlNode = YamlScalar | YamlList | YamlMap;

export interface YamlScalar {
  readonly kind: "scalar";
  readonly value: string | number | boolean | null;
  readonly at: Position;
}

export interface YamlList {
  readonly kind: "list";
  readonly items: readonly YamlNode[];
  readonly at: Position;
}

export interface YamlMap {
  readonly kind: "map";
  readonly entries: readonly YamlEntry[];
  readonly at: Position;
}

export interface YamlEntry {
  readonly key: string;
  readonly keyAt: Position;
  readonly value: YamlNode;
}

/** A fault in a file; `path` is the dotted key it belongs to, empty for the whole file. */
export interface Problem {
  readonly at: Position;
  readonly path: string;
  readonly text: string;
}

export type YamlResult =
  | { readonly ok: true; readonly root: YamlNode }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** Reads one YAML document; an empty text is an empty map. */
export function readYaml(text: string): YamlResult {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  if (!Array.isArray(documents) || documents.length === 0) {
    return { ok: true, root: { kind: "map", entries: [], at: { line: 1, column: 1 } } };
  }
  const position = (node: Node | null): Position => positionOf(lines, node?.range?.[0] ?? 0);
  const problems: Problem[] = documents.flatMap((document) =>
    document.errors.map((error) => ({
      at: positionOf(lines, error.pos[0]),
      path: "",
      text: `not YAML: ${lowerFirst(error.message)}`,
    })),
  );
  const [first, second] = documents;
  if (second !== undefined && problems.length === 0) {
    const at = position(second.contents);
    problems.push({ at, path: "", text: "a second document: the file holds one" });
  }
  if (first === undefined || problems.length > 0) return { ok: false, problems };
  const resolve = (node: Node | null): Node | null =>
    isAlias(node) ? (node.resolve(first) ?? null) : node;
  const reading: Reading = { position, resolve, repeated: 0, tooLargeAt: undefined };
  const root = convert(first.contents, reading, 0, undefined);
  const { tooLargeAt: at } = reading;
  if (at === undefined) return { ok: true, root };
  const tooLarge = "its aliases make it far too large: write out what they stand for";
  return { ok: false, problems: [{ at, path: "", text: tooLarge }] };
}

/** Aliases can nest a file into itself without end; nothing of ours is deeper than this. */
const MAX_DEPTH = 16;

/** Values that aliases repeat: a few lines can stand for billions of them. */
const MAX_REPEATED = 1000;

interface Reading {
  readonly position: (node: Node | null) => Position;
  readonly resolve: (node: Node | null) => Node | null;
  /** Values within aliases so far. */
  repeated: number;
  /** The alias with which they became too many. */
  tooLargeAt: Position | undefined;
}

function convert(
  written: Node | null,
  reading: Reading,
  depth: number,
  alias: Position | undefined,
): YamlNode {
  const at = reading.position(written);
  const from = alias ?? (isAlias(written) ? at : undefined);
  if (from !== undefined && ++reading.repeated > MAX_REPEATED) reading.tooLargeAt ??= from;
  const ends = depth > MAX_DEPTH || reading.tooLargeAt !== undefined;
  const node = ends ? null : reading.resolve(written);
  const inner = (child: unknown): YamlNode =>
    convert(child as Node | null, reading, depth + 1, from);
  if (isSeq(node)) return { kind: "list", items: node.items.map(inner), at };
  if (isMap(node)) {
    const entries = node.items.map((pair) => ({
      key: String(isScalar(pair.key) ? pair.key.value : pair.key),
      keyAt: reading.position(pair.key as Node | null),
      value: pair.value === null ? { ...inner(null), at } : inner(pair.value),
    }));
    return { kind: "map", entries, at };
  }
  const value = isScalar(node) ? node.value : null;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return { kind: "scalar", value, at };
  }
  return { kind: "scalar", value: value === null ? null : String(value), at };
}

function positionOf(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(1, line), column: Math.max(1, col) };
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
