// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { readManifest } from "../lb/yaml/manifest.ts";
import { splitDocuments } from "../lb/yaml/split.ts";
import { createApiSource, nameOf, type Writers } from "./sources.ts";

/** Writers that note what they were told. */
function setUp() {
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
    },
    endpoints: { put: note("pod"), delete: note("no pod") },
    nodes: { put: note("node"), delete: note("no node") },
  };
  const api = createApiSource(writers as unknown as Writers);
  const take = (): string[] => told.splice(0);
  /** As a file that holds these documents. */
  const file = (documents: string): void => {
    for (const { content } of splitDocuments(documents).flatMap(readManifest)) {
      if (content !== undefined) api.files.put(content);
    }
  };
  return { api, take, file };
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

test("an object of the API is put and deleted; deleting it again is nothing", () => {
  const { api, take } = setUp();
  const node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
  const rows = api.apply(service("web", "192.0.2.1") + node);
  assert.deepEqual(rows.map(nameOf), [web, { kind: "Node", namespace: "", name: "n1" }]);
  assert.deepEqual(take(), ["service default/web with 1", "node n1"]);
  assert.equal(api.size, 2);
  assert.deepEqual(api.delete([web]).map(nameOf), [web]);
  assert.deepEqual(api.delete([web, { kind: "Servce", namespace: "", name: "x" }]), []);
  assert.deepEqual(take(), ["no service default/web"]);
});

test("one fault, and nothing is applied: every fault is told with its line", () => {
  const { api, take } = setUp();
  const bad = service("web", "192.0.2.1").replace("port: 80", "port: 99999");
  assert.throws(() => api.apply(service("first", "192.0.2.2") + bad + bad), {
    code: "invalid",
    message:
      /^line 11: Service default\/web: spec\.ports\[0\]\.port: [\s\S]*\nline 17: Service /,
  });
  assert.deepEqual([take(), api.size], [[], 0]);
});

test("where a file and the API define an object, the file wins", () => {
  const { api, take, file } = setUp();
  api.apply(service("web", "192.0.2.1"));
  file(service("web", "192.0.2.1", "192.0.2.2"));
  assert.deepEqual(take(), ["service default/web with 1", "service default/web with 2"]);
  api.apply(service("web"));
  assert.deepEqual(take(), []);
  api.files.delete("Service", "default/web");
  assert.deepEqual(take(), ["service default/web with 0"]);
  file(service("web", "192.0.2.1"));
  api.delete([web]);
  assert.deepEqual(take(), ["service default/web with 1"]);
  api.files.delete("Service", "default/web");
  assert.deepEqual(take(), ["no service default/web"]);
});

test("an object that only a file defines can't be deleted through the API", () => {
  const { api, file } = setUp();
  file(service("web", "192.0.2.1"));
  assert.throws(() => api.delete([web]), {
    code: "refused",
    message: "Service default/web is defined by a file: take it out there",
  });
});
