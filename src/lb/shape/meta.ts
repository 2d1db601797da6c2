// SPDX-License-Identifier: Apache-2.0
import { nearest } from "../../config/nearest.ts";
import { type Address, isAny, tryParseAddress } from "../../net/address.ts";
import type { Field } from "./field.ts";

/** What our annotations begin with: all of these are known, or are slips. */
const PREFIX = "ciliate.io/";

export const ANNOTATIONS = {
  /** On an EndpointSlice: `10.0.1.10=200, *=100`. */
  weights: "ciliate.io/weights",
  /** On a Service: slots of the ring. */
  ringSize: "ciliate.io/maglev-table-size",
  /** On a Service: `dsr`, `snat` or `hybrid`. */
  mode: "ciliate.io/forwarding-mode",
  /** On a Service: `maglev` or `random`. */
  algorithm: "ciliate.io/lb-algorithm",
  /** On a Service: whether its source ranges are those that `allow`, or those to `deny`. */
  rangesPolicy: "ciliate.io/src-ranges-policy",
  device: "ciliate.io/device",
  mac: "ciliate.io/mac",
  netns: "ciliate.io/netns",
} as const;

/** Others' annotations that mean something here; ours win. */
export const KNOWN_ANNOTATIONS = {
  mode: "service.cilium.io/forwarding-mode",
  algorithm: "service.cilium.io/lb-algorithm",
  rangesPolicy: "service.cilium.io/src-ranges-policy",
  ranges: "service.beta.kubernetes.io/load-balancer-source-ranges",
} as const;

const TOP_KEYS: ReadonlySet<string> = new Set(["apiVersion", "kind", "metadata", "spec", "status"]);

const META_KEYS: ReadonlySet<string> = new Set([
  "name",
  "namespace",
  "labels",
  "annotations",
  "creationTimestamp",
  "deletionGracePeriodSeconds",
  "deletionTimestamp",
  "finalizers",
  "generateName",
  "generation",
  "managedFields",
  "ownerReferences",
  "resourceVersion",
  "selfLink",
  "uid",
]);

const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export interface Meta {
  readonly name: string;
  /** `default` where the object doesn't say. */
  readonly namespace: string;
  readonly createdMs: number | undefined;
}

/** Name and namespace of any object; undefined, with faults, where they are no good. */
export function readMeta(root: Field, topKeys = TOP_KEYS): Meta | undefined {
  root.only(topKeys);
  const meta = root.get("metadata").only(META_KEYS);
  const name = meta.get("name").required("a name of lower-case letters, digits, - and .", NAME);
  const namespaceField = meta.get("namespace");
  const namespace = namespaceField.absent
    ? "default"
    : namespaceField.required("a namespace of lower-case letters, digits and -", NAMESPACE);
  const created = meta.get("creationTimestamp").text();
  const createdMs = created === undefined ? undefined : Date.parse(created);
  if (Number.isNaN(createdMs)) meta.get("creationTimestamp").refuse("a time, 2025-01-31T10:00:00Z");
  if (name === undefined || namespace === undefined) return undefined;
  return { name, namespace, createdMs };
}

/** The allowed annotations; a fault for one of ours that this kind of object can't have. */
export function readAnnotations(
  root: Field,
  allowed: readonly string[],
): ReadonlyMap<string, { readonly text: string; readonly field: Field }> {
  const found = new Map<string, { text: string; field: Field }>();
  for (const { key, text, field } of root.get("metadata").get("annotations").texts()) {
    if (allowed.includes(key)) {
      found.set(key, { text, field });
      continue;
    }
    if (!key.startsWith(PREFIX)) continue;
    const near = nearest(key, allowed);
    const hint = near === undefined ? "" : `; did you mean "${near}"?`;
    field.fault(`annotation "${key}" means nothing here${hint}`);
  }
  return found;
}

/** An address of either family; undefined with a fault for anything else, and for 0.0.0.0 or ::. */
export function readAddress(field: Field): Address | undefined {
  const text = field.text("an IP address");
  if (text === undefined) return field.absent ? field.refuse("an IP address") : undefined;
  const address = tryParseAddress(text);
  if (address !== undefined && !isAny(address)) return address;
  return field.refuse("an IP address such as 10.0.0.1 or 2001:db8::1");
}

/** A port number that must be there. */
export function readPort(field: Field): number | undefined {
  const expected = "a port number from 1 to 65535";
  return field.absent ? field.refuse(expected) : field.integer(expected, 1, 65535);
}

/** `tcp` where the object doesn't say; undefined, with a fault, for any other word. */
export function readProtocol(field: Field): "tcp" | "udp" | "sctp" | undefined {
  if (field.absent || field.value === "TCP") return "tcp";
  if (field.value === "UDP") return "udp";
  return field.value === "SCTP" ? "sctp" : field.refuse("TCP, UDP or SCTP");
}

const PORT_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** A port's name, empty where it has none. */
export function readPortName(field: Field): string | undefined {
  if (field.absent || field.value === "") return "";
  return field.required("a name of lower-case letters, digits and -", PORT_NAME);
}
