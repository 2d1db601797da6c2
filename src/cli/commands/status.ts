// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { AgentState, type GetStatusResponse } from "../../api/gen/ciliate.ts";
import { connectAgent, durationOption } from "../agent-api.ts";
import type { Context, Run } from "../command.ts";
import { EXIT } from "../exit.ts";
import { type Colour, enumWord, formatAge, formatBytes, type Output } from "../output.ts";

const POLL_MS = 100;

export const status: Run = async (context) => {
  const waitMs = durationOption(context, "wait");
  const answer = waitMs === undefined ? await ask(context) : await waitReady(context, waitMs);
  if (context.output.format === "json") context.output.json(answer);
  else show(context.output, answer);
  return answer.state === AgentState.READY ? EXIT.ok.code : EXIT.notReady.code;
};

async function ask(context: Context): Promise<GetStatusResponse> {
  using client = await connectAgent(context);
  return await client.getStatus();
}

/** Asks until the agent is ready; at the end of the time, its last answer or failure stands. */
async function waitReady(context: Context, waitMs: number): Promise<GetStatusResponse> {
  const end = performance.now() + waitMs;
  for (;;) {
    const last = await ask(context).catch((error: unknown) => ({ error }));
    const over = performance.now() + POLL_MS >= end;
    if (!("error" in last)) {
      if (last.state === AgentState.READY || over) return last;
    } else if (over) {
      throw last.error;
    }
    await sleep(POLL_MS);
  }
}

const STATE_COLOURS: Readonly<Record<string, Colour>> = {
  [AgentState.READY]: "green",
  [AgentState.DEGRADED]: "red",
};

function show(output: Output, answer: GetStatusResponse): void {
  const state = output.paint(STATE_COLOURS[answer.state] ?? "yellow", enumWord(answer.state));
  const upSeconds = Math.max(0, Date.now() - Number(answer.startedUnixMs)) / 1000;
  const facts = [
    ["agent", `${state}, version ${answer.version}, pid ${answer.pid}, up ${formatAge(upSeconds)}`],
    ["node", `${answer.nodeName} ${answer.nodeAddress} ${answer.nodeAddress6}`.trimEnd()],
    ...(answer.ipv6Off === "" ? [] : [["IPv6", `off: ${answer.ipv6Off}`]]),
    ["config", answer.configFile],
    ["memory", memoryText(answer)],
  ];
  for (const [name = "", text = ""] of facts) output.write(`${name.padEnd(8)}${text}\n`);
  showParts(output, answer);
  showProblems(output, answer);
}

function memoryText({ memory }: GetStatusResponse): string {
  if (memory === undefined) return "unknown";
  return `${formatBytes(memory.own)} and ${formatBytes(memory.tables)} of mapped tables`;
}

function showParts(output: Output, answer: GetStatusResponse): void {
  const gap = (rows: readonly unknown[]): void => {
    if (rows.length > 0) output.write("\n");
  };
  gap(answer.devices);
  output.table({
    columns: [{ title: "DEVICE" }, { title: "PROGRAM" }, { title: "ATTACHED" }, { title: "WHY" }],
    rows: answer.devices.map(({ name, program, mode, reason }) => [name, program, mode, reason]),
  });
  gap(answer.sources);
  output.table({
    columns: [
      { title: "SOURCE" },
      { title: "SYNCED" },
      { title: "OBJECTS", align: "right" },
      { title: "PROBLEMS", align: "right" },
    ],
    rows: answer.sources.map(({ name, synced, objects, problems }) => [
      name,
      synced ? "yes" : { text: "no", colour: "yellow" },
      objects,
      problems.length === 0 ? 0 : { text: String(problems.length), colour: "red" },
    ]),
  });
  gap(answer.reconcilers);
  output.table({
    columns: [
      { title: "RECONCILER" },
      { title: "PENDING", align: "right" },
      { title: "FAILED", align: "right" },
      { title: "LAG", align: "right" },
    ],
    rows: answer.reconcilers.map(({ name, pending, failed, lagSeconds }) => [
      name,
      pending,
      failed === 0n ? 0 : { text: String(failed), colour: "red" },
      `${(lagSeconds * 1000).toFixed(0)} ms`,
    ]),
  });
  gap(answer.tables);
  output.table({
    columns: [
      { title: "TABLE" },
      { title: "USED", align: "right" },
      { title: "LIMIT", align: "right" },
      { title: "FULL", align: "right" },
    ],
    rows: answer.tables.map(({ name, used, limit }) => [
      name,
      used,
      limit === 0n ? "-" : limit,
      fullCell(Number(used), Number(limit)),
    ]),
  });
}

function fullCell(used: number, limit: number) {
  if (limit === 0) return "-";
  const percent = (used / limit) * 100;
  const text = `${percent.toFixed(1)} %`;
  if (percent < 80) return text;
  return { text, colour: percent < 95 ? ("yellow" as const) : ("red" as const) };
}

function showProblems(output: Output, answer: GetStatusResponse): void {
  const problems = [
    ...answer.checks.flatMap(({ name, problem }) =>
      problem === "" ? [] : [`${name}: ${problem}`],
    ),
    ...answer.sources.flatMap(({ problems: list }) => list),
    ...answer.reconcilers.flatMap(({ name, problems: list }) => list.map((p) => `${name}: ${p}`)),
    ...answer.tables.flatMap(({ name, problem }) =>
      problem === "" ? [] : [`table ${name}: ${problem}`],
    ),
  ];
  if (problems.length === 0) return;
  output.write(`\n${output.paint("red", "problems")}\n`);
  for (const problem of problems) output.write(`  ${problem}\n`);
}
