// SPDX-License-Identifier: Apache-2.0
// What may happen in a sequence. Events are plain values that stand for themselves, so that a
// sequence with some of them left out is a sequence too. Places are indexes into places.ts.

import type { Mac } from "../../src/net/mac.ts";

export type NodeIndex = 0 | 1;

/** A TCP, UDP or SCTP packet of a client, whole or not. What is left out is as usual. */
export interface PacketSpec {
  readonly client: number;
  /** A pod is the client, and the packet comes from a pod's device: its own if all is well. */
  readonly inside?: { readonly pod: number; readonly device: number };
  /** The node itself is the client, by an uplink. */
  readonly own?: boolean;
  readonly clientPort: number;
  /** Index into SERVICE_PORTS; -1: no service's address. */
  readonly service: number;
  /** Of a port at the nodes: whose address, as an index of nodes; the node's own when left out. */
  readonly at?: number;
  /** Instead of the service's: a pod's address and port, as plain packets have. */
  readonly pod?: number;
  readonly protocol?: number;
  /** A port that is no service's. */
  readonly port?: number;
  /** It is ICMP of this type instead. */
  readonly icmpType?: number;
  /** Of SCTP, those that its first chunk stands in for. */
  readonly tcpFlags?: number;
  readonly payloadBytes?: number;
  readonly ttl?: number;
  readonly dscp?: number;
  readonly ecn?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In bytes. */
  readonly fragmentOffset?: number;
  /** Of the packet whose piece it is. */
  readonly id?: number;
  readonly ipOptionBytes?: number;
  /** Of the innermost header of IPv6; IPv4 has none. */
  readonly extensions?: readonly Extension[];
  /** Its header says by an option that it is for the service. */
  readonly option?: boolean;
  readonly tcpOptions?: readonly number[];
  readonly checksum?: "right" | "none" | "wrong";
  readonly trailerBytes?: number;
  readonly vlan?: boolean;
  /** The frame's destination; the uplink's when left out. */
  readonly mac?: Mac;
  readonly outer?: OuterSpec;
  /** It is an ICMP error about a reply of the flow instead, which the rest describes. */
  readonly error?: ErrorSpec;
  /** Bytes overwritten at the end, counted from the start of the frame. */
  readonly bytes?: readonly (readonly [at: number, value: number])[];
  /** The frame ends after so many bytes. */
  readonly cutBytes?: number | undefined;
  readonly gsoSize?: number;
}

/** An extension header; a waypoint is a routing header that has segments left. */
export interface Extension {
  readonly kind: "hopByHop" | "destinationOptions" | "routing" | "waypoint" | "atomic";
  /** Of eight bytes; a fragment header has one. */
  readonly units: number;
}

/** An ICMP packet of a router. */
export interface ErrorSpec {
  readonly type: number;
  readonly code: number;
  /** The MTU, of a packet that was too big. */
  readonly rest: number;
  /** What it quotes of the reply, IPv4 header included. */
  readonly quotedBytes: number;
  readonly quotedOptionBytes: number;
  readonly quotedMoreFragments: boolean;
  readonly quotedFragmentOffset: number;
  readonly checksum: "right" | "wrong";
}

export const THE_NODE = -1;

/** An outer header as it comes from elsewhere. */
export interface OuterSpec {
  readonly from: "node" | "other node" | "load balancer" | "prefix" | "stranger";
  /** THE_NODE: the node itself, as notes have it. */
  readonly pod: number;
  readonly ttl: number;
  readonly ecn: number;
  readonly optionBytes: number;
  readonly moreFragments: boolean;
  readonly fragmentOffset: number;
  /** It is Geneve with this option, and Ethernet inside. */
  readonly geneve?: "service" | "none" | "other";
  /** It comes by the pod's node, behind a header of its own to that; how congested it was. */
  readonly byNode?: { readonly from: OuterSpec["from"]; readonly ecn: number };
  /** Added to the right total length. */
  readonly lengthError: number;
}

/** What the fabric does to what a node sends before it meets the next one. */
export interface FabricSpec {
  readonly routers: number;
  readonly congested: boolean;
}

export interface PacketEvent {
  readonly kind: "packet";
  readonly node: NodeIndex;
  /** Whether XDP is on the uplink. */
  readonly edge: boolean;
  readonly uplink: 0 | 1;
  readonly packet: PacketSpec;
  readonly fabric: FabricSpec;
}

/** A packet of a pod for a flow that the node has, or for none. */
export interface ReplyEvent {
  readonly kind: "reply";
  readonly node: NodeIndex;
  /** Where a reply to the node's own address comes in, and whether XDP is there. */
  readonly uplink: 0 | 1;
  readonly edge: boolean;
  /** It comes from a pod's device all the same. */
  readonly isForged: boolean;
  /** It is an ICMP error about what the client sent instead. */
  readonly error: ErrorSpec | undefined;
  /** Which of the node's REPLY entries, in the order of their keys and modulo their number. */
  readonly pick: number;
  readonly tcpFlags: number;
  readonly payloadBytes: number;
  readonly ttl: number;
  readonly tcpOptions: readonly number[];
  readonly checksum: "right" | "none" | "wrong";
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  readonly fragmentOffset: number;
  readonly id: number;
  readonly bytes: readonly (readonly [at: number, value: number])[];
  readonly cutBytes: number | undefined;
  readonly gsoSize: number;
}

/** A service port as a node has it from now on. */
export interface ServiceEvent {
  readonly kind: "service";
  readonly node: NodeIndex;
  /** Index into SERVICE_PORTS. */
  readonly service: number;
  readonly encapsulateFirst: boolean;
  readonly snat: boolean;
  /** Whether it was DSR before, or SNAT. */
  readonly wasOther: boolean;
  readonly affinity: boolean;
  /** New flows of SNAT, and of pods, go to any backend. */
  readonly random: boolean;
  /** Datagrams may be of flows of DSR, which it was a moment ago. */
  readonly lately: boolean;
  readonly reject: boolean;
  /** To which service port it leads who is inside; undefined: to where it leads all. */
  readonly internal: number | undefined;
  /** Indexes into PREFIXES_OF_CLIENTS; undefined: it has no source ranges. */
  readonly sources: { readonly listed: readonly number[]; readonly deny: boolean } | undefined;
  /** Pods that own slots. */
  readonly backends: readonly number[];
  /** The first of them of each slot. */
  readonly ring: readonly number[];
  /** Pods of the node that have a target. */
  readonly targets: readonly number[];
  /** Pods that owned slots, by slot. */
  readonly former: readonly { readonly slot: number; readonly owners: readonly number[] }[];
  readonly changedJiffiesAgo: number;
  /** What points outside its table, or for slots behind the service's last backend. */
  readonly broken: "row" | "ring" | "slots" | "backends" | "nexthop" | undefined;
}

export type StateEvent =
  /** Frontends of others, so that keys don't stand in their own buckets. */
  | {
      readonly kind: "crowd";
      readonly node: NodeIndex;
      /** Their ports, at an address to which nobody sends. */
      readonly ports: readonly number[];
      /** And ports at the node's own address. */
      readonly own: readonly number[];
    }
  /** Whose an address is that nodes have; `whose` is of NODE_ADDRESS, 0: no node's. */
  | {
      readonly kind: "node address";
      readonly node: NodeIndex;
      /** Index of nodes, or of services' addresses. */
      readonly of: "nodes" | "services";
      readonly index: number;
      readonly whose: number;
    }
  /** Other flows of a client to a pod use the first so many ports that a new flow could have. */
  | {
      readonly kind: "take ports";
      readonly node: NodeIndex;
      /** Index of clients, or of pods. */
      readonly client: number;
      readonly inside: boolean;
      readonly clientPort: number;
      readonly service: number;
      readonly pod: number;
      readonly ports: number;
      /** Ports of the node's that SNAT could give. */
      readonly snat: boolean;
      /** The flags that they have. */
      readonly flags: number;
    }
  | { readonly kind: "no service"; readonly node: NodeIndex; readonly service: number }
  | {
      readonly kind: "endpoint";
      readonly node: NodeIndex;
      readonly pod: number;
      readonly there: boolean;
      /** It is no pod, but the node itself. */
      readonly itself: boolean;
      readonly sockets: boolean;
    }
  | {
      readonly kind: "nexthop";
      readonly node: NodeIndex;
      readonly pod: number;
      readonly resolved: boolean;
      /** XDP can send by its device, if it is resolved. */
      readonly edge: boolean;
      readonly uplink: 0 | 1;
      readonly mtu: number;
      /** Whose address the outer source is, as an index of nodes. */
      readonly outerSource: number;
      /** The pod's node, as an index of nodes; -1: nobody knows. */
      readonly peer: number;
      readonly generation: number;
    }
  | {
      readonly kind: "trust";
      readonly node: NodeIndex;
      readonly prefixes: readonly { readonly prefix: number; readonly kind: number }[];
    }
  | { readonly kind: "age"; readonly node: NodeIndex; readonly jiffies: number }
  | {
      readonly kind: "forget";
      readonly node: NodeIndex;
      readonly pick: number;
      readonly half: "request" | "reply" | "both";
    }
  /** First pieces of others leave no room for those that were seen. */
  | { readonly kind: "flood"; readonly node: NodeIndex }
  | { readonly kind: "restart"; readonly node: NodeIndex };

export type Event = PacketEvent | ReplyEvent | ServiceEvent | StateEvent;
