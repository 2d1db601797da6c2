// SPDX-License-Identifier: Apache-2.0
// Plays sequences of many seeds until a budget is used up or model and kernel part.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Event } from "./event.ts";
import { generateSequence } from "./generate.ts";
import { type Failure, Play, type Tally } from "./play.ts";
import { openTwins, PROFILES, type Profile } from "./profiles.ts";
import { shrink } from "./shrink.ts";
import { sweepSequence } from "./sweep.ts";
import { widenSequence } from "./widen-events.ts";
import type { World } from "./world.ts";

/** Events of a sequence after those that set its state. */
export const USUAL_EVENTS = 200;
const TABLES_EVERY = 16;
const REPORTS = join(import.meta.dirname, "../../build/differential");

export interface Campaign {
  readonly profile: Profile;
  /** The seeds that are played are this one and those that follow. */
  readonly firstSeed: number;
  /** It ends after so many packets, or so many seconds, whatever comes first. */
  readonly packets: number;
  readonly seconds: number;
  /** Where the programs are; the usual place when left out. */
  readonly objects?: string;
  /** A difference isn't made short. */
  readonly brief?: boolean;
}

export interface Result {
  readonly tally: Tally;
  readonly sequences: number;
  readonly seconds: number;
  /** The story of the first difference. */
  readonly failure: string | undefined;
}

export function profileOf(name: string): Profile {
  const profile = PROFILES.find((one) => one.name === name);
  if (profile !== undefined) return profile;
  const names = PROFILES.map((one) => one.name).join(", ");
  throw new Error(`no profile is called ${name}: there are ${names}`);
}

/** Runs in the world's namespace from beginning to end, without pause. */
export function runCampaign(world: World, campaign: Campaign): Result {
  return world.run(() => {
    const twins = openTwins(world, campaign.profile, campaign.objects);
    try {
      return playSeeds(new Play(world, twins), campaign);
    } finally {
      for (const twin of twins) twin.close();
    }
  });
}

function playSeeds(play: Play, campaign: Campaign): Result {
  const start = performance.now();
  const seconds = (): number => (performance.now() - start) / 1000;
  let sequences = 0;
  while (play.tally.packets < campaign.packets && seconds() < campaign.seconds) {
    const seed = campaign.firstSeed + sequences;
    const events = sequenceOf(seed, campaign.profile);
    sequences += 1;
    const failure = play.run(events, { tablesEvery: TABLES_EVERY });
    if (failure === undefined) continue;
    const story = campaign.brief
      ? [headOf(campaign.profile, seed, failure), ...failure.differences].join("\n")
      : explain(play, campaign.profile, seed, events, failure);
    return { tally: play.tally, sequences, seconds: seconds(), failure: story };
  }
  return { tally: play.tally, sequences, seconds: seconds(), failure: undefined };
}

/** Every 64th seed cuts packets and sets bytes one by one, the others play at random. */
export function sequenceOf(seed: number, { family = "ipv4" }: Profile): Event[] {
  if (seed % 64 === 0) return sweepSequence(seed, family);
  const events = generateSequence(seed, USUAL_EVENTS);
  return family === "ipv4" ? events : widenSequence(events, seed);
}

function headOf({ name }: Profile, seed: number, { index }: Failure): string {
  return `model and kernel part: profile ${name}, seed ${seed}, event ${index}`;
}

function explain(
  play: Play,
  profile: Profile,
  seed: number,
  events: readonly Event[],
  first: Failure,
): string {
  const rerun = (tried: readonly Event[]): Failure | undefined =>
    play.run(tried, { tablesEvery: 1 });
  const { kept, events: short } = shrink(events, (tried) => rerun(tried)?.index);
  const again = rerun(short);
  mkdirSync(REPORTS, { recursive: true });
  const file = join(REPORTS, `${profile.name}-${seed}.json`);
  writeFileSync(file, `${JSON.stringify(short, undefined, 1)}\n`);
  const command = "toolchain/node test/differential/main.ts";
  return [
    headOf(profile, seed, first),
    ...(again ?? first).differences,
    ...(again === undefined ? ["(it did not happen again when the events were played anew)"] : []),
    `shortest sequence, ${short.length} of ${events.length} events:`,
    ...short.map((event) => JSON.stringify(event)),
    `again: ${command} --profile ${profile.name} --seed ${seed} --keep ${kept.join(",")}`,
    `or:    ${command} --profile ${profile.name} --replay ${file}`,
  ].join("\n");
}

/** Verdicts met, one a line. */
export function formatTally(tally: Tally): string {
  const lines = [...tally.verdicts].sort().map(([name, count]) => `  ${name} ${count}`);
  return [`${tally.packets} packets`, ...lines].join("\n");
}
