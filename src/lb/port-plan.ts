// SPDX-License-Identifier: Apache-2.0
import { type Address, type Family, ofFamily } from "../net/address.ts";
import {
  HOST_PORT_TYPE,
  keepsPorts,
  type PortFrontends,
  type Service,
  type ServicePortSpec,
  servicePortKey,
} from "./rows.ts";

/** A row that a port of a service wants. */
export interface PortPlan extends PortFrontends {
  readonly key: string;
  readonly spec: ServicePortSpec;
  /** Whether only pods of this node get flows. */
  readonly local: boolean;
  /** The row that the port's other clients have, or would have. */
  readonly sibling: string;
}

/** Ports at which nodes serve node ports. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

const NONE: readonly Address[] = [];

/** Whether node ports of the range can be served. */
export function isNodePort(range: PortRange | undefined, port: number): boolean {
  return range !== undefined && port >= range.first && port <= range.last;
}

/** Whether the packet path can lead a node port to pods that serve the service's own port. */
export function leadsToPods({ port, protocol, nodePort }: ServicePortSpec): boolean {
  return nodePort === port || !keepsPorts(protocol);
}

/** `30000-32767`. */
export function formatRange({ first, last }: PortRange): string {
  return `${first}-${last}`;
}

/**
 * The rows that a service wants, none for a port that nobody can ask for. Who is outside gets what
 * externalTrafficPolicy says, a cluster IP what internalTrafficPolicy says; pods and nodes that use
 * a way for clients outside get any pod, as if they had gone out and come back.
 */
export function planPorts(
  service: Service,
  families: readonly Family[],
  nodePorts: PortRange | undefined,
): PortPlan[] {
  return families
    .filter((family) => service.families.includes(family))
    .flatMap((family) => planFamily(service, family, nodePorts));
}

function planFamily(
  service: Service,
  family: Family,
  nodePorts: PortRange | undefined,
): PortPlan[] {
  const addresses = ofFamily(service.addresses, family);
  const clusterAddresses = ofFamily(service.clusterAddresses, family);
  return service.ports.flatMap((spec) => {
    const isServed = isNodePort(nodePorts, spec.nodePort) && leadsToPods(spec);
    const served = isServed ? spec.nodePort : 0;
    const { externalLocal, internalLocal } = service.policy;
    const everyPod = {
      family,
      addresses: externalLocal ? NONE : addresses,
      inside: unite(externalLocal ? addresses : NONE, internalLocal ? NONE : clusterAddresses),
      nodePort: externalLocal ? 0 : served,
      insideNodePort: externalLocal ? served : 0,
    };
    const ownPods = {
      family,
      addresses: externalLocal ? addresses : NONE,
      inside: internalLocal ? clusterAddresses : NONE,
      nodePort: externalLocal ? served : 0,
      insideNodePort: 0,
    };
    const atNode = service.type === HOST_PORT_TYPE;
    const key = servicePortKey(service.key, spec.port, spec.protocol, family, false);
    const localKey = servicePortKey(service.key, spec.port, spec.protocol, family, true);
    return [
      { ...everyPod, key, sibling: localKey, spec, atNode, local: false },
      { ...ownPods, key: localKey, sibling: key, spec, atNode, local: true },
    ].filter(isFound);
  });
}

/** One of the two mostly has nothing, and then no list is made. */
function unite(one: readonly Address[], other: readonly Address[]): readonly Address[] {
  if (one.length === 0) return other;
  return other.length === 0 ? one : [...one, ...other];
}

function isFound({ addresses, inside, nodePort, insideNodePort }: PortFrontends): boolean {
  return addresses.length + inside.length + nodePort + insideNodePort > 0;
}
