// SPDX-License-Identifier: Apache-2.0
// What an agent and the command line tell of services of both families.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawnSync } from "node:child_process";
import { type TestContext, test } from "node:test";
import { namespacePath, spawnInNamespace } from "../kernel/netns.ts";
import { writeSysctls } from "../kernel/sysctl.ts";
import { Agent, until } from "./fixture.ts";

const NODE_PORT = 30_080;
const HEALTH_PORT = 32_080;

const SERVICE = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web" },
  spec: {
    type: "LoadBalancer",
    ipFamilies: ["IPv4", "IPv6"],
    ipFamilyPolicy: "RequireDualStack",
    externalTrafficPolicy: "Local",
    healthCheckNodePort: HEALTH_PORT,
    loadBalancerSourceRanges: ["198.51.100.0/24", "2001:db8:9::/48"],
    ports: [{ name: "http", port: 80, targetPort: 8080, nodePort: NODE_PORT }],
  },
  status: { loadBalancer: { ingress: [{ ip: "192.0.2.10" }, { ip: "2001:db8:0:0:1::10" }] } },
};

function slice(addressType: string, address: string) {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `web-${addressType.toLowerCase()}`,
      labels: { "kubernetes.io/service-name": "web" },
    },
    addressType,
    ports: [{ name: "http", port: 8080 }],
    endpoints: [{ addresses: [address], conditions: { ready: true }, nodeName: "node1" }],
  };
}

const DOCUMENTS = [SERVICE, slice("IPv4", "10.1.0.1"), slice("IPv6", "2001:db8:1::1")]
  .map((document) => JSON.stringify(document))
  .join("\n---\n");

/** A node with an address of each family on its uplink. */
function dualAgent(t: TestContext): Agent {
  const agent = new Agent(t);
  agent.ip("addr add 2001:db8::1/64 dev v0 nodad");
  agent.ip("addr add 2001:db8::2/64 dev v1 nodad", agent.client);
  return agent;
}

test("services of both families stand in the same tables, with and without an agent", async (t) => {
  const agent = dualAgent(t);
  agent.manifest("web.yaml", DOCUMENTS);
  await agent.start().ready();
  const frontends = (): string[] =>
    agent
      .json("bpf service list")
      .map((row: { frontend: string; kind: string; id: number }) => `${row.frontend} ${row.kind}`)
      .sort();
  const wanted = [
    "0.0.0.0:30080 internal",
    "0.0.0.0:30080 node port",
    "192.0.2.10:80 internal",
    "192.0.2.10:80 service",
    "[2001:db8::1:0:0:10]:80 internal",
    "[2001:db8::1:0:0:10]:80 service",
    "[::]:30080 internal",
    "[::]:30080 node port",
  ];
  assert.deepEqual(frontends(), wanted);
  const [service] = agent.json("service list");
  assert.deepEqual(service.addresses, ["192.0.2.10", "2001:db8::1:0:0:10"]);
  const families = service.ports.map((port: { family: string }) => port.family);
  assert.deepEqual(families.sort(), ["IPv4", "IPv4", "IPv6", "IPv6"]);
  const { stdout } = agent.ciliate("service list");
  assert.match(stdout, / 2001:db8::1:0:0:10,nodes by IPv6 +80:30080\/TCP http +dsr local +1 /);
  assert.match(agent.ciliate("backend list").stdout, / \[2001:db8:1::1\]:8080 +node1 \(here\) /);
  const { tables } = agent.json("status");
  const used = Object.fromEntries(
    tables.map(({ name, used: count }: { name: string; used: number }) => [name, count]),
  );
  assert.equal(used.source_ranges6, 1);
  assert.equal(used.source_ranges, 1);
  assert.deepEqual([used.conntrack6, used.affinities6], [0, 0]);
  const metrics = agent.get("/metrics");
  assert.match(
    metrics,
    /ciliate_backend_packets_total\{[^}]*family="ipv6"[^}]*\[2001:db8:1::1\]:80/,
  );
  assert.match(metrics, /ciliate_table_entries\{table="source_ranges6"\} 1\n/);
  const uplink = (): string =>
    agent.json("status").devices.find(({ name }: { name: string }) => name === "v0").reason;
  assert.equal(uplink().includes("1280"), false, uplink());
  agent.ip("link set v0 mtu 1319");
  await until(uplink, () => uplink().includes("an MTU of 1319 carries no IPv6 packet of 1280"));
  agent.ip("link set v0 mtu 1320");
  await until(uplink, () => !uplink().includes("1280"));
  const forwarding = (): string =>
    agent.json("status").checks.find(({ name }: { name: string }) => name === "forwarding").problem;
  assert.equal(forwarding(), "");
  const path = namespacePath(agent.namespace);
  writeSysctls({ "net/ipv6/conf/v0/forwarding": 0 }, path);
  assert.match(forwarding(), /^net\.ipv6\.conf\.v0\.forwarding is 0, so packets by v0 find no way/);
  writeSysctls({ "net/ipv6/conf/v0/forwarding": 1 }, path);
  assert.equal(health(agent, "10.0.0.1"), "200");
  assert.equal(health(agent, "[2001:db8::1]"), "200");

  await agent.end("SIGKILL");
  assert.deepEqual(frontends(), wanted);
  const ranges = agent.json("bpf source-range list");
  assert.deepEqual(new Set(ranges.map((row: { prefix: string }) => row.prefix)), RANGES);
  const backends = agent.ciliate("bpf backend list").stdout;
  assert.match(backends, / 10\.1\.0\.1:8080 .*\n.*\[2001:db8:1::1\]:8080 /s);
  assert.match(agent.ciliate("bpf maglev list").stdout, / \[2001:db8:1::1\]:8080 +\d+ +100\.00 %/);
  const dumped = agent.ciliate("map dump frontends6").stdout;
  assert.match(dumped, /address 2001:db8::1:0:0:10, port 80, protocol 6, kind 1/);
});

const RANGES = new Set(["198.51.100.0/24", "2001:db8:9::/48"]);

/** The HTTP status of a health check by the client. */
function health(agent: Agent, address: string): string {
  const url = `http://${address}:${HEALTH_PORT}/`;
  const net = `--net=${namespacePath(agent.client)}`;
  const words = [net, "curl", "-gs", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url];
  return spawnSync("nsenter", words, { encoding: "utf8" }).stdout;
}

/** A program of the node that waits at the node port, for both families. */
async function holdNodePort(t: TestContext, agent: Agent): Promise<ChildProcess> {
  const program = `require("node:net").createServer().listen(${NODE_PORT}, "::")`;
  const path = namespacePath(agent.namespace);
  const child = spawnInNamespace(path, process.execPath, ["-e", program], { stdio: "ignore" });
  t.after(() => child.kill("SIGKILL"));
  const net = `--net=${path}`;
  await until(
    () => "nobody listens",
    () => execFileSync("nsenter", [net, "ss", "-Hlnt"], { encoding: "utf8" }).includes(":30080"),
  );
  return child;
}

test("a program that has a node port already is told, in the log and in status", async (t) => {
  const agent = dualAgent(t);
  const child = await holdNodePort(t, agent);
  await agent.start().ready();
  agent.manifest("web.yaml", DOCUMENTS);
  const { reason, object } = await agent.said("a manifest has a fault");
  const what = "node port 30080/tcp is bound by a program of this node, at [::]:30080, whom";
  assert.equal(object, "Service default/web");
  assert.equal(String(reason).slice(0, what.length), what);
  const problems = (): string[] =>
    agent
      .json("status")
      .sources.flatMap((source: { problems: string[] }) => source.problems)
      .filter((problem: string) => problem.includes("is bound by a program"));
  assert.equal(problems().length, 2);
  assert.equal(
    agent.log.filter((line) => String(line["reason"]).startsWith("node port")).length,
    2,
  );
  child.kill("SIGKILL");
  await until(
    () => "the program is told on",
    () => problems().length === 0,
  );
});
