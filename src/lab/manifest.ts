// SPDX-License-Identifier: Apache-2.0
// The lab's things as Kubernetes would tell of them.

import { join } from "node:path";
import { dump } from "js-yaml";
import { cgroupPath } from "../kernel/cgroup.ts";
import { namespacePath } from "../kernel/netns.ts";
import { formatIpv4 } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { formatPrefix } from "../net/prefix.ts";
import { type LabPlan, type NodePlan, type PodPlan, podNamed } from "./plan.ts";

/** A Kubernetes object, for YAML. */
export type Document = Readonly<Record<string, unknown>>;

function nodeDocument(node: NodePlan): Document {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: node.place.name },
    spec: { podCIDR: formatPrefix(node.podCidr) },
    status: {
      addresses: [
        { type: "InternalIP", address: formatIpv4(node.address.address) },
        { type: "Hostname", address: node.place.name },
      ],
    },
  };
}

function podDocument(pod: PodPlan): Document {
  const [host, inside] = pod.wire;
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
    status: { phase: "Running", podIP: formatIpv4(pod.address) },
  };
}

/** The manifests of every node: the whole cluster's nodes and pods, by file name. */
export function clusterManifests(plan: LabPlan): Record<string, Document[]> {
  return {
    "nodes.yaml": plan.nodes.map(nodeDocument),
    "pods.yaml": plan.nodes.flatMap(({ pods }) => pods.map(podDocument)),
  };
}

/** A backend of a service: a pod, ready unless said otherwise. */
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
  readonly protocol?: "TCP" | "UDP";
  readonly nodePort?: number;
}

/** A service of the lab. */
export interface ServiceSpec {
  readonly name: string;
  /** `default` unless said otherwise. */
  readonly namespace?: string;
  /** LoadBalancer addresses. */
  readonly addresses: readonly string[];
  readonly externalIps?: readonly string[];
  readonly ports: readonly ServicePort[];
  /** Pods by name, or with their conditions. */
  readonly backends: readonly (string | BackendSpec)[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** More keys of the Service's spec. */
  readonly spec?: Readonly<Record<string, unknown>>;
}

const protocolOf = ({ protocol }: ServicePort): string => protocol ?? "TCP";

const named = ({ name }: ServicePort): { name?: string } => (name === undefined ? {} : { name });

function serviceDocument(service: ServiceSpec): Document {
  const external = service.externalIps ?? [];
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

function endpointOf(plan: LabPlan, backend: string | BackendSpec): Document {
  const spec = typeof backend === "string" ? { pod: backend } : backend;
  const { ready = true, serving = ready, terminating = false } = spec;
  const pod = podNamed(plan, spec.pod);
  return {
    addresses: [formatIpv4(pod.address)],
    conditions: { ready, serving, terminating },
    nodeName: pod.node,
    targetRef: { kind: "Pod", name: spec.pod, namespace: "default" },
  };
}

/** The Service and its EndpointSlice. */
export function serviceDocuments(plan: LabPlan, service: ServiceSpec): Document[] {
  const slice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${service.name}-lab`,
      namespace: service.namespace ?? "default",
      labels: { "kubernetes.io/service-name": service.name },
    },
    addressType: "IPv4",
    ports: service.ports.map((port) => ({
      ...named(port),
      protocol: protocolOf(port),
      port: port.targetPort,
    })),
    endpoints: service.backends.map((backend) => endpointOf(plan, backend)),
  };
  return [serviceDocument(service), slice];
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
  const own = {
    node: { name: node.place.name, address: formatIpv4(node.address.address) },
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
