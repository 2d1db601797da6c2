// SPDX-License-Identifier: Apache-2.0

// What dies, and what goes on: a backend, and an agent.

import { setTimeout as delay } from "node:timers/promises";
import { endCost } from "./cost.ts";
import { spark } from "./draw.ts";
import type { Play, Scene } from "./scene.ts";
import { BALANCER, VIP, VIP_PORT } from "./stage.ts";
import { Streams, sum, TICK_MS } from "./streams.ts";
import type { Tick } from "./streams-client.ts";

const STREAMS = 240;
const STREAMS_QUICK = 120;
const VICTIM = "pod2-1";
/** Ticks before the first moment that a line of sparks shows. */
const LEAD_TICKS = 6;

/** The number of the first tick after a moment that passes now. */
const marker = (streams: Streams): number => streams.ticks.length;

async function ticks(streams: Streams, count: number): Promise<void> {
  const until = streams.ticks.length + count;
  while (streams.ticks.length < until) await delay(TICK_MS / 4);
}

/** Lines of sparks with the moments below them. */
function drawTicks(
  { screen }: Scene,
  streams: Streams,
  lines: Readonly<Record<string, (tick: Tick) => number>>,
  moments: Readonly<Record<string, number>>,
): void {
  const width = Math.max(...Object.keys(lines).map((name) => name.length));
  const start = Math.max(0, Math.min(...Object.values(moments)) - LEAD_TICKS);
  const shown = streams.ticks.slice(start, start + screen.columns - width - 6);
  for (const [name, of] of Object.entries(lines)) {
    const values = shown.map(of);
    const drawn = spark(screen, values, Math.max(...values));
    screen.line(`  ${name.padEnd(width)}  ${screen.paint("green", drawn)}`);
  }
  for (const [what, tick] of Object.entries(moments)) {
    const column = Math.max(0, tick - start);
    screen.line(
      `  ${" ".repeat(width + 2 + column)}${screen.paint("yellow", screen.glyphs.up)} ${what}`,
    );
  }
}

const streamCount = ({ quick }: Scene): number => (quick ? STREAMS_QUICK : STREAMS);

/** A backend dies; its connections die with it, the others notice nothing. */
export const playBackendDeath: Play = async (scene) => {
  await endCost(scene.stage);
  const streams = await Streams.open(scene.stage.lab, VIP, VIP_PORT, streamCount(scene));
  return () => showBackendDeath(scene, streams);
};

async function showBackendDeath(scene: Scene, opened: Streams): Promise<number> {
  const { screen, stage, quick } = scene;
  await using streams = opened;
  screen.title("A backend dies");
  const count = streamCount(scene);
  screen.say(
    `${count} connections ask ten times a second, ten new ones come each second. Then nginx ` +
      `in ${VICTIM} is killed, and half a second later its endpoint is gone from the EndpointSlice.`,
  );
  screen.line();
  await screen.during("streaming", ticks(streams, 10));
  const before = streams.now;
  const victims = before.streams[VICTIM] ?? 0;
  const killed = marker(streams);
  stage.killWebServer(VICTIM);
  await screen.during(`${VICTIM} is dead`, ticks(streams, 5));
  const rest = stage.pods.map(({ place }) => place.name).filter((pod) => pod !== VICTIM);
  const told = marker(streams);
  stage.lab.publish(stage.web(rest));
  await screen.during("telling the nodes", stage.waitService("web", rest.length));
  const moved = marker(streams);
  await screen.during("going on", ticks(streams, quick ? 10 : 20));

  drawTicks(
    scene,
    streams,
    {
      [`answers of ${VICTIM}`]: ({ answers }) => answers[VICTIM] ?? 0,
      "answers of the others": ({ answers }) => sum(answers) - (answers[VICTIM] ?? 0),
    },
    { "nginx is killed": killed, "its endpoint is removed": told },
  );
  const { open, lost, wrong } = streams.now;
  const others = sum(lost) - (lost[VICTIM] ?? 0);
  const failedLater = streams.ticks.slice(moved).reduce((all, tick) => all + tick.freshFailed, 0);
  screen.fact(
    victims > 0 && (lost[VICTIM] ?? 0) === victims,
    `the ${victims} connections of ${VICTIM} ended with it, as they must`,
  );
  screen.fact(
    before.open === count && open === count - victims && others === 0 && wrong === 0,
    `the other ${open} went on at their pods: ${others} lost, ${wrong} answered by another pod`,
  );
  screen.fact(
    failedLater === 0 && freshSince(streams, moved) > 0,
    `new connections after that: ${freshSince(streams, moved)} answered, ${failedLater} failed`,
  );
  return 5;
}

function freshSince(streams: Streams, tick: number): number {
  return streams.ticks.slice(tick).reduce((all, { fresh }) => all + sum(fresh), 0);
}

/** The balancer's agent is killed and comes back; nobody notices. */
export const playAgentDeath: Play = async (scene) => {
  const { stage } = scene;
  await stage.startWebServers(stage.pods.filter(({ place }) => place.name === VICTIM));
  stage.lab.publish(stage.web());
  await stage.waitService("web", stage.pods.length);
  const streams = await Streams.open(stage.lab, VIP, VIP_PORT, streamCount(scene));
  return () => showAgentDeath(scene, streams);
};

async function showAgentDeath(scene: Scene, opened: Streams): Promise<number> {
  const { screen, stage, quick } = scene;
  await using streams = opened;
  screen.title("The agent is killed");
  const count = streamCount(scene);
  await screen.during("streaming", ticks(streams, 8));
  const agent = stage.lab.agent(BALANCER);
  screen.command(`kill -9 ${agent?.pid}      # the agent of ${BALANCER}, where all ${count} pass`);
  const killed = marker(streams);
  await stage.lab.stopAgent(BALANCER, "SIGKILL");
  await screen.during("without an agent", ticks(streams, quick ? 8 : 15));
  screen.command("ciliate bpf service list      # works without an agent");
  const dead = await stage.lab.run(BALANCER, ["ciliate", "status"]);
  screen.output(await stage.lab.output(BALANCER, ["ciliate", "bpf", "service", "list"]));
  const back = marker(streams);
  await screen.during("starting the agent", stage.lab.startAgent(BALANCER));
  const ready = marker(streams);
  await screen.during("going on", ticks(streams, quick ? 8 : 12));
  screen.line();
  drawTicks(
    scene,
    streams,
    {
      answers: ({ answers }) => sum(answers),
      "new connections": ({ fresh }) => sum(fresh),
    },
    { "kill -9": killed, "started again": back, ready },
  );
  const { open, lost, wrong, stallMs } = streams.now;
  const failed = streams.ticks.reduce((all, tick) => all + tick.freshFailed, 0);
  screen.fact(dead.code === 3, "the command line says that no agent runs, and exits with 3");
  screen.fact(
    open === count && sum(lost) === 0 && wrong === 0,
    `${open} of ${count} connections live: ${sum(lost)} lost, ${wrong} wrong answers, longest wait ${stallMs} ms`,
  );
  screen.fact(
    failed === 0 && freshSince(streams, killed) > 0,
    `${freshSince(streams, killed)} new connections since the kill, ${failed} failed`,
  );
  return 4;
}
