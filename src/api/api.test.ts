// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openApiClient } from "./client.ts";
import { ApiError } from "./error.ts";
import type { EventSink } from "./event-stream.ts";
import {
  AgentState,
  GetStatusResponse,
  MonitorRequest,
  PacketEvent,
  Service,
  SyncState,
} from "./gen/ciliate.ts";
import { type AgentHandlers, openApiServer } from "./server.ts";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ciliate-api-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const unused = (): never => {
  throw new Error("not used by this test");
};

const nothing: AgentHandlers = {
  getVersion: unused,
  getStatus: unused,
  listServices: unused,
  listBackends: unused,
  getConfig: unused,
  reloadConfig: unused,
  apply: unused,
  delete: unused,
  monitor: unused,
};

async function serve(t: TestContext, handlers: Partial<AgentHandlers>, timeoutMs = 5000) {
  const socket = join(directory(t), "api.sock");
  const faults: string[] = [];
  const onFault = (call: string, error: unknown): number => faults.push(`${call}: ${error}`);
  const server = await openApiServer({ socket, handlers: { ...nothing, ...handlers }, onFault });
  t.after(() => server.close(0));
  const client = await openApiClient({ socket, timeoutMs });
  t.after(() => client[Symbol.dispose]());
  return { socket, server, client, faults };
}

test("an answer crosses the socket whole", async (t) => {
  const status = GetStatusResponse.fromPartial({
    state: AgentState.READY,
    nodeName: "lb-1",
    startedUnixMs: 1_764_000_000_123n,
    checks: [{ name: "sources", problem: "" }],
    reconcilers: [{ name: "lb", lagSeconds: 0.25, problems: ["a", "ü"] }],
    tables: [{ name: "services", used: 2n ** 63n, limit: 7n, problem: "full" }],
  });
  const { client } = await serve(t, { getStatus: () => status });
  assert.deepEqual(await client.getStatus(), status);
});

test("a list of any length comes in pages", async (t) => {
  const list = Array.from({ length: 2345 }, (_, index) =>
    Service.fromPartial({
      namespace: "default",
      name: `s${index}`,
      addresses: ["10.0.0.1"],
      sync: { state: SyncState.APPLIED },
    }),
  );
  const { client } = await serve(t, {
    listServices: ({ namespace }) => list.filter((service) => service.namespace === namespace),
  });
  const got: Service[] = [];
  const request = { namespace: "default", name: "", backends: false };
  for await (const service of client.listServices(request)) got.push(service);
  assert.deepEqual(got, list);
  for await (const service of client.listServices({ ...request, namespace: "x" })) {
    assert.fail(`${service.name} is of another namespace`);
  }
});

test("a refusal keeps its code and its words; ours is internal and told once", async (t) => {
  const { client, faults } = await serve(t, {
    apply: () => {
      throw new ApiError("invalid", "line 3: spec.ports: expected a list, got ü");
    },
    delete: () => Promise.reject(new TypeError("oops")),
    // biome-ignore lint/correctness/useYield: it fails before it has a row
    *listBackends() {
      throw new ApiError("not-found", "no service a/b");
    },
  });
  await assert.rejects(client.apply({ documents: "" }), {
    code: "invalid",
    message: "line 3: spec.ports: expected a list, got ü",
  });
  await assert.rejects(client.delete({ objects: [] }), { code: "internal", message: "oops" });
  await assert.rejects(
    async () => {
      for await (const _ of client.listBackends({ namespace: "a", service: "b" })) assert.fail();
    },
    { code: "not-found", message: "no service a/b" },
  );
  assert.deepEqual(faults, ["Delete: TypeError: oops"]);
});

test("the socket is for its owner alone", async (t) => {
  const { socket } = await serve(t, {});
  assert.equal(statSync(socket).mode & 0o777, 0o600);
});

test("a live agent's socket is refused, and stays in use", async (t) => {
  const { socket, client } = await serve(t, { getStatus: () => GetStatusResponse.create() });
  await assert.rejects(
    openApiServer({ socket, handlers: nothing, onFault: unused }),
    /^Error: another process answers at \/.*api\.sock: stop it first, or set paths\.runtime$/,
  );
  await client.getStatus();
});

test("a dead agent's socket is replaced; what isn't a socket never is", async (t) => {
  const path = directory(t);
  const stale = join(path, "stale.sock");
  const listen = `listen(${JSON.stringify(stale)}, () => console.log("up"))`;
  const script = `require("net").createServer().${listen}`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  assert(lstatSync(stale).isSocket());
  await assert.rejects(openApiClient({ socket: stale, timeoutMs: 1000 }), {
    code: "unreachable",
    message: /^agent is not running: no answer at .*stale\.sock; the datapath keeps working; start/,
  });
  const server = await openApiServer({ socket: stale, handlers: nothing, onFault: unused });
  await server.close(0);
  assert.equal(lstatSync(stale, { throwIfNoEntry: false }), undefined);

  const file = join(path, "file");
  writeFileSync(file, "mine");
  const open = openApiServer({ socket: file, handlers: nothing, onFault: unused });
  await assert.rejects(open, /file is not a socket: move it away, or set paths\.socket/);
});

test("closing leaves a socket that another process has put there", async (t) => {
  const { socket, server } = await serve(t, {});
  rmSync(socket);
  const other = createServer().listen(socket);
  await once(other, "listening");
  await server.close(0);
  assert(lstatSync(socket).isSocket());
  other.close();
});

test("no socket, and an agent that doesn't answer, are told apart", async (t) => {
  const none = join(directory(t), "none.sock");
  await assert.rejects(openApiClient({ socket: none, timeoutMs: 100 }), {
    code: "unreachable",
    message: /^agent is not running: no answer at .*none\.sock/,
  });
  const { client } = await serve(t, { getStatus: () => new Promise(() => {}) }, 100);
  await assert.rejects(client.getStatus(), {
    code: "unreachable",
    message: /gave no answer within 100 ms; is it stopped or overloaded\?$/,
  });
});

test("an agent that dies during a call is told as such", async (t) => {
  const { client, server } = await serve(t, { getStatus: () => new Promise(() => {}) });
  const call = client.getStatus();
  setTimeout(() => void server.close(0), 50);
  await assert.rejects(call, { code: "unreachable", message: /went away during the call/ });
});

test("a monitor gets every event in order, until it ends", async (t) => {
  const sinks: EventSink[] = [];
  let stopped = 0;
  const { client } = await serve(t, {
    monitor: (_, sink) => {
      sinks.push(sink);
      for (let length = 0; length < 500; length += 1) sink.push(PacketEvent.create({ length }));
      return () => {
        stopped += 1;
      };
    },
  });
  const ended = new AbortController();
  const got: number[] = [];
  for await (const message of client.monitor(MonitorRequest.create(), ended.signal)) {
    got.push(...message.events.map(({ length }) => length));
    assert.equal(message.lost, 0n);
    if (got.length === 500) ended.abort();
  }
  assert.deepEqual(
    got,
    Array.from({ length: 500 }, (_, index) => index),
  );
  for (let waited = 0; stopped === 0 && waited < 100; waited += 1) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal(stopped, 1);
});

test("a slow monitor loses events that are counted, and holds nobody up", async (t) => {
  let sink: EventSink | undefined;
  const { client } = await serve(t, {
    monitor: (_, given) => {
      sink = given;
      return () => {};
    },
  });
  const ended = new AbortController();
  const messages = client.monitor(MonitorRequest.create(), ended.signal)[Symbol.asyncIterator]();
  const first = messages.next();
  while (sink === undefined) await new Promise((resolve) => setImmediate(resolve));
  const total = 100_000;
  const event = PacketEvent.create({ source: "10.0.0.1", destination: "10.0.0.2" });
  for (let sent = 0; sent < total; sent += 1) sink.push(event);
  sink.overwritten(3);
  let received = 0;
  let lost = 0;
  let overwritten = 0;
  for (let next = await first; !next.done; next = await messages.next()) {
    received += next.value.events.length;
    lost += Number(next.value.lost);
    overwritten += Number(next.value.overwritten);
    if (received + lost === total) ended.abort();
  }
  assert.equal(received + lost, total);
  assert(lost > 50_000, `${lost} lost`);
  assert.equal(overwritten, 3);
});
