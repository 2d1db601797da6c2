// SPDX-License-Identifier: Apache-2.0
// healthCheckNodePort: load balancers ask each node whether it has a backend of a service.

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { type Address, formatAddress, formatAddressPort } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import type { ReadTable } from "../state/table.ts";
import { objectOf, type Service, type ServicePort } from "./rows.ts";
import type { LbRefusal } from "./writer.ts";

export interface HealthCheckOptions {
  readonly services: ReadTable<string, Service>;
  readonly ports: ReadTable<string, ServicePort, "service">;
  readonly addresses: ReadTable<Address, NodeAddressRow>;
  /** How often a port that can't be had is tried again. */
  readonly retryMs?: number;
}

/** A server for each service that wants one, at each address where node ports are served. */
export interface HealthChecks extends AsyncDisposable {
  /** Begins to serve what is known by then. */
  start(): void;
  /** Services that aren't answered for, and why. */
  problems(): Generator<LbRefusal>;
  /** Why a service isn't answered for everywhere, undefined if it is. */
  problem(service: string): string | undefined;
}

interface Check {
  readonly service: string;
  readonly address: Address;
  readonly port: number;
  readonly server: Server;
  problem: string | undefined;
}

const RETRY_MS = 10_000;
/** A probe is one short request. */
const MAX_CONNECTIONS = 64;
const HEADERS_TIMEOUT_MS = 5000;

export function createHealthChecks(options: HealthCheckOptions): HealthChecks {
  return new CheckServers(options);
}

class CheckServers implements HealthChecks {
  readonly #options: HealthCheckOptions;
  /** Services that want a server: where. */
  readonly #wanted = new Map<string, number>();
  /** By address and port. */
  readonly #checks = new Map<string, Check>();
  readonly #follow: { readonly take: () => boolean; readonly close: () => void }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: HealthCheckOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#closed) return;
    const { services, addresses } = this.#options;
    const settle = (): void => this.#settle();
    const serviceRows = services.cursor(settle);
    const addressRows = addresses.cursor(settle);
    const take = (): boolean => {
      let changed = addressRows.pending > 0;
      while (addressRows.take() !== undefined);
      for (let change = serviceRows.take(); change; change = serviceRows.take()) {
        changed = this.#want(change.key, change.row?.healthCheckPort ?? 0) || changed;
      }
      return changed;
    };
    const close = (): void => {
      serviceRows.close();
      addressRows.close();
    };
    this.#follow.push({ take, close });
    settle();
  }

  *problems(): Generator<LbRefusal> {
    for (const service of this.#wanted.keys()) {
      const text = this.problem(service);
      const row = this.#options.services.get(service);
      if (text === undefined || row === undefined) continue;
      yield { id: objectOf(row), field: "spec.healthCheckNodePort", text, kept: false };
    }
  }

  problem(service: string): string | undefined {
    const port = this.#wanted.get(service);
    for (const check of this.#checks.values()) {
      if (check.port !== port) continue;
      if (check.service !== service) return `port ${port} is Service ${check.service}'s`;
      if (check.problem !== undefined) return check.problem;
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { close } of this.#follow.splice(0)) close();
    await Promise.all([...this.#checks.keys()].map((id) => this.#close(id)));
  }

  #want(service: string, port: number): boolean {
    if ((this.#wanted.get(service) ?? 0) === port) return false;
    if (port === 0) this.#wanted.delete(service);
    else this.#wanted.set(service, port);
    return true;
  }

  #settle(): void {
    if (!this.#follow.some(({ take }) => take())) return;
    const wanted = new Map<string, Pick<Check, "service" | "address" | "port">>();
    for (const { address, served } of this.#options.addresses.rows()) {
      if (!served) continue;
      for (const [service, port] of this.#wanted) {
        const id = formatAddressPort(address, port);
        if (!wanted.has(id)) wanted.set(id, { service, address, port });
      }
    }
    for (const [id, { service }] of this.#checks) {
      if (wanted.get(id)?.service !== service) void this.#close(id);
    }
    for (const [id, what] of wanted) if (!this.#checks.has(id)) this.#open(id, what);
  }

  #open(id: string, what: Pick<Check, "service" | "address" | "port">): void {
    const server = createServer((request, response) =>
      this.#answer(what.service, request, response),
    );
    server.headersTimeout = HEADERS_TIMEOUT_MS;
    leaveOldest(server, MAX_CONNECTIONS);
    const check: Check = { ...what, server, problem: undefined };
    this.#checks.set(id, check);
    server.on("listening", () => {
      check.problem = undefined;
    });
    server.on("error", (error) => {
      check.problem = `health checks can't be answered at ${id}: ${error.message}`;
      this.#retryLater();
    });
    listen(check);
  }

  #retryLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const check of this.#checks.values()) if (check.problem !== undefined) listen(check);
    }, this.#options.retryMs ?? RETRY_MS).unref();
  }

  async #close(id: string): Promise<void> {
    const server = this.#checks.get(id)?.server;
    this.#checks.delete(id);
    if (server?.listening !== true) return;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  #answer(key: string, request: IncomingMessage, response: ServerResponse): void {
    const { namespace = "", name = "" } = this.#options.services.get(key) ?? {};
    const localEndpoints = this.#countReady(key);
    const body = JSON.stringify({ service: { namespace, name }, localEndpoints });
    response.writeHead(localEndpoints > 0 ? 200 : 503, {
      "content-type": "application/json",
      "x-content-type-options": "nosniff",
      "x-load-balancing-endpoint-weight": String(localEndpoints),
    });
    response.end(request.method === "HEAD" ? undefined : `${body}\n`);
  }

  /** Pods of this node that are ready for new connections to some port of a service. */
  #countReady(service: string): number {
    const ready = { ipv4: new Set<Address>(), ipv6: new Set<Address>() };
    for (const { local, family, backends } of this.#options.ports.by("service", service)) {
      if (!local) continue;
      for (const { address, state } of backends) if (state === "ready") ready[family].add(address);
    }
    // A pod with two addresses is one.
    return Math.max(ready.ipv4.size, ready.ipv6.size);
  }
}

function listen({ server, address, port }: Check): void {
  server.listen({ host: formatAddress(address), port, exclusive: true });
}

/** For one connection more than `most` the oldest is closed: who asks nothing keeps nobody out. */
function leaveOldest(server: Server, most: number): void {
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const [oldest] = open;
    if (open.size <= most || oldest === undefined) return;
    open.delete(oldest);
    oldest.destroy();
  });
}
