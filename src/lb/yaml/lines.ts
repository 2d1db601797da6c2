// SPDX-License-Identifier: Apache-2.0
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import type { Path } from "../shape/field.ts";

/** Documents larger than this are not searched for a line: it would take seconds. */
const MAX_SEARCHED_CHARS = 2 ** 20;

/**
 * The lines of `text`, from 1, on which the values at `paths` begin; of a value that isn't there,
 * the line of what should hold it.
 */
export function findLines(text: string, paths: readonly Path[]): number[] {
  if (text.length > MAX_SEARCHED_CHARS) return paths.map(() => 1);
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const lineAt = (offset: number): number => Math.max(1, counter.linePos(offset).line);
  const resolve = (node: unknown): unknown => (isAlias(node) ? node.resolve(document) : node);
  return paths.map((path) => {
    let node: unknown = resolve(document.contents);
    let offset = (node as Node | null)?.range?.[0] ?? 0;
    for (const key of path) {
      const found = step(node, key);
      if (found === undefined) break;
      offset = found.offset ?? offset;
      node = resolve(found.node);
    }
    return lineAt(offset);
  });
}

/** One step down. A key of a map stands where its name does, not where its value begins. */
function step(
  node: unknown,
  key: string | number,
): { node: unknown; offset: number | undefined } | undefined {
  if (isSeq(node)) {
    const item = node.items[Number(key)] as Node | undefined;
    return item === undefined ? undefined : { node: item, offset: item.range?.[0] };
  }
  if (!isMap(node)) return undefined;
  const pair = node.items.find(({ key: name }) => isScalar(name) && name.value === key);
  if (pair === undefined) return undefined;
  return { node: pair.value, offset: (pair.key as Node | null)?.range?.[0] };
}
