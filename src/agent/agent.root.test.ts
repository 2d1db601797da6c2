// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { Agent, PROGRAM, until } from "./fixture.ts";

test("an agent starts, answers, serves metrics, and stops with 0", async (t) => {
  const agent = await new Agent(t).start().ready();
  const status = agent.ciliate("status -o json");
  assert.deepEqual([status.stderr, status.code], ["", 0]);
  const { state, pid, configFile } = JSON.parse(status.stdout);
  assert.deepEqual([state, pid, configFile], ["ready", agent.child?.pid, agent.file]);
  assert.equal(agent.ciliate("service list").stdout, "no services\n");
  assert.equal(agent.get("/healthz"), "ok\n");
  assert.match(agent.get("/readyz"), /^agent: ok$/m);
  assert.match(agent.get("/metrics"), /^ciliate_process_resident_bytes\{kind="own"\} \d+$/m);
  assert.equal(await agent.end("SIGTERM"), 0);
  assert.equal(agent.ciliate("status").code, 3);
});

test("a wrong configuration ends with 1 and every fault, before anything is done", async (t) => {
  const agent = new Agent(t, "mtu: big\nnodes: 3\n");
  const { status, stderr } = spawnSync(PROGRAM, ["agent", "--config", agent.file], {
    encoding: "utf8",
  });
  assert.equal(status, 1);
  assert.match(stderr, /^ciliate: .*:8:6: mtu: expected auto or .*\n.*:9:1: unknown key "nodes"/);
});

test("an uplink without room for the dispatch is refused at start, with the reason", async (t) => {
  const agent = new Agent(t, "dispatch: geneve\n");
  agent.ip("link set v0 mtu 613");
  assert.equal(await agent.start().exit, 1);
  const { error } = await agent.said("the agent can't go on; the datapath is as it was");
  assert.match(String(error), /^dispatch geneve leaves clients 551 of 613 bytes, .*uplinks' MTU/);
  agent.configure("dispatch: geneve\nmtu: 1500\n");
  assert.equal(await agent.start().exit, 1, "whatever the file says");
});

test("a second agent with the same directory is refused; a killed one's is taken", async (t) => {
  const first = new Agent(t).start();
  await first.said("ready");
  const second = new Agent(t);
  writeFileSync(second.file, readFileSync(first.file));
  second.start();
  assert.equal(await second.exit, 1);
  const why = (await second.said("the agent can't go on; the datapath is as it was")).error;
  assert.match(String(why), new RegExp(`^another agent \\(pid ${first.child?.pid}\\) runs with `));
  assert.equal(first.ciliate("status").code, 0);
  await first.end("SIGKILL");
  assert.equal(first.ciliate("status").code, 3);
  await first.start().ready();
  assert.equal(first.ciliate("status").code, 0);
});

test("a second agent with the same pins is refused, in any runtime directory", async (t) => {
  const first = new Agent(t).start();
  await first.said("ready");
  const second = new Agent(t);
  const text = readFileSync(second.file, "utf8").replace(second.pins, first.pins);
  writeFileSync(second.file, text);
  second.start();
  assert.equal(await second.exit, 1);
  const why = (await second.said("the agent can't go on; the datapath is as it was")).error;
  assert.equal(
    why,
    `another agent (pid ${first.child?.pid}) uses the tables in ${first.pins}: ` +
      "stop it first, or set paths.bpffs",
  );
});

test("a reload takes over what it can, names the rest, and survives a bad file", async (t) => {
  const agent = new Agent(t).start();
  await agent.said("starting");
  agent.configure("conntrack: {udp: 20s, maxEntries: 4096}\n");
  agent.child?.kill("SIGHUP");
  await agent.said("ready");
  assert.equal((await agent.said("configuration changed"))["to"], '"20s"');
  agent.configure(`conntrack: {udp: 30s, maxEntries: 4096}\nlog: {level: debug}\nmtu: 1400\n`);
  const reload = agent.ciliate("config reload");
  assert.equal(
    reload.stdout,
    "mtu: auto -> 1400 (needs a restart of the agent)\n" +
      "conntrack.udp: 20s -> 30s (in force)\nlog.level: info -> debug (in force)\n",
  );
  assert.match(agent.ciliate("config get mtu").stdout, /auto .*after a restart: 1400\n$/);
  agent.configure("mtu: 1400\nmtu: 1500\n");
  const bad = agent.ciliate("config reload");
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /^ciliate: .*ciliate\.yaml:9:1: not YAML: map keys must be unique\n$/);
  assert.equal(agent.ciliate("config get conntrack.udp -o json").stdout, '"30s"\n');
  agent.child?.kill("SIGHUP");
  const line = await agent.said("configuration not reloaded");
  assert.match(String(line["problem"]), /map keys must be unique/);
  agent.configure(`conntrack: {udp: 45s, maxEntries: 4096}\n`);
  agent.child?.kill("SIGHUP");
  await until(
    () => "the SIGHUP changed nothing",
    () => agent.ciliate("config get conntrack.udp -o json").stdout === '"45s"\n',
  );
});

test("systemd hears of readiness, reloads, signs of life and the end", async (t) => {
  const agent = new Agent(t);
  const path = join(agent.directory, "notify.sock");
  const receiver = spawn("socat", ["-u", `UNIX-RECV:${path}`, "STDOUT"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => receiver.kill());
  let heard = "";
  receiver.stdout.on("data", (piece: Buffer) => {
    heard += piece;
  });
  const hears = (pattern: RegExp): Promise<void> =>
    until(
      () => `never heard ${pattern} in:\n${heard}`,
      () => pattern.test(heard),
    );
  await until(
    () => "socat makes no socket",
    () => existsSync(path),
  );
  agent.start({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "100000" });
  await hears(/^READY=1$/m);
  assert.match(heard, new RegExp(`^MAINPID=${agent.child?.pid}$`, "m"));
  await hears(/WATCHDOG=1[\s\S]*WATCHDOG=1/);
  heard = "";
  agent.child?.kill("SIGHUP");
  await hears(/^RELOADING=1$[\s\S]*^READY=1$/m);
  await agent.end("SIGTERM");
  await hears(/^STOPPING=1$/m);
});

test("the systemd unit is valid, but for the program that isn't installed here", (t) => {
  if (!existsSync("/usr/bin/systemd-analyze")) return t.skip("needs systemd-analyze");
  const unit = resolve(import.meta.dirname, "../../deploy/ciliate.service");
  const result = spawnSync("systemd-analyze", ["verify", unit], { encoding: "utf8" });
  const faults = result.stderr.split("\n").filter((line) => line !== "");
  const known = /Command \/usr\/local\/bin\/ciliate is not executable: No such file/;
  assert.deepEqual(
    faults.filter((line) => !known.test(line)),
    [],
  );
});

test("without cgroup2, an agent works and says what is missing", async (t) => {
  const agent = new Agent(t, "socket: {enabled: true}\n");
  const each = 'grep -o "/[^ ]* cgroup2 " /proc/mounts';
  const without = `${each} | while read -r at _; do umount -l "$at"; done; exec "$@"`;
  await agent.start({}, ["unshare", "--mount", "sh", "-c", without, "sh"]).ready();
  const { state, checks } = agent.json("status");
  assert.equal(state, "degraded");
  const { problem } = checks.find(({ name }: { name: string }) => name === "sockets");
  assert.equal(problem, "no cgroup2 is mounted: mount one, or set socket.enabled to false");
  assert.match(agent.get("/metrics"), /^ciliate_sockets_closed_total\{protocol="tcp"\} 0$/m);
});
