// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";
import { createHealth } from "./health.ts";
import { openTelemetryServer } from "./http.ts";
import { createMetricRegistry } from "./metrics.ts";
import { addProcessMetrics, startLoopDelay } from "./process.ts";

const run = promisify(execFile);

async function serve(t: TestContext, scrapeMs?: number) {
  const registry = createMetricRegistry((name, error) => {
    throw new Error(name, { cause: error });
  });
  const health = createHealth();
  const limit = scrapeMs === undefined ? {} : { scrapeMs };
  const options = { address: "127.0.0.1", port: 0, registry, health, ...limit };
  const server = await openTelemetryServer(options);
  t.after(() => server.close());
  /** The answer as curl has it: status, a space, the body. */
  const curl = async (path: string, ...more: string[]): Promise<string> => {
    const url = `http://127.0.0.1:${server.port}${path}`;
    const { stdout } = await run("curl", ["-s", "-w", "%{http_code}", ...more, url]);
    return `${stdout.slice(-3)} ${stdout.slice(0, -3)}`;
  };
  return { registry, health, server, curl };
}

test("curl scrapes the process's metrics", async (t) => {
  const { registry, curl } = await serve(t);
  const delay = startLoopDelay();
  t.after(() => delay.close());
  addProcessMetrics(registry, delay);
  const text = await curl("/metrics");
  assert.match(text, /^200 # HELP ciliate_process_resident_bytes /);
  const own = /^ciliate_process_resident_bytes\{kind="own"\} (\d+)$/m.exec(text)?.[1];
  assert(Number(own) > 10e6, `${own} bytes resident`);
  assert.match(text, /^ciliate_event_loop_delay_seconds\{quantile="0.99"\} \d/m);
  assert.match(text, /^ciliate_process_cpu_seconds_total\{mode="user"\} \d/m);
  for (const line of text
    .slice(4)
    .split("\n")
    .filter((line) => line !== "")) {
    assert.match(line, /^(# (HELP|TYPE) \S+ .+|[a-z_]+(\{[a-z_]+="[^"]*"\})? [0-9.e+-]+)$/);
  }
});

test("/healthz says the loop turns; /readyz names what is missing", async (t) => {
  const { health, curl } = await serve(t);
  assert.equal(await curl("/healthz"), "200 ok\n");
  assert.equal(await curl("/readyz"), "200 ");
  let problem: string | undefined = "2 of 3 sources synced";
  health.add("sources", () => problem);
  health.add("datapath", () => undefined);
  assert.equal(await curl("/readyz"), "503 sources: 2 of 3 sources synced\ndatapath: ok\n");
  problem = undefined;
  assert.equal(await curl("/readyz"), "200 sources: ok\ndatapath: ok\n");
});

test("other paths and methods are refused in words", async (t) => {
  const { curl } = await serve(t);
  assert.equal(await curl("/x"), "404 served here: /metrics, /healthz, /readyz\n");
  assert.equal(await curl("//"), "404 served here: /metrics, /healthz, /readyz\n");
  assert.equal(await curl("/healthz?probe=1"), "200 ok\n");
  assert.equal(await curl("/healthz", "-X", "POST"), "405 POST is not served here: use GET\n");
});

test("a port that is taken is named with the way out", async (t) => {
  const { server, registry, health } = await serve(t);
  await assert.rejects(
    openTelemetryServer({ address: "127.0.0.1", port: server.port, registry, health }),
    /^Error: cannot serve metrics on 127\.0\.0\.1:\d+: listen EADDRINUSE.*; set metrics\.listen/,
  );
});

test("readers that stop reading keep others out for a while only", async (t) => {
  const { registry, server, curl } = await serve(t, 100);
  let scrapes = 0;
  registry.collect({ name: "ciliate_large", type: "gauge", help: "" }, function* () {
    scrapes += 1;
    const isFree = scrapes > 4;
    const labels = { large: "x".repeat(isFree ? 1 : 1 << 20) };
    // More than the kernel takes for a socket.
    for (let left = isFree ? 1 : 16; left > 0; left--) yield { labels, value: 1 };
  });
  for (let reader = 0; reader < 4; reader++) {
    const socket = connect(server.port, "127.0.0.1")
      .pause()
      .on("error", () => undefined);
    t.after(() => socket.destroy());
    socket.write("GET /metrics HTTP/1.1\r\nhost: ciliate\r\n\r\n");
  }
  const end = performance.now() + 30_000;
  while (scrapes < 4 && performance.now() < end) await nextTurn();
  let answer = await curl("/metrics");
  while (answer.startsWith("503 ") && performance.now() < end) answer = await curl("/metrics");
  assert.equal(answer.slice(0, 5), "200 #");
});
