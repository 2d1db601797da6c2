// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";

const PROGRAM = resolve(import.meta.dirname, "../../bin/ciliate");
const PINS = `/sys/fs/bpf/ciliate-agent-${process.pid}`;
const LIMIT_MS = 20_000;

interface LogLine {
  readonly level: string;
  readonly subsystem: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** An agent under test, in its own process with its own directories. */
class Agent {
  readonly directory: string;
  readonly file: string;
  readonly socket: string;
  child: ChildProcess | undefined;
  #log = "";
  #exit: Promise<number | null> = Promise.resolve(null);

  constructor(t: TestContext, config: string) {
    this.directory = mkdtempSync(join(tmpdir(), "ciliate-agent-"));
    this.file = join(this.directory, "ciliate.yaml");
    this.socket = join(this.directory, "run/ciliate.sock");
    this.configure(config);
    t.after(async () => {
      this.child?.kill("SIGKILL");
      await this.#exit;
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  configure(config: string): void {
    const paths = `runtime: ${this.directory}/run, bpffs: ${PINS}`;
    writeFileSync(this.file, `manifests: []\npaths: {${paths}}\n${config}`);
  }

  start(env: Readonly<Record<string, string>> = {}): this {
    this.#log = "";
    const child = spawn(PROGRAM, ["agent", "--config", this.file], {
      stdio: ["ignore", "inherit", "pipe"],
      env: { ...process.env, ...env },
    });
    child.stderr.on("data", (piece: Buffer) => {
      this.#log += piece;
    });
    this.#exit = new Promise((done) => child.once("close", (code) => done(code)));
    this.child = child;
    return this;
  }

  get log(): LogLine[] {
    return this.#log
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  }

  /** Waits for a line with this message. */
  async said(message: string): Promise<LogLine> {
    const end = performance.now() + LIMIT_MS;
    while (performance.now() < end) {
      const line = this.log.find((candidate) => candidate.message === message);
      if (line !== undefined) return line;
      await new Promise((done) => setTimeout(done, 20));
    }
    return assert.fail(`the agent never said "${message}":\n${this.#log}`);
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.child?.kill(signal);
    return await this.#exit;
  }

  get exit(): Promise<number | null> {
    return this.#exit;
  }

  ciliate(words: string): { code: number | null; stdout: string; stderr: string } {
    const args = [...words.split(" "), "--socket", this.socket];
    const { status, stdout, stderr } = spawnSync(PROGRAM, args, { encoding: "utf8" });
    return { code: status, stdout, stderr };
  }
}

const QUIET = "metrics: {listen: 127.0.0.1:0}\n";

test("an agent starts, answers, serves metrics, and stops with 0", async (t) => {
  const agent = new Agent(t, QUIET).start();
  const { port } = await agent.said("serving metrics");
  await agent.said("ready");
  const status = agent.ciliate("status -o json");
  assert.deepEqual([status.stderr, status.code], ["", 0]);
  const { state, pid, configFile } = JSON.parse(status.stdout);
  assert.deepEqual([state, pid, configFile], ["ready", agent.child?.pid, agent.file]);
  assert.equal(agent.ciliate("service list").stdout, "no services\n");
  const get = async (path: string): Promise<string> =>
    await (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  assert.equal(await get("/healthz"), "ok\n");
  assert.match(await get("/readyz"), /^agent: ok$/m);
  assert.match(await get("/metrics"), /^ciliate_process_resident_bytes\{kind="shared"\} \d+$/m);
  assert.equal(await agent.end("SIGTERM"), 0);
  assert.equal(agent.ciliate("status").code, 3);
});

test("a wrong configuration ends with 1 and every fault, before anything is done", async (t) => {
  const agent = new Agent(t, "mtu: big\nnodes: 3\n");
  const { status, stderr } = spawnSync(PROGRAM, ["agent", "--config", agent.file], {
    encoding: "utf8",
  });
  assert.equal(status, 1);
  assert.match(stderr, /^ciliate: .*:3:6: mtu: expected auto or .*\n.*:4:1: unknown key "nodes"/);
});

test("a second agent with the same directory is refused; a killed one's is taken", async (t) => {
  const first = new Agent(t, QUIET).start();
  await first.said("ready");
  const second = new Agent(t, QUIET);
  writeFileSync(second.file, readFileSync(first.file));
  second.start();
  assert.equal(await second.exit, 1);
  const why = (await second.said("the agent can't start; the datapath is as it was")).error;
  assert.match(String(why), new RegExp(`^another agent \\(pid ${first.child?.pid}\\) runs with `));
  assert.equal(first.ciliate("status").code, 0);
  await first.end("SIGKILL");
  assert.equal(first.ciliate("status").code, 3);
  first.start();
  await first.said("ready");
  assert.equal(first.ciliate("status").code, 0);
});

test("a reload takes over what it can, names the rest, and survives a bad file", async (t) => {
  const agent = new Agent(t, QUIET).start();
  await agent.said("ready");
  agent.configure(`${QUIET}conntrack: {udp: 30s}\nlog: {level: debug}\nmtu: 1400\n`);
  const reload = agent.ciliate("config reload");
  assert.equal(
    reload.stdout,
    "mtu: auto -> 1400 (needs a restart of the agent)\n" +
      "conntrack.udp: 1m -> 30s (in force)\nlog.level: info -> debug (in force)\n",
  );
  assert.match(agent.ciliate("config get mtu").stdout, /auto .*after a restart: 1400\n$/);
  agent.configure("mtu: 1400\nmtu: 1500\n");
  const bad = agent.ciliate("config reload");
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /^ciliate: .*ciliate\.yaml:4:1: not YAML: map keys must be unique\n$/);
  assert.equal(agent.ciliate("config get conntrack.udp -o json").stdout, '"30s"\n');
  agent.child?.kill("SIGHUP");
  const line = await agent.said("configuration not reloaded");
  assert.match(String(line["problem"]), /map keys must be unique/);
  agent.configure(`${QUIET}conntrack: {udp: 45s}\n`);
  agent.child?.kill("SIGHUP");
  await agent.said("configuration changed");
  const end = performance.now() + LIMIT_MS;
  while (agent.ciliate("config get conntrack.udp -o json").stdout !== '"45s"\n') {
    assert(performance.now() < end, "the SIGHUP changed nothing");
  }
});

test("systemd hears of readiness, reloads, signs of life and the end", async (t) => {
  const agent = new Agent(t, QUIET);
  const path = join(agent.directory, "notify.sock");
  const receiver = spawn("socat", ["-u", `UNIX-RECVFROM:${path},fork`, "STDOUT"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => receiver.kill());
  let heard = "";
  receiver.stdout.on("data", (piece: Buffer) => {
    heard += `${piece}\n`;
  });
  const hears = async (pattern: RegExp): Promise<void> => {
    const end = performance.now() + LIMIT_MS;
    while (!pattern.test(heard)) {
      assert(performance.now() < end, `never heard ${pattern} in:\n${heard}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  while (spawnSync("test", ["-S", path]).status !== 0);
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
