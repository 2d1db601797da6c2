// SPDX-License-Identifier: Apache-2.0

const STATISTICS =
  /^(processed \d+ insns|verification time|stack depth|max_states_per_insn|mark_precise)/;
const INSTRUCTION = /^\d+: \([0-9a-f]{2}\)/;

/**
 * What the verifier's log says in the end: its last words, and the instruction and the line of C
 * they are about. Empty for an empty log.
 */
export function summarizeVerifierLog(log: string): string {
  const lines = log
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !STATISTICS.test(line));
  const last = lines.at(-1);
  if (last === undefined) return "";
  const before = lines.slice(0, -1);
  const instruction = before.findLast((line) => INSTRUCTION.test(line));
  const source = before.findLast((line) => line.startsWith(";"));
  const about = [source?.replace(/^;\s*/, ""), instruction?.replace(/\s*;.*$/, "")];
  const where = about.filter((text) => text !== undefined).join(" | ");
  return where === "" ? last : `${last} [${where}]`;
}

const MISSING = [
  /unknown func (?<name>\w+)#\d+/,
  /program of this type cannot use helper (?<name>\w+)#\d+/,
  /calling kernel function (?<name>\w+) is not allowed/,
];

/** What the log says about the kernel rather than about the program, or "". */
export function missingFromKernel(log: string): string {
  if (/invalid CO-RE relocation/.test(log)) {
    return "this kernel lacks a type or field that the program reads";
  }
  const name = MISSING.map((pattern) => pattern.exec(log)?.groups?.name).find((found) => found);
  return name === undefined ? "" : `this kernel has no ${name} for programs of this type`;
}
