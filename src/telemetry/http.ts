// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { formatChecks, type Health } from "./health.ts";
import type { MetricRegistry } from "./metrics.ts";

export interface TelemetryServer {
  /** The port it listens on, also when 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

export interface TelemetryServerOptions {
  readonly address: string;
  readonly port: number;
  readonly registry: MetricRegistry;
  readonly health: Health;
  /** How long an answer to /metrics may take its reader, in ms. */
  readonly scrapeMs?: number;
}

/** Scrapes under way at once; a further one is told to come back. */
const MAX_SCRAPES = 4;
/** Whoever scrapes has given up by then. */
const SCRAPE_MS = 60_000;

/**
 * Serves /metrics, /healthz (the event loop turns) and /readyz (every health check is well).
 * Rejects with an error that names address and port when it can't listen.
 */
export async function openTelemetryServer(
  options: TelemetryServerOptions,
): Promise<TelemetryServer> {
  const { address, port } = options;
  const scrapes = { running: 0 };
  const server = createServer((request, response) => {
    answer(request, response, options, scrapes).catch(() => response.destroy());
  });
  server.headersTimeout = 10_000;
  server.maxConnections = 64;
  server.listen({ host: address, port });
  try {
    await once(server, "listening");
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `cannot serve metrics on ${address}:${port}: ${reason}; set metrics.listen to another port, or off`,
      { cause },
    );
  }
  return { port: (server.address() as AddressInfo).port, close: () => close(server) };
}

async function close(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { registry, health, scrapeMs = SCRAPE_MS }: TelemetryServerOptions,
  scrapes: { running: number },
): Promise<void> {
  const send = (status: number, text: string, headers: Record<string, string> = {}): void => {
    response.writeHead(status, { "content-type": "text/plain; charset=utf-8", ...headers });
    response.end(request.method === "HEAD" ? undefined : text);
  };
  if (request.method !== "GET" && request.method !== "HEAD") {
    send(405, `${request.method} is not served here: use GET\n`, { allow: "GET, HEAD" });
    return;
  }
  // Not URL: it throws on what strangers may send, such as `//`.
  switch (request.url?.split("?", 1)[0]) {
    case "/healthz":
      return send(200, "ok\n");
    case "/readyz": {
      const checks = health.checks();
      const ready = checks.every(({ problem }) => problem === undefined);
      return send(ready ? 200 : 503, formatChecks(checks));
    }
    case "/metrics":
      if (scrapes.running >= MAX_SCRAPES) {
        return send(503, `${MAX_SCRAPES} scrapes are under way\n`, { "retry-after": "1" });
      }
      scrapes.running += 1;
      try {
        endAfter(response, scrapeMs);
        await writeMetrics(response, registry);
      } finally {
        scrapes.running -= 1;
      }
      return;
    default:
      send(404, "served here: /metrics, /healthz, /readyz\n");
  }
}

/** A reader that takes longer is left, as it holds what others wait for. */
function endAfter(response: ServerResponse, limitMs: number): void {
  const timer = setTimeout(() => response.destroy(), limitMs).unref();
  response.once("close", () => clearTimeout(timer));
}

async function writeMetrics(response: ServerResponse, registry: MetricRegistry): Promise<void> {
  response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
  for await (const chunk of registry.text()) {
    if (response.destroyed) return;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
}

/** Waits until the reader has taken what was written, or has left. */
async function drained(response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  const waits = [once(response, "drain", gone), once(response, "close", gone)];
  await Promise.race(waits);
  gone.abort();
  await Promise.allSettled(waits);
}
