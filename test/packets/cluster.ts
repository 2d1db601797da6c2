// SPDX-License-Identifier: Apache-2.0
// The cluster of the packet tests, as YAML that the agent's own sources read: this node, a second
// one, their pods, and services whose names say what is special about them.

import { formatIpv4, type Ipv4, parseIpv4 } from "../../src/net/address.ts";
import { formatMac, type Mac, parseMac } from "../../src/net/mac.ts";
import {
  NODE_MACS,
  NODES,
  nodeMac,
  PODS,
  podDevice,
  podMac,
  UPLINK_MACS,
} from "../differential/places.ts";

const address = (list: readonly Ipv4[], index: number): Ipv4 => {
  const found = list[index];
  if (found === undefined) throw new RangeError(`there is no address number ${index}`);
  return found;
};

/** This node, through whose programs all packets go, and another one. */
export const NODE = address(NODES, 0);
export const OTHER_NODE = address(NODES, 1);

/** Pods of this node, with the MACs of both ends of their devices. */
export const NEAR = address(PODS, 0);
export const NEAR_TWO = address(PODS, 1);
/** A pod of this node that is a backend of nothing. */
export const IDLE = address(PODS, 2);
export const NEAR_MAC = podMac(0);
export const NEAR_NODE_MAC = nodeMac(0);
export const NEAR_TWO_MAC = podMac(1);
export const NEAR_TWO_NODE_MAC = nodeMac(1);
/** Pods of other nodes: behind the first uplink, behind the second, and behind nobody's MAC. */
export const FAR = address(PODS, 3);
export const FAR_TWO = address(PODS, 4);
export const SMALL_MTU = address(PODS, 6);
export const SILENT = address(PODS, 7);
export const NOWHERE = address(PODS, 8);

export const CLIENT = parseIpv4("198.51.100.7");
/** Clients behind a gateway without a MAC, and behind nothing. */
export const SILENT_CLIENT = parseIpv4("100.64.0.5");
export const LOST_CLIENT = parseIpv4("240.1.2.3");

export const LOAD_BALANCER = parseIpv4("172.31.7.7");
export const STRANGER = parseIpv4("198.18.0.1");

/** The router that brings clients' packets. */
export const ROUTER_MAC: Mac = parseMac("02:aa:bb:cc:dd:01");
/** Of this node's uplinks, and of the gateways on them. */
export const UPLINK_MAC = UPLINK_MACS.up0;
export const SECOND_UPLINK_MAC = UPLINK_MACS.up1;
export const GATEWAY_MAC: Mac = parseMac("02:00:00:00:fe:00");
export const SECOND_GATEWAY_MAC: Mac = parseMac("02:00:00:00:fe:01");
/** Of the other node, on the first uplink. */
export const OTHER_NODE_MAC: Mac = NODE_MACS[1];

interface ServiceSpec {
  readonly address: Ipv4;
  readonly port: number;
  readonly targetPort: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
  readonly backends: readonly Ipv4[];
}

const service = (
  last: number,
  backends: readonly Ipv4[],
  more: Partial<ServiceSpec> = {},
): ServiceSpec => ({
  address: parseIpv4(`192.0.2.${last}`),
  port: 80,
  targetPort: 8080,
  protocol: "TCP",
  backends,
  ...more,
});

const DNS = { port: 53, targetPort: 5353, protocol: "UDP" } as const;

/** SCTP's ports stay as they are. */
const TALK = { port: 3868, targetPort: 3868, protocol: "SCTP" } as const;

/** Every service has one port and, but for the moved ones, one backend or none. */
export const SERVICES = {
  far: service(1, [FAR]),
  farDns: service(1, [FAR], DNS),
  near: service(2, [NEAR]),
  nearDns: service(2, [NEAR], DNS),
  /** A second address of the same pod and port. */
  nearToo: service(3, [NEAR]),
  empty: service(4, []),
  smallMtu: service(5, [SMALL_MTU]),
  silent: service(6, [SILENT]),
  nowhere: service(7, [NOWHERE]),
  /** Was the far pod's, is the near one's. */
  cameNear: service(8, [NEAR]),
  cameNearDns: service(8, [NEAR], DNS),
  /** Was the near pod's, is the far one's. */
  wentFar: service(9, [FAR]),
  wentFarDns: service(9, [FAR], DNS),
  /** Was a near pod's, is another one's of this node. */
  stayedNear: service(10, [NEAR_TWO]),
  farTalk: service(1, [FAR], TALK),
  nearTalk: service(2, [NEAR], TALK),
  nearTalkToo: service(3, [NEAR], TALK),
  emptyTalk: service(4, [], TALK),
  /** The node itself, by its own address. */
  here: service(12, [NODE]),
  hereDns: service(12, [NODE], DNS),
  /** Was a pod's to which no route leads. */
  cameFromNowhere: service(11, [NEAR]),
} as const satisfies Record<string, ServiceSpec>;

/** As in the IP header. */
export function protocolOf(name: keyof typeof SERVICES): number {
  return { TCP: 6, UDP: 17, SCTP: 132 }[SERVICES[name].protocol];
}

/** What came before, for the services that moved. */
export const BEFORE: Partial<Record<keyof typeof SERVICES, readonly Ipv4[]>> = {
  cameNear: [FAR],
  cameNearDns: [FAR],
  wentFar: [NEAR],
  wentFarDns: [NEAR],
  stayedNear: [NEAR],
  cameFromNowhere: [NOWHERE],
};

const nodeName = (backend: Ipv4): string =>
  [NEAR, NEAR_TWO, IDLE, NODE].includes(backend) ? "this" : "other";

function nodeYaml(name: string, ip: Ipv4): string {
  return `
apiVersion: v1
kind: Node
metadata: {name: ${name}}
status: {addresses: [{type: InternalIP, address: ${formatIpv4(ip)}}]}
`;
}

function podYaml(pod: Ipv4): string {
  const number = PODS.indexOf(pod);
  const annotations =
    nodeName(pod) === "this"
      ? `ciliate.io/device: ${podDevice(number)}, ciliate.io/mac: "${formatMac(podMac(number))}"`
      : "";
  return `
apiVersion: v1
kind: Pod
metadata: {name: pod-${number}, namespace: default, annotations: {${annotations}}}
spec: {nodeName: ${nodeName(pod)}}
status: {phase: Running, podIP: ${formatIpv4(pod)}}
`;
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function serviceYaml(name: string, spec: ServiceSpec): string {
  const { port, targetPort, protocol } = spec;
  return `
apiVersion: v1
kind: Service
metadata: {name: ${kebab(name)}, namespace: default}
spec:
  type: LoadBalancer
  ports: [{port: ${port}, targetPort: ${targetPort}, protocol: ${protocol}}]
status: {loadBalancer: {ingress: [{ip: ${formatIpv4(spec.address)}}]}}
`;
}

function sliceYaml(name: string, spec: ServiceSpec, backends: readonly Ipv4[]): string {
  const endpoints = backends.map(
    (pod) =>
      `{addresses: [${formatIpv4(pod)}], conditions: {ready: true}, nodeName: ${nodeName(pod)}}`,
  );
  return `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${kebab(name)}-slice
  namespace: default
  labels: {kubernetes.io/service-name: ${kebab(name)}}
addressType: IPv4
ports: [{port: ${spec.targetPort}, protocol: ${spec.protocol}}]
endpoints: [${endpoints.join(", ")}]
`;
}

const specs: [string, ServiceSpec][] = Object.entries(SERVICES);

/** Everything as it was at first. */
export function clusterYaml(): string {
  return [
    nodeYaml("this", NODE),
    nodeYaml("other", OTHER_NODE),
    ...PODS.map(podYaml),
    ...specs.map(([name, spec]) => serviceYaml(name, spec)),
    ...specs.map(([name, spec]) =>
      sliceYaml(name, spec, BEFORE[name as keyof typeof SERVICES] ?? spec.backends),
    ),
  ].join("---");
}

/** The slices of the services that move, as they are now. */
export function movedYaml(): string {
  const moved = specs.filter(([name]) => name in BEFORE);
  return moved.map(([name, spec]) => sliceYaml(name, spec, spec.backends)).join("---");
}
