// SPDX-License-Identifier: Apache-2.0

import type { Config } from "../config/schema.ts";
import { formatIpv4 } from "../net/address.ts";
import { createHealth, type Health } from "../telemetry/health.ts";
import { openTelemetryServer } from "../telemetry/http.ts";
import { createLogger, type Log, type Logger, type LogSettings } from "../telemetry/log.ts";
import { createMetricRegistry, type MetricRegistry } from "../telemetry/metrics.ts";
import { addProcessMetrics, startLoopDelay } from "../telemetry/process.ts";
import type { Settings } from "./settings.ts";

/** What every part of the agent says itself with. */
export interface Telemetry {
  readonly logger: Logger;
  readonly registry: MetricRegistry;
  readonly health: Health;
  log(subsystem: string): Log;
}

/** Starts to log on standard error and to collect figures. */
export function createTelemetry(settings: Settings): Telemetry {
  // A reader of the log that has gone must not end the agent.
  process.stderr.on("error", () => {});
  const logger = createLogger({
    settings: logSettings(settings.config),
    write: (line) => process.stderr.write(line),
    colour: process.stderr.isTTY && (process.env["NO_COLOR"] ?? "") === "",
  });
  settings.onChange((config) => logger.configure(logSettings(config)));
  const own = logger.for("telemetry");
  const registry = createMetricRegistry((metric, error) => {
    own.error("a metric has no values", { metric, error });
  });
  return { logger, registry, health: createHealth(), log: (subsystem) => logger.for(subsystem) };
}

function logSettings({ log }: Config): LogSettings {
  const automatic = process.stderr.isTTY ? "text" : "json";
  return { ...log, format: log.format === "auto" ? automatic : log.format };
}

/** Serves /metrics, /healthz and /readyz as the configuration says. */
export async function serveTelemetry(
  telemetry: Telemetry,
  { metrics }: Config,
): Promise<AsyncDisposable> {
  const delay = startLoopDelay();
  addProcessMetrics(telemetry.registry, delay);
  if (metrics.listen === "off") {
    return { [Symbol.asyncDispose]: async () => delay.close() };
  }
  const { registry, health } = telemetry;
  const address = formatIpv4(metrics.listen.address);
  const server = await openTelemetryServer({
    address,
    port: metrics.listen.port,
    registry,
    health,
  });
  telemetry.log("telemetry").info("serving metrics", { address, port: server.port });
  return {
    async [Symbol.asyncDispose]() {
      delay.close();
      await server.close();
    },
  };
}
