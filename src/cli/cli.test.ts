// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import { ApiError } from "../api/error.ts";
import { AgentState } from "../api/gen/ciliate.ts";
import { VERSION } from "../config/version.ts";
import { ciliate, fixedAgent, STATUS } from "./fixture.ts";

const TESTDATA = join(import.meta.dirname, "testdata");
const UPDATE = process.env["UPDATE_GOLDEN"] !== undefined;

/** Command lines whose whole output stands in testdata/NAME.txt. */
const GOLDENS: readonly (readonly [name: string, words: string])[] = [
  ["help", "--help"],
  ["service-help", "service --help"],
  ["monitor-help", "monitor -h"],
  ["capture-help", "capture --help"],
  ["status", "status"],
  ["status-json", "status -o json"],
  ["service-list", "service list"],
  ["service-list-json", "service list -n apps -o json"],
  ["service-get", "service get web"],
  ["backend-list", "backend list"],
  ["backend-list-one", "backend list default/web -ojson"],
  ["config-get", "config get"],
  ["config-get-json", "config get --output=json"],
  ["config-reload", "config reload"],
  ["monitor", "monitor --traces --count 2"],
  ["monitor-json", "monitor -t -c 2 -o json"],
];

for (const [name, words] of GOLDENS) {
  test(`ciliate ${words} writes testdata/${name}.txt`, async (t) => {
    const socket = await fixedAgent(t);
    const result = await ciliate(["--socket", socket, ...words.split(" ")]);
    assert.deepEqual([result.stderr, result.code], ["", 0]);
    const stdout = result.stdout.replace(/"startedUnixMs": \d+/, '"startedUnixMs": 0');
    const file = join(TESTDATA, `${name}.txt`);
    if (UPDATE) writeFileSync(file, stdout);
    assert.equal(stdout, readFileSync(file, "utf8"));
  });
}

test("version answers without an agent, and is package.json's", async (t) => {
  const { stdout, code } = await ciliate(["version", "-o", "json"]);
  const manifest = readFileSync(resolve(import.meta.dirname, "../../package.json"), "utf8");
  assert.equal(code, 0);
  assert.equal(JSON.parse(stdout).version, JSON.parse(manifest).version);
  assert.equal(VERSION, JSON.parse(manifest).version);
  const socket = await fixedAgent(t);
  const both = await ciliate(["version", "--agent", "--socket", socket]);
  assert.match(both.stdout, /^ciliate 0.*\nagent 0\.1\.0 \(Node 24\.0\.0, Linux 6\.1\.0, x64\)\n$/);
});

test("wrong command lines end with 2 and say the way out", async () => {
  const lines: readonly (readonly [words: string, text: string])[] = [
    ["", "ciliate needs a command: agent, status, "],
    ["stauts", 'ciliate has no command "stauts"; did you mean "status"?\nsee: ciliate --help\n'],
    ["xyzzy", 'ciliate has no command "xyzzy"; there are: agent, status, '],
    ["service", "ciliate service needs a command: list, get, explain\nsee: ciliate service --help"],
    ["service get", "ciliate service get needs SERVICE: NAMESPACE/NAME"],
    ["service get a b", 'ciliate service get: one word too many, "b"'],
    ["service get a/b/c", 'SERVICE: expected NAMESPACE/NAME or a name, got "a/b/c"'],
    ["service explain 192.0.2.1", 'VIP:PORT: expected an address and a port, got "192.0.2.1"'],
    ["service explain 192.0.2.1:x", "VIP:PORT: expected an address and a port, such as"],
    ["service explain 192.0.2.1:80 --from ::1", "--from: the client and the service are of diff"],
    ["status --wiat 3s", 'ciliate status has no option "--wiat"; did you mean "--wait"?'],
    ["status -x", 'ciliate status has no option "-x"\n'],
    ["status -o yaml", '--output: expected one of text, json, got "yaml"'],
    ["status --wait", "--wait needs a value: DURATION"],
    ["status --help=yes", "--help takes no value"],
    ["status --timeout 3", '--timeout: expected a duration such as 5s, got "3"'],
    ["monitor -p x", '--port: expected a whole number from 1 on, got "x"'],
    ["monitor -a x", '--address: expected an address, got "x"'],
    ["completion bsh", 'SHELL: expected one of bash, zsh, fish, got "bsh"; did you mean "bash"?'],
  ];
  const results = await Promise.all(
    lines.map(([words]) => ciliate(words.split(" ").filter((word) => word !== ""))),
  );
  for (const [index, { code, stdout, stderr }] of results.entries()) {
    const [words, text] = lines[index] ?? ["", ""];
    assert.equal(stderr.slice(0, `ciliate: ${text}`.length), `ciliate: ${text}`, words);
    assert.deepEqual([code, stdout], [2, ""], words);
  }
});

test("an agent that isn't there ends every call with 3 and how to start it", async () => {
  const words = [
    "status",
    "service list",
    "backend list",
    "monitor",
    "config get",
    "config reload",
  ];
  const env = { CILIATE_SOCKET: "/nonexistent/agent.sock" };
  const results = await Promise.all(words.map((line) => ciliate(line.split(" "), { env })));
  for (const result of results) {
    assert.deepEqual(result, {
      code: 3,
      stdout: "",
      stderr:
        "ciliate: agent is not running: no answer at /nonexistent/agent.sock; the datapath keeps " +
        "working; start it with `systemctl start ciliate` or `ciliate agent`\n",
    });
  }
});

test("an agent that gives no answer in time ends with 3", async (t) => {
  const socket = await fixedAgent(t, { getStatus: () => new Promise(() => {}) });
  const { code, stderr } = await ciliate(["status", "--timeout", "200ms", "--socket", socket]);
  assert.match(stderr, /^ciliate: agent at .* gave no answer within 200 ms; is it stopped/);
  assert.equal(code, 3);
});

test("a socket that never speaks ends with 3 in the time given", async (t) => {
  const path = join(await socketDirectory(t), "silent.sock");
  const silent = createServer(() => {}).listen(path);
  t.after(() => silent.close());
  const { code } = await ciliate(["service", "list", "--timeout", "300ms", "--socket", path]);
  assert.equal(code, 3);
});

async function socketDirectory(t: TestContext): Promise<string> {
  return resolve(await fixedAgent(t), "..");
}

test("what isn't there ends with 4", async (t) => {
  const socket = await fixedAgent(t);
  const run = (words: string) => ciliate([...words.split(" "), "--socket", socket]);
  assert.deepEqual(await run("service get apps/web"), {
    code: 4,
    stdout: "",
    stderr: "ciliate: there is no service apps/web; see: ciliate service list\n",
  });
  assert.equal((await run("backend list nothing")).code, 4);
  const key = await run("config get conntrack.upd");
  assert.equal(
    key.stderr,
    'ciliate: there is no key "conntrack.upd"; did you mean "conntrack.udp"?\n',
  );
  assert.equal(key.code, 4);
  assert.equal((await run("config get conntrack.udp -o json")).stdout, '"1m"\n');
});

test("a refusal by the agent ends with 1 and its words", async (t) => {
  const socket = await fixedAgent(t, {
    reloadConfig: () => {
      throw new ApiError("refused", "c.yaml:3:1: unknown key\nc.yaml:4:1: another");
    },
  });
  assert.deepEqual(await ciliate(["config", "reload", "--socket", socket]), {
    code: 1,
    stdout: "",
    stderr: "ciliate: c.yaml:3:1: unknown key\nc.yaml:4:1: another\n",
  });
});

test("status ends with 5 and lists the problems until the agent is ready", async (t) => {
  let asked = 0;
  const socket = await fixedAgent(t, {
    getStatus: () => {
      asked += 1;
      if (asked > 3) return STATUS;
      const checks = [{ name: "sources", problem: "not synced: files" }];
      const tables = [{ name: "conntrack", used: 8n, limit: 8n, problem: "full, raise its limit" }];
      return { ...STATUS, state: AgentState.STARTING, checks, tables };
    },
  });
  const once = await ciliate(["status", "--socket", socket]);
  assert.equal(once.code, 5);
  assert.match(once.stdout, /^agent {3}starting, /);
  const problems = [
    "problems",
    "  sources: not synced: files",
    "  table conntrack: full, raise its limit",
  ];
  assert.equal(once.stdout.split("\n\n").at(-1), `${problems.join("\n")}\n`);
  const waited = await ciliate(["status", "--wait", "10s", "--socket", socket]);
  assert.deepEqual([waited.code, asked], [0, 4]);
});

test("status --wait gives up on an agent that never comes", async () => {
  const { code } = await ciliate(["status", "--wait", "300ms", "--socket", "/nonexistent/a.sock"]);
  assert.equal(code, 3);
});

test("config check tells every fault of a file without an agent", async () => {
  const wrong = resolve(import.meta.dirname, "../config/testdata/wrong.yaml");
  const bad = await ciliate(["config", "check", wrong]);
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /^ciliate: \/.*wrong\.yaml:1:1: unknown key "acelerate"; did you mean/);
  const json = await ciliate(["config", "check", wrong, "-o", "json"]);
  assert.deepEqual([json.code, JSON.parse(json.stdout).problems.length > 10], [1, true]);
  const good = resolve(import.meta.dirname, "../../deploy/ciliate.yaml");
  assert.equal((await ciliate(["config", "check", good])).code, 0);
});

test("colour is for terminals, for those who ask, and never against NO_COLOR", async (t) => {
  const socket = await fixedAgent(t);
  const words = ["service", "list", "--socket", socket];
  const startsColour = "\u001b[";
  const colourful = async (more: string[], env: Record<string, string> = {}): Promise<boolean> =>
    (await ciliate([...words, ...more], { env })).stdout.includes(startsColour);
  assert.equal(await colourful([]), false);
  assert.equal(await colourful(["--color", "always"]), true);
  assert.equal(await colourful(["--color", "always", "-o", "json"]), false);
  const onTerminal = (env: string): Promise<string> =>
    new Promise((done) => {
      const line = `${env} ${resolve(import.meta.dirname, "../../bin/ciliate")} ${words.join(" ")}`;
      const child = spawn("script", ["-qec", line, "/dev/null"], {
        stdio: ["ignore", "pipe", "ignore"],
      });
      let text = "";
      child.stdout.on("data", (piece: Buffer) => {
        text += piece;
      });
      child.once("close", () => done(text));
    });
  assert.equal((await onTerminal("TERM=xterm")).includes(startsColour), true);
  assert.equal((await onTerminal("TERM=xterm NO_COLOR=1")).includes(startsColour), false);
});

test("a monitor ends with 0 by Ctrl-C, and when its reader has seen enough", async (t) => {
  const socket = await fixedAgent(t);
  const stopped = await ciliate(["monitor", "--socket", socket], {
    onOutput: (piece, kill) => {
      if (piece.includes("drop untrusted")) kill("SIGINT");
    },
  });
  assert.deepEqual([stopped.code, stopped.stderr], [0, ""]);
  const endless = await fixedAgent(t, {
    monitor: (_, sink) => {
      const timer = setInterval(() => sink.overwritten(1), 1);
      return () => clearInterval(timer);
    },
  });
  const program = resolve(import.meta.dirname, "../../bin/ciliate");
  const line = `set -o pipefail; ${program} monitor --socket ${endless} | head -n 2`;
  const child = spawn("bash", ["-c", line], { stdio: ["ignore", "pipe", "inherit"] });
  const code = await new Promise((done) => child.once("exit", done));
  assert.equal(code, 0);
});

test("a capture of no packets is a wrong command line", async () => {
  const { stderr, code } = await ciliate(["lab", "capture", "client", "--packets", "0"]);
  assert.equal(code, 2);
  assert.match(stderr, /^ciliate: --packets: expected 1 or more; leave it out to end by Ctrl-C/);
});

test("a lab that can't be is a wrong command line", async () => {
  for (const [option, what] of [
    ["--nodes=99", "nodes of a lab: expected 1 to 32, got 99"],
    ["--pods-per-node=201", "pods per node of a lab: expected 0 to 200, got 201"],
    ["--mtu=68", "MTU of a lab: expected 576 to 65535, got 68"],
    ["--name=Lab", `"Lab" can't name a lab: expected 1 to 12 lower-case letters and digits`],
  ] as const) {
    const { stderr, code } = await ciliate(["lab", "up", option]);
    assert.equal(code, 2, option);
    assert.ok(stderr.startsWith(`ciliate: ${what}`), stderr);
  }
});
