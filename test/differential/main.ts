// SPDX-License-Identifier: Apache-2.0
// Usage: main.ts [--profile NAME] [--seed N] [--packets N] [--seconds N] [--objects DIR]
//        main.ts --profile NAME --seed N --keep I,J,…    the events I, J, … of a seed's sequence
//        main.ts --profile NAME --replay FILE            a sequence from a file
// --brief: the first difference is told as it is, not made short.
// Ends with 1 when model and kernel part, and says where.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { formatTally, profileOf, runCampaign, sequenceOf } from "./campaign.ts";
import type { Event } from "./event.ts";
import { Play } from "./play.ts";
import { openTwins, PROFILES } from "./profiles.ts";
import { OBJECTS } from "./real.ts";
import { openWorld, type World } from "./world.ts";

const { values: options } = parseArgs({
  options: {
    profile: { type: "string" },
    seed: { type: "string", default: "1" },
    packets: { type: "string", default: "100000" },
    seconds: { type: "string", default: "600" },
    objects: { type: "string", default: OBJECTS },
    keep: { type: "string" },
    replay: { type: "string" },
    brief: { type: "boolean", default: false },
  },
});

/** The events that are asked for one by one. */
function chosenEvents(): readonly Event[] | undefined {
  if (options.replay !== undefined) return JSON.parse(readFileSync(options.replay, "utf8"));
  if (options.keep === undefined) return undefined;
  const events = sequenceOf(Number(options.seed), profileOf(options.profile ?? "usual"));
  return options.keep.split(",").flatMap((index) => events[Number(index)] ?? []);
}

function playOnce(world: World, events: readonly Event[]): string | undefined {
  return world.run(() => {
    const profile = profileOf(options.profile ?? "usual");
    const twins = openTwins(world, profile, options.objects);
    try {
      return new Play(world, twins).run(events, { tablesEvery: 1 })?.differences.join("\n");
    } finally {
      for (const twin of twins) twin.close();
    }
  });
}

function playMany(world: World): string | undefined {
  const profiles = options.profile === undefined ? PROFILES : [profileOf(options.profile)];
  for (const profile of profiles) {
    const { tally, sequences, seconds, failure } = runCampaign(world, {
      profile,
      firstSeed: Number(options.seed),
      packets: Number(options.packets) / profiles.length,
      seconds: Number(options.seconds) / profiles.length,
      objects: options.objects,
      brief: options.brief,
    });
    const took = `${sequences} sequences in ${seconds.toFixed(1)} s`;
    process.stdout.write(`${profile.name}: ${took}, ${formatTally(tally)}\n`);
    if (failure !== undefined) return failure;
  }
  return undefined;
}

const world = await openWorld();
try {
  const events = chosenEvents();
  const failure = events === undefined ? playMany(world) : playOnce(world, events);
  process.stdout.write(`${failure ?? "no difference"}\n`);
  if (failure !== undefined) process.exitCode = 1;
} finally {
  world.close();
}
