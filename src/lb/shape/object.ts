// SPDX-License-Identifier: Apache-2.0
import type { Endpoint } from "../../endpoint/rows.ts";
import type { Node } from "../../node/rows.ts";
import type { EndpointSlice, Service } from "../rows.ts";
import { Field, isMap, type Path, type Remark, type Remarks } from "./field.ts";
import { readNode } from "./node.ts";
import { readPod } from "./pod.ts";
import { readService } from "./service.ts";
import { readSlice } from "./slice.ts";

/** The rows that manifests give, by kind. */
export interface ManifestRows {
  readonly Service: Service;
  readonly EndpointSlice: EndpointSlice;
  readonly Pod: Endpoint;
  readonly Node: Node;
}

export type Kind = keyof ManifestRows;

/** A row with its kind. */
export type ManifestRow = {
  [K in Kind]: { readonly kind: K; readonly row: ManifestRows[K] };
}[Kind];

/** What one object of a document came to. */
export interface ReadObject {
  /** Where in the document it is: the document itself, or an item of a List. */
  readonly path: Path;
  /** `Service default/web`, where the object says so much. */
  readonly id: string | undefined;
  /** Undefined when there is a fault, or when the object gives no row. */
  readonly content: ManifestRow | undefined;
  readonly faults: readonly Remark[];
  readonly warnings: readonly Remark[];
}

const READERS: { readonly [K in Kind]: (root: Field) => ManifestRows[K] | undefined } = {
  Service: readService,
  EndpointSlice: readSlice,
  Pod: readPod,
  Node: readNode,
};

const API_VERSIONS: Readonly<Record<Kind, string>> = {
  Service: "v1",
  EndpointSlice: "discovery.k8s.io/v1",
  Pod: "v1",
  Node: "v1",
};

/** Reads a document: an object, or a List of objects. An empty document has none. */
export function readDocument(value: unknown): ReadObject[] {
  if (value === undefined || value === null) return [];
  if (!isMap(value) || value["kind"] !== "List") return [readObject(value, [])];
  const remarks: Remarks = { faults: [], warnings: [] };
  const items = Field.root(value, remarks).get("items").items();
  const objects = items.map((item) => readObject(item.value, item.path));
  if (remarks.faults.length === 0) return objects;
  return [{ path: [], id: undefined, content: undefined, ...remarks }];
}

function readObject(value: unknown, path: Path): ReadObject {
  const remarks: Remarks = { faults: [], warnings: [] };
  const root = Field.root(value, remarks);
  const kind = isMap(value)
    ? readKind(root)
    : root.refuse("a map with apiVersion, kind and metadata");
  const content = kind === undefined ? undefined : readAs(kind, root);
  const under = ({ path: inner, text }: Remark): Remark => ({ path: [...path, ...inner], text });
  return {
    path,
    id: identify(value),
    content: remarks.faults.length === 0 ? content : undefined,
    faults: remarks.faults.map(under),
    warnings: remarks.warnings.map(under),
  };
}

function readKind(root: Field): Kind | undefined {
  const kind = root.get("kind");
  const known = Object.keys(READERS) as Kind[];
  const found = known.find((candidate) => candidate === kind.value);
  if (found === undefined) return kind.refuse(`one of ${known.join(", ")}, List`);
  const version = root.get("apiVersion");
  if (version.value !== API_VERSIONS[found]) return version.refuse(`"${API_VERSIONS[found]}"`);
  return found;
}

function readAs<K extends Kind>(kind: K, root: Field): ManifestRow | undefined {
  const row = READERS[kind](root);
  return row === undefined ? undefined : ({ kind, row } as unknown as ManifestRow);
}

/** `Service default/web`, from whatever of it can be read. */
function identify(value: unknown): string | undefined {
  if (!isMap(value) || !isMap(value["metadata"])) return undefined;
  const { kind, metadata } = value;
  const { name, namespace } = metadata;
  if (typeof kind !== "string" || typeof name !== "string") return undefined;
  return objectId(kind, typeof namespace === "string" ? namespace : "default", name);
}

/** `Service default/web`; nodes have no namespace. */
export function objectId(kind: string, namespace: string, name: string): string {
  return kind === "Node" ? `Node ${name}` : `${kind} ${namespace}/${name}`;
}
