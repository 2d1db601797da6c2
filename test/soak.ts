// SPDX-License-Identifier: Apache-2.0

// Usage: test/soak.ts [--minutes N] [CAMPAIGN]...   Runs the long campaigns, all of them or those
// named: the code of `make test` with larger budgets. What each found goes to its own section of
// docs/soak-report.md together with the commit that ran; the others' sections stay. It fails when
// one fails. N is for those that go on for as long as they may.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, release, totalmem } from "node:os";
import { resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { parseArgs } from "node:util";
import { BUDGET_VARIABLE } from "./lab/tools/budget.ts";
import { formatReport, parseReport } from "./soak-report.ts";

const ROOT = resolve(import.meta.dirname, "..");
const REPORT = "docs/soak-report.md";
const LIMIT_MS = 4 * 3600 * 1000;
const USUAL_MINUTES = 60;
/** Of a failure's message, in the report. */
const TOLD_CHARACTERS = 200;

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: "string", default: String(USUAL_MINUTES) } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0 && minutes * 60_000 < LIMIT_MS)) {
  process.stderr.write(`--minutes ${values.minutes}: expected 1 to ${LIMIT_MS / 60_000 - 1}\n`);
  process.exit(2);
}

/** Tests with a budget of their own. */
interface Campaign {
  readonly name: string;
  readonly what: string;
  readonly files: readonly string[];
  /** By the names that the tests ask `budget` for. */
  readonly budget: Readonly<Record<string, number>>;
}

const CAMPAIGNS: readonly Campaign[] = [
  {
    name: "consistency",
    what: "Open connections stream numbered bytes while backends and the balancer are replaced",
    files: ["test/lab/consistency.root.test.ts"],
    budget: { connections: 5000, flows: 500 },
  },
  {
    name: "restart",
    what: "The agent is killed again and again under streaming connections",
    files: ["test/lab/restart.root.test.ts"],
    budget: { kills: 20, connections: 1000, upgrades: 3 },
  },
  {
    name: "matrix",
    what: "Bodies and datagrams by every mode, judged by what was on the wires",
    files: ["test/lab/matrix.root.test.ts"],
    budget: {
      bodyBytes: 4 * 1024 * 1024,
      datagrams: 20,
      bulkBytes: 10 * 1024 * 1024,
      allWidths: 1,
    },
  },
  {
    name: "mtu",
    what: "Bulk by every mode through wires of each width, both ways",
    files: ["test/lab/mtu.root.test.ts"],
    budget: { bulkBytes: 10 * 1024 * 1024, allWidths: 1 },
  },
  {
    name: "churn",
    what: "Connections on every mode while backends, services, balancers and agents come and go",
    files: ["test/lab/churn.root.test.ts"],
    budget: { seconds: minutes * 60 },
  },
  {
    name: "flood",
    what: "SYNs from sources that nobody has, against small tables",
    files: ["test/lab/flood.root.test.ts"],
    budget: { floodSeconds: 30 },
  },
  {
    name: "differential",
    what: "Model and kernel get the same packets, in stateful sequences on two nodes",
    files: ["test/differential/differential.root.test.ts"],
    // In each profile, with known and with new seeds: millions altogether.
    budget: { packets: 170_000, seconds: 1200 },
  },
];

/** How one campaign went. */
interface Result {
  readonly campaign: Campaign;
  /** The commit, the day and the machine. */
  readonly ran: string;
  readonly passed: number;
  readonly failed: number;
  readonly seconds: number;
  /** What its tests told, in their order, by the test's name. */
  readonly told: ReadonlyMap<string, readonly string[]>;
}

async function runCampaign(campaign: Campaign): Promise<Result> {
  process.env[BUDGET_VARIABLE] = JSON.stringify(campaign.budget);
  const began = Date.now();
  const ran = circumstances();
  const told = new Map<string, string[]>();
  const count = { passed: 0, failed: 0 };
  const files = campaign.files.map((file) => resolve(ROOT, file));
  const events = run({ files, concurrency: false, timeout: LIMIT_MS });
  const names: string[] = [];
  const tell = (name: string, message: string): void => {
    told.set(name, [...(told.get(name) ?? []), message]);
  };
  events.on("test:start", ({ name, nesting }) => {
    names.splice(nesting, names.length, name);
  });
  events.on("test:pass", ({ details }) => {
    if (details.type !== "suite") count.passed++;
  });
  events.on("test:fail", ({ name, nesting, details }) => {
    const { error } = details;
    if ("failureType" in error && error.failureType === "subtestsFailed") return;
    count.failed++;
    const { message } = error.cause instanceof Error ? error.cause : error;
    tell(name, `**failed**: ${message.replaceAll(/\s+/g, " ").slice(0, TOLD_CHARACTERS)}`);
    // The reporter keeps messages for its end, which is hours away.
    process.stderr.write(`\n${[...names.slice(0, nesting), name].join(" > ")}: ${message}\n\n`);
  });
  events.on("test:diagnostic", ({ message, nesting }) => {
    if (nesting === 0) return; // the runner's own sums
    tell(names.at(-1) ?? "", message);
  });
  await new Promise<void>((done, failed) => {
    events.on("error", failed);
    events.compose(new spec()).on("end", done).on("error", failed).pipe(process.stdout);
  });
  return { campaign, ran, ...count, seconds: Math.round((Date.now() - began) / 1000), told };
}

function git(...args: string[]): string {
  return execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();
}

function circumstances(): string {
  const changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", `:!${REPORT}`);
  const commit = `${git("rev-parse", "HEAD")}${changes === "" ? "" : ", changed"}`;
  const day = new Date().toISOString().slice(0, 10);
  const memory = Math.round(totalmem() / 2 ** 30);
  const machine = `Linux ${release()}, ${availableParallelism()} cores, ${memory} GiB`;
  return `Commit ${commit}, ${day}, ${machine}.`;
}

function section({ campaign, ran, passed, failed, seconds, told }: Result): string {
  const budget = Object.entries(campaign.budget).map(([name, value]) => `${name} ${value}`);
  const verdict = failed === 0 ? "passed" : `**${failed} failed**`;
  const lines = [...told].flatMap(([name, messages]) => [
    `- ${name}`,
    ...messages.map((message) => `  - ${message}`),
  ]);
  return [
    `## ${campaign.name}: ${verdict}`,
    "",
    ran,
    "",
    `${campaign.what}. Budget: ${budget.join(", ")}. ${passed} tests passed in ${seconds} s.`,
    "",
    ...lines,
    "",
  ].join("\n");
}

/** Writes what a campaign found in the place of what it found before. */
function record(result: Result): void {
  const path = resolve(ROOT, REPORT);
  const before = existsSync(path) ? parseReport(readFileSync(path, "utf8"), known) : [];
  const sections = new Map([...before, [result.campaign.name, section(result)]]);
  writeFileSync(path, formatReport(sections, known));
}

const known = CAMPAIGNS.map(({ name }) => name);
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`no campaign ${unknown.join(", ")}: there are ${known.join(", ")}\n`);
  process.exit(2);
}
let failed = 0;
for (const campaign of CAMPAIGNS) {
  if (wanted.length > 0 && !wanted.includes(campaign.name)) continue;
  const result = await runCampaign(campaign);
  record(result);
  failed += result.failed;
}
process.stdout.write(`\n${readFileSync(resolve(ROOT, REPORT), "utf8")}`);
process.exitCode = failed > 0 ? 1 : 0;
