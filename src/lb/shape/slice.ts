// SPDX-License-Identifier: Apache-2.0
import { type Address, type Family, familyOf, tryParseAddress } from "../../net/address.ts";
import { MAX_WEIGHT } from "../maglev.ts";
import { type EndpointSlice, objectKey, type SliceEndpoint, type SlicePort } from "../rows.ts";
import type { Field } from "./field.ts";
import {
  ANNOTATIONS,
  readAddress,
  readAnnotations,
  readMeta,
  readPort,
  readPortName,
  readProtocol,
} from "./meta.ts";

const TOP_KEYS: ReadonlySet<string> = new Set([
  "addressType",
  "apiVersion",
  "endpoints",
  "kind",
  "metadata",
  "ports",
]);

const PORT_KEYS: ReadonlySet<string> = new Set(["appProtocol", "name", "port", "protocol"]);

const ENDPOINT_KEYS: ReadonlySet<string> = new Set([
  "addresses",
  "conditions",
  "deprecatedTopology",
  "hints",
  "hostname",
  "nodeName",
  "targetRef",
  "zone",
]);

const CONDITION_KEYS: ReadonlySet<string> = new Set(["ready", "serving", "terminating"]);

const SERVICE_LABEL = "kubernetes.io/service-name";

/** Of new flows, for an endpoint whose weight nobody said. */
export const DEFAULT_WEIGHT = 100;

/** What Kubernetes allows in one slice. */
const MAX_ENDPOINTS = 1000;

/** Reads a discovery.k8s.io/v1 EndpointSlice; remarks go to the field's. */
export function readSlice(root: Field): EndpointSlice | undefined {
  const meta = readMeta(root, TOP_KEYS);
  const service = root.get("metadata").get("labels").get(SERVICE_LABEL);
  const serviceName = service.text();
  if (service.absent) service.fault("expected the name of the Service that the slice belongs to");
  const family = readFamily(root.get("addressType"));
  const ports = readPorts(root.get("ports"));
  const weights = readWeights(root);
  const list = root.get("endpoints");
  const items = list.items();
  if (items.length > MAX_ENDPOINTS) {
    list.fault(`${items.length} endpoints: expected at most ${MAX_ENDPOINTS}`);
  }
  const endpoints = items.flatMap((item) => readEndpoint(item, weights, family) ?? []);
  checkWeights(weights, endpoints);
  if (meta === undefined || serviceName === undefined || family === undefined) return undefined;
  const { namespace, name } = meta;
  return {
    key: objectKey(namespace, name),
    service: objectKey(namespace, serviceName),
    family,
    ports,
    endpoints,
  };
}

function readPorts(list: Field): SlicePort[] {
  const names = new Set<string>();
  return list.items().flatMap((item) => {
    item.only(PORT_KEYS);
    const name = readPortName(item.get("name"));
    const port = readPort(item.get("port"));
    const protocol = readProtocol(item.get("protocol"));
    if (name === undefined || port === undefined || protocol === undefined) return [];
    if (names.has(name)) item.get("name").fault(`the second port with the name "${name}"`);
    names.add(name);
    return [{ name, port, protocol }];
  });
}

function readFamily(field: Field): Family | undefined {
  const { value } = field;
  if (value === "IPv4") return "ipv4";
  return value === "IPv6" ? "ipv6" : field.refuse("IPv4 or IPv6");
}

function readEndpoint(
  item: Field,
  weights: Weights,
  family: Family | undefined,
): SliceEndpoint | undefined {
  item.only(ENDPOINT_KEYS);
  const conditions = item.get("conditions").only(CONDITION_KEYS);
  // Kubernetes: unknown readiness counts as ready, and serving follows ready.
  const ready = conditions.get("ready").flag() ?? true;
  const serving = conditions.get("serving").flag() ?? ready;
  const terminating = conditions.get("terminating").flag() ?? false;
  const node = item.get("nodeName").text() ?? "";
  const addresses = item.get("addresses");
  const [first] = addresses.items();
  if (first === undefined) return addresses.absent ? addresses.refuse("an address") : undefined;
  const address = readAddress(first);
  if (address === undefined) return undefined;
  if (family !== undefined && familyOf(address) !== family) {
    return first.fault("an address of the other family than addressType says");
  }
  const weight = weights.of.get(address) ?? weights.others;
  return { address, ready, serving, terminating, node, weight };
}

interface Weights {
  readonly of: ReadonlyMap<Address, number>;
  readonly others: number;
  readonly field: Field | undefined;
}

/** `10.0.1.10=200, 10.0.1.11=0, *=50`; `*` is for all that aren't named. */
function readWeights(root: Field): Weights {
  const found = readAnnotations(root, [ANNOTATIONS.weights]).get(ANNOTATIONS.weights);
  const of = new Map<Address, number>();
  let others = DEFAULT_WEIGHT;
  for (const part of found?.text.split(",") ?? []) {
    const match = /^\s*([0-9a-fA-F.:]+|\*)\s*=\s*(\d{1,4})\s*$/.exec(part);
    const address = match?.[1] === "*" ? "*" : tryParseAddress(match?.[1] ?? "");
    const weight = Number(match?.[2]);
    if (address === undefined || !(weight <= MAX_WEIGHT)) {
      found?.field.refuse(`ADDRESS=WEIGHT pairs with weights of 0 to ${MAX_WEIGHT}`);
    } else if (address === "*") others = weight;
    else of.set(address, weight);
  }
  return { of, others, field: found?.field };
}

function checkWeights(weights: Weights, endpoints: readonly SliceEndpoint[]): void {
  if (weights.of.size === 0) return;
  const known = new Set(endpoints.map(({ address }) => address));
  const stray = [...weights.of.keys()].filter((address) => !known.has(address)).length;
  if (stray > 0) weights.field?.warn(`${stray} of the addresses are not endpoints of this slice`);
}
