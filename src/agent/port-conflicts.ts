// SPDX-License-Identifier: Apache-2.0

// What else has the number of a node port on this node.

import { KernelError } from "../kernel/error.ts";
import { type BoundSocket, listBoundSockets, openSocketDiag } from "../kernel/netlink/sock-diag.ts";
import { formatFrontend } from "../lb/claims.ts";
import { isNodePort, type PortRange } from "../lb/port-plan.ts";
import { HOST_PORT_TYPE, objectOf, type Protocol, type Service } from "../lb/rows.ts";
import type { LbRefusal } from "../lb/writer.ts";
import {
  type Address,
  anyOf,
  FAMILIES,
  type Family,
  familyOf,
  formatAddressPort,
  isAny,
  isIpv4,
} from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import type { ReadTable } from "../state/table.ts";

export interface PortConflictOptions {
  readonly services: ReadTable<string, Service, "having">;
  readonly addresses: ReadTable<Address, NodeAddressRow>;
  /** Node ports that are served; undefined: none are. */
  readonly range: PortRange | undefined;
  /** Whose services are served. */
  readonly families: readonly Family[];
  /** Sockets of the node that wait for whoever comes. */
  readonly bound: () => readonly BoundSocket[];
}

/** A node port of a service, for clients of one family. */
interface NodePort {
  readonly family: Family;
  readonly port: number;
  readonly protocol: Protocol;
  readonly service: Service;
  /** Its place in spec.ports. */
  readonly index: number;
}

/**
 * Node ports that programs had bound before a service got them, which the guard of binds can't
 * take away, and those that a pod's host port hides. Looks anew whenever it is asked.
 */
export function* portConflicts(options: PortConflictOptions): Generator<LbRefusal> {
  const nodePorts = nodePortsOf(options);
  if (nodePorts.size === 0) return;
  yield* hiddenPorts(options, nodePorts);
  yield* heldPorts(options, nodePorts);
}

const nameOf = ({
  family,
  port,
  protocol,
}: Pick<NodePort, "family" | "port" | "protocol">): string => `${family} ${port} ${protocol}`;

function nodePortsOf({
  services,
  range,
  families,
}: PortConflictOptions): ReadonlyMap<string, NodePort> {
  const found = new Map<string, NodePort>();
  for (const service of services.by("having", "node ports")) {
    for (const [index, { nodePort: port, protocol }] of service.ports.entries()) {
      if (port === 0 || !isNodePort(range, port)) continue;
      for (const family of families) {
        if (!service.families.includes(family)) continue;
        const one = { family, port, protocol, service, index };
        found.set(nameOf(one), one);
      }
    }
  }
  return found;
}

/** Those of this namespace; none on a kernel that was built without sock_diag. */
export function boundSockets(): readonly BoundSocket[] {
  try {
    using netlink = openSocketDiag();
    return (["tcp", "udp"] as const).flatMap((protocol) => listBoundSockets(netlink, protocol));
  } catch (error) {
    if (error instanceof KernelError) return [];
    throw error;
  }
}

/** The address of a host port is a whole key, and found before the node port's. */
function* hiddenPorts(
  { services }: PortConflictOptions,
  nodePorts: ReadonlyMap<string, NodePort>,
): Generator<LbRefusal> {
  for (const pod of services.rows()) {
    if (pod.type !== HOST_PORT_TYPE) continue;
    for (const { port, protocol } of pod.ports) {
      for (const family of FAMILIES) {
        const hidden = nodePorts.get(nameOf({ family, port, protocol }));
        const [address] = pod.addresses.filter((one) => familyOf(one) === family);
        if (hidden === undefined || address === undefined) continue;
        const at = `host port ${formatAddressPort(address, port)}/${protocol}`;
        const what = `${frontendText(hidden)} of ${objectOf(hidden.service)}`;
        const text = `${at} hides ${what} on this node: give one of them another number`;
        yield { id: objectOf(pod), field: "spec.containers", text, kept: false };
      }
    }
  }
}

function* heldPorts(
  { addresses, bound }: PortConflictOptions,
  nodePorts: ReadonlyMap<string, NodePort>,
): Generator<LbRefusal> {
  const told = new Set<NodePort>();
  for (const { family: socketFamily, address, port, protocol } of bound()) {
    const isOfNode = isAny(address) || isLoopback(address) || addresses.get(address)?.own === true;
    if (!isOfNode) continue;
    // A socket of both families has `::`.
    const families = isAny(address) && socketFamily !== 2 ? FAMILIES : [familyOf(address)];
    for (const family of families) {
      const held = nodePorts.get(nameOf({ family, port, protocol }));
      if (held === undefined || told.has(held)) continue;
      told.add(held);
      const text =
        `${frontendText(held)} is bound by a program of this node, at ` +
        `${formatAddressPort(address, port)}, whom nothing reaches there any more: stop it ` +
        `(ss -ln${protocol[0]}p sport = :${port}), or give the service another number`;
      const field = `spec.ports[${held.index}].nodePort`;
      yield { id: objectOf(held.service), field, text, kept: false };
    }
  }
}

function frontendText({ family, port, protocol }: NodePort): string {
  return formatFrontend({ address: anyOf(family), port, protocol });
}

function isLoopback(address: Address): boolean {
  return isIpv4(address) ? address >>> 24 === 127 : address === 1n;
}
