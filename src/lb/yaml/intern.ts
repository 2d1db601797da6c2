// SPDX-License-Identifier: Apache-2.0
import type { EndpointSlice, SliceEndpoint } from "../rows.ts";
import type { ManifestRow } from "../shape/object.ts";
import type { ParsedDocument } from "./protocol.ts";

/** Node names, of which a hundred thousand endpoints share a few. */
const names = new Map<string, string>();

/** Names kept at most; beyond, they are merely not shared. */
const MAX_NAMES = 100_000;

/** What comes from another thread brings a copy of every text: makes equal node names one. */
export function intern(document: ParsedDocument): ParsedDocument {
  const objects = document.objects?.map((object) => ({
    ...object,
    content: object.content && internRow(object.content),
  }));
  return { ...document, objects };
}

function internRow(content: ManifestRow): ManifestRow {
  if (content.kind === "Pod") {
    return { ...content, row: { ...content.row, node: one(content.row.node) } };
  }
  if (content.kind !== "EndpointSlice") return content;
  const endpoints = content.row.endpoints.map(internEndpoint);
  const row: EndpointSlice = { ...content.row, endpoints };
  return { ...content, row };
}

function internEndpoint(endpoint: SliceEndpoint): SliceEndpoint {
  const { address, ready, serving, terminating, node, weight } = endpoint;
  return { address, ready, serving, terminating, node: one(node), weight };
}

function one(name: string): string {
  const known = names.get(name);
  if (known !== undefined || names.size >= MAX_NAMES) return known ?? name;
  names.set(name, name);
  return name;
}
