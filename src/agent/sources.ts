// SPDX-License-Identifier: Apache-2.0

// Where rows come from: directories of manifests and calls of the API. Both go through here to the
// features' writers. Where both define an object, the file wins.

import { ApiError } from "../api/error.ts";
import type { ObjectName } from "../api/gen/ciliate.ts";
import type { EndpointWriter } from "../endpoint/writer.ts";
import { type Kind, type ManifestRow, type ManifestRows, objectId } from "../lb/shape/object.ts";
import type { LbRefusal, LbWriter } from "../lb/writer.ts";
import { type ManifestSink, type Refusal, rowKey } from "../lb/yaml/claims.ts";
import type { ManifestObject } from "../lb/yaml/manifest.ts";
import { ManifestFileError, type ParserPool } from "../lb/yaml/pool.ts";
import type { NodeWriter } from "../node/writer.ts";
import { createBreather } from "../state/breathe.ts";
import { type AppliedFiles, type AppliedObject, rowId } from "./applied.ts";

/** The writers of all rows that a manifest can give. */
export interface Writers {
  readonly lb: LbWriter;
  readonly endpoints: EndpointWriter;
  readonly nodes: NodeWriter;
}

/** Rows that the API was given. */
export interface ApiSource {
  /** What manifests put goes through here. */
  readonly files: ManifestSink;
  readonly size: number;
  /** Whether what was accepted before has been put. */
  readonly synced: boolean;
  /** What of it couldn't be. */
  problems(): string[];
  /** Puts what was accepted before; calls that change something wait for it. Never fails. */
  start(): void;
  /** All documents or none; throws ApiError "invalid" with every fault. */
  apply(documents: string): Promise<readonly ManifestRow[]>;
  /** Gives the rows that were there and came by the API; throws ApiError for files' objects. */
  delete(objects: readonly ObjectName[]): Promise<readonly ManifestRow[]>;
}

export interface ApiSourceOptions {
  readonly writers: Writers;
  readonly kept: AppliedFiles;
  readonly parser: Pick<ParserPool, "parseText">;
  /** What of the rows is in force but for a part of it, by others than the writers. */
  readonly warnings?: () => Iterable<LbRefusal>;
  /** Called once, when everything that can be read has been put. */
  readonly loaded: () => void;
  /** Called once, when nothing is missing any more of what was accepted before. */
  readonly complete: () => void;
}

/** Objects that the API can hold. */
const MAX_API_OBJECTS = 100_000;
/** For how long a call may hold the event loop at a time. */
const BUDGET_MS = 5;

export function nameOf(content: ManifestRow): ObjectName {
  const key = rowKey(content);
  const slash = key.indexOf("/");
  const namespace = slash === -1 ? "" : key.slice(0, slash);
  return { kind: content.kind, namespace, name: key.slice(slash + 1) };
}

export function createApiSource(options: ApiSourceOptions): ApiSource {
  const { writers, kept, parser } = options;
  const given = new Map<string, ManifestRow>();
  const inFiles = new Set<string>();
  const started = Promise.withResolvers<void>();
  const inTurn = createQueue(started.promise);
  let synced = false;
  let unread: string | undefined;

  const files: ManifestSink = {
    put(content) {
      inFiles.add(rowId(content));
      putRow(writers, content);
    },
    delete(kind, key) {
      const id = `${kind} ${key}`;
      inFiles.delete(id);
      const behind = given.get(id);
      if (behind === undefined) deleteRow(writers, kind, key);
      else putRow(writers, behind);
    },
    refusals: () => refusalsOf(options),
  };
  const put = (row: ManifestRow): void => {
    given.set(rowId(row), row);
    if (!inFiles.has(rowId(row))) putRow(writers, row);
  };
  const problems = (): string[] => [...(unread === undefined ? [] : [unread]), ...kept.problems()];
  const checkComplete = (): void => {
    if (problems().length === 0) options.complete();
  };

  return {
    files,
    get size() {
      return given.size;
    },
    get synced() {
      return synced;
    },
    problems,
    start() {
      void kept
        .read(put)
        .catch((error: unknown) => {
          unread = `what was applied before can't be read back: ${Object(error).message}`;
        })
        .then(() => {
          synced = true;
          options.loaded();
          checkComplete();
          started.resolve();
        });
    },
    apply: (documents) =>
      inTurn(async () => {
        const objects = await readDocuments(parser, documents);
        checkRoom(given, objects);
        await keep(() => kept.write(objects));
        const breathe = createBreather(BUDGET_MS);
        for (const { content } of objects) {
          put(content);
          await breathe();
        }
        checkComplete();
        return objects.map(({ content }) => content);
      }),
    delete: (objects) =>
      inTurn(async () => {
        const deleted: ManifestRow[] = [];
        for (const { kind, namespace, name } of objects) {
          const id = objectId(kind, namespace === "" ? "default" : namespace, name);
          const row = given.get(id);
          if (row === undefined) {
            if (!inFiles.has(id)) continue;
            throw new ApiError("refused", `${id} is defined by a file: take it out there`);
          }
          await keep(() => kept.remove(row));
          given.delete(id);
          deleted.push(row);
          if (!inFiles.has(id)) deleteRow(writers, row.kind, rowKey(row));
        }
        return deleted;
      }),
  };
}

function* refusalsOf({ writers, warnings }: ApiSourceOptions): Generator<Refusal> {
  yield* writers.lb.refusals();
  for (const warning of writers.lb.warnings()) yield { ...warning, severity: "warning" };
  for (const warning of warnings?.() ?? []) yield { ...warning, severity: "warning" };
}

function checkRoom(given: ReadonlyMap<string, unknown>, objects: readonly AppliedObject[]): void {
  const ids = new Set(objects.map(({ content }) => rowId(content)));
  const added = [...ids].filter((id) => !given.has(id)).length;
  if (given.size + added <= MAX_API_OBJECTS) return;
  throw new ApiError("busy", `the API holds ${MAX_API_OBJECTS} objects: use manifests`);
}

/** Makes one call after the other: so what is in force and what is kept are the same. */
function createQueue(begin: Promise<void>): <T>(call: () => Promise<T>) => Promise<T> {
  let turn: Promise<unknown> = begin;
  return (call) => {
    const result = turn.then(call);
    turn = result.catch(() => undefined);
    return result;
  };
}

/** What can't be kept isn't accepted. */
async function keep(write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ApiError("refused", `what the API is given can't be kept: ${reason}`, { cause });
  }
}

async function readDocuments(
  parser: Pick<ParserPool, "parseText">,
  text: string,
): Promise<AppliedObject[]> {
  const documents = await parser.parseText("the request", text).catch((cause: unknown) => {
    if (!(cause instanceof ManifestFileError)) throw cause;
    throw new ApiError("invalid", cause.message, { cause });
  });
  const objects = documents.flatMap((document) => document.objects ?? []);
  const faults = objects.flatMap(describeFaults);
  if (faults.length > 0) throw new ApiError("invalid", faults.join("\n"));
  return objects.flatMap(({ content, source }) =>
    content === undefined || source === undefined ? [] : [{ content, source }],
  );
}

function describeFaults({ id, faults }: ManifestObject): string[] {
  return faults.map(({ line, field, text }) => {
    const where = [`line ${line}`, id, field].filter((part) => part !== undefined && part !== "");
    return `${where.join(": ")}: ${text}`;
  });
}

type Put = { readonly [K in Kind]: (writers: Writers, row: ManifestRows[K]) => void };

const PUT: Put = {
  Service: ({ lb }, row) => lb.putService(row),
  EndpointSlice: ({ lb }, row) => lb.putSlice(row),
  Pod: ({ endpoints }, row) => endpoints.put(row),
  Node: ({ nodes }, row) => nodes.put(row),
};

const DELETE: Readonly<Record<Kind, (writers: Writers, key: string) => void>> = {
  Service: ({ lb }, key) => lb.deleteService(key),
  EndpointSlice: ({ lb }, key) => lb.deleteSlice(key),
  Pod: ({ endpoints }, key) => endpoints.delete(key),
  Node: ({ nodes }, key) => nodes.delete(key),
};

function putRow<K extends Kind>(
  writers: Writers,
  { kind, row }: { readonly kind: K; readonly row: ManifestRows[K] },
): void {
  PUT[kind](writers, row);
}

function deleteRow(writers: Writers, kind: Kind, key: string): void {
  DELETE[kind](writers, key);
}
