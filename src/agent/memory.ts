// SPDX-License-Identifier: Apache-2.0
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type CollectGarbage = (options: {
  readonly type: "major";
  readonly execution: "async";
  readonly flavor: "last-resort";
}) => Promise<void>;

/**
 * Gives memory back that the first reading of all sources needed and nothing needs any more: left
 * alone, V8 keeps it for as long as the process lives.
 */
export async function giveMemoryBack(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as CollectGarbage;
  await collect({ type: "major", execution: "async", flavor: "last-resort" });
}
