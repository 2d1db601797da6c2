// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from "node:util";
import { type Address, FAMILIES, type Family } from "../../net/address.ts";
import {
  DEFAULT_POLICY,
  type EndpointSlice,
  type Service,
  type ServicePortSpec,
  type SliceEndpoint,
  type SlicePort,
} from "../rows.ts";
import type { ManifestRow } from "../shape/object.ts";
import type { ParsedDocument } from "./protocol.ts";

/** Texts that many rows share: names of nodes, namespaces and ports, types, protocols. */
const texts = new Map<string, string>();

/** Texts kept at most; beyond, they are merely not shared. */
const MAX_TEXTS = 100_000;

const NONE: readonly Address[] = [];

const FAMILY_LISTS: readonly (readonly Family[])[] = [["ipv4"], ["ipv6"], FAMILIES];

/**
 * What comes from another thread brings a copy of every text, in objects that take more room than
 * they need: makes equal texts one, and rows anew.
 */
export function intern(document: ParsedDocument): ParsedDocument {
  const objects = document.objects?.map((object) => ({
    ...object,
    content: object.content && internRow(object.content),
  }));
  return { ...document, objects };
}

function internRow(content: ManifestRow): ManifestRow {
  switch (content.kind) {
    case "Service":
      return { kind: content.kind, row: internService(content.row) };
    case "EndpointSlice":
      return { kind: content.kind, row: internSlice(content.row) };
    case "Pod":
      return { kind: content.kind, row: { ...content.row, node: one(content.row.node) } };
    case "Node":
      return content;
  }
}

function internService(row: Service): Service {
  const { key, namespace, name, type, families, addresses, clusterAddresses, ports, policy } = row;
  return {
    key,
    namespace: one(namespace),
    name,
    type: one(type),
    families: FAMILY_LISTS.find((list) => isDeepStrictEqual(list, families)) ?? families,
    addresses: addresses.length === 0 ? NONE : addresses,
    clusterAddresses: clusterAddresses.length === 0 ? NONE : clusterAddresses,
    ports: ports.map(internServicePort),
    policy: isDeepStrictEqual(policy, DEFAULT_POLICY) ? DEFAULT_POLICY : policy,
    healthCheckPort: row.healthCheckPort,
    ringSize: row.ringSize,
    createdMs: row.createdMs,
  };
}

function internSlice({ key, service, family, ports, endpoints }: EndpointSlice): EndpointSlice {
  return {
    key,
    service,
    family: one(family),
    ports: ports.map(internPort),
    endpoints: endpoints.map(internEndpoint),
  };
}

function internServicePort({ name, port, protocol, nodePort }: ServicePortSpec): ServicePortSpec {
  return { name: one(name), port, protocol: one(protocol), nodePort };
}

function internPort({ name, port, protocol }: SlicePort): SlicePort {
  return { name: one(name), port, protocol: one(protocol) };
}

function internEndpoint(endpoint: SliceEndpoint): SliceEndpoint {
  const { address, ready, serving, terminating, node, weight } = endpoint;
  return { address, ready, serving, terminating, node: one(node), weight };
}

function one<Text extends string>(text: Text): Text {
  const known = texts.get(text) as Text | undefined;
  if (known !== undefined || texts.size >= MAX_TEXTS) return known ?? text;
  texts.set(text, text);
  return text;
}
