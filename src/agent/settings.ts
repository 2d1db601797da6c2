// SPDX-License-Identifier: Apache-2.0
import type { ConfigChange, ConfigValue } from "../api/gen/ciliate.ts";
import { compareConfigs, mergeLive, plainAt } from "../config/change.ts";
import { type LoadedConfig, loadConfig } from "../config/load.ts";
import { type Config, fields } from "../config/schema.ts";

/** The configuration in force, and how it changes. */
export interface Settings {
  readonly file: string;
  /** What is in force: live keys as of the last reload, the others as of the start. */
  readonly config: Config;
  /** Calls back with every new configuration in force. */
  onChange(listener: (config: Config) => void): void;
  /** Reads the file again. Throws ConfigError, and then nothing has changed. */
  reload(): readonly ConfigChange[];
  /** Every key as the API shows it. */
  values(): readonly ConfigValue[];
}

export function createSettings(loaded: LoadedConfig): Settings {
  const { file } = loaded;
  const listeners: ((config: Config) => void)[] = [];
  let config = loaded.config;
  /** What the file says; differs from what is in force where a restart is needed. */
  let written = loaded;

  return {
    file,
    get config() {
      return config;
    },
    onChange(listener) {
      listeners.push(listener);
    },
    reload() {
      const next = loadConfig(file);
      const changes = compareConfigs(config, next.config);
      written = next;
      config = mergeLive(config, next.config);
      if (changes.some(({ change }) => change === "live")) {
        for (const listener of listeners) listener(config);
      }
      return changes.map(({ path, from, to, change }) => ({
        path,
        from: JSON.stringify(from),
        to: JSON.stringify(to),
        applied: change === "live",
      }));
    },
    values() {
      return [...fields()].map(({ path, field }) => {
        const value = JSON.stringify(plainAt(config, path, field));
        const pending = JSON.stringify(plainAt(written.config, path, field));
        return {
          path: path.join("."),
          value,
          line: written.lines.get(path.join(".")) ?? 0,
          live: field.change === "live",
          pending: pending === value ? "" : pending,
        };
      });
    },
  };
}
