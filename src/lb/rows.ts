// SPDX-License-Identifier: Apache-2.0
import type { ServiceId } from "../datapath/gen/abi.ts";
import { type Address, anyOf, type Family, isIpv4 } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";

export type Protocol = "tcp" | "udp" | "sctp";

/** As in the IP header. */
export const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 };

const PROTOCOLS: readonly Protocol[] = ["tcp", "udp", "sctp"];

/** By its number in the IP header; undefined: none that services have. */
export function protocolOf(number: number): Protocol | undefined {
  return PROTOCOLS.find((name) => PROTOCOL_NUMBERS[name] === number);
}

/**
 * Whether packets have to get to a pod by the port to which they were sent: SCTP's checksum covers
 * ports, and the packet path can't mend it.
 */
export function keepsPorts(protocol: Protocol): boolean {
  return protocol === "sctp";
}

/** A row of the counters table; 0 is none: what finds no room there is not counted. */
export type CounterId = number & { readonly __brand: "CounterId" };

/** `namespace/name` of a Service or an EndpointSlice. */
export type ObjectKey = string;

/** A Service, as far as it concerns us. Key: `key`. */
export interface Service {
  readonly key: ObjectKey;
  readonly namespace: string;
  readonly name: string;
  /** As Kubernetes calls it: ClusterIP, LoadBalancer, …; HostPort for the ports of a pod. */
  readonly type: string;
  /** Of its addresses and of its clients at node ports, IPv4 first. */
  readonly families: readonly Family[];
  /** Addresses for clients outside: load balancer and external IPs, sorted, each once. */
  readonly addresses: readonly Address[];
  /** Addresses for pods and nodes only: cluster IPs, sorted, each once. */
  readonly clusterAddresses: readonly Address[];
  readonly ports: readonly ServicePortSpec[];
  readonly policy: ServicePolicy;
  /** Where nodes tell whether they have a backend; 0: nowhere. */
  readonly healthCheckPort: number;
  /** Slots of the ring, where an annotation names them. */
  readonly ringSize: number | undefined;
  /** Milliseconds since 1970, where the object says it: the older of two rivals wins. */
  readonly createdMs: number | undefined;
}

/** The type of a service that a pod's host ports make. */
export const HOST_PORT_TYPE = "HostPort";

/** Who may use a service, and which way its packets go. */
export interface ServicePolicy {
  /** externalTrafficPolicy Local: clients outside get pods of the node that they came to. */
  readonly externalLocal: boolean;
  /** internalTrafficPolicy Local: cluster IPs lead to pods of the client's node. */
  readonly internalLocal: boolean;
  /** For how long a client keeps its backend after its last connection, in ms; 0: not at all. */
  readonly affinityMs: number;
  /** Clients outside that may use the service, or may not; undefined: all may. */
  readonly sourceRanges: readonly Prefix[] | undefined;
  /** Whether the source ranges are those that may not. */
  readonly sourceDeny: boolean;
  /** Undefined: as the node's file says. */
  readonly mode: ForwardingMode | undefined;
  /** Undefined: as the node's file says. */
  readonly algorithm: Algorithm | undefined;
  /** Whether pods count as ready in any case. */
  readonly publishNotReady: boolean;
}

/** How packets get to backends of other nodes; `hybrid` is TCP by DSR and the rest by SNAT. */
export type ForwardingMode = "dsr" | "snat" | "hybrid";

/**
 * How a new flow finds its backend: by a hash of what it is, which every node finds again, or by
 * chance, which only who remembers the flow can.
 */
export type Algorithm = "maglev" | "random";

/** What a service has that says nothing of it. */
export const DEFAULT_POLICY: ServicePolicy = {
  externalLocal: false,
  internalLocal: false,
  affinityMs: 0,
  sourceRanges: undefined,
  sourceDeny: false,
  mode: undefined,
  algorithm: undefined,
  publishNotReady: false,
};

export interface ServicePortSpec {
  /** Empty when the service has one port without a name. */
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** At every node; 0: none. */
  readonly nodePort: number;
}

/** An EndpointSlice. Key: `key`. */
export interface EndpointSlice {
  readonly key: ObjectKey;
  /** The Service that it is a part of. */
  readonly service: ObjectKey;
  /** Of all its endpoints. */
  readonly family: Family;
  readonly ports: readonly SlicePort[];
  readonly endpoints: readonly SliceEndpoint[];
}

export interface SlicePort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
}

export interface SliceEndpoint {
  readonly address: Address;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Name of the node that the pod is on, empty when the slice doesn't say. */
  readonly node: string;
  /** Share of new flows relative to the others, 0 (none) to MAX_WEIGHT. */
  readonly weight: number;
}

/**
 * Why a backend gets new flows, or why it doesn't: `terminating` but serving, `joining` for the
 * moment that other nodes need to hear of it, `weightless` by its weight of 0, `left` when no slice
 * names it any more.
 */
export type BackendState =
  | "ready"
  | "terminating"
  | "not-ready"
  | "joining"
  | "weightless"
  | "left";

/** A pod in its role for one service port. */
export interface Backend {
  readonly address: Address;
  /** Where the pod serves it; may differ from the service's port. */
  readonly port: number;
  readonly weight: number;
  readonly node: string;
  /** Whether the pod is on this node. */
  readonly local: boolean;
  readonly counter: CounterId;
  readonly state: BackendState;
}

/**
 * One port of a service as it is in force for clients of one family: what the packet path has a row
 * for. It has a second one when a traffic policy says that some clients get pods of this node only.
 * Key: `key`.
 */
export interface ServicePort extends PortFrontends {
  readonly key: string;
  readonly id: ServiceId;
  readonly service: ObjectKey;
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** Whether only pods of this node get flows. */
  readonly local: boolean;
  readonly policy: ServicePolicy;
  /** Whether backends of other nodes get this node's address as the client's. */
  readonly snat: boolean;
  /** Whether new flows go to a backend by chance; with `snat` only. */
  readonly random: boolean;
  /** Whether flows of a time before may go on by the other way than new ones. */
  readonly wasOther: boolean;
  /** Whether that was so short a time ago that any flow of UDP may be of then. */
  readonly lately: boolean;
  /** Whether clients are told when there is no backend. */
  readonly reject: boolean;
  /** Who gets new flows, in the order to which the ring's slots point. */
  readonly backends: readonly Backend[];
  /** Slot → index into `backends`; empty when there is none. A function of backends and size. */
  readonly ring: Uint16Array;
  /** Pods that keep the flows they have and get no new ones, in order of address. */
  readonly draining: readonly Backend[];
  /** Who owned the ring's slots before and still lives. */
  readonly former: FormerOwners | undefined;
}

/** Former owners that a slot remembers, newest first. */
export const MAX_FORMER_OWNERS = 3;

/** Words that one slot takes in `FormerOwners.slots`. */
export const FORMER_WORDS = MAX_FORMER_OWNERS + 1;

/** Which backends owned slots before their present owner. */
export interface FormerOwners {
  /** The ring size by which slots are counted: that of the present ring. */
  readonly size: number;
  /** Everyone who owned some slot, each once. */
  readonly owners: readonly Address[];
  /**
   * Packed, as a service can have thousands: for each such slot, in order of slots, its number and
   * MAX_FORMER_OWNERS indexes into `owners` plus one, newest first, 0 for none.
   */
  readonly slots: Uint32Array;
  /** On the writer's clock, when no flow of a UDP service can need it any more; else Infinity. */
  readonly expiresAtMs: number;
}

/** Where a row's clients find it. */
export interface PortFrontends {
  /** Of its clients, of its addresses and of its backends. */
  readonly family: Family;
  /** For clients outside; for pods and nodes too, unless another row has them for these. */
  readonly addresses: readonly Address[];
  /** For pods and nodes. */
  readonly inside: readonly Address[];
  /** At every node, as `addresses`; 0: none. */
  readonly nodePort: number;
  /** At every node, as `inside`; 0: none. */
  readonly insideNodePort: number;
  /** Whether the addresses are the node's own, which are more than the service's. */
  readonly atNode: boolean;
}

/** Where clients find a service port. */
export interface Frontend {
  /** 0.0.0.0 or :: for a node port. */
  readonly address: Address;
  readonly port: number;
  readonly protocol: Protocol;
}

/** A frontend with those that it is for: everybody, or pods and nodes only. */
export interface ScopedFrontend extends Frontend {
  readonly inside: boolean;
}

export function objectKey(namespace: string, name: string): ObjectKey {
  return `${namespace}/${name}`;
}

/** The object that makes a service: `Service default/web`, or the Pod with the host ports. */
export function objectOf({ type, namespace, name }: Service): string {
  return `${type === HOST_PORT_TYPE ? "Pod" : "Service"} ${objectKey(namespace, name)}`;
}

/** What few services have: whoever looks for those needn't walk through all. */
export const SERVICE_INDEXES = {
  having: ({ ports }: Service): readonly "node ports"[] =>
    ports.some(({ nodePort }) => nodePort !== 0) ? ["node ports"] : [],
};

/** Every frontend of a service, each once. */
export function frontendsOf(service: Service): Frontend[] {
  const { addresses, clusterAddresses, ports, families } = service;
  return ports.flatMap(({ port, protocol, nodePort }) => [
    ...[...addresses, ...clusterAddresses].map((address) => ({ address, port, protocol })),
    ...(nodePort === 0 ? [] : families.map(anyOf)).map((address) => ({
      address,
      port: nodePort,
      protocol,
    })),
  ]);
}

/** Every frontend that leads to a row. */
export function scopedFrontends(
  row: PortFrontends & { readonly port: number; readonly protocol: Protocol },
): ScopedFrontend[] {
  const { family, addresses, inside, nodePort, insideNodePort, port, protocol } = row;
  const at = (address: Address, where: number, isInside: boolean): ScopedFrontend => ({
    address,
    port: where,
    protocol,
    inside: isInside,
  });
  return [
    ...addresses.map((address) => at(address, port, false)),
    ...inside.map((address) => at(address, port, true)),
    ...(nodePort === 0 ? [] : [at(anyOf(family), nodePort, false)]),
    ...(insideNodePort === 0 ? [] : [at(anyOf(family), insideNodePort, true)]),
  ];
}

/**
 * `default/web:80/tcp`; for clients of IPv6: `default/web:80/tcp/ipv6`; of the row with pods of
 * this node only: `default/web:80/tcp/local`.
 */
export function servicePortKey(
  service: ObjectKey,
  port: number,
  protocol: Protocol,
  family: Family,
  local: boolean,
): string {
  const suffix = `${family === "ipv6" ? "/ipv6" : ""}${local ? "/local" : ""}`;
  return `${service}:${port}/${protocol}${suffix}`;
}

/** A frontend as one number, different for each. */
export function frontendNumber({ address, port, protocol }: Frontend): number | bigint {
  const word = port * 4 + PROTOCOLS.indexOf(protocol);
  return isIpv4(address) ? address * 2 ** 18 + word : (address << 18n) | BigInt(word);
}

/** The same, different for who it is for. */
export function scopedNumber(frontend: ScopedFrontend): number | bigint {
  const number = frontendNumber(frontend);
  if (typeof number === "bigint") return (number << 1n) | (frontend.inside ? 1n : 0n);
  return number * 2 + (frontend.inside ? 1 : 0);
}
