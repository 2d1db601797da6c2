// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from "node:util";
import type { Plain } from "./kind.ts";
import { type AnyField, type Change, type Config, fields, valueAt } from "./schema.ts";

/** A key whose value differs between two configurations. */
export interface ConfigChange {
  readonly path: string;
  readonly from: Plain;
  readonly to: Plain;
  readonly change: Change;
}

/** The keys that differ, in the schema's order. */
export function compareConfigs(from: Config, to: Config): readonly ConfigChange[] {
  const changes: ConfigChange[] = [];
  for (const { path, field } of fields()) {
    const before = plainAt(from, path, field);
    const after = plainAt(to, path, field);
    if (isDeepStrictEqual(before, after)) continue;
    changes.push({ path: path.join("."), from: before, to: after, change: field.change });
  }
  return changes;
}

/**
 * The configuration to go on with after a reload: `to` where a key can change live, `from` where
 * it needs a restart.
 */
export function mergeLive(from: Config, to: Config): Config {
  const merged: Record<string, unknown> = {};
  for (const { path, field } of fields()) {
    let section = merged;
    for (const key of path.slice(0, -1)) {
      section[key] ??= {};
      section = section[key] as Record<string, unknown>;
    }
    section[path.at(-1) ?? ""] = valueAt(field.change === "live" ? to : from, path);
  }
  return merged as Config;
}

/** The value of one key as YAML and JSON know it. */
export function plainAt(config: Config, path: readonly string[], field: AnyField): Plain {
  return field.kind.plain(valueAt(config, path));
}
