// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createLab } from "./lab.ts";

/** The process whose command line has this text. */
function processWith(text: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (words[0] === "dumpcap" && words.includes(text)) return Number(pid);
    } catch {
      // It has ended.
    }
  }
  return assert.fail(`no dumpcap writes ${text}`);
}

test("a capture has what passed before its end, also when it had to wait", async () => {
  await using lab = await createLab({ name: `c${process.pid}`, nodes: 1, agents: false });
  const file = join(lab.plan.state, "late.pcapng");
  const capture = await lab.capture("client", file, { devices: ["eth0"], filter: "icmp" });
  const dumpcap = processWith(file);
  process.kill(dumpcap, "SIGSTOP");
  const ping = ["ping", "-q", "-c", "5", "-i", "0.01", "10.0.1.1"];
  await lab.output("client", ping);
  setTimeout(() => process.kill(dumpcap, "SIGCONT"), 1500);
  assert.equal(await capture.stop(), 0);
  const lines = execFileSync("tshark", ["-n", "-r", file], { encoding: "utf8" }).trim().split("\n");
  assert.equal(lines.length, 2 * 5);
});

test("a capture that had no room for all that passed says so", async () => {
  await using lab = await createLab({ name: `l${process.pid}`, nodes: 1, agents: false });
  const file = join(lab.plan.state, "full.pcapng");
  const capture = await lab.capture("client", file, { devices: ["eth0"], filter: "icmp" });
  const dumpcap = processWith(file);
  process.kill(dumpcap, "SIGSTOP");
  await lab.output("client", ["ping", "-q", "-f", "-c", "5000", "-s", "1400", "10.0.1.1"]);
  process.kill(dumpcap, "SIGCONT");
  assert.ok((await capture.stop()) > 0);
});

const noShares = existsSync("/proc/self/autogroup") ? false : "the kernel has no autogroups";

test("what a lab starts has its starter's share of the processor", { skip: noShares }, async () => {
  await using lab = await createLab({ name: `s${process.pid}`, nodes: 1, agents: false });
  const { pid } = lab.start("client", ["sleep", "60"]);
  const shares = ["self", pid].map((process) => readFileSync(`/proc/${process}/autogroup`, "utf8"));
  assert.notEqual(shares[1], shares[0]);
  // What has never been given a session, as under an init of a container, has a file without a
  // line.
  const [own = "0", its] = shares.map((share) => /nice (-?\d+)/.exec(share)?.[1]);
  assert.equal(its, own);
});
