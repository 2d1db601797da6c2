// SPDX-License-Identifier: Apache-2.0
import { ConfigError } from "../config/load.ts";
import type { Log } from "../telemetry/log.ts";
import type { ServiceManager } from "./notify.ts";
import type { Settings } from "./settings.ts";

/** Settles with the signal that ends the agent. A second one ends it at once. */
export function endSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
}

/** SIGHUP, from now on: its default is to end the process. */
export interface Hangups {
  /** What it does; called at once if one has come before. */
  follow(act: () => void): void;
}

export function catchHangups(): Hangups {
  let early = false;
  let act = (): void => {
    early = true;
  };
  process.on("SIGHUP", () => act());
  return {
    follow(next) {
      act = next;
      if (early) act();
    },
  };
}

/** SIGHUP reads the configuration again; a fault is told and changes nothing. */
export function reloadOnHangup(
  hangups: Hangups,
  settings: Settings,
  manager: ServiceManager,
  log: Log,
): void {
  hangups.follow(() => {
    manager.reloading();
    try {
      logChanges(log, settings.reload());
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const problem of error.problems) log.error("configuration not reloaded", { problem });
    }
    manager.ready("running");
  });
}

/** Tells what a reload has changed, and what waits for a restart. */
export function logChanges(log: Log, changes: ReturnType<Settings["reload"]>): void {
  log.info("configuration reloaded", { changes: changes.length });
  for (const { path, from, to, applied } of changes) {
    const message = applied ? "configuration changed" : "configuration needs a restart";
    log.info(message, { key: path, from, to });
  }
}

/**
 * An error that nobody caught leaves the agent in a state that nobody knows: it is told once, and
 * the process ends. The datapath goes on, and the service manager starts a new agent.
 */
export function endOnFault(log: Log, flush: () => void): void {
  const end = (error: unknown): never => {
    const stack = error instanceof Error ? error.stack : undefined;
    log.error("fault: the agent ends, the datapath goes on", { error, stack });
    flush();
    process.exit(1);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
