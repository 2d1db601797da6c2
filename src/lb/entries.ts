// SPDX-License-Identifier: Apache-2.0
import {
  FrontendKind,
  type Port,
  ServiceFlag,
  type ServiceId,
  type Target,
  TargetFlag,
  type TargetKey,
} from "../datapath/gen/abi.ts";
import type { Ipv4 } from "../net/address.ts";
import type { Backend, FormerOwners, Protocol, ServicePort } from "./rows.ts";

/** What clients send to, or (kind ADDRESS, port and protocol 0) an address that is of services. */
export interface FrontendKey {
  readonly address: Ipv4;
  readonly port: number;
  /** As in the IP header. */
  readonly protocol: number;
  readonly kind: FrontendKind;
}

/** One port of a service as programs see it. */
export interface ServiceImage {
  /** ServiceFlag, ORed. */
  readonly flags: number;
  /** Slot → index into `backends`; empty when there are none. */
  readonly ring: Uint16Array;
  readonly backends: readonly Backend[];
}

/** One thing that a service port needs in the kernel, by the names of the reconciler's targets. */
export type ServicePortEntry =
  | { readonly target: "targets"; readonly key: TargetKey; readonly value: Target }
  | { readonly target: "formerOwners"; readonly key: ServiceId; readonly value: FormerOwners }
  | { readonly target: "images"; readonly key: ServiceId; readonly value: ServiceImage }
  /** The service that it leads to, 0 for kind ADDRESS. */
  | { readonly target: "frontends"; readonly key: FrontendKey; readonly value: number };

export interface ServicePortOptions {
  readonly encapsulate: "all" | "first";
}

const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17 };

/**
 * What a service port needs in the kernel, in the order in which it is written: who gets a flow's
 * first packet must know already where to deliver it, or whom else to ask.
 */
export function servicePortEntries(
  options: ServicePortOptions,
  row: ServicePort,
): ServicePortEntry[] {
  const { id, backends, draining, former, ring, addresses, port } = row;
  const entries: ServicePortEntry[] = [];
  for (const pod of backends) if (pod.local) entries.push(target(id, pod, TargetFlag.active));
  for (const pod of draining) if (pod.local) entries.push(target(id, pod, 0));
  if (former !== undefined) entries.push({ target: "formerOwners", key: id, value: former });
  const flags =
    (options.encapsulate === "first" ? ServiceFlag.encapsulateFirst : 0) |
    (former === undefined ? 0 : ServiceFlag.formerOwners);
  entries.push({ target: "images", key: id, value: { flags, ring, backends } });
  const protocol = PROTOCOL_NUMBERS[row.protocol];
  for (const address of addresses) {
    const any = { address, port: 0, protocol: 0, kind: FrontendKind.address };
    const key = { address, port, protocol, kind: FrontendKind.service };
    entries.push({ target: "frontends", key: any, value: 0 });
    entries.push({ target: "frontends", key, value: id });
  }
  return entries;
}

function target(service: ServiceId, pod: Backend, flags: number): ServicePortEntry {
  const { address, port, counter } = pod;
  const value = { port: port as Port, flags, counter };
  return { target: "targets", key: { service, pod: address }, value };
}
