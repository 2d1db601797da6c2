// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { Verdict } from "../src/datapath/gen/abi.ts";
import { verdictText } from "../src/flow/words.ts";
import { importsOf, layerFault } from "./layers.ts";
import type { Source } from "./tidy-rules.ts";
import * as rules from "./tidy-rules.ts";

const ROOT = resolve(import.meta.dirname, "..");
const NOT_OURS = new Set(["node_modules", "build", ".git", ".stamps"]);

function walk(directory: string): string[] {
  return readdirSync(join(ROOT, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : walk(path);
    return entry.isFile() ? [path] : [];
  });
}

function read(path: string): string | undefined {
  const full = join(ROOT, path);
  if (!existsSync(full)) return undefined;
  return statSync(full).isDirectory() ? "" : readFileSync(full, "utf8");
}

const all: Source[] = walk("").map((path) => ({ path, text: read(path) ?? "" }));
const code = all.filter(rules.isCode);
const written = code.filter((source) => !rules.isGenerated(source));
const pages = all.filter(({ path }) => path.endsWith(".md"));

function none(faults: readonly string[]): void {
  assert.equal(faults.length, 0, `\n${faults.join("\n")}`);
}

function refused(faults: readonly string[], why: RegExp): void {
  assert.equal(faults.length, 1, `one fault expected, got:\n${faults.join("\n")}`);
  assert.match(faults[0] ?? "", why);
}

/** Which of the linter's rules a text breaks, by our configuration. */
function lint(text: string): string {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-tidy-"));
  try {
    mkdirSync(join(directory, "src"));
    writeFileSync(join(directory, "src/a.ts"), text);
    cpSync(join(ROOT, "biome.json"), join(directory, "biome.json"));
    const linter = join(ROOT, "node_modules/.bin/biome");
    const options = { cwd: directory, encoding: "utf8" } as const;
    return spawnSync(linter, ["lint", "--reporter=github", "src"], options).stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function repeat(line: string, count: number): string {
  return `${line}\n`.repeat(count);
}

test("no import climbs", () => {
  none(
    code.flatMap(({ path, text }) =>
      path.endsWith(".ts") ? importsOf(text).flatMap((what) => layerFault(path, what) ?? []) : [],
    ),
  );
});

test("an import that climbs is refused, however it is written", () => {
  const climbs = (from: string, text: string): string | undefined => {
    const faults = importsOf(text).flatMap((what) => layerFault(from, what) ?? []);
    return faults[0];
  };
  const table: readonly (readonly [from: string, text: string, why: RegExp])[] = [
    ["src/net/a.ts", 'import { x } from "../kernel/map.ts";', /does not allow/],
    ["src/net/a.ts", 'import type { X } from "../kernel/map.ts";', /does not allow/],
    ["src/net/a.ts", 'import {\n  x,\n  y,\n} from "../state/table.ts";', /does not allow/],
    ["src/net/a.ts", 'export { x } from "../state/table.ts";', /does not allow/],
    ["src/net/a.ts", 'export * from "../state/table.ts";', /does not allow/],
    ["src/net/a.ts", 'import * as t from "../state/table.ts";', /does not allow/],
    ["src/net/a.ts", 'import "../state/table.ts";', /does not allow/],
    ["src/net/a.ts", 'const t = await import("../state/table.ts");', /does not allow/],
    ["src/net/a.ts", 'const t = await import(name ?? "x");', /name/],
    ["src/net/a.ts", 'new Worker(new URL("../flow/w.ts", import.meta.url));', /does not allow/],
    ["src/net/a.ts", 'import { x } from "./b";', /ends in \.ts/],
    ["src/net/a.ts", 'import { readFileSync } from "node:fs";', /no input or output/],
    ["src/lb/entries.ts", 'import { x } from "./writer.ts";', /does not allow/],
    ["src/lb/writer.ts", 'import { x } from "../kernel/map.ts";', /does not allow/],
    ["src/lb/writer.ts", 'import { x } from "../node/writer.ts";', /does not allow/],
    ["src/operator/main.ts", 'import { x } from "../datapath/load.ts";', /does not allow/],
    ["src/cli/status.ts", 'import { up } from "../lab/up.ts";', /lazily/],
    ["src/state/a.ts", 'import { x } from "../../test/layers.ts";', /from outside/],
    ["src/attic/a.ts", 'import { x } from "../net/mac.ts";', /no layer/],
    ["src/cli/a.ts", 'const { x } = await import("yaml");', /loses names/],
    ["src/net/a.ts", 'import koffi from "koffi";', /only src\/kernel\/ffi\.ts may/],
  ];
  for (const [from, text, why] of table) assert.match(climbs(from, text) ?? "nothing", why, text);

  assert.equal(climbs("src/kernel/ffi.ts", 'import koffi from "koffi";'), undefined);
  assert.equal(climbs("src/node/w.ts", 'import { x } from "../kernel/netns.ts";'), undefined);
  assert.equal(climbs("src/flow/a.ts", 'import type { X } from "../lb/rows.ts";'), undefined);
  assert.equal(climbs("src/cli/main.ts", 'await import("../lab/up.ts");'), undefined);
  assert.equal(climbs("src/net/a.test.ts", 'import { x } from "../lab/up.ts";'), undefined);
});

test("every source names its licence", () => {
  none(code.flatMap(rules.licenceFaults));
  const apache = "// SPDX-License-Identifier: Apache-2.0\n";
  refused(rules.licenceFaults({ path: "src/a.ts", text: "export const x = 1;\n" }), /Apache/);
  refused(rules.licenceFaults({ path: "bpf/a.bpf.c", text: apache }), /BSD-2-Clause OR GPL/);
  none(rules.licenceFaults({ path: "bin/x", text: `#!/bin/sh\n${apache}` }));
});

test("files stay within 500 lines and 100 columns", () => {
  none(written.flatMap(rules.sizeFaults));
  refused(rules.sizeFaults({ path: "src/a.ts", text: repeat("x", 501) }), /501 lines/);
  refused(rules.sizeFaults({ path: "src/a.ts", text: "x".repeat(101) }), /:1: 101 columns/);
  refused(rules.sizeFaults({ path: "a.c", text: `\t${"x".repeat(93)}` }), /101 columns/);
  none(rules.sizeFaults({ path: "src/a.ts", text: `${repeat("x", 499)}${"é".repeat(100)}\n` }));
});

test("functions fit a screen", () => {
  none(written.flatMap(rules.functionFaults));
  const c = (lines: number): string => `int f(void)\n{\n${repeat("\tx();", lines)}}\n`;
  const body = (lines: number): string =>
    `test("x", async () => {\n${repeat("  x();", lines)}});\n`;
  refused(rules.functionFaults({ path: "a.c", text: c(71) }), /71 lines/);
  refused(rules.functionFaults({ path: "a.test.ts", text: body(71) }), /71 lines/);
  none(rules.functionFaults({ path: "a.c", text: c(70) + c(70) }));
  none(rules.functionFaults({ path: "a.test.ts", text: body(70) + body(70) }));
  const typescript = (lines: number): string =>
    `export function f(): void {\n${repeat("  g();", lines)}}\n`;
  assert.match(lint(typescript(71)), /noExcessiveLinesPerFunction/);
  assert.doesNotMatch(lint(typescript(70)), /noExcessiveLinesPerFunction/);
});

test("the linter refuses what the style forbids", () => {
  const table: readonly (readonly [text: string, rule: RegExp])[] = [
    ["export const x: any = 1;\n", /noExplicitAny/],
    ["export const f = (x?: string): number => x!.length;\n", /noNonNullAssertion/],
    ["export enum E {\n  A,\n}\n", /noEnum/],
    ["export default 1;\n", /noDefaultExport/],
    ['export * from "./b.ts";\n', /noBarrelFile/],
    ['import { x } from "./b.ts";\n', /noUnusedImports/],
    ['import { readFileSync } from "fs";\nreadFileSync("x");\n', /useNodejsImportProtocol/],
  ];
  for (const [text, rule] of table) assert.match(lint(text), rule, text);
});

test("nothing is left for later", () => {
  const own = ["test/tidy-rules.ts", "test/tidy.test.ts"];
  none(written.filter(({ path }) => !own.includes(path)).flatMap(rules.promiseFaults));
  refused(rules.promiseFaults({ path: "src/a.ts", text: "// TODO: more\n" }), /:1: finish it/);
  none(rules.promiseFaults({ path: "src/a.ts", text: "const METHODS = 1;\n" }));
});

test("no test runs alone, no compiler is silenced, no file is a barrel", () => {
  none(written.flatMap(rules.escapeFaults));
  const faults = (text: string): string[] => rules.escapeFaults({ path: "src/a.ts", text });
  refused(faults("  // @ts-ignore because\n"), /compiler/);
  refused(faults('test.only("x", () => {});\n'), /other tests/);
  refused(faults('export * from "./b.ts";\n'), /where it is made/);
  refused(rules.escapeFaults({ path: "src/lb/index.ts", text: "" }), /named for/);
});

test("error texts start lower case and end without a full stop", () => {
  none(written.flatMap(rules.errorTextFaults));
  const faults = (text: string): string[] => rules.errorTextFaults({ path: "src/a.ts", text });
  refused(faults('x();\nthrow new Error("Cannot open");\n'), /a\.ts:2: .*lower case/);
  refused(faults("throw new KernelError(\n  `Opening failed`,\n);\n"), /lower case/);
  refused(faults('throw new Error("cannot open it.");\n'), /full stop/);
  none(faults('throw new Error("MTU 100 is too small");\nthrow new Error("IPv4 only");\n'));
});

test("files and programs are named as the style says", () => {
  none(code.flatMap(rules.nameFaults));
  refused(rules.nameFaults({ path: "src/lb/backEnd.ts", text: "" }), /kebab-case/);
  const program = 'SEC("tc")\nint from_the_network_to_pod(struct __sk_buff *skb)\n{\n}\n';
  refused(rules.nameFaults({ path: "bpf/a.bpf.c", text: program }), /longer than 15/);
  const both = 'SEC("tc")\nint FAMILY(fifteen_letters)(struct __sk_buff *skb)\n{\n}\n';
  refused(rules.nameFaults({ path: "bpf/a.bpf.c", text: both }), /fifteen_letters6 is longer/);
  none(rules.nameFaults({ path: "src/lb/back-end.root.test.ts", text: "" }));
});

test("no file is dead", () => {
  none(rules.deadFaults(code));
  const used: Source = { path: "src/net/used.ts", text: "" };
  const user: Source = { path: "src/cli/main.ts", text: 'import "../net/used.ts";' };
  const worker: Source = {
    path: "src/cli/main.ts",
    text: 'new URL("../net/used.ts", import.meta.url)',
  };
  const header: Source = { path: "bpf/stage/nat.h", text: "" };
  const program: Source = { path: "bpf/host.bpf.c", text: '#include "stage/nat.h"\n' };
  refused(rules.deadFaults([used]), /used\.ts: nobody imports/);
  refused(rules.deadFaults([user]), /not there/);
  const tester: Source = { path: "src/lb/used.test.ts", text: 'import "./used.ts";' };
  refused(
    rules.deadFaults([{ path: "src/lb/used.ts", text: "" }, tester]),
    /used\.ts: only tests import it/,
  );
  none(
    rules.deadFaults([
      { path: "src/net/testing.ts", text: "" },
      { path: "src/net/a.test.ts", text: 'import "./testing.ts";' },
    ]),
  );
  refused(rules.deadFaults([header]), /nat\.h: nobody includes/);
  none(rules.deadFaults([used, user]));
  none(rules.deadFaults([used, worker]));
  none(rules.deadFaults([header, program]));
});

test("links in the documents lead somewhere", () => {
  none(pages.flatMap((page) => rules.linkFaults(page, read)));
  const files = new Map([
    ["docs/a.md", "# One thing\n"],
    ["docs/b.md", ""],
  ]);
  const faults = (text: string): string[] =>
    rules.linkFaults({ path: "docs/b.md", text }, (path) => files.get(path));
  refused(faults("[x](gone.md)"), /docs\/gone\.md, which is not there/);
  refused(faults("[x](a.md#another-thing)"), /#another-thing/);
  none(faults("[x](a.md#one-thing) [y](https://example.org) `[z](gone.md)`"));
});

test("the page for trouble has every reason for a drop, and no other", () => {
  const page = read("docs/troubleshooting.md") ?? "";
  const [, table = ""] = /^## Drops by reason$.*?^(\| drop .*?)\n\n/ms.exec(page) ?? [];
  const cells = [...table.matchAll(/^\| (`[^|]*) \|/gm)].map(([, cell = ""]) => cell);
  const told = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  const reasons = Object.values(Verdict)
    .map(verdictText)
    .flatMap((text) => (text.startsWith("drop ") ? text.slice("drop ".length) : []));
  assert.ok(reasons.length > 20);
  assert.deepEqual(told.sort(), reasons.sort());
});

test("a figure in the README or in a decision names the command that measures it", () => {
  const decisions = /^(README|docs\/decisions\/.*)\.md$/;
  none(pages.filter(({ path }) => decisions.test(path)).flatMap(rules.figureFaults));
  const faults = (text: string): string[] => rules.figureFaults({ path: "README.md", text });
  refused(faults("# Speed\nA packet costs 80 ns.\n# Measured\nmake bench\n"), /80 ns/);
  none(faults("# Speed\nA packet costs 80 ns (`make bench`).\n"));
});
