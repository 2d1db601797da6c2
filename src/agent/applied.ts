// SPDX-License-Identifier: Apache-2.0

// What the API was given, in one file for each object: an agent that comes after this one reads
// them back. The directory is in memory (/run), so writing at once is quicker than asking another
// thread to.

import { hash } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ManifestRow } from "../lb/shape/object.ts";
import { rowKey } from "../lb/yaml/claims.ts";
import type { ManifestObject } from "../lb/yaml/manifest.ts";
import { ManifestFileError, type ParserPool } from "../lb/yaml/pool.ts";
import { createBreather } from "../state/breathe.ts";

/** An object with the text that defines it. */
export interface AppliedObject {
  readonly content: ManifestRow;
  readonly source: string;
}

/** The files of what the API was given. */
export interface AppliedFiles {
  /** Reads all files; one that is no good becomes a problem. Never fails. */
  read(take: (content: ManifestRow) => void): Promise<void>;
  /** Writes all objects or, when there is no room for them, none; throws the system's error. */
  write(objects: readonly AppliedObject[]): Promise<void>;
  /** Throws the system's error. */
  remove(content: ManifestRow): Promise<void>;
  /** Files that couldn't be read back, and why. */
  problems(): string[];
}

/** Files that are read at a time. */
const AT_A_TIME = 8;
/** For how long writing may hold the event loop at a time. */
const BUDGET_MS = 5;
/** Bytes of a name; the file system allows 255. */
const MAX_NAME = 180;
const TEMPORARY = ".new";

/** The kind and key of a row in one text: `Service default/web`. */
export function rowId(content: ManifestRow): string {
  return `${content.kind} ${rowKey(content)}`;
}

/** The name of an object's file: `Service_default_web.yaml`. No part of it can have a `_`. */
export function fileOf(content: ManifestRow): string {
  const name = rowId(content).replaceAll(/[ /]/g, "_");
  if (name.length <= MAX_NAME) return `${name}.yaml`;
  return `${name.slice(0, MAX_NAME)}_${hash("sha1", name).slice(0, 16)}.yaml`;
}

/** Makes the directory if need be; throws when it can't. */
export function openAppliedFiles(directory: string, parser: ParserPool): AppliedFiles {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const broken = new Map<string, string>();
  const readOne = async (name: string): Promise<ManifestRow | undefined> => {
    const path = join(directory, name);
    try {
      return contentOf(name, await parser.parse(path, 0, []));
    } catch (error) {
      if (!(error instanceof ManifestFileError)) throw error;
      broken.set(name, error.message);
      return undefined;
    }
  };
  return {
    async read(take) {
      const names = (await readdir(directory)).sort();
      await inParallel(names, async (name) => {
        // Left by an agent that was killed before it accepted the object.
        if (name.endsWith(TEMPORARY)) return rm(join(directory, name), { force: true });
        if (!name.endsWith(".yaml")) return;
        const content = await readOne(name);
        if (content !== undefined) take(content);
      });
    },
    async write(objects) {
      const last = new Map(objects.map(({ content, source }) => [fileOf(content), source]));
      const temporary = (name: string): string => join(directory, name + TEMPORARY);
      const breathe = createBreather(BUDGET_MS);
      try {
        for (const [name, source] of last) {
          writeFileSync(temporary(name), source, { mode: 0o600 });
          await breathe();
        }
      } catch (error) {
        await inParallel([...last.keys()], (name) => rm(temporary(name), { force: true })).catch(
          () => {
            // It is overwritten or removed later, and never read.
          },
        );
        throw error;
      }
      for (const name of last.keys()) {
        renameSync(temporary(name), join(directory, name));
        broken.delete(name);
        await breathe();
      }
    },
    remove: (content) => rm(join(directory, fileOf(content)), { force: true }),
    problems: () =>
      [...broken].map(([name, reason]) => {
        const path = join(directory, name);
        return `${path}: ${reason}: apply it again, or remove the file and restart the agent`;
      }),
  };
}

/** The row of the one object that a file holds; throws ManifestFileError. */
function contentOf(
  name: string,
  documents: readonly { readonly objects: readonly ManifestObject[] | undefined }[],
): ManifestRow {
  const [object, ...others] = documents.flatMap(({ objects }) => objects ?? []);
  const [fault] = object?.faults ?? [];
  if (fault !== undefined) {
    throw new ManifestFileError(`line ${fault.line}: ${fault.field}: ${fault.text}`, "");
  }
  const content = object?.content;
  if (content === undefined || others.length > 0 || fileOf(content) !== name) {
    throw new ManifestFileError("it doesn't hold the one object that it is named for", "");
  }
  return content;
}

async function inParallel<Item>(
  items: readonly Item[],
  call: (item: Item) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const run = async (): Promise<void> => {
    for (const item of rest) await call(item);
  };
  const ended = await Promise.allSettled(Array.from({ length: AT_A_TIME }, run));
  for (const end of ended) if (end.status === "rejected") throw end.reason;
}
