// SPDX-License-Identifier: Apache-2.0
import { type Address, type Ipv4, type Ipv6, isIpv4 } from "../net/address.ts";
import { type Attachment, type Endpoint, THIS_NODE } from "./rows.ts";

/** How an address in a table of endpoints is reached. */
export type Reached = Attachment | typeof THIS_NODE;

/** An address of this node or a pod of it in its family's table of endpoints → how to reach it. */
export type EndpointEntry =
  | { readonly target: "endpoints"; readonly key: Ipv4; readonly value: Reached }
  | { readonly target: "endpoints6"; readonly key: Ipv6; readonly value: Reached };

/** What a pod needs in the kernel: nothing, unless it is attached to this node. */
export function endpointEntries(thisNode: string, endpoint: Endpoint): EndpointEntry[] {
  const { addresses, node, attachment: value } = endpoint;
  if (node !== thisNode || value === undefined) return [];
  return addresses.map((address) => entryOf(address, value));
}

/** What an address of this node needs for as long as it is the backend of a service. */
export function ownEntries(address: Address): EndpointEntry[] {
  return [entryOf(address, THIS_NODE)];
}

function entryOf(key: Address, value: Reached): EndpointEntry {
  return isIpv4(key) ? { target: "endpoints", key, value } : { target: "endpoints6", key, value };
}
