// SPDX-License-Identifier: Apache-2.0
// What a person waits for: the command line's answer, and a lab.

import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import type { Budget } from "./budget.ts";
import { printTable, type Results } from "./results.ts";
import { type Contender, interleave, type Summary, summarize } from "./statistics.ts";

const PROGRAM = resolve(import.meta.dirname, "../bin/ciliate");
const LAB = ["--nodes", "3", "--pods-per-node", "4"] as const;
const LABS = 5;

/** ms that a command takes to its end; throws when it fails. */
function timed(program: string, words: readonly string[], env: NodeJS.ProcessEnv = {}): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(program, words, {
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  const took = performance.now() - start;
  if (status === 0) return took;
  throw new Error(`${program} ${words.join(" ")} ended with ${status}: ${stderr}`);
}

/** `ciliate version` beside Node doing nothing, and a lab of 3 nodes with 4 pods each. */
export function benchCli(results: Results, { rounds }: Budget): void {
  const rows = [["", "ms: median (min–max)"]];
  const add = (name: string, title: string, summary: Summary, vs = ""): void => {
    results.add(name, "ms", summary, vs);
    const [value, min, max] = [summary.value, summary.min, summary.max].map(Math.round);
    rows.push([title, `${value} (${min}–${max})`]);
  };
  const versions = interleave(contenders(), rounds);
  const nothing = versions.get("node");
  if (nothing !== undefined) add("cli.node.ms", "node -e 0", nothing);
  for (const form of ["sources", "bundle"]) {
    const took = versions.get(form);
    if (took === undefined) continue;
    const more = (took.value - (nothing?.value ?? 0)).toFixed(0);
    add(
      `cli.version.${form}.ms`,
      `ciliate version, ${form}`,
      took,
      `${more} ms more than node -e 0`,
    );
  }
  const title = `ciliate lab up ${LAB.join(" ")}`;
  add("cli.lab_up.ms", title, summarize(labs(rounds > 5 ? LABS : 1)));
  printTable("The command line", rows);
}

function contenders(): Contender[] {
  const version = (name: string, bundle: string): Contender => ({
    name,
    sample: () => timed(PROGRAM, ["version"], { CILIATE_BUNDLE: bundle }),
  });
  const node = { name: "node", sample: () => timed(process.execPath, ["-e", "0"]) };
  return [node, version("sources", "0"), version("bundle", "1")];
}

function labs(count: number): number[] {
  const name = `bench${process.pid % 100_000}u`;
  return Array.from({ length: count }, () => {
    try {
      return timed(PROGRAM, ["lab", "up", "--name", name, ...LAB]);
    } finally {
      timed(PROGRAM, ["lab", "down", "--name", name]);
    }
  });
}
