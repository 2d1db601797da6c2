// SPDX-License-Identifier: Apache-2.0

/**
 * Where a JSON text, which has been parsed without an error, has a key for the second time in one
 * object: its offset. JSON.parse takes the last one in silence.
 */
export function findRepeatedKey(json: string): { key: string; offset: number } | undefined {
  const open: (Set<string> | undefined)[] = [];
  let expectsKey = false;
  for (const { 0: token, index } of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    const keys = open.at(-1);
    if (token.startsWith('"') && expectsKey && keys !== undefined) {
      if (keys.has(token)) return { key: String(JSON.parse(token)), offset: index };
      keys.add(token);
    }
    expectsKey = token === "{" || token === ",";
  }
  return undefined;
}
