// SPDX-License-Identifier: Apache-2.0
// Pinned maps of older builds: which layouts are known, and how their entries become ours.

/** Turns entries of one layout of a map into another's. Layouts are TypedMapSpec.layout. */
export interface MigrationStep {
  /** What changed, for the log: "flows count bytes". */
  readonly name: string;
  readonly map: string;
  readonly from: string;
  readonly to: string;
  /** The entry in the new layout, or undefined to leave it behind. */
  convert(key: Uint8Array, value: Uint8Array): readonly [Uint8Array, Uint8Array] | undefined;
}

/**
 * Every step since the first release, never removed. A layout that changes without a step here
 * makes an upgrade refuse the pinned map.
 */
export const migrations: readonly MigrationStep[] = [];

/** The shortest way from one layout of a map to another; undefined when no steps lead there. */
export function planMigration(
  map: string,
  from: string,
  to: string,
  steps: readonly MigrationStep[] = migrations,
): readonly MigrationStep[] | undefined {
  let paths: (readonly MigrationStep[])[] = [[]];
  const seen = new Set([from]);
  while (paths.length > 0) {
    const longer: (readonly MigrationStep[])[] = [];
    for (const path of paths) {
      const at = path.at(-1)?.to ?? from;
      if (at === to) return path;
      for (const step of steps) {
        if (step.map !== map || step.from !== at || seen.has(step.to)) continue;
        seen.add(step.to);
        longer.push([...path, step]);
      }
    }
    paths = longer;
  }
  return undefined;
}

/** The entries after all steps, without those that a step leaves behind. */
export function* migrateEntries(
  entries: Iterable<readonly [Uint8Array, Uint8Array]>,
  steps: readonly MigrationStep[],
): Generator<readonly [Uint8Array, Uint8Array]> {
  for (const entry of entries) {
    let migrated: readonly [Uint8Array, Uint8Array] | undefined = entry;
    for (const step of steps) {
      if (migrated === undefined) break;
      migrated = step.convert(migrated[0], migrated[1]);
    }
    if (migrated !== undefined) yield migrated;
  }
}
