// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import type { Address } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import { createTable } from "../state/table.ts";
import { createHealthChecks } from "./health-check.ts";
import { DEFAULT_POLICY, type Service } from "./rows.ts";
import { createBench, ip, service, slice } from "./testing.ts";

const LIMIT_MS = 5000;
const POLL_MS = 10;

async function until(what: string, condition: () => unknown): Promise<void> {
  const endMs = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > endMs) assert.fail(what);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

/** A port that nobody listens on now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const found = server.address();
  await new Promise((done) => server.close(done));
  assert.ok(typeof found === "object" && found !== null);
  return found.port;
}

function setUp(t: TestContext) {
  const bench = createBench();
  const addresses = createTable<Address, NodeAddressRow>({
    name: "node-addresses",
    key: ({ address }) => address,
  });
  const { services, ports } = bench.writer;
  const checks = createHealthChecks({ services, ports, addresses, retryMs: 20 });
  t.after(() => checks[Symbol.asyncDispose]());
  const own = (text: string, served = true): void =>
    addresses.set({ address: ip(text), own: true, served });
  return { ...bench, checks, addresses, own };
}

function local(name: string, healthCheckPort: number, more: Partial<Service> = {}): Service {
  return service(name, {
    policy: { ...DEFAULT_POLICY, externalLocal: true },
    healthCheckPort,
    ...more,
  });
}

async function ask(port: number, address = "127.0.0.1"): Promise<string> {
  const response = await fetch(`http://${address}:${port}/`);
  const weight = response.headers.get("x-load-balancing-endpoint-weight");
  return `${response.status} ${weight} ${(await response.text()).trim()}`;
}

test("load balancers hear how many pods this node has", async (t) => {
  const { writer, settled, checks, own } = setUp(t);
  const port = await freePort();
  own("127.0.0.1");
  own("127.0.0.2");
  own("127.0.0.3", false);
  writer.putService(local("web", port));
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3@n1", "4 down@n1"]));
  await settled();
  checks.start();
  const service = '{"service":{"namespace":"default","name":"web"},"localEndpoints":';
  assert.equal(await ask(port), `200 2 ${service}2}`);
  assert.equal(await ask(port, "127.0.0.2"), `200 2 ${service}2}`);
  await assert.rejects(ask(port, "127.0.0.3"));
  writer.putSlice(slice("web", ["1 terminating@n1", "2@n2"]));
  await settled();
  assert.equal(await ask(port), `503 0 ${service}0}`);
  assert.deepEqual([...checks.problems()], []);
});

test("connections that ask nothing keep no load balancer out", async (t) => {
  const { writer, settled, checks, own } = setUp(t);
  const port = await freePort();
  own("127.0.0.1");
  writer.putService(local("web", port));
  await settled();
  checks.start();
  for (let count = 0; count < 65; count++) {
    const idle = connect(port, "127.0.0.1").on("error", () => undefined);
    t.after(() => idle.destroy());
    await once(idle, "connect");
  }
  assert.match(await ask(port), /^503 /);
});

test("a port goes with its service, and comes with an address", async (t) => {
  const { writer, settled, checks, own } = setUp(t);
  const [port, other] = [await freePort(), await freePort()];
  writer.putService(local("web", port));
  await settled();
  checks.start();
  own("127.0.0.1");
  await new Promise(setImmediate);
  assert.match(await ask(port), /^503 /);
  writer.putService(local("web", other));
  await settled();
  assert.match(await ask(other), /^503 /);
  await assert.rejects(ask(port));
  writer.deleteService("default/web");
  await settled();
  await assert.rejects(ask(other));
});

test("a port that somebody has is told, and taken when it is free", async (t) => {
  const { writer, settled, checks, own } = setUp(t);
  const rival = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => rival.once("listening", done));
  t.after(() => rival.close());
  const found = rival.address();
  assert.ok(typeof found === "object" && found !== null);
  own("127.0.0.1");
  writer.putService(local("web", found.port));
  await settled();
  checks.start();
  await until("the port in use was not told", () => checks.problem("default/web"));
  const [problem] = checks.problems();
  assert.deepEqual(
    [problem?.id, problem?.field],
    ["Service default/web", "spec.healthCheckNodePort"],
  );
  assert.match(
    problem?.text ?? "",
    /^health checks can't be answered at 127\.0\.0\.1:\d+: .*EADDRINUSE/,
  );
  await new Promise((done) => rival.close(done));
  await until("the free port was not taken", () => checks.problem("default/web") === undefined);
  assert.match(await ask(found.port), /^503 /);
});

test("of two services with one port, the second one is told who has it", async (t) => {
  const { writer, settled, checks, own } = setUp(t);
  const port = await freePort();
  own("127.0.0.1");
  writer.putService(local("web", port));
  writer.putService(local("other", port, { addresses: [ip("192.0.2.11")] }));
  await settled();
  checks.start();
  assert.match(await ask(port), /"name":"web"/);
  assert.equal(checks.problem("default/web"), undefined);
  assert.equal(checks.problem("default/other"), `port ${port} is Service default/web's`);
  writer.deleteService("default/web");
  await settled();
  await until("the port didn't change hands", () => checks.problem("default/other") === undefined);
  assert.match(await ask(port), /"name":"other"/);
});
