// SPDX-License-Identifier: Apache-2.0

// Usage: bench/main.ts [--quick] [GROUP]...   Measures all groups, or those named; prints tables
// and writes bench/results.json. Needs root. --quick shows whether it works, not how fast.

import { removeDead } from "../tools/leaks.ts";
import { benchAgent } from "./agent.ts";
import { benchAlternatives } from "./alternatives.ts";
import { benchBackend } from "./backend.ts";
import { benchTc, benchXdp } from "./balance.ts";
import { type Budget, FULL, QUICK } from "./budget.ts";
import { benchCli } from "./cli.ts";
import { benchCollector } from "./collector.ts";
import { benchCrr } from "./crr.ts";
import { benchFamilies } from "./families.ts";
import { benchInside } from "./inside.ts";
import { benchSizes } from "./ledger.ts";
import { benchLive } from "./live.ts";
import { benchMasquerade } from "./masquerade.ts";
import { benchModes } from "./modes.ts";
import { benchNat } from "./nat.ts";
import { goAhead } from "./process.ts";
import { benchProgram } from "./program.ts";
import { benchReceive } from "./receive.ts";
import { describeRun, Results } from "./results.ts";
import { benchRings } from "./rings.ts";
import { benchThroughput } from "./throughput.ts";

type Group = (results: Results, budget: Budget) => void | Promise<void>;

const GROUPS: Readonly<Record<string, Group>> = {
  xdp: benchXdp,
  snat: benchNat,
  tc: benchTc,
  modes: benchModes,
  receive: benchReceive,
  host: benchBackend,
  live: benchLive,
  program: benchProgram,
  agent: benchAgent,
  collector: benchCollector,
  alternatives: benchAlternatives,
  crr: benchCrr,
  masquerade: benchMasquerade,
  inside: benchInside,
  throughput: benchThroughput,
  families: benchFamilies,
  rings: benchRings,
  cli: benchCli,
  size: benchSizes,
};

async function main(words: readonly string[]): Promise<void> {
  const quick = words.includes("--quick");
  const named = words.filter((word) => word !== "--quick");
  const unknown = named.find((name) => !Object.hasOwn(GROUPS, name));
  if (unknown !== undefined) {
    throw new Error(`no group ${unknown}: there are ${Object.keys(GROUPS).join(", ")}`);
  }
  removeDead();
  // Ahead of what else runs on the machine, with all that is started from here.
  goAhead();
  const run = describeRun();
  for (const [group, bench] of Object.entries(GROUPS)) {
    if (named.length > 0 && !named.includes(group)) continue;
    const results = new Results();
    await bench(results, quick ? QUICK : FULL);
    if (!quick) results.save({ group, ...run }, Object.keys(GROUPS));
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
