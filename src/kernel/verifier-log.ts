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

/** What the log says about the kernel rather than about the program, or "". */
export function missingFromKernel(log: string): string {
  const helper = /(?:unknown func|program of this type cannot use helper) (\w+)#\d+/.exec(log);
  if (helper !== null) return `this kernel has no ${helper[1]} for programs of this type`;
  // libbpf's mark of an instruction whose CO-RE relocation found nothing (0xbad2310)
  if (/invalid func unknown#195896080/.test(log)) {
    return "this kernel lacks a field or type that the program reads by CO-RE";
  }
  const kfunc =
    /kernel function (\w+) (?:is not allowed|args)|calling kernel function (\w+) is not allowed/.exec(
      log,
    );
  if (kfunc !== null) return `this kernel has no ${kfunc[1] ?? kfunc[2]} for programs of this type`;
  return "";
}
