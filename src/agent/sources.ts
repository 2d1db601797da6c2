// SPDX-License-Identifier: Apache-2.0

// Where rows come from: directories of manifests and calls of the API. Both go through here to the
// features' writers. Where both define an object, the file wins.

import { ApiError } from "../api/error.ts";
import type { ObjectName } from "../api/gen/ciliate.ts";
import type { EndpointWriter } from "../endpoint/writer.ts";
import { type Kind, type ManifestRow, type ManifestRows, objectId } from "../lb/shape/object.ts";
import type { LbWriter } from "../lb/writer.ts";
import { type ManifestSink, rowKey } from "../lb/yaml/claims.ts";
import { type ManifestObject, readManifest } from "../lb/yaml/manifest.ts";
import { splitDocuments } from "../lb/yaml/split.ts";
import type { NodeWriter } from "../node/writer.ts";

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
  /** All documents or none; throws ApiError "invalid" with every fault. */
  apply(documents: string): readonly ManifestRow[];
  /** Gives the rows that were there and came by the API; throws ApiError for files' objects. */
  delete(objects: readonly ObjectName[]): readonly ManifestRow[];
}

/** Objects that the API can hold. */
const MAX_API_OBJECTS = 100_000;

/** The kind and key of a row in one text: `Service default/web`. */
export function rowId(content: ManifestRow): string {
  return `${content.kind} ${rowKey(content)}`;
}

export function nameOf(content: ManifestRow): ObjectName {
  const key = rowKey(content);
  const slash = key.indexOf("/");
  const namespace = slash === -1 ? "" : key.slice(0, slash);
  return { kind: content.kind, namespace, name: key.slice(slash + 1) };
}

export function createApiSource(writers: Writers): ApiSource {
  const given = new Map<string, ManifestRow>();
  const inFiles = new Set<string>();

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
    refusals: () => writers.lb.refusals(),
  };

  return {
    files,
    get size() {
      return given.size;
    },
    apply(documents) {
      const rows = readDocuments(documents);
      if (given.size + rows.length > MAX_API_OBJECTS) {
        throw new ApiError("busy", `the API holds ${MAX_API_OBJECTS} objects: use manifests`);
      }
      for (const row of rows) {
        given.set(rowId(row), row);
        if (!inFiles.has(rowId(row))) putRow(writers, row);
      }
      return rows;
    },
    delete(objects) {
      const deleted: ManifestRow[] = [];
      for (const { kind, namespace, name } of objects) {
        const id = objectId(kind, namespace === "" ? "default" : namespace, name);
        const row = given.get(id);
        if (row === undefined) {
          if (!inFiles.has(id)) continue;
          throw new ApiError("refused", `${id} is defined by a file: take it out there`);
        }
        given.delete(id);
        deleted.push(row);
        if (!inFiles.has(id)) deleteRow(writers, row.kind, rowKey(row));
      }
      return deleted;
    },
  };
}

function readDocuments(documents: string): ManifestRow[] {
  const objects = splitDocuments(documents).flatMap(readManifest);
  const faults = objects.flatMap(describeFaults);
  if (faults.length > 0) throw new ApiError("invalid", faults.join("\n"));
  return objects.flatMap(({ content }) => (content === undefined ? [] : [content]));
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
