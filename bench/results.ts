// SPDX-License-Identifier: Apache-2.0
// What was measured: bench/results.json for programs, tables for people.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
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

/** Figures by name, in the order in which they came. */
export class Results {
  readonly #results = new Map<string, Result>();

  /** Adds a figure; of what was not counted, digits beyond the measurement's worth are cut. */
  add(name: string, unit: string, summary: Summary, vs = ""): void {
    const cut = (value: number): number =>
      Number.isInteger(value) ? value : Number(value.toPrecision(4));
    const { value, min, max } = summary;
    this.#results.set(name, { value: cut(value), unit, min: cut(min), max: cut(max), vs });
  }

  get(name: string): Result | undefined {
    return this.#results.get(name);
  }

  /** Writes the figures into results.json, over those of the same name; others stay. */
  save(): void {
    const before = existsSync(PATH) ? JSON.parse(readFileSync(PATH, "utf8")) : {};
    const all: Record<string, Result> = { ...before, ...Object.fromEntries(this.#results) };
    const lines = Object.keys(all)
      .sort()
      .map((name) => `  ${JSON.stringify(name)}: ${JSON.stringify(all[name])}`);
    writeFileSync(PATH, `{\n${lines.join(",\n")}\n}\n`);
  }
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
