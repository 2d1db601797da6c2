// SPDX-License-Identifier: Apache-2.0
// The lab's things as Kubernetes would tell of them.

import { join } from "node:path";
import { dump } from "js-yaml";
import { cgroupPath } from "../kernel/cgroup.ts";
import { namespacePath } from "../kernel/netns.ts";
import {
  type Address,
  type Family,
  familyOf,
  formatAddress,
  formatIpv4,
  formatIpv6,
  parseAddress,
} from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { formatPrefix } from "../net/prefix.ts";
import { type LabPlan, type NodePlan, type PodPlan, podNamed } from "./plan.ts";

/** A Kubernetes object, for YAML. */
export type Document = Readonly<Record<string, unknown>>;

/** What a lab has of a thing: IPv4's, and IPv6's where it has that. */
function ofLab<T>({ settings }: LabPlan, four: T, six: T): T[] {
  return settings.ipv6 ? [four, six] : [four];
}

function nodeDocument(plan: LabPlan, node: NodePlan): Document {
  const addresses: Address[] = ofLab<Address>(plan, node.address.address, node.address6.address);
  const prefixes = ofLab(plan, formatPrefix(node.podCidr), formatPrefix(node.podCidr6));
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: node.place.name },
    spec: { podCIDR: prefixes[0], podCIDRs: prefixes },
    status: {
      addresses: [
        ...addresses.map((address) => ({ type: "InternalIP", address: formatAddress(address) })),
        { type: "Hostname", address: node.place.name },
      ],
    },
  };
}

function podDocument(plan: LabPlan, pod: PodPlan): Document {
  const [host, inside] = pod.wire;
  const addresses = ofLab(plan, formatIpv4(pod.address), formatIpv6(pod.address6));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: pod.place.name,
      namespace: "default",
      annotations: {
        "ciliate.io/device": host.device,
        "ciliate.io/mac": formatMac(inside.mac),
        "ciliate.io/netns": namespacePath(pod.place.namespace),
      },
    },
    spec: { nodeName: pod.node },
    status: {
      phase: "Running",
      podIP: addresses[0],
      podIPs: addresses.map((ip) => ({ ip })),
    },
  };
}

/** The manifests of every node: the whole cluster's nodes and pods, by file name. */
export function clusterManifests(plan: LabPlan): Record<string, Document[]> {
  return {
    "nodes.yaml": plan.nodes.map((node) => nodeDocument(plan, node)),
    "pods.yaml": plan.nodes.flatMap(({ pods }) => pods.map((pod) => podDocument(plan, pod))),
  };
}

/** A backend of a service: a pod, or a node by its own address; ready unless said otherwise. */
export interface BackendSpec {
  readonly pod: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
}

export interface ServicePort {
  /** Needed when there are several. */
  readonly name?: string;
  readonly port: number;
  readonly targetPort: number;
  /** TCP unless said otherwise. */
  readonly protocol?: "TCP" | "UDP" | "SCTP";
  readonly nodePort?: number;
}

/** A service of the lab. */
export interface ServiceSpec {
  readonly name: string;
  /** `default` unless said otherwise. */
  readonly namespace?: string;
  /** LoadBalancer addresses, of either family. */
  readonly addresses: readonly string[];
  readonly externalIps?: readonly string[];
  readonly clusterIps?: readonly string[];
  /** Those of its addresses unless said otherwise; IPv4 if it has none. */
  readonly families?: readonly Family[];
  readonly ports: readonly ServicePort[];
  /** Pods by name, or with their conditions. */
  readonly backends: readonly (string | BackendSpec)[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** More keys of the Service's spec. */
  readonly spec?: Readonly<Record<string, unknown>>;
}

const protocolOf = ({ protocol }: ServicePort): string => protocol ?? "TCP";

const named = ({ name }: ServicePort): { name?: string } => (name === undefined ? {} : { name });

const WORDS = { ipv4: "IPv4", ipv6: "IPv6" } as const;

/** Each once, in the order of its addresses. */
function familiesOf(service: ServiceSpec): readonly Family[] {
  const { addresses, externalIps = [], clusterIps = [], families } = service;
  const all = [...clusterIps, ...addresses, ...externalIps].map((text) =>
    familyOf(parseAddress(text)),
  );
  const found = new Set(families ?? all);
  return found.size === 0 ? ["ipv4"] : [...found];
}

function serviceDocument(service: ServiceSpec): Document {
  const external = service.externalIps ?? [];
  const families = familiesOf(service);
  const [clusterIp] = service.clusterIps ?? [];
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: service.name,
      namespace: service.namespace ?? "default",
      ...(service.annotations === undefined ? {} : { annotations: service.annotations }),
    },
    spec: {
      type: "LoadBalancer",
      ipFamilies: families.map((family) => WORDS[family]),
      ipFamilyPolicy: families.length > 1 ? "RequireDualStack" : "SingleStack",
      ...(clusterIp === undefined
        ? {}
        : { clusterIP: clusterIp, clusterIPs: [...(service.clusterIps ?? [])] }),
      ports: service.ports.map((port) => ({
        ...named(port),
        protocol: protocolOf(port),
        port: port.port,
        targetPort: port.targetPort,
        ...(port.nodePort === undefined ? {} : { nodePort: port.nodePort }),
      })),
      ...(external.length === 0 ? {} : { externalIPs: external }),
      ...service.spec,
    },
    status: { loadBalancer: { ingress: service.addresses.map((ip) => ({ ip })) } },
  };
}

/** Where a backend is, and its address: a node stands for a pod with hostNetwork. */
function hostOf(
  plan: LabPlan,
  name: string,
  family: Family,
): { readonly node: string; readonly address: Address } {
  const host = plan.nodes.find(({ place }) => place.name === name);
  if (host !== undefined) {
    return { node: name, address: (family === "ipv4" ? host.address : host.address6).address };
  }
  const pod = podNamed(plan, name);
  return { node: pod.node, address: family === "ipv4" ? pod.address : pod.address6 };
}

function endpointOf(plan: LabPlan, backend: string | BackendSpec, family: Family): Document {
  const spec = typeof backend === "string" ? { pod: backend } : backend;
  const { ready = true, serving = ready, terminating = false } = spec;
  const { node, address } = hostOf(plan, spec.pod, family);
  return {
    addresses: [formatAddress(address)],
    conditions: { ready, serving, terminating },
    nodeName: node,
    targetRef: { kind: "Pod", name: spec.pod, namespace: "default" },
  };
}

function sliceDocument(plan: LabPlan, service: ServiceSpec, family: Family): Document {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${service.name}-${family}`,
      namespace: service.namespace ?? "default",
      labels: { "kubernetes.io/service-name": service.name },
    },
    addressType: WORDS[family],
    ports: service.ports.map((port) => ({
      ...named(port),
      protocol: protocolOf(port),
      port: port.targetPort,
    })),
    endpoints: service.backends.map((backend) => endpointOf(plan, backend, family)),
  };
}

/** The Service and an EndpointSlice for each of its families. */
export function serviceDocuments(plan: LabPlan, service: ServiceSpec): Document[] {
  const slices = familiesOf(service).map((family) => sliceDocument(plan, service, family));
  return [serviceDocument(service), ...slices];
}

/** The file in a node's manifests that holds a service. */
export function serviceFile(name: string, namespace = "default"): string {
  return `service-${namespace}-${name}.yaml`;
}

const isKeys = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function merge(base: Document, over: Document): Document {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isKeys(below) && isKeys(value) ? merge(below, value) : value;
  }
  return merged;
}

/** A node's configuration file. */
export function nodeConfig(plan: LabPlan, node: NodePlan): Document {
  const { settings } = plan;
  const [, address6] = ofLab(plan, undefined, formatIpv6(node.address6.address));
  const own = {
    node: {
      name: node.place.name,
      address: formatIpv4(node.address.address),
      ...(address6 === undefined ? {} : { address6 }),
    },
    ipv6: settings.ipv6 ? "auto" : "off",
    devices: [node.wire[0].device],
    acceleration: settings.acceleration,
    encapsulate: settings.encapsulate,
    dispatch: settings.dispatch,
    manifests: [node.paths.manifests],
    // Of the node and its pods, and of nobody else on the machine.
    socket: { cgroup: cgroupPath(node.place.cgroup) },
    paths: { bpffs: node.paths.pins, runtime: node.paths.state, socket: node.paths.socket },
    // Several nodes share one machine's memory.
    tables: { services: 16_384, backends: 65_536, ringEntries: 4_194_304 },
  };
  const special = settings.nodeConfig[node.place.name] ?? {};
  return merge(merge(own, settings.config), special);
}

/** The documents as one YAML file. */
export function manifestText(documents: readonly Document[]): string {
  return documents.map((document) => dump(document)).join("---\n");
}

/** A node's manifest path for a file name; throws on one that would leave the directory. */
export function manifestPath(node: NodePlan, file: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*\.ya?ml$/.test(file)) {
    throw new TypeError(`${JSON.stringify(file)} is no manifest's file name: expected NAME.yaml`);
  }
  return join(node.paths.manifests, file);
}
