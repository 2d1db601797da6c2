// SPDX-License-Identifier: Apache-2.0
// How large the programs are, kept in bench/ledger.txt: a change that makes one larger shows in its
// diff. Instructions and stack are clang's and the same everywhere; the rest is of one kernel.

import { readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { resolve } from "node:path";
import { OBJECTS as NARROW } from "../src/datapath/load.ts";
import { type Elf, parseElf, SECTION_EXECUTABLE } from "../src/kernel/elf.ts";
import type { ProgramInfo } from "../src/kernel/program.ts";
import { parseIpv6 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { chainsOf } from "./chains.ts";
import { printTable, type Results } from "./results.ts";
import { createWorld } from "./world.ts";

/** The objects of the packet path, each with its twin, and where `make bpf` puts them. */
export const OBJECTS = NARROW.flatMap((name) => [name, `${name}6`]);
export const BUILD = resolve(import.meta.dirname, "../build/bpf");
const PATH = resolve(import.meta.dirname, "ledger.txt");
const INSTRUCTION_BYTES = 8;

/** With one, the programs of IPv6 are loaded too. */
const NODE_ADDRESS6 = parseIpv6("fd00::1");

/** What a function is, wherever it runs. */
export interface FunctionSize {
  readonly instructions: number;
  /** Bytes of stack of the deepest chain of calls from it on. */
  readonly chain: number;
}

/** Functions by name, subprograms too, of an object that `make bpf` made. */
export function functionsOf(path: string): Map<string, FunctionSize> {
  const elf = parseElf(readFileSync(path));
  const chains = chainsOf(elf);
  const sorted = functionSymbols(elf).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return new Map(
    sorted.map(({ name, size }) => {
      const chain = chains.get(name)?.bytes ?? 0;
      return [name, { instructions: size / INSTRUCTION_BYTES, chain }];
    }),
  );
}

function functionSymbols({ sections, symbols }: Elf): Elf["symbols"] {
  const code = new Set(
    sections.filter(({ flags }) => (flags & SECTION_EXECUTABLE) !== 0).map(({ index }) => index),
  );
  return symbols.filter(({ type, section }) => type === "func" && code.has(section));
}

/** The functions of the packet path by "object function". */
export function measureFunctions(): Map<string, FunctionSize> {
  return new Map(
    OBJECTS.flatMap((object) =>
      [...functionsOf(`${BUILD}/${object}.bpf.o`)].map(
        ([name, size]) => [`${object} ${name}`, size] as const,
      ),
    ),
  );
}

/** The same as the ledger has it. */
export function readLedger(): Map<string, FunctionSize> {
  const rows = readFileSync(PATH, "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .slice(1)
    .map((line) => line.split(/ {2,}/));
  return new Map(
    rows.map(([name = "", instructions, chain]) => [
      name,
      { instructions: Number(instructions), chain: Number(chain) },
    ]),
  );
}

function rowOf(name: string, size: FunctionSize, info: ProgramInfo | undefined): string[] {
  const own = [name, String(size.instructions), String(size.chain)];
  if (info === undefined) return [...own, "", "", ""];
  const { verifiedInstructions, xlatedBytes, jitedBytes } = info;
  return [...own, ...[verifiedInstructions, xlatedBytes, jitedBytes].map(String)];
}

/** Writes the ledger and gives the sizes as results; a quick budget leaves the ledger alone. */
export async function benchSizes(results: Results, { rounds }: Budget): Promise<void> {
  using world = await createWorld({ services: 1, constants: { nodeAddress6: NODE_ADDRESS6 } });
  const { all } = world.datapath.programs;
  const infos = new Map(all.map((program) => [program.name, program.info()]));
  const head = ["function", "instructions", "chain", "verified", "xlated bytes", "jited bytes"];
  const rows = [head];
  for (const [name, size] of measureFunctions()) {
    const info = infos.get(name.split(" ")[1] ?? "");
    rows.push(rowOf(name, size, info));
    if (info === undefined) continue;
    const exactly = (value: number) => ({ value, min: value, max: value });
    const { verifiedInstructions, jitedBytes } = info;
    results.add(`size.${info.name}.instructions`, "instructions", exactly(size.instructions));
    results.add(`size.${info.name}.verified`, "instructions", exactly(verifiedInstructions));
    results.add(`size.${info.name}.jited`, "bytes", exactly(jitedBytes));
  }
  const kernel = `Linux ${release().split("-")[0]}, ${process.arch}`;
  printTable(`Sizes; verified, xlated and jited on ${kernel}`, rows);
  if (rounds > 5) writeFileSync(PATH, ledgerText(rows, kernel));
}

function ledgerText(rows: readonly (readonly string[])[], kernel: string): string {
  const widths = [0, 1, 2, 3, 4, 5].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
  return `${[
    "# Sizes of the packet path's functions. Rewritten by `make bench` (or toolchain/node",
    "# bench/main.ts size). Instructions are what clang wrote, chain the bytes of stack of the deepest",
    "# chain of calls as Linux 6.1 counts them; the verifier's count and the bytes after it are of",
    `# ${kernel}.`,
    "",
    ...lines,
  ].join("\n")}\n`;
}
