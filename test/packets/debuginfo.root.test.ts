// SPDX-License-Identifier: Apache-2.0
// `ciliate debuginfo`: one archive, with or without an agent; tar(1) is the judge of its form.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { GetConfigResponse } from "../../src/api/gen/ciliate.ts";
import { ciliate, fixedAgent, type Outcome } from "../../src/cli/fixture.ts";
import { openStage, type Stage } from "./stage.ts";

let stage: Stage | undefined;
let directory: string;
before(async () => {
  directory = mkdtempSync(join(tmpdir(), "ciliate-debuginfo-"));
  stage = await openStage();
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

function tar(...words: string[]): string {
  const { stdout, stderr, status } = spawnSync("tar", words, { encoding: "utf8" });
  assert.deepEqual([stderr, status], ["", 0], `tar ${words.join(" ")}`);
  return stdout;
}

/** What is in the archive, by its path below the archive's own folder. */
function unpack(name: string): Map<string, string> {
  const file = join(directory, `${name}.tar.gz`);
  const paths = tar("tzf", file).trim().split("\n");
  tar("xzf", file, "-C", directory);
  return new Map(
    paths.map((path) => {
      assert.ok(path.startsWith(`${name}/`), path);
      return [path.slice(name.length + 1), readFileSync(join(directory, path), "utf8")];
    }),
  );
}

function run(name: string, ...more: string[]): Promise<Outcome> {
  const file = join(directory, `${name}.tar.gz`);
  return ciliate(["debuginfo", "-w", file, "--bpffs", stage?.pins ?? "", ...more]);
}

function json(files: Map<string, string>, path: string) {
  return JSON.parse(files.get(path) ?? assert.fail(`there is no ${path}`));
}

test("without an agent the archive has what the kernel has, and says what is missing", async () => {
  const config = join(directory, "ciliate.yaml");
  writeFileSync(config, "node: { name: lb-9 }\nmetrics: { listen: 'off' }\n");
  const nowhere = join(directory, "no.sock");
  const { stdout, stderr, code } = await run("alone", "--socket", nowhere, "--config", config);
  assert.deepEqual([stderr, code], ["", 0]);
  assert.match(stdout, /alone\.tar\.gz: \d+ files, .*\nmissing or cut\n {2}agent\/version\.json: /);
  assert.equal(statSync(join(directory, "alone.tar.gz")).mode & 0o777, 0o600);

  const files = unpack("alone");
  const missing = files.get("missing.txt") ?? "";
  for (const name of ["version", "status", "config", "services", "backends"]) {
    assert.match(missing, new RegExp(`^agent/${name}\\.json: .*no\\.sock`, "m"));
  }
  assert.match(missing, /^metrics\.txt: metrics\.listen is off$/m);
  assert.match(missing, /^agent\.log: .*journalctl -u ciliate$/m);
  const values: { path: string; value: unknown }[] = json(files, "config.json").values;
  assert.equal(values.find(({ path }) => path === "node.name")?.value, "lb-9");

  const programs = json(files, "programs.json");
  const host = programs.find(({ name }: { name: string }) => name === "from_network");
  assert.match(host.tag, /^[0-9a-f]{16}$/);
  assert.ok(host.verifiedInstructions > 1000 && host.runCount >= 0);
  const endpoints = (files.get("tables/endpoints.jsonl") ?? "").trim().split("\n");
  const addresses = endpoints.map((line) => JSON.parse(line).key.address);
  assert.ok(addresses.includes("10.1.0.11"), addresses.join());
  const lo = json(files, "devices.json").find(({ name }: { name: string }) => name === "lo");
  assert.ok(lo.addresses.includes("127.0.0.1/8") && Array.isArray(lo.programs.ingress.tcx));
  assert.equal(typeof json(files, "sysctls.json")["net/ipv4/ip_forward"], "string");
  assert.ok(Array.isArray(json(files, "network.json").routes));
});

test("with an agent the archive has its answers, without what is secret", async (t) => {
  const getConfig = () =>
    GetConfigResponse.fromPartial({
      file: join(directory, "none.yaml"),
      values: [
        { path: "node.name", value: '"lb-1"' },
        { path: "remote.token", value: '"hunter2"' },
        { path: "remote.url", value: '"https://me:hunter2@example.org/"' },
        { path: "remote.login", value: '{"password":"hunter2","user":"me"}' },
        { path: "metrics.listen", value: '"127.0.0.1:1"' },
      ],
    });
  const socket = await fixedAgent(t, { getConfig });
  writeFileSync(join(directory, "agent.log"), '{"url":"//me:hunter2@host/","token":"hunter2"}\n');
  const { stdout, code } = await run("asked", "--socket", socket, "-o", "json");
  assert.equal(code, 0);
  const files = unpack("asked");
  assert.deepEqual(JSON.parse(stdout).files, [...files.keys()]);
  assert.equal(json(files, "agent/status.json").state, "ready");
  assert.equal(json(files, "agent/services.json").length, 2);
  assert.ok(files.has("agent/backends.json") && files.has("agent.log"));
  const values: { path: string; value: unknown }[] = json(files, "agent/config.json").values;
  assert.deepEqual(
    values.map(({ value }) => value),
    [
      "lb-1",
      "(removed)",
      "https://(removed)@example.org/",
      { password: "(removed)", user: "me" },
      "127.0.0.1:1",
    ],
  );
  for (const [path, text] of files) assert.ok(!text.includes("hunter2"), path);
  assert.match(files.get("missing.txt") ?? "", /^metrics\.txt: no answer from 127\.0\.0\.1:1/m);
});

test("a file that is there is left alone, and one that can't be written is a failure", async () => {
  const file = join(directory, "there.tar.gz");
  writeFileSync(file, "mine");
  const again = await run("there", "--socket", join(directory, "no.sock"));
  assert.deepEqual([again.code, readFileSync(file, "utf8")], [1, "mine"]);
  assert.match(
    again.stderr,
    /^ciliate: cannot write .*: it is there already; name another file\n$/,
  );
  const nowhere = await run("no/where");
  assert.equal(nowhere.code, 1);
  assert.equal(existsSync(join(directory, "no")), false);
  const wrong = await ciliate(["debuginfo", "-w", join(directory, "x.zip")]);
  assert.deepEqual([wrong.code, wrong.stdout], [2, ""]);
});
