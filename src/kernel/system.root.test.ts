// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Command, listIds } from "./bpf.ts";
import { ensureBpffs, ensurePinDirectory, isBpffs, listPins, unpin } from "./bpffs.ts";
import { monotonicNs } from "./clock.ts";
import { check } from "./error.ts";
import * as sys from "./ffi.ts";
import { MapFlags } from "./kinds.ts";
import { BpfMap } from "./map.ts";
import { gracePeriod } from "./membarrier.ts";
import { openObject } from "./object.ts";
import { explainFeature, type Feature, hasFeature } from "./probe.ts";
import { buildObject, makePinDirectory, readU32, u32 } from "./testdata/build.ts";

/** Words of the lingering program, of 64 bits each. */
const ENDED = 2;
const RELEASED = 4;

test("a file system that takes no directories is refused in words", () => {
  assert.throws(() => ensurePinDirectory("/proc/ciliate/pins"), /mount -t bpf bpf/);
});

test("a bpffs is mounted where there is none, once", () => {
  const CLONE_NEWNS = 0x0002_0000;
  check(sys.unshare(CLONE_NEWNS), "make", "a mount namespace");
  execFileSync("mount", ["--make-rprivate", "/"]);
  const directory = mkdtempSync(join(tmpdir(), "ciliate-bpffs-"));
  try {
    assert.equal(isBpffs(directory), false);
    assert.throws(() => ensurePinDirectory(join(directory, "pins")), /not on a bpffs/);
    rmdirSync(join(directory, "pins"));
    ensureBpffs(directory);
    ensureBpffs(directory);
    assert.equal(isBpffs(directory), true);
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    ensurePinDirectory(join(directory, "a", "b"));
    assert.deepEqual(listPins(directory), ["a"]);
    assert.equal(sys.unmount(directory), 0);
    assert.equal(isBpffs(directory), false);
  } finally {
    sys.unmount(directory);
    rmdirSync(directory);
  }
});

test("pins are listed by name and removed once", () => {
  const directory = makePinDirectory();
  const sizes = { keySize: 4, valueSize: 4, maxEntries: 1 };
  using map = BpfMap.create({ name: "cil_pin", type: "hash", ...sizes });
  map.pin(join(directory, "b"));
  map.pin(join(directory, "a"));
  assert.deepEqual(listPins(directory), ["a", "b"]);
  assert.equal(unpin(join(directory, "a")), true);
  assert.equal(unpin(join(directory, "a")), false);
  assert.deepEqual(listPins(directory), ["b"]);
  assert.deepEqual(listPins(join(directory, "absent")), []);
  assert.ok(listIds(Command.mapNextId).includes(map.id));
});

test("the clock is the one that programs read", () => {
  using object = openObject(buildObject("clock"));
  using loaded = object.load();
  const before = monotonicNs();
  loaded.program("tell_time").testRun({ data: new Uint8Array(64) });
  const after = monotonicNs();
  const told = loaded.map(".bss").lookup(u32(0)) ?? new Uint8Array(8);
  const ns = new DataView(told.buffer).getBigUint64(0, true);
  assert.ok(before <= ns && ns <= after, `${before} <= ${ns} <= ${after}`);
});

test("a grace period outlasts the programs that run when it begins", async () => {
  using object = openObject(buildObject("clock"));
  using loaded = object.load();
  const words = loaded.map("words");
  using mapping = words.mmap();
  const view = new Int32Array(mapping.buffer);
  const url = new URL("./testdata/run-program.ts", import.meta.url);
  const worker = new Worker(url, { workerData: { id: loaded.program("linger").id } });
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  const deadline = Date.now() + 10_000;
  while (Atomics.load(view, 0) === 0) {
    assert.ok(Date.now() < deadline, "the program did not begin in 10 s");
    await new Promise(setImmediate);
  }
  let passed = false;
  const grace = gracePeriod().then(() => {
    passed = true;
  });
  // One that waits for nobody has time to show it. Awake: asleep, this thread may wait for the CPU
  // on which the program is.
  const shown = Date.now() + 50;
  while (Date.now() < shown) await new Promise(setImmediate);
  assert.deepEqual([passed, Atomics.load(view, ENDED)], [false, 0]);
  Atomics.store(view, RELEASED, 1);
  await grace;
  assert.equal(Atomics.load(view, ENDED), 1);
  await ended;
  assert.equal(readU32(words.lookup(u32(0)) ?? new Uint8Array(4)), 1);
});

test("grace periods asked for during one share the next, and none that has begun", async () => {
  const running = gracePeriod();
  const next = gracePeriod();
  assert.equal(gracePeriod(), next);
  assert.notEqual(next, running);
  let ended = false;
  const seen = next.then(() => {
    ended = true;
  });
  await running;
  await new Promise(process.nextTick);
  assert.equal(ended, false);
  await seen;
});

test("a probe finds what the kernel's version promises, and leaves nothing behind", () => {
  const number = (version: string): number => {
    const [major, minor] = version.split(".").map((part) => Number.parseInt(part, 10));
    return (major ?? 0) * 1000 + (minor ?? 0);
  };
  const maps = { ringbuf: "5.8", mmapableArray: "5.5" };
  const since = { tcx: "6.6", xdpLink: "5.9", loopHelper: "5.17", liveFrames: "5.18", ...maps };
  const descriptors = readdirSync("/proc/self/fd").length;
  for (const [feature, version] of Object.entries(since) as [Feature, string][]) {
    const promised = number(release()) >= number(version);
    assert.equal(hasFeature(feature), promised, feature);
    const words = `${feature} came with Linux ${version} and this is ${release()}`;
    assert.ok(promised ? explainFeature(feature) === "" : explainFeature(feature).includes(words));
  }
  assert.equal(readdirSync("/proc/self/fd").length, descriptors);
});

test("a mapping of a hundred megabytes is no trouble", () => {
  const sizes = { keySize: 4, valueSize: 32, maxEntries: 3_276_800, flags: MapFlags.mmapable };
  using map = BpfMap.create({ name: "cil_large", type: "array", ...sizes });
  using mapping = map.mmap();
  const words = new Uint32Array(mapping.buffer);
  words[words.length - 8] = 77;
  assert.equal(readU32(map.lookup(u32(3_276_799)) ?? new Uint8Array(4)), 77);
});
