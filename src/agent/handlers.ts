// SPDX-License-Identifier: Apache-2.0
import { release } from "node:os";
import { ApiError } from "../api/error.ts";
import type { GetVersionResponse, ReloadConfigResponse } from "../api/gen/ciliate.ts";
import type { AgentHandlers } from "../api/server.ts";
import { ConfigError } from "../config/load.ts";
import { VERSION } from "../config/version.ts";
import type { Log } from "../telemetry/log.ts";
import { logChanges } from "./lifecycle.ts";
import type { Settings } from "./settings.ts";

/** The calls that the frame itself answers; the features answer the others. */
export type FrameHandlers = Pick<AgentHandlers, "getVersion" | "getConfig" | "reloadConfig">;

export function createFrameHandlers(settings: Settings, log: Log): FrameHandlers {
  return {
    getVersion,
    getConfig: () => ({ file: settings.file, values: settings.values() }),
    reloadConfig: () => reload(settings, log),
  };
}

function getVersion(): GetVersionResponse {
  return {
    version: VERSION,
    nodeVersion: process.versions.node,
    kernel: release(),
    architecture: process.arch,
  };
}

function reload(settings: Settings, log: Log): ReloadConfigResponse {
  try {
    const changes = settings.reload();
    logChanges(log, changes);
    return { file: settings.file, changes };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ApiError("refused", error.message, { cause: error });
  }
}
