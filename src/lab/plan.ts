// SPDX-License-Identifier: Apache-2.0
// What a lab consists of, decided before anything is made: every name, address and path.

import { join } from "node:path";
import { type Family, type Ipv4, type Ipv6, parseIpv4, parseIpv6 } from "../net/address.ts";
import { type Mac, macFromNumber } from "../net/mac.ts";
import {
  addressAt,
  type Prefix4,
  type Prefix6,
  parsePrefix4,
  prefixOf,
  subnetAt,
} from "../net/prefix.ts";

/** `usage`: the lab was asked for what it can't be. */
export type LabErrorCode = "usage" | "not-found" | "failed";

/** A failure of the lab itself; the text says the way out. */
export class LabError extends Error {
  override readonly name = "LabError";
  readonly code: LabErrorCode;

  constructor(message: string, code: LabErrorCode = "failed") {
    super(message);
    this.code = code;
  }
}

/** YAML's values, as they go into a node's configuration. */
export type ConfigValue =
  | string
  | number
  | boolean
  | readonly ConfigValue[]
  | { readonly [key: string]: ConfigValue };
export type ConfigKeys = Readonly<Record<string, ConfigValue>>;

/** What a lab may be asked to be; what is left out is as in `DEFAULTS`. */
export interface LabOptions {
  /** 1 to 12 lower-case letters and digits, the first a letter. */
  readonly name?: string;
  /** 1 to 32. */
  readonly nodes?: number;
  /** 0 to 200. */
  readonly podsPerNode?: number;
  readonly acceleration?: "native" | "generic" | "off";
  readonly encapsulate?: "all" | "first";
  readonly dispatch?: "ipip" | "geneve" | "option";
  /** Agents run from the bundle instead of the sources. */
  readonly bundle?: boolean;
  /** Whether agents are started by `createLab`. */
  readonly agents?: boolean;
  /** Of every wire, in bytes. */
  readonly mtu?: number;
  /**
   * Whether the pods' default routes offer a maximum segment size that leaves room for the outer
   * header, as the CNI plugin would see to.
   */
  readonly lowerMss?: boolean;
  /**
   * Whether all that has an IPv4 address has an IPv6 address, too; where the MTU is large enough
   * unless said otherwise.
   */
  readonly ipv6?: boolean;
  /** The nodes, by number from 1, that the switch sends the virtual IPs' packets to. */
  readonly balancers?: readonly number[];
  /** Keys of every node's configuration besides those that the lab sets. */
  readonly config?: ConfigKeys;
  /** The same for single nodes, by name ("node2"). */
  readonly nodeConfig?: Readonly<Record<string, ConfigKeys>>;
}

export type LabSettings = Required<LabOptions>;

export const DEFAULTS: LabSettings = {
  name: "lab",
  nodes: 3,
  podsPerNode: 4,
  acceleration: "native",
  encapsulate: "all",
  dispatch: "ipip",
  bundle: false,
  agents: true,
  mtu: 1500,
  lowerMss: true,
  ipv6: true,
  balancers: [1],
  config: {},
  nodeConfig: {},
};

/** Where one end of a wire is. */
export interface End {
  readonly place: string;
  readonly device: string;
  readonly mac: Mac;
}

/** Two ends of a wire: a veth pair. */
export type Wire = readonly [End, End];

/** A network namespace of the lab: the client, the switch, a node or a pod. */
export interface Place {
  readonly role: "client" | "switch" | "node" | "pod";
  /** What the lab's commands call it: client, switch, node1, pod1-2. */
  readonly name: string;
  /** Its name for `ip netns`. */
  readonly namespace: string;
  /** The cgroup of its processes, below the root of cgroup2. */
  readonly cgroup: string;
}

export interface PodPlan {
  readonly place: Place;
  readonly node: string;
  readonly address: Ipv4;
  readonly address6: Ipv6;
  /** Between the node (first) and the pod. */
  readonly wire: Wire;
  /** What the node's namespace knows the pod's namespace by. */
  readonly namespaceId: number;
}

export interface NodePlan {
  readonly place: Place;
  readonly index: number;
  /** Of its uplink, with the length of the uplink's network. */
  readonly address: Prefix4;
  readonly address6: Prefix6;
  readonly gateway: Ipv4;
  readonly gateway6: Ipv6;
  readonly podCidr: Prefix4;
  readonly podCidr6: Prefix6;
  /** Between the node (first) and the switch. */
  readonly wire: Wire;
  readonly pods: readonly PodPlan[];
  readonly paths: {
    /** Its directory: the agent's state, socket, configuration, log. */
    readonly state: string;
    readonly socket: string;
    readonly config: string;
    readonly manifests: string;
    readonly log: string;
    readonly pins: string;
  };
}

/** IPv6 addresses are those that the lab has, or would have: `settings.ipv6` says. */
export interface LabPlan {
  readonly settings: LabSettings;
  /** Its directory. */
  readonly state: string;
  readonly client: Place;
  readonly clientAddress: Prefix4;
  readonly clientAddress6: Prefix6;
  readonly clientGateway: Ipv4;
  readonly clientGateway6: Ipv6;
  /** Between the client (first) and the switch. */
  readonly clientWire: Wire;
  readonly switch: Place;
  readonly virtualIps: Prefix4;
  readonly virtualIps6: Prefix6;
  readonly nodes: readonly NodePlan[];
}

export const RUN_DIRECTORY = "/run/ciliate";
export const PIN_DIRECTORY = "/sys/fs/bpf/ciliate";
/** The directory of all labs' cgroups, below the root of cgroup2. */
export const CGROUP_PARENT = "ciliate-lab";
/** What pods take for their gateway: their node, as in every point-to-point pod network. */
export const POD_GATEWAY = parseIpv4("169.254.1.1");
export const POD_GATEWAY6 = parseIpv6("fe80::1");

const CLIENT_NETWORK = parsePrefix4("192.0.2.0/24");
const VIRTUAL_IPS = parsePrefix4("198.51.100.0/24");
const NODE_NETWORKS = parsePrefix4("10.0.0.0/16");
const POD_NETWORKS = parsePrefix4("10.244.0.0/16");
// Unique local ones (RFC 4193), written like those of IPv4.
const CLIENT_NETWORK6 = prefixOf(parseIpv6("fd00:192:0:2::"), 64);
const VIRTUAL_IPS6 = prefixOf(parseIpv6("fd00:198:51:100::"), 64);
const NODE_NETWORKS6 = prefixOf(parseIpv6("fd00:10::"), 48);
const POD_NETWORKS6 = prefixOf(parseIpv6("fd00:10:244::"), 48);
/** The last part of addresses of IPv6, read as the decimal digits of IPv4's. */
const CLIENT_HOST = { ipv4: 10, ipv6: 0x10 } as const;
const GATEWAY_HOST = { ipv4: 254, ipv6: 0x254 } as const;
/** Out of the way of the numbers that the kernel picks by itself, from 0 on. */
const FIRST_NAMESPACE_ID = 100;
const IP_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const TCP_HEADER_BYTES = 20;
/** RFC 8200: no link of IPv6 has less. */
const IPV6_LEAST_MTU = 1280;

/** Where a lab of this name keeps its things. */
export function labPaths(name: string): { state: string; pins: string; cgroup: string } {
  return {
    state: join(RUN_DIRECTORY, `lab-${name}`),
    pins: join(PIN_DIRECTORY, `lab-${name}`),
    cgroup: join(CGROUP_PARENT, name),
  };
}

/** What the names of a lab's namespaces begin with; no other lab's do, as names have no dash. */
export function namespacePrefix(name: string): string {
  return `cil-${name}-`;
}

function whole(what: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new LabError(`${what} of a lab: expected ${least} to ${most}, got ${value}`, "usage");
}

/** The options with their defaults; throws LabError naming the one that is wrong. */
export function settle(options: LabOptions): LabSettings {
  const { mtu = DEFAULTS.mtu, ipv6 = mtu >= IPV6_LEAST_MTU } = options;
  const settings = { ...DEFAULTS, ...options, ipv6 };
  if (!/^[a-z][a-z0-9]{0,11}$/.test(settings.name)) {
    throw new LabError(
      `${JSON.stringify(settings.name)} can't name a lab: expected 1 to 12 lower-case letters and digits, the first a letter`,
      "usage",
    );
  }
  whole("nodes", settings.nodes, 1, 32);
  whole("pods per node", settings.podsPerNode, 0, 200);
  whole("MTU", mtu, 576, 65535);
  if (ipv6) whole("MTU with IPv6", mtu, IPV6_LEAST_MTU, 65535);
  if (settings.balancers.length === 0) {
    throw new LabError("balancers of a lab: expected at least one node's number", "usage");
  }
  for (const index of settings.balancers) whole("balancer", index, 1, settings.nodes);
  return settings;
}

/** The kinds of devices, told apart in their MACs. */
const KIND = { client: 1, uplink: 2, switchPort: 3, podHost: 4, pod: 5 } as const;

/** 02:c1:00:KIND:NODE:POD, so that a capture can be read. */
function macFor(kind: number, node: number, pod = 0): Mac {
  return macFromNumber(0x02c1_0000_0000 + kind * 0x1_0000 + node * 0x100 + pod);
}

function placeOf(lab: string, role: Place["role"], name: string, below = name): Place {
  const cgroup = join(labPaths(lab).cgroup, below);
  return { role, name, namespace: `${namespacePrefix(lab)}${name}`, cgroup };
}

/** `value` as if its decimal digits were hexadecimal ones: pod 10 has ::10. */
function digits(value: number): number {
  return Number.parseInt(String(value), 16);
}

function planPod(lab: string, node: string, index: number, pod: number): PodPlan {
  const name = `pod${index}-${pod}`;
  return {
    place: placeOf(lab, "pod", name, join(node, name)),
    node,
    address: addressAt(subnetAt(POD_NETWORKS, 24, index), pod),
    address6: addressAt(subnetAt(POD_NETWORKS6, 64, digits(index)), digits(pod)),
    wire: [
      { place: node, device: name, mac: macFor(KIND.podHost, index, pod) },
      { place: name, device: "eth0", mac: macFor(KIND.pod, index, pod) },
    ],
    namespaceId: FIRST_NAMESPACE_ID + pod,
  };
}

function planNode(settings: LabSettings, index: number): NodePlan {
  const lab = settings.name;
  const name = `node${index}`;
  const network = subnetAt(NODE_NETWORKS, 24, index);
  const network6 = subnetAt(NODE_NETWORKS6, 64, digits(index));
  const paths = labPaths(lab);
  const state = join(paths.state, name);
  return {
    place: placeOf(lab, "node", name),
    index,
    address: { address: addressAt(network, 1), length: network.length },
    address6: { address: addressAt(network6, 1), length: network6.length },
    gateway: addressAt(network, GATEWAY_HOST.ipv4),
    gateway6: addressAt(network6, GATEWAY_HOST.ipv6),
    podCidr: subnetAt(POD_NETWORKS, 24, index),
    podCidr6: subnetAt(POD_NETWORKS6, 64, digits(index)),
    wire: [
      { place: name, device: "eth0", mac: macFor(KIND.uplink, index) },
      { place: "switch", device: name, mac: macFor(KIND.switchPort, index) },
    ],
    pods: Array.from({ length: settings.podsPerNode }, (_, pod) =>
      planPod(lab, name, index, pod + 1),
    ),
    paths: {
      state,
      socket: join(state, "ciliate.sock"),
      config: join(state, "config.yaml"),
      manifests: join(state, "manifests"),
      log: join(state, "agent.log"),
      pins: join(paths.pins, name),
    },
  };
}

/** The lab that these settings describe. */
export function planLab(settings: LabSettings): LabPlan {
  const lab = settings.name;
  return {
    settings,
    state: labPaths(lab).state,
    client: placeOf(lab, "client", "client"),
    clientAddress: {
      address: addressAt(CLIENT_NETWORK, CLIENT_HOST.ipv4),
      length: CLIENT_NETWORK.length,
    },
    clientAddress6: {
      address: addressAt(CLIENT_NETWORK6, CLIENT_HOST.ipv6),
      length: CLIENT_NETWORK6.length,
    },
    clientGateway: addressAt(CLIENT_NETWORK, GATEWAY_HOST.ipv4),
    clientGateway6: addressAt(CLIENT_NETWORK6, GATEWAY_HOST.ipv6),
    clientWire: [
      { place: "client", device: "eth0", mac: macFor(KIND.client, 0) },
      { place: "switch", device: "client", mac: macFor(KIND.switchPort, 0) },
    ],
    switch: placeOf(lab, "switch", "switch"),
    virtualIps: VIRTUAL_IPS,
    virtualIps6: VIRTUAL_IPS6,
    nodes: Array.from({ length: settings.nodes }, (_, index) => planNode(settings, index + 1)),
  };
}

/** Every namespace of a lab: client, switch, then each node with its pods. */
export function placesOf(plan: LabPlan): Place[] {
  const nodes = plan.nodes.flatMap((node) => [node.place, ...node.pods.map(({ place }) => place)]);
  return [plan.client, plan.switch, ...nodes];
}

/** The node of this name; throws LabError that lists them. */
export function nodeNamed(plan: LabPlan, name: string): NodePlan {
  const node = plan.nodes.find(({ place }) => place.name === name);
  if (node !== undefined) return node;
  const known = plan.nodes.map(({ place }) => place.name).join(", ");
  throw new LabError(
    `lab ${plan.settings.name} has no node ${name}: its nodes are ${known}`,
    "not-found",
  );
}

/** The pod of this name; throws LabError. */
export function podNamed(plan: LabPlan, name: string): PodPlan {
  const pod = plan.nodes.flatMap(({ pods }) => pods).find(({ place }) => place.name === name);
  if (pod !== undefined) return pod;
  throw new LabError(
    `lab ${plan.settings.name} has no pod ${name}: pods are named like pod1-2, the second of node1`,
    "not-found",
  );
}

/** The place of this name; throws LabError. */
export function placeNamed(plan: LabPlan, name: string): Place {
  const place = placesOf(plan).find((candidate) => candidate.name === name);
  if (place !== undefined) return place;
  throw new LabError(
    `lab ${plan.settings.name} has no ${name}: expected client, switch, node1 to node${plan.nodes.length}, or a pod like pod1-2`,
    "not-found",
  );
}

/** What the pods' routes offer as maximum segment size; undefined for what the MTU allows. */
export function podMss(
  { mtu, encapsulate, lowerMss }: LabSettings,
  family: Family = "ipv4",
): number | undefined {
  if (!lowerMss || encapsulate !== "all") return undefined;
  const header = family === "ipv4" ? IP_HEADER_BYTES : IPV6_HEADER_BYTES;
  return mtu - header - header - TCP_HEADER_BYTES;
}
