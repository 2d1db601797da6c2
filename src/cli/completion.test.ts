// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ROOT } from "./commands.ts";
import { completionScript, type Shell, withSuggestions } from "./completion.ts";

const COMPLETE = await withSuggestions(ROOT);

function scriptFile(t: TestContext, shell: Shell): string {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-completion-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, `ciliate.${shell}`);
  writeFileSync(file, completionScript(COMPLETE, shell));
  return file;
}

function isThere(t: TestContext, shell: Shell): boolean {
  const there = existsSync(`/usr/bin/${shell}`);
  if (!there) t.skip(`needs ${shell}: apt-get install ${shell}`);
  return there;
}

const COMMANDS = ROOT.commands?.map(({ name }) => name) ?? [];

/** What is typed, the last word unfinished → what is offered. */
const CASES: readonly (readonly [typed: string, offered: readonly string[]])[] = [
  ["ciliate ", COMMANDS],
  ["ciliate ser", ["service"]],
  ["ciliate service ", ["list", "get", "explain"]],
  ["ciliate service get ", []],
  ["ciliate bpf ct ", ["list"]],
  ["ciliate -o ", ["text", "json"]],
  ["ciliate service list -o j", ["json"]],
  ["ciliate --socket service bpf s", ["service", "socket", "source-range"]],
  ["ciliate map dump source", ["source_ranges", "source_ranges6"]],
  ["ciliate -o json conf", ["config"]],
  ["ciliate status --wa", ["--wait"]],
  ["ciliate completion ", ["bash", "zsh", "fish"]],
  ["ciliate config check /etc/passw", ["/etc/passwd"]],
];

test("bash completes commands, options and their values", (t) => {
  const file = scriptFile(t, "bash");
  execFileSync("bash", ["-n", file]);
  for (const [typed, offered] of CASES) {
    const words = typed
      .split(" ")
      .map((word) => `'${word}'`)
      .join(" ");
    const line = `source ${file}; COMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1));
      _ciliate; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const got = execFileSync("bash", ["-c", line], { encoding: "utf8" }).trim().split("\n");
    const real = got.filter((word) => word !== "" && word !== "/etc/passwd-");
    assert.deepEqual(real.toSorted(), offered.toSorted(), typed);
  }
});

test("fish completes commands, options and their values", (t) => {
  if (!isThere(t, "fish")) return;
  const file = scriptFile(t, "fish");
  for (const [typed, offered] of CASES) {
    const line = `source ${file}; complete -C '${typed}'`;
    const options = { encoding: "utf8", env: { ...process.env, HOME: join(file, "..") } } as const;
    const got = execFileSync("fish", ["--no-config", "-c", line], options).trim().split("\n");
    const words = got.map((row) => row.split("\t")[0] ?? "");
    const real = words.filter((word) => word !== "" && word !== "/etc/passwd-");
    assert.deepEqual(real.toSorted(), offered.toSorted(), typed);
  }
});

test("zsh takes the script", (t) => {
  if (!isThere(t, "zsh")) return;
  const file = scriptFile(t, "zsh");
  const load = `autoload -Uz compinit; compinit -u -D; source ${file}`;
  const line = `${load}; whence -w _ciliate; print $_comps[ciliate]`;
  const got = execFileSync("zsh", ["-f", "-c", line], { encoding: "utf8" });
  assert.equal(got, "_ciliate: function\n_ciliate\n");
});
