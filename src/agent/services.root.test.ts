// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { defaultConfig } from "../config/load.ts";
import { type AnyFlow, otherHalf } from "../conntrack/flow.ts";
import {
  Affinity,
  Flow,
  FlowDirection,
  FlowFlag,
  FlowKey,
  type Jiffies,
  maps,
  type Port,
  type ServiceId,
} from "../datapath/gen/abi.ts";
import { createTicks } from "../datapath/jiffies.ts";
import { TypedMap } from "../datapath/maps.ts";
import type { Codec } from "../kernel/codec.ts";
import { namespacePath, spawnInNamespace } from "../kernel/netns.ts";
import { type Ipv4, parseIpv4 } from "../net/address.ts";
import { Agent, connect, documents, PROGRAM, service, slice, until, untilWell } from "./fixture.ts";
import { tableLimits, usableMemory } from "./table-sizes.ts";

/** Sends a SYN from the client; nobody answers. */
function knock(agent: Agent, address: string): void {
  const net = `--net=${namespacePath(agent.client)}`;
  spawnSync("nsenter", [net, "nc", "-z", "-w", "1", address, "80"]);
}

test("what the API applies is in the kernel's tables when it answers", async (t) => {
  const agent = await new Agent(t).start().ready();
  const client = await connect(t, agent);
  const text = documents(service("web", "192.0.2.10"), slice("web", "10.1.0.1", "10.1.0.2"));
  const { objects, inForce } = await client.apply({ documents: text });
  assert.deepEqual(
    [objects.map(({ kind }) => kind), inForce],
    [["Service", "EndpointSlice"], true],
  );
  const [frontend, ...others] = agent.json("bpf service list");
  assert.deepEqual(others, []);
  assert.deepEqual([frontend.frontend, frontend.backends], ["192.0.2.10:80", 2]);
  const rings = agent.json("bpf maglev list");
  assert.deepEqual(
    rings.map((row: { backend: string }) => row.backend),
    ["10.1.0.1:8080", "10.1.0.2:8080"],
  );
  const routes = (): { text: string } =>
    agent
      .json("service get web")
      .conditions.find(({ name }: { name: string }) => name === "Routes");
  assert.match(
    routes().text,
    /^2 backends have no route .*: 10\.1\.0\.1, 10\.1\.0\.2; dispatch ipip/,
  );
  agent.ip("route add 10.1.0.0/16 via 10.0.0.2");
  await until(
    () => routes().text,
    () => routes().text === "",
  );
  const [port] = agent.json("service get web").ports;
  assert.deepEqual([port.id, port.ringSize], [frontend.id, frontend.ringSize]);
  const gone = await client.delete({
    objects: [{ kind: "Service", namespace: "default", name: "web" }],
  });
  assert.deepEqual([gone.deleted.length, gone.inForce], [1, true]);
  assert.deepEqual(agent.json("bpf service list"), []);
});

test("status counts the flows of now, and tells that SNAT soon has no port left", async (t) => {
  const agent = await new Agent(t, "snat: {ports: 65436-65535}\n").start().ready();
  const client = await connect(t, agent);
  await client.apply({ documents: slice("web", "10.1.0.1") });
  const used = (): number =>
    agent.json("status").tables.find((table: { name: string }) => table.name === "conntrack").used;
  assert.equal(Number(used()), 0);
  const map = TypedMap.openPinned(agent.pins, maps.conntrack);
  t.after(() => map.close());
  const pod = parseIpv4("10.1.0.1");
  const [key, flow] = [nothing(FlowKey), nothing(Flow)];
  const now = createTicks().now() as Jiffies;
  const live = { ...flow, pod, flags: FlowFlag.remote, seen: now, created: now };
  map.updateAll([{ key: { ...key, destination: pod, protocol: 6 }, value: live }]);
  assert.equal(Number(used()), 1);

  const ports = () =>
    agent.json("status").tables.find((table: { name: string }) => table.name === "snat_ports");
  assert.deepEqual([Number(ports().used), Number(ports().limit), ports().problem], [0, 100, ""]);
  const flows = Array.from({ length: 60 }, (_, index): AnyFlow => {
    const places = { client: parseIpv4("10.0.0.2"), aliasAddress: parseIpv4("10.0.0.1"), podPort };
    const clientPort = (65_436 + index) as Port;
    return { ...live, ...places, clientPort, aliasPort: clientPort, flags: FlowFlag.snat };
  });
  for (const value of flows) {
    const request = otherHalf({ ...key, protocol: 6, direction: FlowDirection.reply }, value);
    const both = [request, otherHalf(request, value)];
    map.updateAll(both.map((half) => ({ key: half as FlowKey, value: value as Flow })));
  }
  assert.match(ports().problem, /^flows to 10\.1\.0\.1:8080\/tcp have most .* soon find none; add/);
  assert.match(agent.get("/metrics"), /^ciliate_snat_ports_used\{backend="10.*:8080.*"\} 60$/m);
  const dropped = /^ciliate_packets_total\{.*reason="nat_exhausted"\} [1-9]/m;
  assert.doesNotMatch(agent.get("/metrics"), dropped, "not one is yet");
  assert.match(agent.ciliate("status").stdout, /new ones soon find none; add/);
});

const podPort = 8080 as Port;

test("status counts source ranges, and what is forgotten when there is more of it", async (t) => {
  const agent = await new Agent(t).start().ready();
  const client = await connect(t, agent);
  const { affinities, sockets } = tableLimits(defaultConfig(), usableMemory());
  const limits: readonly (readonly [name: string, limit: number])[] = [
    ["source_ranges", 65_536],
    ["affinities", affinities],
    ["fragments", maps.fragments.maxEntries],
    ["socket_peers", sockets],
  ];
  const used = (): number[] => {
    const { tables } = agent.json("status");
    return limits.map(([name, limit]) => {
      const table = tables.find((one: { name: string }) => one.name === name);
      assert.equal(table?.limit, limit, name);
      return Number(table.used);
    });
  };
  assert.deepEqual(used(), [0, 0, 0, 0]);
  const exposed = agent.get("/metrics").split("\n");
  const lines = limits.map(([name, limit]) => `ciliate_table_limit{table="${name}"} ${limit}`);
  assert.deepEqual(exposed.filter((line) => lines.includes(line)).sort(), lines.sort());
  await client.apply({ documents: POLICIES });
  const map = TypedMap.openPinned(agent.pins, maps.affinities);
  t.after(() => map.close());
  const service = 1 as ServiceId;
  const clients = Array.from({ length: 3000 }, (_, index) => (index + 1) as Ipv4);
  map.updateAll(
    clients.map((one) => ({ key: { service, client: one }, value: nothing(Affinity) })),
  );
  assert.deepEqual(used(), [1, 3000, 0, 0]);
  assert.deepEqual(agent.json("map dump source_ranges").length, 1);
  assert.match(agent.get("/metrics"), /^ciliate_table_entries\{table="source_ranges"\} 1$/m);
  map.delete({ service, client: 1 as Ipv4 });
  await until(
    () => "a scrape has the count that one before it asked for",
    () => /^ciliate_table_entries\{table="affinities"\} 2999$/m.test(agent.get("/metrics")),
  );
});

function nothing<T>({ decode, size }: Codec<T>): T {
  return decode(new DataView(new ArrayBuffer(size)), 0);
}

/** What the kernel's tables lead to, each frontend on a line. */
function frontendLines(agent: Agent): string[] {
  return agent
    .json("bpf service list")
    .map(
      (row: { frontend: string; kind: string; backends: number; flags: string[] }) =>
        `${row.kind} ${row.frontend} → ${row.backends} ${row.flags.join(" ")}`,
    )
    .sort();
}

const POLICIES = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  externalTrafficPolicy: Local
  healthCheckNodePort: 32500
  sessionAffinity: ClientIP
  loadBalancerSourceRanges: [198.51.100.0/24]
  ports: [{name: http, port: 80, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.10}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: cache, namespace: default}
spec: {nodeName: node1, containers: [{ports: [{containerPort: 80, hostPort: 8080}]}]}
status: {podIP: 10.1.0.9}
`;

test("every way in to a service is in the kernel's tables, and stays after a kill", async (t) => {
  const agent = new Agent(t);
  agent.manifest("policies.yaml", `${POLICIES}---\n${slice("web", "10.1.0.1", "10.1.0.2")}`);
  await agent.start().ready();
  const inside = "2 affinity reject";
  const outside = "0 source_ranges affinity reject";
  const lines = [
    `internal 0.0.0.0:30080 → ${inside}`,
    `internal 10.96.0.1:80 → ${inside}`,
    `internal 192.0.2.10:80 → ${inside}`,
    `node port 0.0.0.0:30080 → ${outside}`,
    "service 10.0.0.1:8080 → 1 reject",
    `service 192.0.2.10:80 → ${outside}`,
  ];
  assert.deepEqual(frontendLines(agent), lines);
  const service = agent.json("service get web");
  assert.deepEqual(
    service.ports.map(({ local, mode }: { local: boolean; mode: string }) => `${local} ${mode}`),
    ["true dsr", "false dsr"],
  );
  assert.equal(agent.json("service get cache").type, "HostPort");
  const net = `--net=${namespacePath(agent.namespace)}`;
  const asked = spawnSync("nsenter", [net, "curl", "-s", "http://10.0.0.1:32500/"]);
  assert.match(String(asked.stdout), /"name":"web"},"localEndpoints":0}/);
  const ids = agent.json("bpf service list");
  await agent.end("SIGKILL");
  await agent.start().ready();
  assert.deepEqual(agent.json("bpf service list"), ids);
});

const DUAL_STACK = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  clusterIPs: [10.96.0.1, "fd00:96::1"]
  externalIPs: ["2001:db8::20"]
  sessionAffinity: ClientIP
  loadBalancerSourceRanges: [198.51.100.0/24, "2001:db8:1::/48"]
  ports: [{name: http, port: 80, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.10}, {ip: "2001:db8::10"}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["fd00:1::1"]}, {addresses: ["fd00:1::2"]}, {addresses: ["fd00:1::3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: cache, namespace: default}
spec: {nodeName: node1, containers: [{ports: [{containerPort: 80, hostPort: 8080}]}]}
status: {podIP: 10.1.0.9, podIPs: [{ip: 10.1.0.9}, {ip: "fd00:1::9"}]}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
status: {addresses: [{type: InternalIP, address: 10.0.0.7}, {type: InternalIP, address: "fd00::7"}]}
`;

test("a service of both families is in the tables of both, and stays after a kill", async (t) => {
  const agent = new Agent(t);
  agent.ip("-6 addr add fd00::1/64 dev v0 nodad");
  agent.manifest("web.yaml", `${DUAL_STACK}---\n${slice("web", "10.1.0.1", "10.1.0.2")}`);
  await agent.start().ready();
  const flags = "source_ranges affinity reject";
  assert.deepEqual(frontendLines(agent), [
    `internal 10.96.0.1:80 → 2 ${flags}`,
    `internal [fd00:96::1]:80 → 3 ${flags}`,
    `node port 0.0.0.0:30080 → 2 ${flags}`,
    `node port [::]:30080 → 3 ${flags}`,
    "service 10.0.0.1:8080 → 1 reject",
    `service 192.0.2.10:80 → 2 ${flags}`,
    `service [2001:db8::10]:80 → 3 ${flags}`,
    `service [2001:db8::20]:80 → 3 ${flags}`,
    "service [fd00::1]:8080 → 1 reject",
  ]);
  const trusted = agent.json("map dump trusted6");
  assert.equal(trusted.length, 1, "the other node");
  const tables = (): unknown =>
    ["service", "backend", "maglev", "source-range"].map((name) => agent.json(`bpf ${name} list`));
  const before = tables();
  await agent.end("SIGKILL");
  assert.deepEqual(tables(), before);
  await agent.start().ready();
  assert.deepEqual(tables(), before);
  assert.equal(agent.ciliate("status").code, 0);
  const { nodeAddress6, ipv6Off } = agent.json("status");
  assert.deepEqual([nodeAddress6, ipv6Off], ["fd00::1", ""]);
});

test("a node without an address of IPv6 serves what it can, and says why", async (t) => {
  const agent = new Agent(t);
  agent.manifest("web.yaml", `${DUAL_STACK}---\n${slice("web", "10.1.0.1")}`);
  await agent.start().ready();
  const families = new Set(frontendLines(agent).map((line) => line.includes("[")));
  assert.deepEqual([...families], [false]);
  const why = "no global IPv6 address is on v0: set node.address6";
  assert.equal(agent.json("status").ipv6Off, why);
  const { stdout } = agent.ciliate("status");
  assert.match(stdout, /^IPv6 {4}off: no global IPv6 address is on v0: set node\.address6$/m);
  assert.match(String((await agent.said("backends are out of reach"))["reason"]), /: 10\.1\.0\.1;/);
  const warned = await agent.said("a manifest has a fault");
  assert.equal(warned["reason"], `IPv6 is left out: ${why}`);
  agent.ip("addr add fd00::1/64 dev v0 nodad");
  const late = (): string =>
    agent.json("status").checks.find(({ name }: { name: string }) => name === "ipv6").problem;
  await until(late, () => late().startsWith("IPv6 is off, and since the start fd00::1 has come"));
  agent.configure("ipv6: off\n");
  await agent.end("SIGTERM");
  await agent.start().ready();
  assert.equal(agent.json("status").state, "ready", "it is as it was asked for");
});

test("another mode is in force after a reload, with the rings of before", async (t) => {
  const agent = new Agent(t);
  agent.manifest("web.yaml", documents(service("web", "192.0.2.10"), slice("web", "10.1.0.1")));
  await agent.start().ready();
  const [before] = agent.json("bpf service list");
  agent.configure("mode: snat\nnoBackend: drop\n");
  assert.equal(agent.ciliate("config reload").code, 0);
  await until(
    () => `the mode is not in force: ${frontendLines(agent)}`,
    () => frontendLines(agent)[0] === "service 192.0.2.10:80 → 1 snat was_dsr",
  );
  const [after] = agent.json("bpf service list");
  assert.deepEqual([after.id, after.ringSize], [before.id, before.ringSize]);
  const inForce = (): string => agent.ciliate("service list").stdout;
  assert.match(inForce(), / http +snat +1 /);
  agent.configure("mode: snat\nalgorithm: random\n");
  assert.equal(agent.ciliate("config reload").code, 0);
  await until(inForce, () => / http +snat random +1 /.test(inForce()));
});

test("a killed agent's tables are read without it, and the next one keeps the ids", async (t) => {
  const agent = new Agent(t);
  const names = ["a", "b", "c"];
  for (const [index, name] of names.entries()) {
    const text = documents(service(name, `192.0.2.${index}`), slice(name, "10.1.0.1", "10.1.0.2"));
    agent.manifest(`${name}.yaml`, text);
  }
  await agent.start().ready();
  const tables = (): unknown =>
    ["service", "backend", "maglev"].map((table) => agent.json(`bpf ${table} list`));
  const before = tables();
  assert.equal(agent.json("bpf service list").length, 3);
  await agent.end("SIGKILL");
  assert.deepEqual(tables(), before);
  await agent.start().ready();
  assert.deepEqual(tables(), before);
  assert.equal(agent.ciliate("status").code, 0);
});

test("what the API was given is there after a kill, with its ids", async (t) => {
  const agent = await new Agent(t).start().ready();
  const client = await connect(t, agent);
  const names = ["a", "b", "c"];
  const texts = names.map((name, index) =>
    documents(service(name, `192.0.2.${index}`), slice(name, "10.1.0.1", "10.1.0.2")),
  );
  await client.apply({ documents: documents(...texts) });
  await client.delete({ objects: [{ kind: "Service", namespace: "default", name: "b" }] });
  const tables = (): unknown =>
    ["service", "backend", "maglev"].map((table) => agent.json(`bpf ${table} list`));
  const before = tables();
  assert.equal(agent.json("bpf service list").length, 2);
  await agent.end("SIGKILL");
  await agent.start().ready();
  assert.deepEqual(tables(), before);
  assert.equal(agent.ciliate("status").code, 0);
  assert.equal(agent.ciliate("service get b").code, 4);
});

test("a drop is counted by reason and told to who listens", async (t) => {
  const agent = await new Agent(t, "noBackend: drop\n").start().ready();
  const client = await connect(t, agent);
  await client.apply({ documents: service("empty", "192.0.2.20") });
  const words = ["monitor", "--count", "1", "-o", "json", "--address", "192.0.2.20"];
  const monitor = spawnInNamespace(namespacePath(agent.namespace), PROGRAM, words, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, CILIATE_SOCKET: agent.socket },
  });
  t.after(() => monitor.kill());
  let heard = "";
  monitor.stdout?.on("data", (piece: Buffer) => {
    heard += piece;
  });
  await until(
    () => "the monitor heard of no drop",
    () => {
      knock(agent, "192.0.2.20");
      return heard.endsWith("\n");
    },
  );
  const event = JSON.parse(heard.split("\n")[0] ?? "");
  const { verdict, source, destination, destinationPort, tcpFlags, device } = event;
  assert.deepEqual(
    { verdict, source, destination, destinationPort, tcpFlags, device },
    {
      verdict: "drop no backend",
      source: "10.0.0.2",
      destination: "192.0.2.20",
      destinationPort: 80,
      tcpFlags: "S",
      device: "v0",
    },
  );
  const age = Date.now() - Date.parse(event.time);
  assert(Math.abs(age) < 60_000, `the event is ${age} ms old`);
  assert.match(agent.get("/metrics"), /verdict="drop",reason="no_backend"\} [1-9]/);
  const drops = agent.json("bpf metrics list");
  assert(drops.some((row: { verdict: string }) => row.verdict === "drop no backend"));
});

test("a bad document is told with file and line, and the good ones are in force", async (t) => {
  const agent = new Agent(t);
  const bad = service("bad", "192.0.2.31").replace('"port":80', '"port":"eighty"');
  agent.manifest("all.yaml", documents(service("good", "192.0.2.30"), bad));
  await agent.start().ready();
  const { code, stdout } = agent.ciliate("status");
  assert.equal(code, 5);
  assert.match(stdout, /\n {2}\/.*\/manifests\/all\.yaml:3: Service default\/bad: spec\.ports/);
  assert.equal(agent.json("bpf service list").length, 1);
  const warned = await agent.said("a manifest has a fault");
  const { level, line, object, field } = warned;
  assert.deepEqual(
    { level, line, object, field },
    { level: "warn", line: 3, object: "Service default/bad", field: "spec.ports[0].port" },
  );
  agent.manifest("all.yaml", service("good", "192.0.2.30"));
  await untilWell(agent);
  assert.equal((await agent.said("a manifest's fault is gone")).object, "Service default/bad");
});

test("the capabilities of the systemd unit are enough", async (t) => {
  const unit = readFileSync(resolve(import.meta.dirname, "../../deploy/ciliate.service"), "utf8");
  const names = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(" ") ?? [];
  const set = ["-all", ...names.map((name) => `+${name.slice(4).toLowerCase()}`)].join(",");
  const before = ["setpriv", `--bounding-set=${set}`, `--inh-caps=${set}`, "--no-new-privs"];
  const agent = await new Agent(t).start({}, before).ready();
  const client = await connect(t, agent);
  const text = documents(service("web", "192.0.2.40"), slice("web", "10.1.0.1"));
  assert.equal((await client.apply({ documents: text })).inForce, true);
  const capabilities = readFileSync(`/proc/${agent.child?.pid}/status`, "utf8");
  assert.doesNotMatch(capabilities, /^CapEff:\s*[0-9a-f]*ffffffff$/m);
  assert.equal(agent.ciliate("status").code, 0);
});
