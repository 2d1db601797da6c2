// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { servicePortEntries } from "./entries.ts";
import { createRing } from "./maglev.ts";
import { DEFAULT_POLICY } from "./rows.ts";
import { createBench, endpoint, ip, lastByte, service, show, slice } from "./testing.ts";

const ENTRY_OPTIONS = { encapsulate: "all", jiffies: () => 0 } as const;

test("a service and its slices make a service port, backends in order of address", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web-b", ["3@n2", "1@n1"]));
  writer.putSlice(slice("web-a", ["2@n2"]));
  await settled();
  const { ring, backends, ...rest } = port() ?? {};
  assert.deepEqual(rest, {
    key: "default/web:80/tcp",
    id: 1,
    service: "default/web",
    name: "",
    port: 80,
    protocol: "tcp",
    family: "ipv4",
    local: false,
    addresses: [ip("192.0.2.10")],
    inside: [],
    nodePort: 0,
    insideNodePort: 0,
    atNode: false,
    policy: DEFAULT_POLICY,
    snat: false,
    random: false,
    lately: false,
    wasOther: false,
    reject: true,
    draining: [],
    former: undefined,
  });
  assert.deepEqual(backends?.[0], {
    address: ip(1),
    port: 8080,
    weight: 100,
    node: "n1",
    local: true,
    counter: 1,
    state: "ready",
  });
  assert.equal(show(backends), "1 ready, 2 ready, 3 ready");
  const members = [1, 2, 3].map((last) => ({ address: ip(last), port: 8080, weight: 100 }));
  assert.deepEqual(ring, createRing(members, 1021));
});

test("nothing is made before all sources have put what they have", async () => {
  const { writer, say, settled, port } = createBench({ loaded: false });
  writer.putService(service("web"));
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  assert.equal(port(), undefined);
  writer.putSlice(slice("web", ["1"]));
  say.loaded();
  await settled();
  assert.equal(show(port()?.backends), "1 ready");
});

test("ready pods get new flows, and the others keep theirs", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2 down", "3 terminating", "4*0"]));
  await settled();
  assert.equal(show(port()?.backends), "1 ready");
  assert.equal(show(port()?.draining), "2 not-ready, 3 terminating, 4 weightless");
});

test("when no pod is ready, those that serve while they terminate get new flows", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1 down", "2 terminating", "3 terminating"]));
  await settled();
  assert.equal(show(port()?.backends), "2 terminating, 3 terminating");
  writer.putSlice(slice("web", ["1 down"]));
  await settled();
  assert.equal(show(port()?.backends), "");
  assert.equal(port()?.ring.length, 0);
});

test("a pod that slices name twice counts once, as ready if any says so", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web-a", ["1 down", "2"], { port: 8080 }));
  writer.putSlice(slice("web-b", ["1", "2"], { port: 8081 }));
  await settled();
  assert.deepEqual(
    port()?.backends.map((backend) => [lastByte(backend.address), backend.port]),
    [
      [1, 8081],
      [2, 8080],
    ],
  );
});

test("pods of one service serve it each by the port of its slice, also in the kernel", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web-a", ["1@n1", "2@n2"], { port: 8080 }));
  writer.putSlice(slice("web-b", ["3@n1", "4@n2"], { port: 9090 }));
  await settled();
  const ports = (): unknown =>
    port()?.backends.map((backend) => [lastByte(backend.address), backend.port]);
  const targets = (): unknown =>
    servicePortEntries(ENTRY_OPTIONS, port() ?? assert.fail()).flatMap((entry) =>
      entry.target === "targets" ? [[lastByte(entry.key.pod), entry.value.port]] : [],
    );
  assert.deepEqual(ports(), [
    [1, 8080],
    [2, 8080],
    [3, 9090],
    [4, 9090],
  ]);
  assert.deepEqual(targets(), [
    [1, 8080],
    [3, 9090],
  ]);
  writer.putSlice(slice("web-b", ["3@n1", "4@n2"], { port: 9091 }));
  await settled();
  assert.deepEqual(ports(), [
    [1, 8080],
    [2, 8080],
    [3, 9091],
    [4, 9091],
  ]);
  assert.deepEqual(targets(), [
    [1, 8080],
    [3, 9091],
  ]);
});

test("ports are found by name and protocol", async () => {
  const { writer, settled, port } = createBench();
  const ports = [
    { name: "http", port: 80, protocol: "tcp", nodePort: 0 },
    { name: "dns", port: 53, protocol: "udp", nodePort: 0 },
    { name: "dns-tcp", port: 53, protocol: "tcp", nodePort: 0 },
  ] as const;
  writer.putService(service("web", { ports }));
  writer.putSlice({
    ...slice("web", ["1"]),
    ports: [
      { name: "dns", port: 5353, protocol: "udp" },
      { name: "http", port: 8080, protocol: "tcp" },
    ],
  });
  await settled();
  assert.equal(port("default/web:80/tcp")?.backends[0]?.port, 8080);
  assert.equal(port("default/web:53/udp")?.backends[0]?.port, 5353);
  assert.equal(port("default/web:53/tcp")?.backends.length, 0);
  writer.putService(service("web", { ports: ports.slice(0, 1) }));
  await settled();
  assert.deepEqual([...writer.ports.keys()], ["default/web:80/tcp"]);
});

test("numbers stay while things change, and are used again when they go", async () => {
  const { writer, settled, port } = createBench({ limits: { servicePorts: 2, backends: 3 } });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  writer.putService(service("web", { addresses: [ip("192.0.2.11")] }));
  writer.putSlice(slice("web", ["2", "3"]));
  await settled();
  assert.equal(port()?.id, 1);
  assert.deepEqual(
    port()?.backends.map(({ counter }) => counter),
    [2, 3],
  );
  writer.putSlice(slice("web", ["4"]));
  await settled();
  assert.deepEqual(port()?.backends[0]?.counter, 1);
  writer.deleteService("default/web");
  await settled();
  const { serviceIds, counters } = writer.figures();
  assert.deepEqual([serviceIds, counters], [0, 0]);
});

test("services that are gone together make room for as many others", async () => {
  const { writer, settled } = createBench({ limits: { servicePorts: 3 } });
  const names = ["a", "b", "c", "d", "e", "f"];
  for (const [index, name] of names.entries()) {
    writer.putService(service(name, { addresses: [ip(`192.0.2.${index}`)] }));
  }
  await settled();
  const refused = (): string[] => [...writer.refusals()].map(({ id }) => id);
  assert.deepEqual(refused(), ["Service default/d", "Service default/e", "Service default/f"]);
  // One that got no id goes too: its turn is the next one's.
  for (const name of ["a", "b", "d"]) writer.deleteService(`default/${name}`);
  await settled();
  assert.deepEqual(refused(), []);
  const keys = [...writer.ports.keys()];
  assert.deepEqual(keys, ["default/c:80/tcp", "default/e:80/tcp", "default/f:80/tcp"]);
});

test("a service too many is refused in words, and made when there is room", async () => {
  const { writer, settled, port } = createBench({ limits: { servicePorts: 1 } });
  writer.putService(service("web"));
  writer.putService(service("api", { addresses: [ip("192.0.2.11")] }));
  await settled();
  assert.equal(port("default/api:80/tcp"), undefined);
  assert.deepEqual(
    [...writer.refusals()].map(({ id, text }) => `${id}: ${text}`),
    [
      "Service default/api: port default/api:80/tcp is left out: " +
        "all 1 service ids are in use; raise tables.services",
    ],
  );
  writer.deleteService("default/web");
  await settled();
  assert.equal(port("default/api:80/tcp")?.id, 1);
  assert.deepEqual([...writer.refusals()], []);
});

test("a backend too many works without being counted", async () => {
  const { writer, settled, port } = createBench({ limits: { backends: 1 } });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  assert.deepEqual(
    port()?.backends.map(({ counter }) => counter),
    [1, 0],
  );
});

test("of two services with one frontend the one in force keeps it, until it goes", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  await settled();
  writer.putService(service("api", { createdMs: 1 }));
  await settled();
  assert.equal(port("default/api:80/tcp"), undefined);
  assert.deepEqual(
    [...writer.refusals()].map(({ id, text, kept }) => `${id}: ${text} ${kept}`),
    [
      "Service default/api: 192.0.2.10:80/tcp is Service default/web's: " +
        "take it out of one of them false",
    ],
  );
  writer.putService(service("api", { addresses: [ip("192.0.2.11")] }));
  writer.putService(service("api", { port: "80/tcp" }));
  await settled();
  assert.deepEqual(port("default/api:80/tcp")?.addresses, [ip("192.0.2.11")], "as it was");
  assert.equal([...writer.refusals()][0]?.kept, true);
  writer.deleteService("default/web");
  await settled();
  assert.deepEqual(port("default/api:80/tcp")?.addresses, [ip("192.0.2.10")]);
  assert.deepEqual([...writer.refusals()], []);
});

test("a frontend that a service gives up goes to the one that waits for it", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  await settled();
  writer.putService(service("api"));
  writer.putService(service("web", { addresses: [ip("192.0.2.11")] }));
  await settled();
  assert.deepEqual(port("default/api:80/tcp")?.addresses, [ip("192.0.2.10")]);
  assert.deepEqual([...writer.refusals()], []);
});

test("of two services that come together the older has the frontend, on every node", async () => {
  const rivals = [
    service("a"),
    service("b", { createdMs: 2000 }),
    service("c", { createdMs: 1000 }),
    service("d"),
  ];
  for (const order of [rivals, rivals.toReversed()]) {
    const { writer, say, settled } = createBench({ loaded: false });
    for (const rival of order) writer.putService(rival);
    say.loaded();
    await settled();
    assert.deepEqual([...writer.ports.keys()], ["default/c:80/tcp"]);
    assert.equal([...writer.refusals()].length, 3);
  }
});

test("the same port number of TCP and of UDP, and other addresses, are no rivals", async () => {
  const { writer, settled } = createBench();
  writer.putService(service("web"));
  writer.putService(service("dns", { port: "80/udp" }));
  writer.putService(service("api", { addresses: [ip("192.0.2.11")] }));
  await settled();
  assert.equal([...writer.refusals()].length, 0);
  assert.equal(writer.ports.size, 3);
});

test("a pod is new for half a second, unless there is nobody else", async () => {
  const { writer, settled, advance, port } = createBench({ timing: { joinMs: 500 } });
  writer.putService(service("web"));
  await settled();
  writer.putSlice(slice("web", ["1"]));
  await settled();
  assert.equal(show(port()?.backends), "1 ready", "the service had nobody");
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  assert.equal(show(port()?.backends), "1 ready");
  assert.equal(show(port()?.draining), "2 joining");
  await advance(499);
  assert.equal(show(port()?.backends), "1 ready");
  await advance(2);
  assert.equal(show(port()?.backends), "1 ready, 2 ready");
  writer.putSlice(slice("web", ["2 down", "1"]));
  await settled();
  writer.putSlice(slice("web", ["2", "1"]));
  await settled();
  assert.equal(show(port()?.backends), "1 ready, 2 ready", "a known pod is not new again");
});

test("a change that changes nothing leaves the row as it is", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  const row = port();
  writer.putSlice(slice("web", ["2", "1"]));
  writer.putService(service("web", { createdMs: 5 }));
  await settled();
  assert.equal(port(), row);
});

test("endpoints in a test are what they say", () => {
  assert.deepEqual(endpoint("1 terminating@n2*7"), {
    address: ip(1),
    ready: false,
    serving: true,
    terminating: true,
    node: "n2",
    weight: 7,
  });
});

test("pods on a node without a Node object are told of until there is one", async () => {
  const { writer, nodes, settled, port } = createBench();
  const warnings = (): string[] => [...writer.warnings()].map(({ id, text }) => `${id}: ${text}`);
  const addNode = (name: string): void => nodes.set({ name, addresses: [], podPrefixes: [] });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3@n2", "4"]));
  await settled();
  assert.deepEqual(warnings(), []);
  addNode("n1");
  await settled();
  assert.equal(show(port()?.backends), "1 ready, 4 ready");
  assert.deepEqual(warnings(), [
    "Service default/web: backend 10.0.0.2 and 1 more of default/web:80/tcp left out: " +
      'there is no Node "n2": ' +
      "apply its Node object, or correct nodeName in the EndpointSlice",
  ]);
  addNode("n2");
  await settled();
  assert.deepEqual(warnings(), []);
  nodes.delete("n2");
  await settled();
  assert.equal(warnings().length, 1);
  writer.deleteService("default/web");
  await settled();
  assert.deepEqual(warnings(), []);
});

test("SCTP keeps its ports: pods and node ports with others are told of and left out", async () => {
  const { writer, settled, port } = createBench({ nodePorts: { first: 30_000, last: 32_767 } });
  const warnings = (): string[] => [...writer.warnings()].map(({ field, text }) => field + text);
  const spec = { name: "", port: 3868, protocol: "sctp", nodePort: 30_868 } as const;
  writer.putService(service("web", { ports: [spec] }));
  writer.putSlice(slice("web", ["1", "2"], { port: 3868, protocol: "sctp" }));
  await settled();
  assert.equal(show(port("default/web:3868/sctp")?.backends), "1 ready, 2 ready");
  assert.equal(port("default/web:3868/sctp")?.nodePort, 0);
  const stray =
    "spec.ports[0].nodePortnode port 30868 is left out: SCTP's checksum covers ports, so that " +
    "only node port 3868 can lead to port 3868";
  assert.deepEqual(warnings(), [stray]);

  writer.putSlice(slice("web", ["1", "2"], { port: 5000, protocol: "sctp" }));
  await settled();
  assert.equal(show(port("default/web:3868/sctp")?.backends), "");
  assert.deepEqual(warnings(), [
    "backend 10.0.0.1:5000 and 1 more of default/web:3868/sctp left out: SCTP's checksum covers " +
      "ports, so that a targetPort has to be the service's port, and a container's port its hostPort",
    stray,
  ]);

  const same = { ...spec, port: 30_868 };
  writer.putService(service("web", { ports: [same] }));
  writer.putSlice(slice("web", ["1"], { port: 30_868, protocol: "sctp" }));
  await settled();
  assert.equal(port("default/web:30868/sctp")?.nodePort, 30_868);
  assert.deepEqual(warnings(), []);
});
