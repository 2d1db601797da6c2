// SPDX-License-Identifier: Apache-2.0

// The agent of one node: what is started, and in which order.

import { openApiServer } from "../api/server.ts";
import { loadConfig, socketPath } from "../config/load.ts";
import { VERSION } from "../config/version.ts";
import { createFrameHandlers } from "./handlers.ts";
import { endOnFault, endSignal, reloadOnHangup } from "./lifecycle.ts";
import { lockRuntime } from "./lock.ts";
import { connectServiceManager } from "./notify.ts";
import { createSettings, type Settings } from "./settings.ts";
import { collectStatus, type Phase } from "./status.ts";
import { createTelemetry, serveTelemetry, type Telemetry } from "./telemetry.ts";

/** Runs the agent until it is told to stop; gives the exit code. A wrong file is thrown. */
export async function runAgent(file: string): Promise<number> {
  const settings = createSettings(loadConfig(file));
  const telemetry = createTelemetry(settings);
  const log = telemetry.log("agent");
  endOnFault(log, () => telemetry.logger.flush());
  const ended = endSignal();
  try {
    await run(settings, telemetry, ended);
    return 0;
  } catch (error) {
    log.error("the agent can't start; the datapath is as it was", { error });
    return 1;
  } finally {
    telemetry.logger.flush();
  }
}

async function run(
  settings: Settings,
  telemetry: Telemetry,
  ended: Promise<NodeJS.Signals>,
): Promise<void> {
  const { config, file } = settings;
  const log = telemetry.log("agent");
  log.info("starting", { version: VERSION, pid: process.pid, file });

  using _lock = lockRuntime(config.paths.runtime);
  const manager = connectServiceManager(process.env, (error) => {
    log.warn("the service manager can't be told", { error });
  });
  await using parts = new AsyncDisposableStack();
  parts.defer(() => manager.close());
  parts.use(await serveTelemetry(telemetry, config));

  let phase: Phase = "starting";
  telemetry.health.add("agent", () => (phase === "running" ? undefined : phase));
  const socket = socketPath(config);
  const api = await openApiServer({
    socket,
    handlers: {
      ...createFrameHandlers(settings, telemetry.log("config")),
      getStatus: () =>
        collectStatus({
          nodeName: config.node.name,
          nodeAddress: "",
          configFile: file,
          health: telemetry.health,
          phase: () => phase,
          parts: {
            devices: () => [],
            sources: () => [],
            tables: () => [],
            reconcilers: () => [],
          },
        }),
      listServices: () => [],
      listBackends: () => [],
      apply: () => ({ objects: [], inForce: false }),
      delete: () => ({ deleted: [], inForce: false }),
      monitor: () => () => {},
    },
    onFault: (call, error) => telemetry.log("api").error("a call failed", { call, error }),
  });
  parts.defer(() => api.close());

  reloadOnHangup(settings, manager, telemetry.log("config"));
  phase = "running";
  manager.ready("running");
  log.info("ready", { socket });

  const signal = await ended;
  phase = "stopping";
  log.info("stopping; the datapath goes on", { signal });
  manager.stopping();
}
