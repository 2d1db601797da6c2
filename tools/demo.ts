// SPDX-License-Identifier: Apache-2.0

// Usage: tools/demo.ts [--quick] [--keep] [--name LAB]   Shows what Ciliate does, on a lab of its
// own, and fails if anything is not as it shows. KEEP=1 is --keep, for `make demo KEEP=1`.

import { parseArgs } from "node:util";
import { formatIpv4 } from "../src/net/address.ts";
import { formatPrefix } from "../src/net/prefix.ts";
import { showAnswer, showService } from "./demo/answer.ts";
import { showCost } from "./demo/cost.ts";
import { showAgentDeath, showBackendDeath } from "./demo/failure.ts";
import { showOperator } from "./demo/operator.ts";
import { showPath } from "./demo/path.ts";
import type { Scene } from "./demo/scene.ts";
import { detectScreen, Screen } from "./demo/screen.ts";
import { showShare } from "./demo/share.ts";
import { BALANCER, Rise, Stage, VIP } from "./demo/stage.ts";

const UP_LIMIT_MS = 10_000;

const SCENES = [
  showService,
  showAnswer,
  showPath,
  showShare,
  showOperator,
  showCost,
  showBackendDeath,
  showAgentDeath,
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
    "Three nodes with four pods each, a client, and a switch between them, all network namespaces of " +
      "this machine, with an agent on every node. All that is shown is measured now.",
  );
  if (screen.options.pauses) {
    screen.line(screen.paint("grey", "Enter goes on at once, space holds, Ctrl-C cleans up."));
  }
}

function showLab(scene: Scene, tookMs: number): void {
  const { screen, stage } = scene;
  const { plan } = stage.lab;
  const { paint, glyphs } = screen;
  const address = formatIpv4(plan.clientAddress.address);
  screen.line();
  screen.line(
    `  client ${address} ${glyphs.rule.repeat(2)} ${paint.call(screen, "bold", "switch")}`,
  );
  for (const { place, address: own, podCidr, pods } of plan.nodes) {
    const role =
      place.name === BALANCER ? `, gets all packets for ${formatPrefix(plan.virtualIps)}` : "";
    screen.line(
      `${" ".repeat(25)}${glyphs.life}${glyphs.rule.repeat(2)} ${place.name} ${formatIpv4(own.address)}, ` +
        `${pods.length} pods in ${formatPrefix(podCidr)}${role}`,
    );
  }
  screen.line();
  screen.fact(
    tookMs < UP_LIMIT_MS,
    `the lab came up in ${(tookMs / 1000).toFixed(1)} s: ${plan.nodes.length} nodes, ${stage.pods.length} pods`,
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
    screen.say(`The lab stays. Play with it:`);
    screen.line(ciliate(`exec --name ${name} client -- curl -v http://${VIP}/`));
    screen.line(ciliate(`exec --name ${name} node1 -- ciliate service get web`));
    screen.line(ciliate(`exec --name ${name} node2 -- ciliate monitor --traces`));
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
  await scene.pause(5);
  for (const show of SCENES) {
    signal.throwIfAborted();
    await show(scene);
  }
}

async function main(): Promise<number> {
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
