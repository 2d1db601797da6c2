// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { readManifest } from "../lb/yaml/manifest.ts";
import { ParserPool } from "../lb/yaml/pool.ts";
import { splitDocuments } from "../lb/yaml/split.ts";
import { openAppliedFiles } from "./applied.ts";
import { createApiSource, nameOf, type Writers } from "./sources.ts";

/** Writers that note what they were told, and a directory for what is kept. */
function setUp(t: TestContext, directory = mkdtempSync(join(tmpdir(), "ciliate-applied-"))) {
  const told: string[] = [];
  const note =
    (verb: string) =>
    (row: { readonly key?: string; readonly name?: string } | string): void => {
      told.push(`${verb} ${typeof row === "string" ? row : (row.key ?? row.name)}`);
    };
  const writers = {
    lb: {
      putService: (row: { key: string; addresses: readonly number[] }) =>
        told.push(`service ${row.key} with ${row.addresses.length}`),
      deleteService: note("no service"),
      putSlice: note("slice"),
      deleteSlice: note("no slice"),
      refusals: () => [],
      warnings: () => [],
    },
    endpoints: { put: note("pod"), delete: note("no pod") },
    nodes: { put: note("node"), delete: note("no node") },
  };
  const parser = new ParserPool({ workers: 1 });
  t.after(async () => {
    await parser.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const api = createApiSource({
    writers: writers as unknown as Writers,
    kept: openAppliedFiles(directory, parser),
    parser,
    loaded: () => told.push("loaded"),
    complete: () => told.push("complete"),
  });
  const take = (): string[] => told.splice(0).filter((what) => !/^(loaded|complete)$/.test(what));
  /** As a file that holds these documents. */
  const file = (documents: string): void => {
    for (const { content } of splitDocuments(documents).flatMap(readManifest)) {
      if (content !== undefined) api.files.put(content);
    }
  };
  return { api, take, file, told, directory };
}

function service(name: string, ...addresses: string[]): string {
  const ingress = addresses.map((ip) => `{ip: ${ip}}`).join(", ");
  return [
    "---",
    "apiVersion: v1",
    "kind: Service",
    `metadata: {name: ${name}}`,
    "spec: {type: LoadBalancer, ports: [{port: 80}]}",
    `status: {loadBalancer: {ingress: [${ingress}]}}`,
    "",
  ].join("\n");
}

const web = { kind: "Service", namespace: "default", name: "web" };

test("an object of the API is put and deleted; deleting it again is nothing", async (t) => {
  const { api, take } = setUp(t);
  api.start();
  const node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
  const rows = await api.apply(service("web", "192.0.2.1") + node);
  assert.deepEqual(rows.map(nameOf), [web, { kind: "Node", namespace: "", name: "n1" }]);
  assert.deepEqual(take(), ["service default/web with 1", "node n1"]);
  assert.equal(api.size, 2);
  assert.deepEqual((await api.delete([web])).map(nameOf), [web]);
  assert.deepEqual(await api.delete([web, { kind: "Servce", namespace: "", name: "x" }]), []);
  assert.deepEqual(take(), ["no service default/web"]);
});

test("one fault, and nothing is applied: every fault is told with its line", async (t) => {
  const { api, take } = setUp(t);
  api.start();
  const bad = service("web", "192.0.2.1").replace("port: 80", "port: 99999");
  await assert.rejects(() => api.apply(service("first", "192.0.2.2") + bad + bad), {
    code: "invalid",
    message: /^line 11: Service default\/web: spec\.ports\[0\]\.port: [\s\S]*\nline 17: Service /,
  });
  assert.deepEqual([take(), api.size], [[], 0]);
});

test("where a file and the API define an object, the file wins", async (t) => {
  const { api, take, file } = setUp(t);
  api.start();
  await api.apply(service("web", "192.0.2.1"));
  file(service("web", "192.0.2.1", "192.0.2.2"));
  assert.deepEqual(take(), ["service default/web with 1", "service default/web with 2"]);
  await api.apply(service("web"));
  assert.deepEqual(take(), []);
  api.files.delete("Service", "default/web");
  assert.deepEqual(take(), ["service default/web with 0"]);
  file(service("web", "192.0.2.1"));
  await api.delete([web]);
  assert.deepEqual(take(), ["service default/web with 1"]);
  api.files.delete("Service", "default/web");
  assert.deepEqual(take(), ["no service default/web"]);
});

test("an object that only a file defines can't be deleted through the API", async (t) => {
  const { api, file } = setUp(t);
  api.start();
  file(service("web", "192.0.2.1"));
  await assert.rejects(() => api.delete([web]), {
    code: "refused",
    message: "Service default/web is defined by a file: take it out there",
  });
});

test("what was accepted is there for the next agent, and what was deleted isn't", async (t) => {
  const before = setUp(t);
  before.api.start();
  const list = JSON.stringify({
    apiVersion: "v1",
    kind: "List",
    items: ["n1", "n2"].map((name) => ({ apiVersion: "v1", kind: "Node", metadata: { name } })),
  });
  await before.api.apply(service("web", "192.0.2.1") + service("old", "192.0.2.2"));
  await before.api.apply(`${service("web", "192.0.2.1", "192.0.2.3")}---\n${list}`);
  const names = ["web", "old"].map((name) => ({ kind: "Service", namespace: "default", name }));
  await before.api.delete(names.slice(1));
  writeFileSync(join(before.directory, "Node_n3.yaml.new"), "");
  const { api, told } = setUp(t, before.directory);
  api.start();
  await api.delete([]);
  assert.deepEqual(told, [
    "node n1",
    "node n2",
    "service default/web with 2",
    "loaded",
    "complete",
  ]);
  assert.deepEqual([api.synced, api.size, api.problems()], [true, 3, []]);
  assert.deepEqual(readdirSync(before.directory).sort(), [
    "Node_n1.yaml",
    "Node_n2.yaml",
    "Service_default_web.yaml",
  ]);
});

test("what can't be read back is a problem until it is applied again", async (t) => {
  const { api, told, directory } = setUp(t);
  writeFileSync(join(directory, "Node_n1.yaml"), "apiVersion: v1\nkind: Node\n");
  writeFileSync(join(directory, "Service_default_web.yaml"), service("other", "192.0.2.1"));
  api.start();
  await api.delete([]);
  assert.deepEqual(told, ["loaded"]);
  const [first, second, ...more] = api.problems().sort();
  assert.match(first ?? "", /Node_n1\.yaml: line 1: metadata.*: apply it again, or remove/);
  assert.match(second ?? "", /Service_default_web\.yaml: it doesn't hold the one object/);
  assert.deepEqual(more, []);
  await api.apply("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n");
  assert.deepEqual(told, ["loaded", "node n1"]);
  await api.apply(service("web", "192.0.2.1"));
  assert.deepEqual(told.slice(2), ["service default/web with 1", "complete"]);
  assert.deepEqual(api.problems(), []);
});

test("what can't be kept isn't accepted, and leaves nothing", async (t) => {
  const { api, take, directory } = setUp(t);
  api.start();
  mkdirSync(join(directory, "Node_n1.yaml.new"));
  const node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
  const text = service("web", "192.0.2.1") + node;
  await assert.rejects(() => api.apply(text), {
    code: "refused",
    message: /can't be kept: .*EISDIR/,
  });
  assert.deepEqual([take(), api.size], [[], 0]);
  assert.deepEqual(readdirSync(directory), ["Node_n1.yaml.new"]);
});

test("an apply of a thousand objects leaves the event loop to others", async (t) => {
  const { api } = setUp(t);
  api.start();
  const names = Array.from({ length: 1000 }, (_, index) => service(`s${index}`, "192.0.2.1"));
  const text = names.join("");
  await api.apply(service("warm", "192.0.2.2"));
  // A millisecond passes whenever somebody looks: a turn has five.
  let nowMs = 0;
  t.mock.method(performance, "now", () => nowMs++);
  let [before, most, applying] = [api.size, 0, true];
  const turn = (): void => {
    most = Math.max(most, api.size - before);
    before = api.size;
    if (applying) setImmediate(turn);
  };
  setImmediate(turn);
  await api.apply(text);
  applying = false;
  most = Math.max(most, api.size - before);
  assert.equal(api.size, 1001);
  assert(most <= 10, `${most} objects in one turn`);
});

test("a document that aliases blow up is refused", async (t) => {
  const { api } = setUp(t);
  api.start();
  const levels = Array.from({ length: 8 }, (_, index) => {
    const before = Array.from({ length: 10 }, () => `*a${index}`);
    return `  l${index + 1}: &a${index + 1} [${before.join(", ")}]`;
  });
  const text = ["apiVersion: v1", "kind: Node", "metadata: {name: n1}", "spec:", "  l0: &a0 []"];
  await assert.rejects(() => api.apply([...text, ...levels].join("\n")), {
    code: "invalid",
    message: "line 1: its aliases make it far too large: write out what they stand for",
  });
});
