// SPDX-License-Identifier: Apache-2.0

// Usage: tools/demo.ts [--quick] [--keep] [--name LAB]   Shows what Ciliate does, on a lab of its
// own, and fails if anything is not as it shows. KEEP=1 is --keep, for `make demo KEEP=1`.

import { join } from "node:path";
import { parseArgs } from "node:util";
import { labPaths } from "../src/lab/plan.ts";
import { formatIpv4 } from "../src/net/address.ts";
import { formatPrefix } from "../src/net/prefix.ts";
import { playAnswer, playService } from "./demo/answer.ts";
import { playCost } from "./demo/cost.ts";
import { playAgentDeath, playBackendDeath } from "./demo/failure.ts";
import { playOperator } from "./demo/operator.ts";
import { playPath } from "./demo/path.ts";
import type { Play, Scene } from "./demo/scene.ts";
import { detectScreen, Screen } from "./demo/screen.ts";
import { playShare } from "./demo/share.ts";
import { BALANCER, Rise, Stage, VIP } from "./demo/stage.ts";

const PLAYS: readonly Play[] = [
  playService,
  playAnswer,
  playPath,
  playShare,
  playOperator,
  playCost,
  playBackendDeath,
  playAgentDeath,
];

interface Options {
  readonly quick: boolean;
  readonly keep: boolean;
  readonly name: string;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      keep: { type: "boolean", default: (process.env["KEEP"] ?? "0") !== "0" },
      name: { type: "string", default: "demo" },
    },
  });
  return values;
}

function showWelcome(screen: Screen): void {
  screen.title("Ciliate: services balanced by eBPF, answers that skip the balancer");
  screen.say(
    "Three nodes with four pods each, a client, and a switch between them, all network " +
      "namespaces of this machine, with an agent on every node. All that is shown is measured now.",
  );
  if (screen.options.pauses) {
    screen.line(screen.paint("grey", "Enter goes on at once, space holds, Ctrl-C cleans up."));
  }
}

function showLab(scene: Scene, tookMs: number): void {
  const { screen, stage } = scene;
  const { plan } = stage.lab;
  const { life, rule, branch, tee, corner } = screen.glyphs;
  const last = plan.nodes.length - 1;
  screen.line();
  screen.line(`  client ${formatIpv4(plan.clientAddress.address)}`);
  screen.line(`     ${life}`);
  for (const [index, { place, address, pods }] of plan.nodes.entries()) {
    const joint = index === 0 ? branch : index === last ? corner : tee;
    const stem = index === 0 ? `  switch ${rule.repeat(2)}${joint}` : `${" ".repeat(11)}${joint}`;
    const role =
      place.name === BALANCER ? `, the balancer of ${formatPrefix(plan.virtualIps)}` : "";
    screen.line(
      `${stem}${rule.repeat(2)} ${place.name} ${formatIpv4(address.address)}, ${pods.length} pods${role}`,
    );
  }
  screen.line();
  screen.fact(
    stage.lab.status().nodes.every(({ agent }) => agent?.running === true),
    `the lab came up in ${(tookMs / 1000).toFixed(1)} s: ${plan.nodes.length} nodes, ${stage.pods.length} pods, an agent on each node`,
  );
}

function showEnd(screen: Screen, { keep, name }: Options): void {
  const { facts, failures } = screen;
  screen.title(failures.length === 0 ? "That was it" : "Not all was as it should be");
  screen.line(`${facts - failures.length} of ${facts} facts held.`);
  for (const failure of failures) {
    screen.line(`${screen.paint("red", screen.glyphs.cross)} ${failure}`);
  }
  const ciliate = (words: string): string => `  bin/ciliate lab ${words}`;
  if (keep) {
    screen.say("The lab stays, with its captures. Play with it:");
    screen.line(ciliate(`exec --name ${name} client -- curl -v http://${VIP}/`));
    screen.line(ciliate(`exec --name ${name} node1 -- ciliate service get web`));
    screen.line(ciliate(`exec --name ${name} node2 -- ciliate monitor --traces`));
    screen.line(`  tshark -r ${join(labPaths(name).state, "demo", "switch.pcapng")}`);
    screen.line(ciliate(`down --name ${name}`));
  } else {
    screen.say("The lab is gone again. To keep it and play with it: `make demo KEEP=1`");
  }
}

async function play(screen: Screen, rise: Rise, signal: AbortSignal): Promise<void> {
  const started = performance.now();
  showWelcome(screen);
  const lab = await screen.during("bringing the lab up", rise.lab);
  const tookMs = performance.now() - started;
  const scene: Scene = {
    screen,
    stage: new Stage(lab),
    quick: !screen.options.pauses,
    pause: (seconds) => screen.pause(seconds, signal),
  };
  showLab(scene, tookMs);
  let seconds = 3;
  for (const play of PLAYS) {
    const preparing = play(scene);
    // What it fails with is told after the pause.
    preparing.catch(() => {});
    await scene.pause(seconds);
    const show = await screen.during("preparing the next scene", preparing);
    signal.throwIfAborted();
    seconds = await show();
  }
}

async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    throw new Error("namespaces and eBPF need root: run it as root, or by sudo");
  }
  const options = readOptions();
  const screen = new Screen(
    detectScreen(process.env, process.stdout.isTTY === true, options.quick),
  );
  const interrupted = new AbortController();
  const rise = new Rise(options.name);
  const told = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => {
        interrupted.abort();
        reject(new Error(signal));
      });
    }
  });
  let kept = false;
  try {
    await Promise.race([play(screen, rise, interrupted.signal), told]);
    kept = options.keep;
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    screen.line(`\n${screen.paint("grey", "cleaning up")}`);
  } finally {
    if (!kept) await rise.down();
  }
  if (interrupted.signal.aborted) return 130;
  showEnd(screen, options);
  return screen.failures.length === 0 ? 0 : 1;
}

function fail(error: unknown): number {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
}

// An interrupted scene may still wait for something that is gone.
process.exit(await main().catch(fail));
