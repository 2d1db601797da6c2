// SPDX-License-Identifier: Apache-2.0
// The small world in which sequences play: who there is, and at which addresses.

import { type Ipv4, parseIpv4 } from "../../src/net/address.ts";
import { type Mac, parseMac } from "../../src/net/mac.ts";
import { type Prefix4, parsePrefix4 } from "../../src/net/prefix.ts";

const addresses = (...texts: readonly string[]): readonly Ipv4[] => texts.map(parseIpv4);

/** By how routing answers for them. */
export const CLIENTS = addresses(
  "198.51.100.7", // through the first uplink
  "198.51.100.8",
  "203.0.113.9", // through the second uplink, which has the smaller MTU
  "100.64.0.5", // its gateway's MAC isn't known
  "240.1.2.3", // no route
);

export const SERVICES = addresses("192.0.2.80", "192.0.2.81", "192.0.2.82");
/** Nobody's. */
export const STRANGER = parseIpv4("198.18.0.1");

/** Pods of the two nodes that are played, of a third one, and of one that no route leads to. */
export const PODS = addresses(
  "10.1.0.11",
  "10.1.0.12",
  "10.1.0.13",
  "10.2.0.21",
  "10.2.0.22",
  "10.2.0.23",
  "10.3.0.31",
  "10.4.0.41",
  "10.99.0.1",
);
/** Which of the pods are on which node. */
export const PODS_OF_NODE = [
  [0, 1, 2],
  [3, 4, 5],
] as const;

/** The address of a port that is served at the nodes' addresses. */
export const AT_NODES = -1;

/** Service ports: where clients find them and where pods serve them. */
export const SERVICE_PORTS = [
  { address: 0, port: 80, protocol: 6, podPort: 8080 },
  { address: 1, port: 80, protocol: 6, podPort: 8080 }, // two addresses of the same pods
  { address: 2, port: 443, protocol: 6, podPort: 8081 },
  { address: 0, port: 53, protocol: 17, podPort: 5353 },
  { address: 1, port: 53, protocol: 17, podPort: 5353 },
  { address: 2, port: 8080, protocol: 6, podPort: 8080 },
  { address: AT_NODES, port: 30_080, protocol: 6, podPort: 8080 },
  { address: AT_NODES, port: 30_053, protocol: 17, podPort: 5353 },
  { address: 0, port: 3868, protocol: 132, podPort: 3868 }, // SCTP keeps its ports
  { address: 1, port: 3868, protocol: 132, podPort: 3868 },
] as const;

export const NODES = addresses("172.16.0.1", "172.16.0.2", "172.16.0.3");
export const LOAD_BALANCER = parseIpv4("172.31.7.7");
export const OUTER_PREFIX = parseIpv4("172.20.0.0");
export const OUTER_HOST_MASK = 0xffff;

export const CLIENT_PORTS = [40_000, 40_001, 40_002, 0, 65_535] as const;

/** Prefixes whose IPIP may be trusted. */
export const PREFIXES = [
  "172.16.0.1/32",
  "172.16.0.2/32",
  "172.16.0.0/24",
  "172.31.0.0/16",
  "172.20.0.0/16",
  "0.0.0.0/0",
].map(parsePrefix4);

/** Prefixes that services may list as those of their clients. */
export const PREFIXES_OF_CLIENTS = [
  "198.51.100.7/32",
  "198.51.100.0/24",
  "203.0.113.0/28",
  "128.0.0.0/1",
  "0.0.0.0/0",
].map(parsePrefix4);

export interface Gateway {
  readonly device: "up0" | "up1";
  readonly address: Ipv4;
  readonly mac: Mac | undefined;
}

const UP0: Gateway = {
  device: "up0",
  address: parseIpv4("172.16.0.254"),
  mac: parseMac("02:00:00:00:fe:00"),
};
const UP1: Gateway = {
  device: "up1",
  address: parseIpv4("172.17.0.254"),
  mac: parseMac("02:00:00:00:fe:01"),
};
const SILENT: Gateway = { device: "up1", address: parseIpv4("172.17.0.253"), mac: undefined };
export const GATEWAYS = [UP0, UP1, SILENT] as const;

/** Nodes that are neighbours on the first uplink; the third one's MAC isn't known. */
export const NODE_MACS = [parseMac("02:00:00:00:04:00"), parseMac("02:00:00:00:04:01")] as const;

export const UPLINK_MACS = {
  up0: parseMac("02:00:00:00:03:00"),
  up1: parseMac("02:00:00:00:03:01"),
} as const;
export const MTU = { up0: 1500, up1: 1400 } as const;
export const UPLINK_ADDRESSES = {
  // No node's: the nodes share one namespace.
  up0: { address: parseIpv4("172.16.0.99"), length: 24 },
  up1: { address: parseIpv4("172.17.0.1"), length: 24 },
} as const;

/** Routes of both nodes. */
export const ROUTES: readonly { readonly to: Prefix4; readonly gateway: Gateway }[] = (
  [
    ["198.51.100.0/24", UP0],
    ["203.0.113.0/24", UP1],
    ["100.64.0.0/16", SILENT],
    ["10.1.0.0/16", UP0],
    ["10.2.0.0/16", UP0],
    ["10.3.0.0/16", UP1],
    ["10.4.0.0/16", SILENT],
  ] as const
).map(([to, gateway]) => ({ to: parsePrefix4(to), gateway }));

/** TCP sockets that a pod has, established. */
export const SOCKETS = [
  { pod: 0, port: 8080, client: 0, clientPort: 40_001 },
  { pod: 1, port: 8080, client: 1, clientPort: 40_001 },
  { pod: 2, port: 8081, client: 0, clientPort: 40_002 },
  { pod: 3, port: 8080, client: 0, clientPort: 40_001 },
  { pod: 4, port: 8081, client: 2, clientPort: 40_002 },
] as const;
/** Sockets by which pods talk to each other, without a service. */
export const DIRECT_SOCKETS = [
  { pod: 2, port: 40_002, peer: 0, peerPort: 8080, protocol: 6 },
  { pod: 2, port: 40_001, peer: 3, peerPort: 8080, protocol: 6 },
  { pod: 0, port: 40_000, peer: 4, peerPort: 8081, protocol: 6 },
  { pod: 4, port: 40_000, peer: 0, peerPort: 8080, protocol: 6 },
  { pod: 2, port: 40_002, peer: 0, peerPort: 5353, protocol: 17 },
  { pod: 3, port: 40_001, peer: 1, peerPort: 5353, protocol: 17 },
] as const;
/** Pods that have listening sockets on all their TCP ports. */
export const LISTENING_PODS = [0, 1, 2, 3, 4] as const;
export const LISTENING_PORTS = [8080, 8081] as const;
/** Sockets of pods that wait for whoever comes, at ports that clients use. */
export const WAITING_SOCKETS = [
  { pod: 1, port: 40_000, protocol: 6 },
  { pod: 3, port: 40_000, protocol: 6 },
  { pod: 1, port: 40_000, protocol: 17 },
  { pod: 4, port: 40_002, protocol: 17 },
] as const;
/** Ports at which the nodes themselves have a listening socket, or one that isn't connected. */
export const OWN_SOCKETS = { tcp: 40_002, udp: 40_001 } as const;
/** The number of the namespace in which all pods' sockets are. */
export const SOCKETS_NETNS = 7;

export const UPLINKS = ["up0", "up1"] as const;
/** Device of a pod, on the node's side. */
export const podDevice = (pod: number): string => `pod${pod}`;
export const podMac = (pod: number): Mac => (0x020000000100 + pod) as Mac;
export const nodeMac = (pod: number): Mac => (0x020000000200 + pod) as Mac;
