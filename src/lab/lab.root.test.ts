// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { load } from "js-yaml";
import { cgroupPath } from "../kernel/cgroup.ts";
import { withNamespaces } from "../kernel/netlink/link.ts";
import { getNamespaceId } from "../kernel/netlink/namespace-id.ts";
import { openNetlink } from "../kernel/netlink/socket.ts";
import { listNamespaces, namespacePath } from "../kernel/netns.ts";
import { formatIpv6, parseIpv4, parseIpv6 } from "../net/address.ts";
import { parseMac } from "../net/mac.ts";
import {
  buildPacket,
  destinationOptions,
  ethernet,
  hopByHop,
  ipv4,
  ipv6,
  type LayerInit,
  mssOption,
  payload,
  tcp,
  udp,
} from "../net/packet.ts";
import { TCP_FLAG } from "../net/protocol.ts";
import type { AgentCommand } from "./agent.ts";
import { createLab, type Lab, openLab } from "./lab.ts";
import { type LabOptions, labPaths, namespacePrefix, nodeNamed, placesOf } from "./plan.ts";
import { isAlive, until } from "./process.ts";
import { labExists, listLabs, refuseLiving, removeLab } from "./state.ts";

let counter = 0;

/** The link-local address that a device gives itself for its MAC (RFC 4291, appendix A). */
function ownOf(mac: string): string {
  const [a = 0, ...rest] = mac.split(":").map((byte) => Number.parseInt(byte, 16));
  const bytes = [a ^ 2, ...rest.slice(0, 2), 0xff, 0xfe, ...rest.slice(2)];
  const hex = Buffer.from(bytes).toString("hex");
  return `${formatIpv6(parseIpv6(`fe80::${hex.replaceAll(/(.{4})(?!$)/g, "$1:")}`))}/64`;
}

/** Names of labs of this process: three digits of its pid and a letter each. */
function freshName(): string {
  return `t${process.pid}${String.fromCharCode(97 + counter++)}`;
}

async function up(t: TestContext, options: LabOptions = {}, command?: AgentCommand): Promise<Lab> {
  const name = options.name ?? freshName();
  t.after(() => removeLab(name));
  return await createLab({ agents: false, ...options, name }, command);
}

/** Everything of a lab of this name that the host knows. */
function traces(name: string): string[] {
  const { state, pins, cgroup } = labPaths(name);
  return [
    ...readdirSync("/run/netns").filter((file) => file.startsWith(namespacePrefix(name))),
    ...[state, pins, cgroupPath(cgroup)].filter(existsSync),
  ];
}

/** A stand-in for the agent: answers /readyz, and does what its argument says. */
const standIn =
  (script: string): AgentCommand =>
  () => [process.execPath, "-e", script];

const READY = `
  require("node:http").createServer((q, r) => r.end("ok")).listen(9962, "127.0.0.1");
  console.log("listening");
`;

/** One answer: the first question may be lost, as devices take a moment to be up. */
const ping = ["ping", "-c", "1", "-w", "10"];

/** A web server in a place that answers with `text` at `port`. */
async function serve(lab: Lab, where: string, port: number, text: string): Promise<void> {
  const answer = JSON.stringify(text);
  const script = `require("node:http").createServer((_, r) => r.end(${answer})).listen(${port})`;
  lab.start(where, [process.execPath, "-e", script]);
  const probe = ["curl", "-s", `http://127.0.0.1:${port}`];
  await until(`${where} to serve`, 5000, async () => (await lab.run(where, probe)).code === 0);
}

test("a lab of 3 nodes and 12 pods comes up, and goes without a trace", async (t) => {
  const before = execFileSync("ip", ["-br", "link"], { encoding: "utf8" });
  const start = performance.now();
  const lab = await up(t, { agents: true }, standIn(READY));
  t.diagnostic(`it was up in ${Math.round(performance.now() - start)} ms`);
  const { name } = lab;
  // Namespaces of nodes, pods, client and switch; state, pins of the ports, cgroup.
  assert.equal(traces(name).length, 3 + 12 + 2 + 3);
  assert.ok(listLabs().includes(name));
  const server = lab.start("pod1-1", ["sleep", "100"]);
  const agents = lab.plan.nodes.map(({ place }) => lab.agent(place.name));
  assert.ok(isAlive(server));
  await lab.down();
  assert.deepEqual(traces(name), []);
  assert.ok(!labExists(name));
  for (const id of [server, ...agents]) assert.ok(id !== undefined && !isAlive(id));
  const foreign = (text: string): string => text.replaceAll(/^(?!lo|eth).*\n/gm, "");
  assert.equal(foreign(execFileSync("ip", ["-br", "link"], { encoding: "utf8" })), foreign(before));
  await lab.down();
});

test("client, nodes and pods reach each other through the switch", async (t) => {
  const lab = await up(t, { nodes: 2, podsPerNode: 2 });
  for (const [from, to] of [
    ["client", "10.244.2.2"],
    ["client", "10.0.1.1"],
    ["pod1-1", "10.244.2.1"],
    ["pod1-1", "10.244.1.2"],
    ["pod1-1", "10.0.1.1"],
    ["node2", "10.244.1.1"],
    ["pod2-2", "192.0.2.10"],
    ["client", "fd00:10:244:2::2"],
    ["client", "fd00:10:0:1::1"],
    ["pod1-1", "fd00:10:244:2::1"],
    ["pod1-1", "fd00:10:244:1::2"],
    ["pod1-1", "fd00:10:0:1::1"],
    ["node2", "fd00:10:244:1::1"],
    ["pod2-2", "fd00:192:0:2::10"],
  ] as const) {
    await t.test(`${from} reaches ${to}`, async () => {
      await lab.output(from, [...ping, to]);
    });
  }
  await serve(lab, "pod2-1", 8080, "from pod2-1");
  assert.equal(await lab.output("client", ["curl", "-s", "http://10.244.2.1:8080"]), "from pod2-1");
  // Without an agent nobody answers for a virtual IP, and no packet runs in circles.
  for (const address of ["198.51.100.1", "fd00:198:51:100::1"]) {
    await lab.resetCounters();
    const { code } = await lab.run("client", [...ping, address]);
    assert.equal(code, 1);
    const { total } = await lab.counters();
    assert.ok(total.packets >= 1 && total.packets < 6, `${address}: ${total.packets} packets`);
  }
});

test("a lab without IPv6 has none anywhere", async (t) => {
  const lab = await up(t, { nodes: 1, podsPerNode: 1, ipv6: false });
  const { client6, virtualIps6, nodes, pods, places } = lab.status();
  const planned = [client6, virtualIps6, nodes[0]?.address6, nodes[0]?.podCidr6, pods[0]?.address6];
  assert.deepEqual(planned, [null, null, null, null, null]);
  const addresses = places.flatMap(({ devices }) => devices.flatMap((device) => device.addresses));
  assert.deepEqual(
    addresses.filter((address) => address.includes(":")),
    [],
  );
  await lab.output("client", [...ping, "10.244.1.1"]);
  const narrow = await up(t, { nodes: 1, podsPerNode: 0, mtu: 1000 });
  assert.equal(narrow.plan.settings.ipv6, false);
});

test("two labs stand side by side with the same addresses", async (t) => {
  const [one, two] = await Promise.all([
    up(t, { nodes: 1, podsPerNode: 1 }),
    up(t, { nodes: 1, podsPerNode: 1 }),
  ]);
  await serve(one, "pod1-1", 80, "one");
  await serve(two, "pod1-1", 80, "two");
  const [a, b] = await Promise.all(
    [one, two].map((lab) => lab.output("client", ["curl", "-s", "http://10.244.1.1"])),
  );
  assert.deepEqual([a, b], ["one", "two"]);
  await one.down();
  assert.equal(await two.output("client", ["curl", "-s", "http://10.244.1.1"]), "two");
  assert.deepEqual(traces(one.name), []);
});

test("the switch counts packets with options and packets in packets", async (t) => {
  const lab = await up(t, { nodes: 1, podsPerNode: 0 });
  await lab.output("client", [...ping, "10.0.1.1"]);
  await lab.resetCounters();
  const head = ethernet({
    source: parseMac("02:c1:00:01:00:00"),
    target: parseMac("02:c1:00:03:00:00"),
  });
  const path = { source: parseIpv4("192.0.2.10"), target: parseIpv4("10.0.1.1") };
  const send = (...layers: LayerInit[]): void =>
    lab.sendFrame("client", "eth0", buildPacket(head, ...layers));
  send(ipv4(path), udp({ targetPort: 9 }), payload(10));
  send(
    ipv4({ ...path, options: Uint8Array.of(148, 4, 0, 0) }),
    udp({ targetPort: 9 }),
    payload(10),
  );
  const syn = tcp({ targetPort: 80, flags: TCP_FLAG.syn, options: mssOption(1460) });
  send(ipv4(path), ipv4({ ...path, target: parseIpv4("198.51.100.1") }), syn);
  send(ipv4(path), ipv4({ ...path, target: parseIpv4("198.51.100.1") }), syn);
  send(ipv4(path), udp({ targetPort: 6081 }), payload(30));
  const path6 = { source: parseIpv6("fd00:192:0:2::10"), target: parseIpv6("fd00:10:0:1::1") };
  const inner6 = { ...path6, target: parseIpv6("fd00:198:51:100::1") };
  send(ipv6(path6), ipv6(inner6), syn);
  send(ipv6(path6), ipv6(inner6), syn);
  // What pads a header of options that has none to 8 bytes.
  const options6Only = Uint8Array.of(1, 4, 0, 0, 0, 0);
  send(ipv6(path6), hopByHop({ options: options6Only }), syn);
  send(ipv6(path6), destinationOptions({ options: options6Only }), syn);
  const { total, options, options6, ipip, ip6ip6, geneve } = await lab.counters();
  assert.deepEqual(options, { packets: 1, bytes: 24 + 8 + 10 });
  assert.deepEqual(ipip, { packets: 2, bytes: 2 * (20 + 20 + 24) });
  assert.deepEqual(geneve, { packets: 1, bytes: 20 + 8 + 30 });
  assert.deepEqual(ip6ip6, { packets: 2, bytes: 2 * (40 + 40 + 24) });
  assert.deepEqual(options6, { packets: 2, bytes: 2 * (40 + 8 + 24) });
  assert.ok(total.packets >= 9);
});

test("what reaches a node with XDP has its checksums filled, and a capture shows it", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-capture-"));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const [acceleration, all] of [
    ["native", true],
    ["off", false],
  ] as const) {
    const lab = await up(t, { nodes: 1, podsPerNode: 1, acceleration });
    await serve(lab, "pod1-1", 80, "x".repeat(100_000));
    const file = join(directory, `${acceleration}.pcapng`);
    const capture = await lab.capture("node1", file, { devices: ["eth0"], filter: "dst port 80" });
    const upload = ["curl", "-s", "-o", "/dev/null", "--data-binary", "@-", "http://10.244.1.1"];
    await lab.output("client", upload, { input: "y".repeat(100_000) });
    await capture.stop();
    const good = checksumsIn(file);
    assert.ok(good.length > 3, `${acceleration}: ${good.length} packets`);
    assert.equal(good.every(Boolean), all, `${acceleration}: ${good.join(" ")}`);
  }
});

/** Whether each TCP checksum in a capture is right, as tshark judges. */
function checksumsIn(file: string): boolean[] {
  const check = ["-o", "tcp.check_checksum:TRUE", "-Y", "tcp", "-T", "fields"];
  const text = execFileSync("tshark", ["-r", file, ...check, "-e", "tcp.checksum.status"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return text
    .trim()
    .split("\n")
    .map((status) => status === "1");
}

test("pods offer an MSS that leaves room for the outer header", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-mss-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const offered = async (options: LabOptions): Promise<string> => {
    const lab = await up(t, { nodes: 1, podsPerNode: 1, ...options });
    await serve(lab, "pod1-1", 80, "hello");
    const file = join(directory, `${lab.name}.pcapng`);
    const filter = "src port 80 and tcp[tcpflags] & tcp-syn != 0";
    const capture = await lab.capture("client", file, { devices: ["eth0"], filter, packets: 1 });
    await lab.output("client", ["curl", "-s", "http://10.244.1.1"]);
    await capture.ended;
    const fields = ["-T", "fields", "-e", "tcp.options.mss_val"];
    return execFileSync("tshark", ["-r", file, ...fields], { stdio: ["ignore", "pipe", "ignore"] })
      .toString()
      .trim();
  };
  assert.equal(await offered({ encapsulate: "all" }), "1440");
  assert.equal(await offered({ encapsulate: "first" }), "1460");
  assert.equal(await offered({ mtu: 9000 }), "8940");
});

test("a lab killed anywhere on its way up is no hindrance to the next", async (t) => {
  const name = freshName();
  t.after(() => removeLab(name));
  const code = `
    import { createLab } from "./lab.ts";
    console.log("begin");
    const argv = [process.execPath, "-e", ${JSON.stringify(READY)}];
    await createLab({ name: "${name}", nodes: 2 }, () => argv);
    console.log("up");
    setInterval(() => {}, 1000);
  `;
  for (const killAfterMs of [0, 15, 40, 80, 150, 400]) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
      cwd: import.meta.dirname,
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    await delay(killAfterMs);
    child.kill("SIGKILL");
    await once(child, "close");
    // Whole and with living agents it is a lab, not ruins.
    if (labIsWhole(name)) await removeLab(name);
    const lab = await createLab({ name, nodes: 2, agents: false });
    await lab.output("client", [...ping, "10.244.2.1"]);
    await removeLab(name);
  }
  assert.deepEqual(traces(name), []);
});

function labIsWhole(name: string): boolean {
  try {
    return openLab(name)
      .status()
      .nodes.every(({ agent }) => agent?.running === true);
  } catch {
    return false;
  }
}

test("a living lab is not taken for ruins, and a lab that isn't there is named", async (t) => {
  const lab = await up(t, { nodes: 1, podsPerNode: 1 });
  const { name } = lab;
  await assert.rejects(createLab({ name }), /is up already: take it down/);
  const again = openLab(name);
  await again.output("client", [...ping, "10.244.1.1"]);
  await lab.down();
  assert.throws(() => openLab(name), /there is no lab \w+: bring it up with `ciliate lab up/);
  await assert.rejects(lab.run("client", ["true"]), /cil-\w+-client/);
});

test("an agent is started, killed and started again; one that fails shows its log", async (t) => {
  const lab = await up(t, { nodes: 2, podsPerNode: 0, agents: true }, standIn(READY));
  const first = lab.agent("node1");
  await lab.stopAgent("node1", "SIGKILL");
  assert.deepEqual(
    lab.status().nodes.map(({ agent }) => agent?.running),
    [false, true],
  );
  await assert.rejects(createLab({ name: lab.name }), /is up already: take it down/);
  const second = await lab.startAgent("node1");
  assert.notEqual(second.pid, first?.pid);
  assert.equal((await lab.fetch("node1", 9962, "/readyz"))?.body, "ok");
  await assert.rejects(lab.startAgent("node1"), /runs already as process/);
  for (const node of ["node1", "node2"]) await lab.stopAgent(node, "SIGKILL");
  refuseLiving(lab.name);
  const name = freshName();
  const failing = standIn(`console.error("cannot do it"); process.exit(3)`);
  await assert.rejects(up(t, { name, nodes: 1, agents: true }, failing), (error: Error) => {
    assert.match(error.message, /agent of node1 has ended; its log .* ends with:\ncannot do it/);
    return true;
  });
  assert.deepEqual(traces(name), []);
});

test("status tells of every namespace, device, address and process", async (t) => {
  const lab = await up(t, { nodes: 2, podsPerNode: 2 });
  const sleeper = lab.start("pod2-1", ["sleep", "100"]);
  const now = (): ReturnType<Lab["status"]> => JSON.parse(JSON.stringify(lab.status()));
  const pidsIn = (name: string) => now().places.find((place) => place.name === name)?.pids;
  await until("sleep in its cgroup", 5000, () => pidsIn("pod2-1")?.includes(sleeper.pid) === true);
  const status = now();
  assert.equal(status.places.length, placesOf(lab.plan).length);
  const pod = status.places.find(({ name }) => name === "pod2-1");
  assert.deepEqual(
    pod?.devices.map(({ name, addresses, peer }) => [name, addresses, peer]),
    [
      ["lo", ["127.0.0.1/8", "::1/128"], null],
      [
        "eth0",
        ["10.244.2.1/32", "fd00:10:244:2::1/128", ownOf("02:c1:00:05:02:01")],
        "node2/pod2-1",
      ],
    ],
  );
  assert.equal(
    pod?.inode,
    Number(execFileSync("stat", ["-L", "-c", "%i", pod?.path ?? ""]).toString()),
  );
  assert.ok(listNamespaces().includes(pod?.namespace ?? ""));
  withNamespaces([namespacePath(pod?.namespace ?? "")], ([fd = -1]) => {
    const node = namespacePath(nodeNamed(lab.plan, "node2").place.namespace);
    using netlink = openNetlink({ namespace: node });
    assert.equal(getNamespaceId(netlink, fd), 101);
  });
});

test("services are published to all nodes or to one, and balancers change", async (t) => {
  const lab = await up(t, { nodes: 2, podsPerNode: 1 });
  const service = {
    name: "web",
    addresses: ["198.51.100.1"],
    ports: [{ port: 80, targetPort: 8080 }],
    backends: ["pod1-1", "pod2-1"],
  };
  lab.publish(service);
  lab.publish({ ...service, backends: ["pod1-1"] }, ["node2"]);
  const endpoints = async (node: string): Promise<number> => {
    const file = join(nodeNamed(lab.plan, node).paths.manifests, "service-default-web.yaml");
    const text = await lab.output(node, ["cat", file]);
    const slice = load(text.split("---\n")[1] ?? "") as { endpoints: unknown[] };
    return slice.endpoints.length;
  };
  assert.deepEqual([await endpoints("node1"), await endpoints("node2")], [2, 1]);
  lab.withdraw("web");
  const left = readdirSync(nodeNamed(lab.plan, "node1").paths.manifests);
  assert.deepEqual(left.sort(), ["nodes.yaml", "pods.yaml"]);
  const gateways = async (family: string, to: string): Promise<readonly string[]> => {
    const text = await lab.output("switch", ["ip", family, "route", "show", to]);
    return [...text.matchAll(/via (\S+) dev (\S+)/g)].map((words) => words.slice(1).join(" "));
  };
  const expect = async (nodes: readonly number[]): Promise<void> => {
    const four = await gateways("-4", "198.51.100.0/24");
    const six = await gateways("-6", "fd00:198:51:100::/64");
    assert.deepEqual(
      four,
      nodes.map((node) => `10.0.${node}.1 node${node}`),
    );
    assert.deepEqual(
      six,
      nodes.map((node) => `fd00:10:0:${node}::1 node${node}`),
    );
  };
  await expect([1]);
  lab.setBalancers([2]);
  await expect([2]);
  lab.setBalancers([1, 2]);
  await expect([1, 2]);
  lab.setBalancers([1]);
  await expect([1]);
});

test("a command's exit code, output and time limit are the caller's", async (t) => {
  const lab = await up(t, { nodes: 1, podsPerNode: 0 });
  const script = "echo out; echo err >&2; exit 7";
  assert.deepEqual(await lab.run("client", ["sh", "-c", script]), {
    code: 7,
    stdout: "out\n",
    stderr: "err\n",
  });
  assert.equal((await lab.run("client", ["sh", "-c", "kill -9 $$"])).code, 137);
  assert.equal((await lab.run("client", ["no-such-command"])).code, 127);
  assert.equal(await lab.output("client", ["cat"], { input: "through" }), "through");
  await assert.rejects(
    lab.run("client", ["sleep", "9"], { timeoutMs: 50 }),
    /took longer than 50 ms/,
  );
  await assert.rejects(lab.output("node1", ["sh", "-c", script]), /exited with 7: err/);
});
