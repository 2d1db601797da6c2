// SPDX-License-Identifier: Apache-2.0
import {
  type EndpointKey,
  type EndpointKey6,
  FrontendKind,
  NodeAddress,
  type Peer,
  type Peer6,
  Trust,
  type Trusted,
  type TrustedKey,
  type TrustedKey6,
} from "../datapath/gen/abi.ts";
import { type Address, isIpv4 } from "../net/address.ts";
import type { NodeAddressRow, PeerRow, TrustedSource } from "./rows.ts";

/** A prefix in its family's table of trusted sources. */
export type TrustedEntry =
  | { readonly target: "trusted"; readonly key: TrustedKey; readonly value: Trusted }
  | { readonly target: "trusted6"; readonly key: TrustedKey6; readonly value: Trusted };

/** What a trusted source needs in the kernel. */
export function trustedEntries({ prefix, trust }: TrustedSource): TrustedEntry[] {
  const { address, length: prefixLength } = prefix;
  const kind = trust === "node" ? Trust.node : Trust.loadBalancer;
  return isIpv4(address)
    ? [{ target: "trusted", key: { prefixLength, address }, value: { kind } }]
    : [{ target: "trusted6", key: { prefixLength, address }, value: { kind } }];
}

/** A pod of another node in its family's table of peers. */
export type PeerEntry =
  | { readonly target: "peers"; readonly key: EndpointKey; readonly value: Peer }
  | { readonly target: "peers6"; readonly key: EndpointKey6; readonly value: Peer6 };

/** What a pod of another node needs in the kernel. */
export function peerEntries({ pod: address, node }: PeerRow): PeerEntry[] {
  if (isIpv4(address)) {
    return isIpv4(node) ? [{ target: "peers", key: { address }, value: { node } }] : [];
  }
  return isIpv4(node) ? [] : [{ target: "peers6", key: { address }, value: { node } }];
}

/** A node's address among what packets are looked up by. */
export interface NodeAddressEntry {
  readonly target: "frontends";
  readonly key: {
    readonly address: Address;
    readonly port: 0;
    readonly protocol: 0;
    readonly kind: FrontendKind;
  };
  readonly value: NodeAddress;
}

/** What an address of a node needs in the kernel. */
export function nodeAddressEntries({ address, served }: NodeAddressRow): NodeAddressEntry[] {
  const key = { address, port: 0, protocol: 0, kind: FrontendKind.node } as const;
  return [{ target: "frontends", key, value: served ? NodeAddress.own : NodeAddress.other }];
}
