// SPDX-License-Identifier: Apache-2.0
import {
  FrontendKind,
  type Port,
  ServiceFlag,
  type ServiceId,
  type SourceRange,
  type SourceRangeKey,
  type SourceRangeKey6,
  type Target,
  TargetFlag,
  type TargetKey,
  type TargetKey6,
} from "../datapath/gen/abi.ts";
import { type Address, anyOf, type Family, familyOf, isIpv4 } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";
import { type Backend, type FormerOwners, PROTOCOL_NUMBERS, type ServicePort } from "./rows.ts";

/** What clients send to; port and protocol are 0 for the kinds of addresses. */
export interface FrontendKey {
  readonly address: Address;
  readonly port: number;
  /** As in the IP header. */
  readonly protocol: number;
  readonly kind: FrontendKind;
}

/** One port of a service as programs see it. */
export interface ServiceImage {
  /** Of the backends, of which each has its table. */
  readonly family: Family;
  /** ServiceFlag, ORed. */
  readonly flags: number;
  /** For how long a client's backend is remembered, in jiffies. */
  readonly affinityAge: number;
  /** Slot → index into `backends`; empty when there are none. */
  readonly ring: Uint16Array;
  readonly backends: readonly Backend[];
}

/** One thing that a service port needs in the kernel, by the names of the reconciler's targets. */
export type ServicePortEntry =
  | { readonly target: "targets"; readonly key: TargetKey; readonly value: Target }
  | { readonly target: "targets6"; readonly key: TargetKey6; readonly value: Target }
  | { readonly target: FormerTarget; readonly key: ServiceId; readonly value: FormerOwners }
  | {
      readonly target: "sourceRanges";
      readonly key: SourceRangeKey;
      readonly value: SourceRange;
    }
  | {
      readonly target: "sourceRanges6";
      readonly key: SourceRangeKey6;
      readonly value: SourceRange;
    }
  | { readonly target: "images"; readonly key: ServiceId; readonly value: ServiceImage }
  /** The service that it leads to; of the kinds of addresses, what it is. */
  | { readonly target: "frontends"; readonly key: FrontendKey; readonly value: number };

type FormerTarget = "formerOwners" | "formerOwners6";

export interface ServicePortOptions {
  readonly encapsulate: "all" | "first";
  /** Jiffies of a time span. */
  readonly jiffies: (spanMs: number) => number;
}

/** The part of a key of source_ranges that always has to match. */
const SERVICE_BITS = 32;

/**
 * What a service port needs in the kernel, in the order in which it is written: who gets a flow's
 * first packet must know already where to deliver it, or whom else to ask.
 */
export function servicePortEntries(
  options: ServicePortOptions,
  row: ServicePort,
): ServicePortEntry[] {
  const { id, family, backends, draining, former, ring } = row;
  const entries: ServicePortEntry[] = [];
  for (const pod of backends) if (pod.local) entries.push(target(id, pod, TargetFlag.active));
  for (const pod of draining) if (pod.local) entries.push(target(id, pod, 0));
  if (former !== undefined)
    entries.push({ target: FORMER_TARGETS[family], key: id, value: former });
  for (const range of sourceRangesOf(row) ?? []) entries.push(sourceRange(id, range));
  const affinityAge = options.jiffies(row.policy.affinityMs);
  const image = { family, flags: flagsOf(options, row), affinityAge, ring, backends };
  entries.push({ target: "images", key: id, value: image });
  addFrontends(entries, row);
  return entries;
}

const FORMER_TARGETS: Readonly<Record<Family, FormerTarget>> = {
  ipv4: "formerOwners",
  ipv6: "formerOwners6",
};

/**
 * Only clients outside are asked where they come from, undefined where nobody is; ranges of IPv4
 * let in nobody of IPv6.
 */
export function sourceRangesOf({ family, addresses, nodePort, policy }: ServicePort) {
  if (addresses.length === 0 && nodePort === 0) return undefined;
  return policy.sourceRanges?.filter(({ address }) => familyOf(address) === family);
}

function sourceRange(service: ServiceId, { address, length }: Prefix): ServicePortEntry {
  const prefixLength = SERVICE_BITS + length;
  const value = { listed: 1 };
  return isIpv4(address)
    ? { target: "sourceRanges", key: { prefixLength, service, address }, value }
    : { target: "sourceRanges6", key: { prefixLength, service, address }, value };
}

function flagsOf({ encapsulate }: ServicePortOptions, row: ServicePort): number {
  const { former, snat, random, wasOther, lately, reject, policy } = row;
  const { affinityMs, sourceDeny } = policy;
  const isLimited = sourceRangesOf(row) !== undefined;
  const flags: readonly (readonly [boolean, number])[] = [
    [encapsulate === "first", ServiceFlag.encapsulateFirst],
    [former !== undefined, ServiceFlag.formerOwners],
    [snat, ServiceFlag.snat],
    [random, ServiceFlag.random],
    [lately, ServiceFlag.lately],
    [wasOther, snat ? ServiceFlag.wasDsr : ServiceFlag.wasSnat],
    [isLimited, ServiceFlag.sourceRanges],
    [isLimited && sourceDeny, ServiceFlag.sourceDeny],
    [affinityMs > 0, ServiceFlag.affinity],
    [reject, ServiceFlag.reject],
  ];
  return flags.reduce((sum, [isSet, flag]) => (isSet ? sum | flag : sum), 0);
}

function addFrontends(entries: ServicePortEntry[], row: ServicePort): void {
  const { id, family, addresses, inside, nodePort, insideNodePort, atNode } = row;
  const protocol = PROTOCOL_NUMBERS[row.protocol];
  const add = (address: Address, port: number, kind: FrontendKind): void => {
    entries.push({ target: "frontends", key: { address, port, protocol, kind }, value: id });
  };
  for (const address of addresses) {
    const any = { address, port: 0, protocol: 0, kind: FrontendKind.address };
    if (!atNode) entries.push({ target: "frontends", key: any, value: 0 });
    add(address, row.port, FrontendKind.service);
  }
  for (const address of inside) add(address, row.port, FrontendKind.internal);
  if (nodePort > 0) add(anyOf(family), nodePort, FrontendKind.nodePort);
  if (insideNodePort > 0) add(anyOf(family), insideNodePort, FrontendKind.internal);
}

function target(service: ServiceId, pod: Backend, flags: number): ServicePortEntry {
  const { address, port, counter } = pod;
  const value = { port: port as Port, flags, counter };
  return isIpv4(address)
    ? { target: "targets", key: { service, pod: address }, value }
    : { target: "targets6", key: { service, pod: address }, value };
}
