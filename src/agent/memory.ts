// SPDX-License-Identifier: Apache-2.0

// Memory that nothing needs any more goes back to the system. bin/ciliate has V8's part of it.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { trimHeap } from "../kernel/ffi.ts";

type CollectGarbage = (options: {
  readonly type: "major";
  readonly execution: "async";
  readonly flavor: "last-resort";
}) => Promise<void>;

/** How often what was freed outside of V8's heap goes back: it takes some milliseconds. */
const TRIM_MS = 20_000;

/**
 * Gives memory back that the first reading of all sources needed and nothing needs any more: left
 * alone, V8 keeps it for as long as the process lives.
 */
export async function giveMemoryBack(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as CollectGarbage;
  await collect({ type: "major", execution: "async", flavor: "last-resort" });
  await trimHeap();
}

/**
 * From time to time gives back what rings and compilers of before have left: the C library keeps
 * what is freed in the middle of its heaps.
 */
export function trimRegularly(): Disposable {
  const timer = setInterval(() => void trimHeap(), TRIM_MS).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
