// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "..");

function run(program: string, ...words: readonly string[]): string {
  return execFileSync(program, words, {
    cwd: "/",
    encoding: "utf8",
    env: { PATH: "/usr/bin:/bin" },
  });
}

test("what make install installs runs without the checkout, and uninstall leaves nothing", () => {
  const destination = mkdtempSync(join(tmpdir(), "install-"));
  const make = (target: string): string =>
    run("make", "-s", "-C", ROOT, target, `DESTDIR=${destination}`, "PREFIX=/opt/ciliate");
  try {
    make("install");
    const files = globSync("**", { cwd: destination });
    assert.deepEqual(
      files.filter((file) => /node_modules|\.ts$/.test(file)),
      [],
    );
    const program = join(destination, "opt/ciliate/bin/ciliate");
    const link = join(destination, "link");
    symlinkSync(program, link);
    assert.match(run(program, "version"), /^ciliate \d/);
    assert.equal(run(link, "version"), run(join(ROOT, "bin/ciliate"), "version"));
    const unit = join(destination, "opt/ciliate/lib/systemd/system/ciliate.service");
    assert.match(readFileSync(unit, "utf8"), /^ExecStart=\/opt\/ciliate\/bin\/ciliate agent/m);

    rmSync(link);
    make("uninstall");
    const left = globSync("**", { cwd: destination, withFileTypes: true });
    assert.deepEqual(
      left.filter((entry) => !entry.isDirectory()).map(({ name }) => name),
      [],
    );
  } finally {
    rmSync(destination, { recursive: true });
  }
});
