// SPDX-License-Identifier: Apache-2.0
import { type Address, type Ipv4, type Ipv6, isIpv4 } from "../net/address.ts";
import type { Attachment, Endpoint } from "./rows.ts";

/** An address of a pod of this node in its family's table of endpoints → how to reach it. */
export type EndpointEntry =
  | { readonly target: "endpoints"; readonly key: Ipv4; readonly value: Attachment }
  | { readonly target: "endpoints6"; readonly key: Ipv6; readonly value: Attachment };

/** What a pod needs in the kernel: nothing, unless it is attached to this node. */
export function endpointEntries(thisNode: string, endpoint: Endpoint): EndpointEntry[] {
  const { addresses, node, attachment: value } = endpoint;
  if (node !== thisNode || value === undefined) return [];
  return addresses.map((address) => entryOf(address, value));
}

function entryOf(key: Address, value: Attachment): EndpointEntry {
  return isIpv4(key) ? { target: "endpoints", key, value } : { target: "endpoints6", key, value };
}
