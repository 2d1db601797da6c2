// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { ManifestRow } from "../shape/object.ts";
import { type ManifestSink, type Refusal, rowKey } from "./claims.ts";
import { ManifestSource } from "./source.ts";

const TIMING = { settleMs: 20, rescanMs: 300, graceMs: 200 };

function node(name: string, address = "172.16.0.1"): string {
  const status = `{addresses: [{type: InternalIP, address: ${address}}]}`;
  return `---\napiVersion: v1\nkind: Node\nmetadata: {name: ${name}}\nstatus: ${status}\n`;
}

/** A source on directories of its own, and what it put where. */
function begin(
  t: TestContext,
  options: {
    names?: readonly string[];
    absent?: boolean;
    budgetMs?: number;
    graceMs?: number;
  } = {},
) {
  const root = mkdtempSync(join(tmpdir(), "ciliate-manifests-"));
  const directories = (options.names ?? ["d9"]).map((name) => join(root, name));
  if (options.absent !== true) for (const directory of directories) mkdirSync(directory);
  const rows = new Map<string, ManifestRow>();
  const events: string[] = [];
  const refused: Refusal[] = [];
  const sink: ManifestSink = {
    put(content) {
      rows.set(rowKey(content), content);
      events.push(`put ${rowKey(content)}`);
    },
    delete(_kind, key) {
      rows.delete(key);
      events.push(`delete ${key}`);
    },
    refusals: () => refused,
  };
  const source = new ManifestSource({
    directories,
    sink,
    loaded: () => events.push("loaded"),
    complete: () => events.push("complete"),
    timing: { ...TIMING, ...options },
  });
  t.after(async () => {
    await source.close();
    rmSync(root, { recursive: true });
  });
  const write = (name: string, text: string, directory = 0): void =>
    writeFileSync(join(directories[directory] ?? "", name), text);
  const problems = (): string[] =>
    [...source.problems()].map(
      ({ severity, file, line, object, text, kept }) =>
        `${severity} ${file.slice(root.length + 1)}:${line ?? ""} ${object ?? "?"}: ${text}${
          kept ? " (kept)" : ""
        }`,
    );
  return { root, directories, source, rows, events, write, problems, refused };
}

/** The most of what `count` counts that came in one turn of the event loop. */
function watchTurns(count: () => number) {
  let most = 0;
  let running = true;
  let before = count();
  const look = (): void => {
    most = Math.max(most, count() - before);
    before = count();
    if (running) setImmediate(look);
  };
  setImmediate(look);
  const stop = (): number => {
    running = false;
    return Math.max(most, count() - before);
  };
  return { stop };
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const endMs = performance.now() + 5000; !condition(); ) {
    assert.ok(performance.now() < endMs, `waited 5 s: ${what}`);
    await sleep(5);
  }
}

test("files that are there are put, then the source is loaded and complete", async (t) => {
  const { source, write, events, problems } = begin(t);
  write("a.yaml", node("n1") + node("n2"));
  write("b.json", '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"}}');
  write("notes.txt", "not a manifest");
  write(".hidden.yaml", node("n4"));
  await source.rescan();
  assert.deepEqual(events.slice(0, 3).sort(), ["put n1", "put n2", "put n3"]);
  assert.deepEqual(events.slice(3), ["loaded", "complete"]);
  assert.deepEqual(problems(), []);
  assert.deepEqual(source.figures().objects, 3);
});

test("a change is noticed, and only what changed is put or deleted", async (t) => {
  const { source, write, events } = begin(t);
  write("a.yaml", node("n1") + node("n2") + node("n3"));
  await source.rescan();
  events.length = 0;
  write("a.yaml", `# a comment\n${node("n1")}${node("n3", "172.16.0.3")}${node("n4")}`);
  await until("n2 is gone", () => events.includes("delete n2"));
  assert.deepEqual(events, ["put n3", "put n4", "delete n2"]);
  assert.deepEqual([source.origin("Node n1")?.line, source.origin("Node n4")?.line], [3, 13]);
});

test("a bad object keeps its previous version until it is good again", async (t) => {
  const { source, write, rows, problems } = begin(t);
  write("a.yaml", node("n1") + node("n2"));
  await source.rescan();
  write("a.yaml", node("n1", "172.16.0.300") + node("n2", "172.16.0.2") + node("n3", "x"));
  await until("problems are told", () => problems().length === 2);
  assert.deepEqual(problems(), [
    'error d9/a.yaml:5 Node n1: expected an IP address such as 10.0.0.1 or 2001:db8::1, got "172.16.0.300" (kept)',
    'error d9/a.yaml:15 Node n3: expected an IP address such as 10.0.0.1 or 2001:db8::1, got "x"',
  ]);
  assert.deepEqual([...rows.keys()], ["n1", "n2"]);
  write("a.yaml", node("n2"));
  await until("n1 is gone", () => !rows.has("n1"));
  assert.deepEqual(problems(), []);
});

test("when it can't be told which object is broken, the file's rows stay", async (t) => {
  const { source, write, rows, problems } = begin(t);
  write("a.yaml", node("n1") + node("n2"));
  await source.rescan();
  write("a.yaml", `${node("n3")}---\n{ "kind": "Node", \n`);
  await until("the problem is told", () => problems().length === 1);
  assert.match(problems()[0] ?? "", /^error d9\/a.yaml:\d+ \?: not YAML: .* \(kept\)$/);
  assert.deepEqual([...rows.keys()].sort(), ["n1", "n2", "n3"]);
  write("a.yaml", Buffer.from([0xff, 0xfe, 0x00]).toString("latin1"));
  writeFileSync(join(source.origin("Node n1")?.file ?? "", ""), Buffer.from([0xff, 0x00]));
  await until("the text is refused", () => problems().some((text) => text.includes("UTF-8")));
  assert.equal(rows.size, 3);
});

test("a file that goes takes its rows with it, one that comes back at once does not", async (t) => {
  const { directories, source, write, events, rows } = begin(t);
  const path = join(directories[0] ?? "", "a.yaml");
  write("a.yaml", node("n1"));
  await source.rescan();
  rmSync(path);
  await source.rescan();
  write("a.yaml", node("n1"));
  await source.rescan();
  write("a.yaml", "");
  await source.rescan();
  write("a.yaml", node("n1") + node("n2"));
  await until("n2 is there", () => rows.has("n2"));
  assert.ok(!events.includes("delete n1"));
  rmSync(path);
  await until("the rows are gone", () => rows.size === 0);
});

test("what a half-written file lacks stays, what one renamed into place lacks goes", async (t) => {
  const { directories, source, write, events } = begin(t, { graceMs: 400 });
  write("a.yaml", node("n1") + node("n2"));
  await source.rescan();
  events.length = 0;
  write("a.yaml", node("n1"));
  await source.rescan();
  write("a.yaml", `${node("n1")}---\n{ "kind": `);
  await source.rescan();
  await sleep(400);
  await source.rescan();
  write("a.yaml", node("n1") + node("n2") + node("n3"));
  await source.rescan();
  assert.deepEqual(events, ["put n3"]);
  write(".next", node("n1") + node("n3"));
  renameSync(join(directories[0] ?? "", ".next"), join(directories[0] ?? "", "a.yaml"));
  await source.rescan();
  assert.deepEqual(events, ["put n3", "delete n2"]);
});

test("what moves to another file has its new version at once, and is never missing", async (t) => {
  const { source, write, events, problems } = begin(t, { graceMs: 400 });
  write("a.yaml", node("n1") + node("n2"));
  await source.rescan();
  events.length = 0;
  write("a.yaml", node("n1"));
  await source.rescan();
  write("b.yaml", node("n2", "172.16.0.2"));
  await source.rescan();
  assert.deepEqual([events, problems()], [["put n2"], []]);
  await sleep(400);
  await source.rescan();
  assert.deepEqual(events, ["put n2"]);
  assert.match(source.origin("Node n2")?.file ?? "", /b\.yaml$/);
});

test("a file that is written again and again can't keep what it lacks", async (t) => {
  const { source, write, rows } = begin(t, { graceMs: 30 });
  write("a.yaml", node("n1") + node("n2"));
  await source.rescan();
  const sinceMs = performance.now();
  const tookMs = (): number => performance.now() - sinceMs;
  while (rows.has("n2")) {
    assert.ok(tookMs() < 3000, "n2 is still there");
    write("a.yaml", `${node("n1")}# ${tookMs()}\n`);
    await source.rescan();
  }
  assert.ok(tookMs() > 30);
});

test("of two files that define an object the first counts, and the other after it", async (t) => {
  const { directories, source, write, rows, problems } = begin(t, { names: ["d9", "d8"] });
  write("z.yaml", node("n1", "172.16.0.1"), 0);
  write("a.yaml", node("n1", "172.16.0.2"), 1);
  write("a.yaml", node("n2") + node("n2", "172.16.0.9"), 0);
  await source.rescan();
  const address = (): unknown => {
    const content = rows.get("n1");
    return content?.kind === "Node" ? content.row.addresses[0] : undefined;
  };
  assert.equal(address(), 0xac100001);
  assert.deepEqual(problems(), [
    "error d9/a.yaml:7 Node n2: defined before on line 2: the first one counts",
    `error d8/a.yaml:2 Node n1: also defined in ${directories[0]}/z.yaml on line 2, which comes first`,
  ]);
  rmSync(join(directories[0] ?? "", "z.yaml"));
  await until("the other one counts", () => address() === 0xac100002);
});

test("a directory within another one has files, and a place, of its own", async (t) => {
  const { source, write, problems } = begin(t, { names: ["d9", "d9/in", "d9/in/in"] });
  write("z.yaml", node("n1"), 0);
  write("a.yaml", node("n1"), 1);
  write("bad.yaml", node("n2", "x"), 2);
  await source.rescan();
  assert.match(source.origin("Node n1")?.file ?? "", /\/d9\/z\.yaml$/);
  assert.match(problems().join("\n"), /^error d9\/in\/in\/bad\.yaml:5 Node n2: expected/m);
});

test("until every object of the first reading is good, the source is not complete", async (t) => {
  const { source, write, events } = begin(t);
  write("a.yaml", node("n1") + node("n2", "x"));
  await source.rescan();
  assert.deepEqual(events, ["put n1", "loaded"]);
  write("b.yaml", node("n3", "y"));
  await source.rescan();
  write("a.yaml", node("n1") + node("n2"));
  await until("complete", () => events.includes("complete"));
});

test("a directory that isn't there is waited for, one that goes takes nothing along", async (t) => {
  const { directories, source, write, events, rows, problems } = begin(t, { absent: true });
  const [directory = ""] = directories;
  await source.rescan();
  assert.equal(events.length, 0);
  assert.match(problems()[0] ?? "", /^error d9: \?: no such directory: create it/);
  mkdirSync(directory);
  write("a.yaml", node("n1"));
  await until("it is loaded", () => events.includes("loaded"));
  renameSync(directory, `${directory}-away`);
  await until("it is missed", () => problems().length === 1);
  assert.ok(rows.has("n1"));
  renameSync(`${directory}-away`, directory);
  write("b.yaml", node("n2"));
  await until("it is seen again", () => rows.has("n2"));
  write("c.yaml", node("n3"));
  await until("it is watched again", () => rows.has("n3"));
});

test("what the sink refuses is told with the object's place", async (t) => {
  const { source, write, refused, problems } = begin(t);
  write("a.yaml", node("n1"));
  await source.rescan();
  refused.push({ id: "Node n1", field: "metadata.name", text: "taken", kept: false });
  assert.deepEqual(problems(), ["error d9/a.yaml:2 Node n1: taken"]);
});

test("a large file is parsed by two workers, and put with turns for others between", async (t) => {
  // Every object takes more than this.
  const { source, write, rows, events } = begin(t, { budgetMs: 0 });
  const endpoints = Array.from(
    { length: 100 },
    (_, index) =>
      `- addresses: [10.0.0.${index + 1}]\n  nodeName: n1\n  conditions: {ready: true}\n`,
  ).join("");
  const slices = Array.from({ length: 400 }, (_, index) =>
    [
      "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n",
      `metadata:\n  name: web-${index}\n  labels: {kubernetes.io/service-name: web}\n`,
      `addressType: IPv4\nports: [{port: 80}]\nendpoints:\n${endpoints}`,
    ].join(""),
  );
  write("a.yaml", slices.join(""));
  const turns = watchTurns(() => rows.size);
  await source.rescan();
  const most = turns.stop();
  assert.equal(rows.size, 400);
  assert.ok(most <= 2, `${most} objects were put in one turn`);
  events.length = 0;
  write("a.yaml", slices.join("").replace("10.0.0.1]", "10.0.9.1]"));
  await until("the change is put", () => events.length > 0);
  assert.deepEqual(events, ["put default/web-0"]);
});
