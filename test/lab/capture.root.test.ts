// SPDX-License-Identifier: Apache-2.0

// `ciliate capture` on a balancer whose packets XDP sends on: what it writes is what tshark reads,
// and what was on the wire.

import assert from "node:assert/strict";
import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { EventMask, maps } from "../../src/datapath/gen/abi.ts";
import { openPinned } from "../../src/datapath/pinned.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { podNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";
import { removeLab } from "../../src/lab/state.ts";
import { type Family, formatAddress } from "../../src/net/address.ts";
import { pinsOf, podEndpoint, untilBalanced } from "./tools/inspect.ts";
import { HTTP_PORT, startPrograms } from "./tools/programs.ts";
import { freshName } from "./tools/stage.ts";
import { watch } from "./tools/wire.ts";

const BALANCER = "node1";
const POD = "pod2-1";
const PORT = 80;
const NO_PORT = 81;
const VIPS = { ipv4: "198.51.100.1", ipv6: "fd00:198:51:100::1" } as const;
const OUTER = { ipv4: "ip proto 4", ipv6: "ip6 proto 41" } as const;
const START_LIMIT_MS = 20_000;
/** A capture that was killed is over after two seconds, with the next packet. */
const LEASE_LIMIT_MS = 10_000;
/** Exit code of curl. */
const TIMED_OUT = 28;

const inUrl = (address: string): string => (address.includes(":") ? `[${address}]` : address);

async function createScene(t: TestContext): Promise<Lab> {
  const name = freshName();
  t.after(() => removeLab(name));
  const lab = await createLab({ name, nodes: 2, config: { acceleration: "native" } });
  await startPrograms(lab, POD);
  const ports = [{ name: "http", port: PORT, targetPort: HTTP_PORT }];
  lab.publish({ name: "web", addresses: Object.values(VIPS), ports, backends: [POD] });
  await untilBalanced(lab, `${VIPS.ipv4}:${PORT}`, [podEndpoint(lab, POD, HTTP_PORT)]);
  await until("the client to be answered by IPv6", START_LIMIT_MS, async () => {
    const { code } = await get(lab, "ipv6");
    return code === 0;
  });
  return lab;
}

function get(lab: Lab, family: Family, port = PORT) {
  const url = `http://${inUrl(VIPS[family])}:${port}/name`;
  return lab.run("client", ["curl", "-gs", "-m", "2", url]);
}

interface Running {
  readonly child: ChildProcess;
  /** Ends it as Ctrl-C does, and gives what it said. */
  end(): Promise<string>;
}

async function startCapture(
  t: TestContext,
  lab: Lab,
  words: readonly string[],
  output: "ignore" | "pipe" = "ignore",
): Promise<Running> {
  const stdio: ("ignore" | "pipe")[] = ["ignore", output, "pipe"];
  const child = lab.spawn(BALANCER, ["ciliate", "capture", ...words], { stdio });
  t.after(() => child.kill("SIGKILL"));
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (more: string) => {
    said += more;
  });
  await until("the capture to begin", START_LIMIT_MS, () => {
    assert.equal(child.exitCode, null, said);
    return said.includes("capturing");
  });
  return {
    child,
    async end() {
      const exit = once(child, "close");
      child.kill("SIGINT");
      assert.deepEqual(await exit, [0, null], said);
      return said;
    },
  };
}

/** A frame as tshark reads it. */
interface Read {
  readonly device: string;
  readonly comment: string;
  readonly targets: readonly string[];
  readonly bytes: number;
  readonly direction: number;
}

async function readWithTshark(file: string): Promise<readonly Read[]> {
  const fields = [
    "frame.interface_name",
    "frame.comment",
    "ip.dst",
    "ipv6.dst",
    "frame.len",
    "frame.packet_flags_direction",
  ];
  const args = ["-n", "-r", file, "-T", "fields", ...fields.flatMap((field) => ["-e", field])];
  const { stdout } = await promisify(execFile)("tshark", args);
  return stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const [device = "", comment = "", ip = "", ipv6 = "", bytes = "", direction = ""] =
        line.split("\t");
      const targets = [...ip.split(","), ...ipv6.split(",")].filter((one) => one !== "");
      return { device, comment, targets, bytes: Number(bytes), direction: Number(direction) };
    });
}

async function testFamily(t: TestContext, lab: Lab, family: Family): Promise<void> {
  const vip = VIPS[family];
  const file = join(lab.plan.state, `capture-${family}.pcapng`);
  let said = "";
  const { wire } = await watch(
    t,
    lab,
    { wire: { at: "node2", filter: OUTER[family] } },
    async () => {
      const running = await startCapture(t, lab, [`dst host ${vip} and tcp`, "-w", file]);
      assert.equal((await get(lab, family)).stdout, POD);
      assert.equal((await get(lab, family, NO_PORT)).code, TIMED_OUT);
      await lab.output("client", ["ping", "-c", "1", "-W", "5", vip]);
      said = await running.end();
    },
  );
  const frames = await readWithTshark(file);
  const [came, left] = ["in", "out"].map((end) =>
    frames.filter(({ device }) => device === `eth0/edge ${end}`),
  );
  assert.ok(came !== undefined && left !== undefined);
  assert.equal(frames.length, came.length + left.length, JSON.stringify(frames));
  assert.match(said, new RegExp(`^${came.length} packets$`, "m"));

  const sent = came.filter(({ comment }) => comment.includes("; edge: sent encapsulated ("));
  const dropped = came.filter(({ comment }) => comment.includes("; edge: drop unknown port ("));
  assert.ok(sent.length >= 5 && dropped.length >= 1, JSON.stringify(frames));
  assert.equal(came.length, sent.length + dropped.length);
  for (const { targets, direction } of came) assert.deepEqual([targets, direction], [[vip], 1]);
  const { address, address6 } = podNamed(lab.plan, POD);
  const pod = formatAddress(family === "ipv4" ? address : address6);
  const overhead = family === "ipv4" ? 20 : 40;
  for (const [index, { targets, comment, bytes, direction }] of left.entries()) {
    const before = sent[index];
    assert.deepEqual([...targets, direction], [pod, vip, 2]);
    assert.equal(bytes, (before?.bytes ?? 0) + overhead);
    assert.equal(comment, before?.comment.replace("as it came", "as it left"));
  }
  assert.deepEqual(
    wire.map((frame) => [frame.ip.map(({ target }) => target).join(), frame.bytes]),
    left.map(({ targets, bytes }) => [targets.join(), bytes]),
  );
}

const isOn = (lab: Lab): boolean => {
  using runtime = openPinned(pinsOf(lab, BALANCER), maps.runtime);
  return ((runtime.lookup(0)?.events ?? 0) & EventMask.packets) !== 0;
};

/** The agent is dead all the while. */
async function testKilled(t: TestContext, lab: Lab): Promise<void> {
  await lab.stopAgent(BALANCER, "SIGKILL");
  const { child } = await startCapture(t, lab, [], "pipe");
  assert.ok(child.stdout !== null);
  const [line] = (await Promise.all([once(child.stdout, "data"), get(lab, "ipv4")]))[0];
  assert.match(String(line), /edge sent encapsulated +#1 on eth0 \d+ B: ipv4 /);
  const second = await lab.run(BALANCER, ["ciliate", "capture", "-c", "1"]);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /^ciliate: another capture runs on this node: end it first$/m);
  assert.ok(isOn(lab));
  child.kill("SIGKILL");
  await until("packets to end the capture that was killed", LEASE_LIMIT_MS, async () => {
    await get(lab, "ipv4");
    return !isOn(lab);
  });
  const words = ["ciliate", "capture", "-c", "2", "-o", "json", "port 80 and place edge"];
  const next = lab.spawn(BALANCER, words, { stdio: ["ignore", "pipe", "ignore"] });
  t.after(() => next.kill("SIGKILL"));
  assert.ok(next.stdout !== null);
  const out = text(next.stdout);
  await until("two packets", START_LIMIT_MS, async () => {
    await get(lab, "ipv4");
    return next.exitCode !== null;
  });
  const packets = (await out)
    .trimEnd()
    .split("\n")
    .map((one) => JSON.parse(one));
  assert.deepEqual(
    packets.map(({ number, verdict }) => [number, verdict]),
    [
      [1, "sent encapsulated"],
      [2, "sent encapsulated"],
    ],
  );
  assert.ok(!isOn(lab));
}

test("packets that XDP sends on are captured, before and after", async (t) => {
  const lab = await createScene(t);
  for (const family of ["ipv4", "ipv6"] as const) {
    await t.test(`of ${family}`, (t) => testFamily(t, lab, family));
  }
  await t.test("without an agent, and a capture that is killed ends", (t) => testKilled(t, lab));
});
