// SPDX-License-Identifier: Apache-2.0
// `make soak` plays the same with a larger budget.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { formatTally, runCampaign } from "./campaign.ts";
import { PROFILES } from "./profiles.ts";
import { openWorld, type World } from "./world.ts";

/** Seeds below are the same in every run, the others are new in every run. */
const KNOWN_SEEDS = 1_000_000;
const SECONDS = 12;

let world: World;
before(async () => {
  world = await openWorld();
});
after(() => world.close());

const today = KNOWN_SEEDS + (Date.now() % 1_000_000_000);

for (const profile of PROFILES) {
  for (const [which, firstSeed] of [
    ["known", 0],
    ["new", today],
  ] as const) {
    test(`model and kernel agree in profile ${profile.name}, ${which} seeds`, (context) => {
      const budget = { packets: 100_000, seconds: SECONDS };
      const result = runCampaign(world, { profile, firstSeed, ...budget });
      context.diagnostic(`seeds from ${firstSeed}: ${result.sequences}`);
      context.diagnostic(formatTally(result.tally).replaceAll("\n", ","));
      assert.equal(result.failure, undefined, result.failure);
      assert.ok(result.tally.packets > 1000, `only ${result.tally.packets} packets were played`);
    });
  }
}
