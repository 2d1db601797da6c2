// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { test } from "node:test";
import { createNamespace, deleteNamespace } from "../src/kernel/netns.ts";
import { newRemains, processesOf, RUN_VARIABLE, remains, removeDead } from "../tools/leaks.ts";

test("only what came since and has no live owner is a leak", () => {
  const old = "namespace /run/netns/ciliate-old";
  const alive = `namespace /run/netns/ciliate-${process.pid}-n1`;
  const dead = "pin /sys/fs/bpf/ciliate-4194305/services"; // beyond the largest process id
  const lab = "namespace /run/netns/cil-lab-node2"; // process 2 is the kernel's
  assert.deepEqual(newRemains(new Set([old]), new Set([old, alive, dead, lab])), [lab, dead]);
});

test("a directory that a run leaves in /run is found", () => {
  const directory = mkdtempSync("/run/ciliate-leak-");
  try {
    assert.ok(remains().has(`directory ${directory}`));
  } finally {
    rmSync(directory, { recursive: true });
  }
  assert.ok(!remains().has(`directory ${directory}`));
});

test("namespaces and pins of dead tests are removed, those of others are not", () => {
  const [dead, alive] = ["ciliate-leak-4194305-1", `ciliate-leak-${process.pid}-1`];
  const lab = "cil-l4194305-node1";
  const [deadPins, pins] = [`/sys/fs/bpf/${dead}`, "/sys/fs/bpf/ciliate-leak"];
  try {
    for (const name of [dead, alive, lab]) createNamespace(name);
    for (const path of [deadPins, pins]) mkdirSync(path);
    const removed = removeDead();
    assert.ok(removed.includes(`namespace ${dead}`), `removed: ${removed}`);
    assert.ok(removed.includes(deadPins), `removed: ${removed}`);
    assert.deepEqual(
      [...[dead, alive, lab].map((name) => `/run/netns/${name}`), deadPins, pins].map(existsSync),
      [false, true, true, false, true],
    );
  } finally {
    for (const name of [dead, alive, lab]) deleteNamespace(name);
    for (const path of [deadPins, pins]) rmSync(path, { recursive: true, force: true });
  }
});

test("a process that a run leaves is found by the run's mark", async () => {
  const run = `leak-${process.pid}`;
  const left = spawn("sleep", ["60"], { env: { ...process.env, [RUN_VARIABLE]: run } });
  const ended = once(left, "exit");
  try {
    await once(left, "spawn");
    const found = processesOf(run);
    assert.deepEqual(
      found.map(({ pid }) => pid),
      [left.pid],
    );
    assert.match(found[0]?.text ?? "", /^process \d+: .*sleep 60$/);
    assert.deepEqual(processesOf(`${run}-other`), []);
  } finally {
    left.kill();
    await ended;
  }
});
