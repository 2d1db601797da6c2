// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from "node:util";
import {
  type Address,
  AddressError,
  compareAddress,
  FAMILIES,
  type Family,
  familyOf,
  isIpv4,
} from "../../net/address.ts";
import {
  type Prefix,
  parseInterfaceAddress,
  parsePrefix,
  prefixContains,
  prefixOf,
} from "../../net/prefix.ts";
import { RING_SIZES } from "../maglev.ts";
import {
  type Algorithm,
  DEFAULT_POLICY,
  type ForwardingMode,
  objectKey,
  type Service,
  type ServicePolicy,
  type ServicePortSpec,
} from "../rows.ts";
import type { Field } from "./field.ts";
import {
  ANNOTATIONS,
  KNOWN_ANNOTATIONS,
  readAddress,
  readAnnotations,
  readMeta,
  readPort,
  readPortName,
  readProtocol,
} from "./meta.ts";

const SPEC_KEYS: ReadonlySet<string> = new Set([
  "allocateLoadBalancerNodePorts",
  "clusterIP",
  "clusterIPs",
  "externalIPs",
  "externalName",
  "externalTrafficPolicy",
  "healthCheckNodePort",
  "internalTrafficPolicy",
  "ipFamilies",
  "ipFamilyPolicy",
  "loadBalancerClass",
  "loadBalancerIP",
  "loadBalancerSourceRanges",
  "ports",
  "publishNotReadyAddresses",
  "selector",
  "sessionAffinity",
  "sessionAffinityConfig",
  "trafficDistribution",
  "type",
]);

const PORT_KEYS: ReadonlySet<string> = new Set([
  "appProtocol",
  "name",
  "nodePort",
  "port",
  "protocol",
  "targetPort",
]);

const TYPES = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] as const;

/** Names the proxy that serves a service, where that is not the node's own; any name. */
const PROXY_LABEL = "service.kubernetes.io/service-proxy-name";

const NODE_PORT_TYPES: ReadonlySet<string> = new Set(["NodePort", "LoadBalancer"]);

const TRAFFIC_POLICIES = ["Cluster", "Local"] as const;

const IP_MODES = ["VIP", "Proxy"] as const;

const MODES: readonly ForwardingMode[] = ["dsr", "snat", "hybrid"];

const ALGORITHMS: readonly Algorithm[] = ["maglev", "random"];

const DAY_SECONDS = 86_400;

/** What Kubernetes takes for a session's length where a service doesn't say. */
const AFFINITY_SECONDS = 10_800;

const SERVICE_ANNOTATIONS: readonly string[] = [
  ANNOTATIONS.ringSize,
  ANNOTATIONS.mode,
  ANNOTATIONS.algorithm,
  ANNOTATIONS.rangesPolicy,
  ...Object.values(KNOWN_ANNOTATIONS),
];

type Annotations = ReturnType<typeof readAnnotations>;

/** The most ports that one service can have; a limit against nonsense. */
const MAX_PORTS = 1000;

/** Reads a v1 Service; remarks go to the field's. */
export function readService(root: Field): Service | undefined {
  const meta = readMeta(root);
  const spec = root.get("spec").only(SPEC_KEYS);
  if (spec.absent) spec.refuse("a map");
  const annotations = readAnnotations(root, SERVICE_ANNOTATIONS);
  const type = readWord(spec.get("type"), TYPES) ?? "ClusterIP";
  // As a mere name has, a service of another proxy has nothing to serve.
  const servedAs = root.get("metadata").get("labels").get(PROXY_LABEL).absent
    ? type
    : "ExternalName";
  const found = readAddresses(root, servedAs);
  const list = spec.get("ports");
  const ports = readPorts(list, NODE_PORT_TYPES.has(servedAs));
  // Whatever else is wrong with the list has been told.
  const isEmpty = list.absent || (Array.isArray(list.value) && list.value.length === 0);
  const isFound = found.addresses.length + found.clusterAddresses.length > 0;
  if (isFound && isEmpty) list.fault("expected a port");
  const policy = readPolicy(spec, annotations);
  const ringSize = readRingSize(annotations);
  if (meta === undefined) return undefined;
  const { namespace, name, createdMs } = meta;
  const healthCheckPort = readHealthCheckPort(spec, servedAs, policy);
  const key = objectKey(namespace, name);
  const identity = { key, namespace, name, type };
  return { ...identity, ...found, ports, policy, healthCheckPort, ringSize, createdMs };
}

/** The port where nodes tell whether they have a backend, if the service's policy makes it so. */
function readHealthCheckPort(spec: Field, type: string, { externalLocal }: ServicePolicy): number {
  const port = readOptionalPort(spec.get("healthCheckNodePort"));
  return type === "LoadBalancer" && externalLocal ? port : 0;
}

/** The addresses by which a service is found: none where it is left to others. */
function readAddresses(
  root: Field,
  type: string,
): Pick<Service, "families" | "addresses" | "clusterAddresses"> {
  const spec = root.get("spec");
  const clusterFields = [spec.get("clusterIP"), ...spec.get("clusterIPs").items()].filter(
    ({ absent, value }) => !absent && value !== "",
  );
  const fields = spec.get("externalIPs").items();
  if (type === "LoadBalancer") {
    const wanted = spec.get("loadBalancerIP");
    if (!wanted.absent && wanted.value !== "") fields.push(wanted);
    for (const ingress of root.get("status").get("loadBalancer").get("ingress").items()) {
      const ip = ingress.get("ip");
      // Its load balancer wants the traffic, and sends it on to node ports.
      if (readWord(ingress.get("ipMode"), IP_MODES) === "Proxy") continue;
      if (!ip.absent) fields.push(ip);
      else if (ingress.get("hostname").absent) ingress.refuse("an ip or a hostname");
    }
  }
  const isHeadless = clusterFields.some(({ value }) => value === "None");
  if (type === "ExternalName" || isHeadless) {
    return { families: IPV4_ONLY, addresses: [], clusterAddresses: [] };
  }
  const said = readFamilies(spec);
  const addresses = readEach(fields, said);
  const clusterAddresses = readEach(clusterFields, said).filter((one) => !addresses.includes(one));
  const found = [...clusterAddresses, ...addresses].map(familyOf);
  return { families: said ?? familiesIn(found), addresses, clusterAddresses };
}

const IPV4_ONLY: readonly Family[] = ["ipv4"];
const IPV6_ONLY: readonly Family[] = ["ipv6"];

/** Of lists that are the same there is one. */
function familiesIn(found: readonly Family[]): readonly Family[] {
  if (!found.includes("ipv6")) return IPV4_ONLY;
  return found.includes("ipv4") ? FAMILIES : IPV6_ONLY;
}

/** As the object says; undefined where it leaves them to its addresses. */
function readFamilies(spec: Field): readonly Family[] | undefined {
  const policies = ["SingleStack", "PreferDualStack", "RequireDualStack"] as const;
  const policy = readWord(spec.get("ipFamilyPolicy"), policies) ?? "SingleStack";
  const words = spec.get("ipFamilies").items();
  const said = words.map((item) => readWord(item, ["IPv4", "IPv6"]));
  if (said.length > 0) return familiesIn(said.map((word) => (word === "IPv6" ? "ipv6" : "ipv4")));
  return policy === "SingleStack" ? undefined : FAMILIES;
}

/** Sorted, each once. */
function readEach(fields: readonly Field[], families: readonly Family[] | undefined): Address[] {
  const found = new Set<Address>();
  for (const field of fields) {
    const address = readAddress(field);
    if (address === undefined) continue;
    if (!isServable(address))
      field.fault("loopback, multicast and broadcast addresses can't be a service's");
    else if (families?.includes(familyOf(address)) === false) {
      field.warn("the address is left out: its family is not among spec.ipFamilies");
    } else found.add(address);
  }
  return [...found].sort(compareAddress);
}

/** Of the link (fe80::/10), multicast (ff00::/8), and ::/96 with loopback in it. */
const UNSERVABLE6 = ["fe80::/10", "ff00::/8", "::/96"].map(parsePrefix);

function isServable(address: Address): boolean {
  if (!isIpv4(address)) return !UNSERVABLE6.some((prefix) => prefixContains(prefix, address));
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

function readPorts(list: Field, withNodePorts: boolean): ServicePortSpec[] {
  const items = list.items();
  if (items.length > MAX_PORTS) list.fault(`${items.length} ports: expected at most ${MAX_PORTS}`);
  const ports: ServicePortSpec[] = [];
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  for (const item of items) {
    item.only(PORT_KEYS);
    const port = readPort(item.get("port"));
    const protocol = readProtocol(item.get("protocol"));
    const name = readPortName(item.get("name"));
    const nodePort = withNodePorts ? readOptionalPort(item.get("nodePort")) : 0;
    const target = item.get("targetPort");
    if (typeof target.value === "number") readPort(target);
    else target.text("a port number or a port's name");
    if (port === undefined || protocol === undefined || name === undefined) continue;
    if (name === "" && items.length > 1)
      item.get("name").fault("each of several ports needs a name");
    else if (names.has(name)) item.get("name").fault(`the second port with the name "${name}"`);
    if (numbers.has(`${port}/${protocol}`)) item.fault(`the second port ${port}/${protocol}`);
    names.add(name);
    numbers.add(`${port}/${protocol}`);
    const second = nodePort > 0 && nodePorts.has(`${nodePort}/${protocol}`);
    if (second) item.get("nodePort").fault(`the second node port ${nodePort}/${protocol}`);
    nodePorts.add(`${nodePort}/${protocol}`);
    ports.push({ name, port, protocol, nodePort });
  }
  return ports;
}

/** 0 where the object has none. */
function readOptionalPort(field: Field): number {
  if (field.absent || field.value === 0) return 0;
  return readPort(field) ?? 0;
}

function readPolicy(spec: Field, annotations: Annotations): ServicePolicy {
  const policy: ServicePolicy = {
    externalLocal: readWord(spec.get("externalTrafficPolicy"), TRAFFIC_POLICIES) === "Local",
    internalLocal: readWord(spec.get("internalTrafficPolicy"), TRAFFIC_POLICIES) === "Local",
    affinityMs: readAffinity(spec),
    ...readSourceRanges(spec, annotations),
    mode: readMode(annotations),
    algorithm: readAlgorithm(annotations),
    publishNotReady: spec.get("publishNotReadyAddresses").flag() ?? false,
  };
  // Most services have nothing to say: they share what they have.
  return isDeepStrictEqual(policy, DEFAULT_POLICY) ? DEFAULT_POLICY : policy;
}

function readAffinity(spec: Field): number {
  const affinity = readWord(spec.get("sessionAffinity"), ["None", "ClientIP"]);
  const config = spec.get("sessionAffinityConfig").only(new Set(["clientIP"]));
  const clientIp = config.get("clientIP").only(new Set(["timeoutSeconds"]));
  const expected = `seconds from 1 to ${DAY_SECONDS}`;
  const seconds = clientIp.get("timeoutSeconds").integer(expected, 1, DAY_SECONDS);
  return affinity === "ClientIP" ? (seconds ?? AFFINITY_SECONDS) * 1000 : 0;
}

function readSourceRanges(
  spec: Field,
  annotations: Annotations,
): Pick<ServicePolicy, "sourceRanges" | "sourceDeny"> {
  const items = spec.get("loadBalancerSourceRanges").items();
  const old = annotations.get(KNOWN_ANNOTATIONS.ranges);
  const texts = items.map((field) => ({ field, text: field.text("a prefix") ?? "" }));
  // As in Kubernetes, the annotation stands for a field that is empty.
  if (items.length === 0 && old !== undefined && old.text.trim() !== "") {
    for (const text of old.text.split(",")) texts.push({ field: old.field, text });
  }
  const ranges = texts.flatMap(({ field, text }) => readRange(field, text.trim()) ?? []);
  const found = annotations.get(ANNOTATIONS.rangesPolicy);
  const policy = found ?? annotations.get(KNOWN_ANNOTATIONS.rangesPolicy);
  const sourceDeny = policy?.text === "deny";
  if (policy !== undefined && !sourceDeny && policy.text !== "allow") {
    policy.field.refuse("allow or deny");
  }
  return { sourceRanges: texts.length === 0 ? undefined : ranges, sourceDeny };
}

/** As Kubernetes reads it, which takes 10.0.0.1/8 for 10.0.0.0/8. */
function readRange(field: Field, text: string): Prefix | undefined {
  try {
    const { address, length } = parseInterfaceAddress(text);
    return prefixOf(address, length);
  } catch (error) {
    if (error instanceof AddressError) return field.fault(error.message);
    throw error;
  }
}

function readMode(annotations: Annotations): ForwardingMode | undefined {
  const ours = annotations.get(ANNOTATIONS.mode);
  const found = ours ?? annotations.get(KNOWN_ANNOTATIONS.mode);
  const modes = ours === undefined ? MODES.filter((mode) => mode !== "hybrid") : MODES;
  const mode = modes.find((one) => one === found?.text);
  if (found !== undefined && mode === undefined) found.field.refuse(oneOf(modes));
  return mode;
}

function readAlgorithm(annotations: Annotations): Algorithm | undefined {
  const ours = annotations.get(ANNOTATIONS.algorithm);
  const found = ours ?? annotations.get(KNOWN_ANNOTATIONS.algorithm);
  const algorithm = ALGORITHMS.find((one) => one === found?.text);
  if (found !== undefined && algorithm === undefined) found.field.refuse(oneOf(ALGORITHMS));
  return algorithm;
}

/** One of some words; undefined when it is absent or, with a fault, something else. */
function readWord<const Word extends string>(
  field: Field,
  words: readonly Word[],
): Word | undefined {
  if (field.absent) return undefined;
  const found = words.find((word) => word === field.value);
  return found ?? field.refuse(oneOf(words));
}

function oneOf(words: readonly string[]): string {
  return words.length === 2 ? words.join(" or ") : `one of ${words.join(", ")}`;
}

function readRingSize(annotations: Annotations): number | undefined {
  const found = annotations.get(ANNOTATIONS.ringSize);
  if (found === undefined) return undefined;
  const size = Number(found.text);
  if (RING_SIZES.includes(size)) return size;
  return found.field.refuse(`one of ${RING_SIZES.join(", ")}`);
}
