// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { labExists, removeLab } from "../src/lab/state.ts";

const DEMO = join(import.meta.dirname, "../tools/demo.ts");

let labs = 0;

interface Demo {
  readonly child: ChildProcess;
  readonly lab: string;
  /** What it has written so far. */
  readonly text: () => string;
  /** Its exit code. */
  readonly ended: Promise<number | null>;
}

/** Starts the demo on a lab of its own name, without a terminal. */
function start(t: TestContext, ...options: readonly string[]): Demo {
  const lab = `d${process.pid}${"abcdefgh"[labs++]}`;
  const env = { ...process.env, LANG: "C.UTF-8", LC_ALL: "", LC_CTYPE: "", KEEP: "0" };
  const child = spawn(process.execPath, [DEMO, "--name", lab, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
    env,
  });
  t.after(async () => {
    child.kill("SIGKILL");
    await removeLab(lab);
  });
  let text = "";
  const collect = (chunk: Buffer): void => {
    text += chunk.toString();
  };
  child.stdout?.on("data", collect);
  child.stderr?.on("data", collect);
  const ended = once(child, "close").then(([code]) => code as number | null);
  return { child, lab, text: () => text, ended };
}

/** Waits until the demo has written this. */
async function written({ child, text, ended }: Demo, what: RegExp): Promise<void> {
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while (!what.test(text())) {
    assert.ok(!over, `the demo ended without ${what}:\n${text()}`);
    if (child.stdout !== null) await Promise.race([once(child.stdout, "data"), ended]);
  }
}

test("every fact of the demo holds, and nothing is left", async (t) => {
  const demo = start(t);
  assert.equal(await demo.ended, 0, demo.text());
  assert.match(demo.text(), /^(\d+) of \1 facts held\.$/m);
  assert.equal([...demo.text().matchAll(/^✓ /gm)].length, 25, demo.text());
  // biome-ignore lint/suspicious/noControlCharactersInRegex: there must be none
  assert.doesNotMatch(demo.text(), /✗|\u001b|\r/);
  assert.ok(!labExists(demo.lab));
});

test("the demo draws the reply's way around the balancer", async (t) => {
  const demo = start(t);
  await written(demo, /on the balancer's wire: 0/);
  const picture = demo.text();
  assert.match(
    picture,
    /│ {3}│◂──● {3}│ {3}│ {2}10\.0\.1\.1→(10\.244\.\d\.\d) │ 192\.0\.2\.10:\d+→/,
  );
  assert.match(picture, /│ {3}│◂──────● {3}│ {2}198\.51\.100\.1:80→192\.0\.2\.10:/);
  demo.child.kill("SIGTERM");
  assert.equal(await demo.ended, 130);
  assert.ok(!labExists(demo.lab));
});

test("Ctrl-C takes the lab down, also while it comes up", async (t) => {
  const demo = start(t);
  await written(demo, /measured now/);
  demo.child.kill("SIGINT");
  assert.equal(await demo.ended, 130);
  assert.ok(!labExists(demo.lab));
});

test("a living lab of the same name is left alone", async (t) => {
  const first = start(t, "--keep");
  await written(first, /the lab came up/);
  const child = spawn(process.execPath, [DEMO, "--name", first.lab], { stdio: "pipe" });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number];
  assert.equal(code, 1);
  assert.match(said, /is up already: take it down with `ciliate lab down --name/);
  assert.ok(labExists(first.lab));
});
