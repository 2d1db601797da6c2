// SPDX-License-Identifier: Apache-2.0
// The model against the kernel. One seed alone: main.ts --profile NAME --seed N.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { budget } from "../lab/tools/budget.ts";
import { formatTally, runCampaign } from "./campaign.ts";
import { PROFILES } from "./profiles.ts";
import { openWorld, type World } from "./world.ts";

/** Seeds below are the same in every run, the others are new in every run. */
const KNOWN_SEEDS = 1_000_000;

const USUAL_SECONDS = 8;
const packets = budget("packets", 130_000);
const seconds = budget("seconds", USUAL_SECONDS);
/**
 * With more time than usual, as make soak has, seeds are new. In `make test` they are not: it says
 * something about a change, not about what the same code was to find sooner or later.
 */
const isLong = seconds > USUAL_SECONDS;
/** Most of what profiles of IPv6 meet, those of IPv4 have met already: one source is both. */
const OF_IPV6 = 4;

let world: World;
before(async () => {
  world = await openWorld();
});
after(() => world.close());

const today = KNOWN_SEEDS + (Date.now() % 1_000_000_000);
const KNOWN = ["known", 0] as const;
const SEEDS = isLong ? [KNOWN, ["new", today] as const] : [KNOWN];

for (const profile of PROFILES) {
  for (const [which, firstSeed] of SEEDS) {
    test(`model and kernel agree in profile ${profile.name}, ${which} seeds`, (context) => {
      const share = profile.family === "ipv6" ? OF_IPV6 : 1;
      const budgets = { packets: packets / share, seconds: seconds / share };
      const result = runCampaign(world, { profile, firstSeed, ...budgets });
      context.diagnostic(`${result.sequences} sequences from seed ${firstSeed}`);
      context.diagnostic(formatTally(result.tally).replace("\n", ":").replaceAll("\n", ","));
      assert.equal(result.failure, undefined, result.failure);
      assert.ok(
        result.tally.packets > 1000 / share,
        `only ${result.tally.packets} packets were played`,
      );
    });
  }
}
