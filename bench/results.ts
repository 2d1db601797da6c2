// SPDX-License-Identifier: Apache-2.0
// What was measured: bench/results.json for programs, tables for people.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { resolve } from "node:path";
import type { Summary } from "./statistics.ts";

const PATH = resolve(import.meta.dirname, "results.json");

/** One figure. */
export interface Result {
  readonly value: number;
  readonly unit: string;
  readonly min: number;
  readonly max: number;
  /** What it was compared with in the same run, and how it stands to that. */
  readonly vs: string;
}

/** What a figure is of. */
export interface Run {
  /** As main.ts names it. */
  readonly group: string;
  /** Short; with a `+` where the tree had other changes than the bench's own files. */
  readonly commit: string;
  /** Of UTC, YYYY-MM-DD. */
  readonly date: string;
  /** As `uname -r` has it. */
  readonly kernel: string;
  readonly cores: number;
}

/** A figure as results.json has it. */
export interface Recorded extends Result {
  readonly run: Run;
}

export type Figures = Readonly<Record<string, Recorded>>;

/** Figures of one group by name, in the order in which they came. */
export class Results {
  readonly #results = new Map<string, Result>();

  /** Adds a figure; of what was not counted, digits beyond the measurement's worth are cut. */
  add(name: string, unit: string, summary: Summary, vs = ""): void {
    const cut = (value: number): number =>
      Number.isInteger(value) ? value : Number(value.toPrecision(4));
    const { value, min, max } = summary;
    this.#results.set(name, { value: cut(value), unit, min: cut(min), max: cut(max), vs });
  }

  /** Writes the figures into results.json in place of all that it has of their group. */
  save(run: Run, groups: readonly string[]): void {
    const text = formatFigures(mergeFigures(readFigures(), this.#results, run, groups));
    writeFileSync(PATH, text);
  }
}

/** What results.json has. */
export function readFigures(): Figures {
  return existsSync(PATH) ? JSON.parse(readFileSync(PATH, "utf8")) : {};
}

/** All figures after a run of one group: what no group writes any more is left out. */
export function mergeFigures(
  before: Figures,
  results: ReadonlyMap<string, Result>,
  run: Run,
  groups: readonly string[],
): Figures {
  const stays = ({ run: { group } }: Recorded): boolean =>
    group !== run.group && groups.includes(group);
  const others = Object.entries(before).filter(([, figure]) => stays(figure));
  const own = [...results].map(([name, result]) => [name, { ...result, run }] as const);
  return Object.fromEntries([...others, ...own]);
}

/** A line for each figure, by name. */
export function formatFigures(figures: Figures): string {
  const lines = Object.keys(figures)
    .sort()
    .map((name) => `  ${JSON.stringify(name)}: ${JSON.stringify(figures[name])}`);
  return `{\n${lines.join(",\n")}\n}\n`;
}

/** What is measured here and now, but for the group. */
export function describeRun(): Omit<Run, "group"> {
  return {
    commit: currentCommit(),
    date: new Date().toISOString().slice(0, 10),
    kernel: release(),
    cores: cpus().length,
  };
}

function currentCommit(): string {
  const git = (...args: readonly string[]): string =>
    spawnSync("git", args, { cwd: import.meta.dirname, encoding: "utf8" }).stdout?.trim() ?? "";
  const written = [":/", ":!/bench/results.json", ":!/bench/ledger.txt"];
  const changed = git("status", "--porcelain", "--untracked-files=no", "--", ...written);
  return `${git("rev-parse", "--short", "HEAD") || "unknown"}${changed === "" ? "" : "+"}`;
}

/** Prints rows under a title, columns aligned: the first to the left, the others to the right. */
export function printTable(title: string, rows: readonly (readonly string[])[]): void {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    }
  }
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  ");
  process.stdout.write(`\n${title}\n\n${rows.map((row) => `  ${line(row)}`).join("\n")}\n`);
}

/** A median with its extremes, in as few characters as a table has room for. */
export function formatSummary({ value, min, max }: Summary): string {
  return `${Math.round(value)} (${Math.round(min)}–${Math.round(max)})`;
}
