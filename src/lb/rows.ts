// SPDX-License-Identifier: Apache-2.0
import type { ServiceId } from "../datapath/gen/abi.ts";
import type { Ipv4 } from "../net/address.ts";

export type Protocol = "tcp" | "udp";

/** A row of the counters table; 0 is none: what finds no room there is not counted. */
export type CounterId = number & { readonly __brand: "CounterId" };

/** `namespace/name` of a Service or an EndpointSlice. */
export type ObjectKey = string;

/** A Service, as far as it concerns us. Key: `key`. */
export interface Service {
  readonly key: ObjectKey;
  readonly namespace: string;
  readonly name: string;
  /** As Kubernetes calls it: ClusterIP, LoadBalancer, … */
  readonly type: string;
  /** Addresses that clients use: load balancer and external IPs, sorted, each once. */
  readonly addresses: readonly Ipv4[];
  readonly ports: readonly ServicePortSpec[];
  /** Slots of the ring, where an annotation names them. */
  readonly ringSize: number | undefined;
  /** Milliseconds since 1970, where the object says it: the older of two rivals wins. */
  readonly createdMs: number | undefined;
}

export interface ServicePortSpec {
  /** Empty when the service has one port without a name. */
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
}

/** An EndpointSlice. Key: `key`. */
export interface EndpointSlice {
  readonly key: ObjectKey;
  /** The Service that it is a part of. */
  readonly service: ObjectKey;
  readonly ports: readonly ServicePortSpec[];
  readonly endpoints: readonly SliceEndpoint[];
}

export interface SliceEndpoint {
  readonly address: Ipv4;
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
  readonly address: Ipv4;
  /** Where the pod serves it; may differ from the service's port. */
  readonly port: number;
  readonly weight: number;
  readonly node: string;
  /** Whether the pod is on this node. */
  readonly local: boolean;
  readonly counter: CounterId;
  readonly state: BackendState;
}

/** One port of a service as it is in force: what the packet path has a row for. Key: `key`. */
export interface ServicePort {
  readonly key: string;
  readonly id: ServiceId;
  readonly service: ObjectKey;
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly addresses: readonly Ipv4[];
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

/**
 * Which backends owned slots before their present owner. Packed, as a service can have thousands:
 * for each such slot, in order of slots, its number and MAX_FORMER_OWNERS addresses, newest first,
 * 0 for none.
 */
export interface FormerOwners {
  /** The ring size by which slots are counted: that of the present ring. */
  readonly size: number;
  readonly slots: Uint32Array;
  /** On the writer's clock, when no flow of a UDP service can need it any more; else Infinity. */
  readonly expiresAtMs: number;
}

/** Where clients find a service port. */
export interface Frontend {
  readonly address: Ipv4;
  readonly port: number;
  readonly protocol: Protocol;
}

export function objectKey(namespace: string, name: string): ObjectKey {
  return `${namespace}/${name}`;
}

/** Every frontend of a service. */
export function frontendsOf(service: Service): Frontend[] {
  return service.ports.flatMap(({ port, protocol }) =>
    service.addresses.map((address) => ({ address, port, protocol })),
  );
}

/** `default/web:80/tcp`. */
export function servicePortKey(service: ObjectKey, port: number, protocol: Protocol): string {
  return `${service}:${port}/${protocol}`;
}

/** A frontend as one number, different for each. */
export function frontendNumber(frontend: Frontend): number {
  const word = frontend.port * 2 + (frontend.protocol === "udp" ? 1 : 0);
  return frontend.address * 2 ** 17 + word;
}
