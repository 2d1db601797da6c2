// SPDX-License-Identifier: Apache-2.0

// Runs inside a booted kernel, as the first of the tests there.

import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { release } from "node:os";
import { basename, resolve } from "node:path";
import { suite, test } from "node:test";
import { OBJECTS, WIDE_OBJECTS } from "../../src/datapath/load.ts";
import { openObject } from "../../src/kernel/object.ts";
import { hasFeature } from "../../src/kernel/probe.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const [major = 0, minor = 0] = release().split(".").map(Number);

function isSince(wantedMajor: number, wantedMinor: number): boolean {
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

test("tcx is there from Linux 6.6 on and not before", () => {
  assert.equal(hasFeature("tcx"), isSince(6, 6));
});

suite("the verifier takes every object of the packet path", () => {
  const objects = globSync(resolve(ROOT, "build/bpf/*.bpf.o"));
  test("all of them", () => {
    const wanted = [...OBJECTS, ...WIDE_OBJECTS].map((name) => `${name}.bpf.o`);
    assert.deepEqual(objects.map((path) => basename(path)).sort(), wanted.sort());
  });
  for (const path of objects) {
    test(basename(path), () => {
      using object = openObject(path);
      using loaded = object.load();
      assert.ok(loaded.programs.size > 0);
    });
  }
});
