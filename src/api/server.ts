// SPDX-License-Identifier: Apache-2.0
import { chmodSync } from "node:fs";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerErrorResponse,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { ApiError, statusOf } from "./error.ts";
import { createEventStream, type EventSink } from "./event-stream.ts";
import type * as wire from "./gen/ciliate.ts";
import { type AgentServer, AgentService } from "./gen/ciliate.ts";
import { claimSocket } from "./socket.ts";

type Answer<T> = T | Promise<T>;

/** What answers the calls. A thrown ApiError reaches the caller as it is. */
export interface AgentHandlers {
  getVersion(): Answer<wire.GetVersionResponse>;
  getStatus(): Answer<wire.GetStatusResponse>;
  listServices(request: wire.ListServicesRequest): Iterable<wire.Service>;
  listBackends(request: wire.ListBackendsRequest): Iterable<wire.ServiceBackend>;
  getConfig(): Answer<wire.GetConfigResponse>;
  reloadConfig(): Answer<wire.ReloadConfigResponse>;
  apply(request: wire.ApplyRequest): Answer<wire.ApplyResponse>;
  delete(request: wire.DeleteRequest): Answer<wire.DeleteResponse>;
  /** Pushes events into the sink until the returned function is called. */
  monitor(request: wire.MonitorRequest, sink: EventSink): () => void;
}

/** A further gRPC service on the same socket. */
export interface ExtraService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

export interface ApiServerOptions {
  readonly socket: string;
  readonly handlers: AgentHandlers;
  readonly services?: readonly ExtraService[];
  /** Hears of failures that are no ApiError: our own faults. */
  readonly onFault: (call: string, error: unknown) => void;
}

export interface ApiServer {
  /** Lets calls under way end for at most `graceMs`, then removes the socket. */
  close(graceMs?: number): Promise<void>;
}

/** Taking a message off the wire holds the event loop; larger sets of objects are for files. */
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
const PAGE_ROWS = 200;

/**
 * Serves the API on a unix socket that only its owner may use (mode 0600). A dead agent's socket is
 * replaced; a live one's is refused with an error that names it.
 */
export async function openApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const server = new Server({ "grpc.max_receive_message_length": MAX_REQUEST_BYTES });
  server.addService(AgentService, implement(options));
  for (const { definition, implementation } of options.services ?? []) {
    server.addService(definition, implementation);
  }
  const place = await claimSocket(options.socket);
  try {
    await bind(server, place.temporary);
    chmodSync(place.temporary, 0o600);
    place.publish();
  } catch (cause) {
    server.forceShutdown();
    place.remove();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`cannot serve the API at ${options.socket}: ${reason}`, { cause });
  }
  return {
    async close(graceMs = 1000) {
      place.remove();
      await shutDown(server, graceMs);
    },
  };
}

function bind(server: Server, path: string): Promise<void> {
  const credentials = ServerCredentials.createInsecure();
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, credentials, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

function shutDown(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function implement({ handlers, onFault }: ApiServerOptions): AgentServer {
  const fail = (call: string, error: unknown): ServerErrorResponse => {
    if (!(error instanceof ApiError)) onFault(call, error);
    return errorResponse(call, error);
  };
  const unary =
    <In, Out>(call: string, handle: (request: In) => Answer<Out>) =>
    async (request: ServerUnaryCall<In, Out>, done: sendUnaryData<Out>): Promise<void> => {
      try {
        done(null, await handle(request.request));
      } catch (error) {
        done(fail(call, error));
      }
    };
  const pages =
    <In, Row, Out>(
      call: string,
      rows: (request: In) => Iterable<Row>,
      page: (rows: readonly Row[]) => Out,
    ) =>
    (stream: ServerWritableStream<In, Out>): void => {
      writePages(stream, rows, page).catch((error: unknown) => {
        stream.emit("error", fail(call, error));
      });
    };
  return {
    getVersion: unary("GetVersion", () => handlers.getVersion()),
    getStatus: unary("GetStatus", () => handlers.getStatus()),
    listServices: pages(
      "ListServices",
      (request: wire.ListServicesRequest) => handlers.listServices(request),
      (services): wire.ListServicesResponse => ({ services }),
    ),
    listBackends: pages(
      "ListBackends",
      (request: wire.ListBackendsRequest) => handlers.listBackends(request),
      (backends): wire.ListBackendsResponse => ({ backends }),
    ),
    getConfig: unary("GetConfig", () => handlers.getConfig()),
    reloadConfig: unary("ReloadConfig", () => handlers.reloadConfig()),
    apply: unary("Apply", (request: wire.ApplyRequest) => handlers.apply(request)),
    delete: unary("Delete", (request: wire.DeleteRequest) => handlers.delete(request)),
    monitor: (stream) => {
      const events = createEventStream(stream);
      try {
        const stop = handlers.monitor(stream.request, events);
        stream.sendMetadata(new Metadata());
        stream.once("close", stop);
      } catch (error) {
        stream.emit("error", fail("Monitor", error));
      }
    },
  };
}

/** Writes rows in pages; waits for a slow reader, and lets other work run between pages. */
async function writePages<In, Row, Out>(
  stream: ServerWritableStream<In, Out>,
  rows: (request: In) => Iterable<Row>,
  page: (rows: readonly Row[]) => Out,
): Promise<void> {
  let batch: Row[] = [];
  for (const row of rows(stream.request)) {
    batch.push(row);
    if (batch.length < PAGE_ROWS) continue;
    if (stream.cancelled) return;
    await send(stream, page(batch));
    batch = [];
  }
  if (batch.length > 0) await send(stream, page(batch));
  stream.end();
}

function send<In, Out>(stream: ServerWritableStream<In, Out>, message: Out): Promise<void> {
  return new Promise((resolve) => {
    const ready = stream.write(message);
    if (ready) setImmediate(resolve);
    else {
      const done = (): void => {
        stream.off("drain", done);
        stream.off("close", done);
        resolve();
      };
      stream.on("drain", done);
      stream.on("close", done);
    }
  });
}

function errorResponse(call: string, error: unknown): ServerErrorResponse {
  const message = error instanceof Error ? error.message : String(error);
  const code = statusOf(error instanceof ApiError ? error.code : "internal");
  return { name: call, message, code, details: message };
}
