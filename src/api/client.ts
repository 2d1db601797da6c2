// SPDX-License-Identifier: Apache-2.0
import {
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { ApiError, codeOf, DEADLINE_EXCEEDED } from "./error.ts";
import type * as wire from "./gen/ciliate.ts";
import { AgentService } from "./gen/ciliate.ts";
import { probeSocket } from "./socket.ts";

/** Calls of one agent. Each rejects with ApiError. */
export interface ApiClient extends Disposable {
  getVersion(): Promise<wire.GetVersionResponse>;
  getStatus(): Promise<wire.GetStatusResponse>;
  listServices(request: wire.ListServicesRequest): AsyncIterable<wire.Service>;
  listBackends(request: wire.ListBackendsRequest): AsyncIterable<wire.ServiceBackend>;
  getConfig(): Promise<wire.GetConfigResponse>;
  reloadConfig(): Promise<wire.ReloadConfigResponse>;
  apply(request: wire.ApplyRequest): Promise<wire.ApplyResponse>;
  delete(request: wire.DeleteRequest): Promise<wire.DeleteResponse>;
  /** Until the signal ends it, without an error. */
  monitor(request: wire.MonitorRequest, signal: AbortSignal): AsyncIterable<wire.MonitorResponse>;
}

export interface ApiClientOptions {
  readonly socket: string;
  /** For every call but monitor, which has none. */
  readonly timeoutMs: number;
}

type Method<In, Out> = MethodDefinition<In, Out>;

/** Connects to the agent's socket; an agent that isn't there is an ApiError "unreachable". */
export async function openApiClient({ socket, timeoutMs }: ApiClientOptions): Promise<ApiClient> {
  const state = await probeSocket(socket);
  if (state.kind === "dead") throw new ApiError("unreachable", notRunning(socket));
  if (state.kind === "failed") throw new ApiError("unreachable", cannotConnect(socket, state.code));
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
  });
  const deadline = (): { deadline: number } => ({ deadline: Date.now() + timeoutMs });
  const explain = (error: unknown): unknown => explainError(error, socket, timeoutMs);

  const unary = <In, Out>(method: Method<In, Out>, request: In): Promise<Out> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        deadline(),
        (error, response) => {
          if (error === null && response !== undefined) resolve(response);
          else reject(explain(error));
        },
      );
    });
  const stream = <In, Out>(
    method: Method<In, Out>,
    request: In,
    options: { deadline?: number },
  ): ClientReadableStream<Out> =>
    client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      new Metadata(),
      options,
    );
  async function* pages<In, Page, Row>(
    method: Method<In, Page>,
    request: In,
    rows: (page: Page) => readonly Row[],
  ): AsyncGenerator<Row> {
    try {
      for await (const page of stream(method, request, deadline())) yield* rows(page as Page);
    } catch (error) {
      throw explain(error);
    }
  }
  async function* monitor(
    request: wire.MonitorRequest,
    signal: AbortSignal,
  ): AsyncGenerator<wire.MonitorResponse> {
    const messages = stream(AgentService.monitor, request, {});
    const cancel = (): void => messages.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of messages) yield message as wire.MonitorResponse;
    } catch (error) {
      if (!signal.aborted) throw explain(error);
    } finally {
      signal.removeEventListener("abort", cancel);
      cancel();
    }
  }

  return {
    getVersion: () => unary(AgentService.getVersion, {}),
    getStatus: () => unary(AgentService.getStatus, {}),
    listServices: (request) => pages(AgentService.listServices, request, (p) => p.services),
    listBackends: (request) => pages(AgentService.listBackends, request, (p) => p.backends),
    getConfig: () => unary(AgentService.getConfig, {}),
    reloadConfig: () => unary(AgentService.reloadConfig, {}),
    apply: (request) => unary(AgentService.apply, request),
    delete: (request) => unary(AgentService.delete, request),
    monitor,
    [Symbol.dispose]: () => client.close(),
  };
}

function notRunning(socket: string): string {
  return (
    `agent is not running: no answer at ${socket}; the datapath keeps working; ` +
    "start it with `systemctl start ciliate` or `ciliate agent`"
  );
}

function cannotConnect(socket: string, code: string): string {
  if (code === "EACCES") return `may not use the agent's socket ${socket}: run as root`;
  return `cannot connect to the agent at ${socket}: ${code}`;
}

function explainError(error: unknown, socket: string, timeoutMs: number): unknown {
  if (!isServiceError(error)) return error;
  const code = codeOf(error.code);
  if (error.code === DEADLINE_EXCEEDED) {
    const limit = `no answer within ${timeoutMs} ms`;
    const text = `agent at ${socket} gave ${limit}; is it stopped or overloaded?`;
    return new ApiError(code, text, { cause: error });
  }
  if (code === "unreachable") {
    const text = `agent at ${socket} went away during the call; the datapath keeps working`;
    return new ApiError(code, text, { cause: error });
  }
  if (code === "unknown-call") {
    const text = "the agent doesn't know this call: it is older than this program";
    return new ApiError(code, text, { cause: error });
  }
  return new ApiError(code, error.details, { cause: error });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error;
}
