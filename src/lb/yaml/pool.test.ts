// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ManifestFileError, ParserPool, type ParserPoolOptions } from "./pool.ts";
import type { ParsedDocument } from "./protocol.ts";

function begin(t: TestContext, options: ParserPoolOptions, text: string) {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-pool-"));
  const path = join(directory, "a.yaml");
  writeFileSync(path, text);
  const pool = new ParserPool(options);
  t.after(async () => {
    await pool.close();
    rmSync(directory, { recursive: true });
  });
  return { pool, path };
}

function nodes(count: number): string {
  return Array.from(
    { length: count },
    (_, index) => `---\napiVersion: v1\nkind: Node\nmetadata: {name: n${index}}\n`,
  ).join("");
}

test("a file that is shared between workers comes back whole and in order", async (t) => {
  const { pool, path } = begin(t, { workers: 2, idleMs: 60_000 }, nodes(5000));
  const shared = await pool.parse(path, 2 ** 21, []);
  assert.equal(pool.running, 2);
  assert.deepEqual(await pool.parse(path, 1, []), shared);
  assert.deepEqual(
    shared.map(({ index }) => index),
    Array.from({ length: 5000 }, (_, index) => index),
  );
  const known = shared.slice(1).map(({ hash }) => hash);
  const again = await pool.parse(path, 1, known);
  assert.deepEqual(
    again.filter(({ objects }) => objects !== undefined),
    shared.slice(0, 1),
  );
});

test("changed files that are read at once have turns of the event loop of their own", async (t) => {
  const { pool, path } = begin(t, {}, nodes(3));
  const [first, ...rest] = await pool.parse(path, 1, []);
  assert.ok(first !== undefined);
  let [turn, over] = [0, false];
  const count = (): void => {
    turn++;
    if (!over) setImmediate(count);
  };
  count();
  const known = rest.map(({ hash }) => hash);
  const read = async (): Promise<number> => pool.parse(path, 1, known).then(() => turn);
  const turns = await Promise.all(Array.from({ length: 6 }, read));
  over = true;
  assert.equal(new Set(turns).size, 6, `turns ${turns}`);
  assert.ok(pool.running <= 1, "no more workers than for the first reading");
});

const service = (index: number, port = 80): string => `---
apiVersion: v1
kind: Service
metadata: {name: a-name-of-some-length-${index}, namespace: bench}
spec: {type: LoadBalancer, ports: [{name: http, port: ${port}}]}
status: {loadBalancer: {ingress: [{ip: 10.0.0.${index}}]}}
`;

test("a short text, and little that is new in a file, need no worker", async (t) => {
  const text = service(1) + service(2);
  const { pool, path } = begin(t, { workers: 1 }, text);
  const short = await pool.parseText("the request", text);
  const first = await pool.parse(path, 1, []);
  for (const endMs = performance.now() + 5000; pool.running > 0; await sleep(5)) {
    assert.ok(performance.now() < endMs, "waited 5 s for the worker to stop");
  }
  assert.deepEqual(short.map(withoutSources), first);
  assert.deepEqual(
    short.map(({ objects }) => objects?.map(({ source }) => source)),
    [[service(1)], [service(2)]],
  );
  writeFileSync(path, service(1) + service(2, 81));
  const known = first.map(({ hash }) => hash);
  const [same, changed] = await pool.parse(path, text.length, known);
  assert.equal(pool.running, 0);
  assert.deepEqual([same?.hash, same?.objects], [known[0], undefined]);
  assert.equal(changed?.objects?.[0]?.content?.kind, "Service");
  assert.deepEqual([changed?.index, changed?.line], [1, first[1]?.line]);
});

test("a long text, and much that is new in a file, go to a worker", async (t) => {
  const { pool, path } = begin(t, { workers: 1 }, nodes(1) + nodes(2000));
  await pool.parseText("the request", nodes(1000));
  assert.equal(pool.running, 1);
  for (const endMs = performance.now() + 5000; pool.running > 0; await sleep(5)) {
    assert.ok(performance.now() < endMs, "waited 5 s for the worker to stop");
  }
  await pool.parse(path, 1, ["another"]);
  assert.equal(pool.running, 1);
});

test("what comes of a short text doesn't keep the text in memory", async (t) => {
  const { pool } = begin(t, {}, "");
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const used = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  await pool.parseText("the request", service(0));
  const before = used();
  const kept: unknown[] = [];
  for (let index = 1; index <= 200; index++) {
    const long = `# ${"x".repeat(10_000)}${index}\n`;
    const documents = await pool.parseText("the request", long + service(index % 250));
    kept.push(documents.map(withoutSources));
  }
  const each = (used() - before) / kept.length;
  assert.ok(each < 4000, `${each} bytes for each text of 10 000`);
});

function withoutSources({ objects, ...rest }: ParsedDocument): ParsedDocument {
  return { ...rest, objects: objects?.map(({ source, ...object }) => object) };
}

test("a file that takes too long is given up, and the next one is parsed", async (t) => {
  const { pool, path } = begin(t, { workers: 1, limitMs: 30 }, nodes(50_000));
  const slow = pool.parse(path, 1, []);
  const missing = pool.parse(`${path}.missing`, 1, []);
  const [first, second] = await Promise.allSettled([slow, missing]);
  assert.match(String(Object(first).reason), /a.yaml took more than 0.03 s to parse/);
  assert.ok(Object(second).reason instanceof ManifestFileError);
});

test("idle workers are stopped, and started again when there is work", async (t) => {
  const { pool, path } = begin(t, { idleMs: 20 }, nodes(1));
  assert.equal((await pool.parse(path, 1, [])).length, 1);
  for (const endMs = performance.now() + 5000; pool.running > 0; await sleep(5)) {
    assert.ok(performance.now() < endMs, "waited 5 s for the worker to stop");
  }
  assert.equal((await pool.parse(path, 1, [])).length, 1);
});

test("a closed pool refuses what waits and what comes", async (t) => {
  const { pool, path } = begin(t, { workers: 1 }, nodes(1));
  const waiting = Promise.allSettled([pool.parse(path, 1, []), pool.parse(path, 1, [])]);
  await pool.close();
  assert.deepEqual(
    (await waiting).map((result) => result.status === "rejected" && String(result.reason)),
    ["ManifestFileError: the parser is closed", "ManifestFileError: the parser is closed"],
  );
  await assert.rejects(pool.parse(path, 1, []), /the parser is closed/);
});
