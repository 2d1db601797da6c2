// SPDX-License-Identifier: Apache-2.0
import type { Ipv4 } from "../net/address.ts";
import type { Attachment, Endpoint } from "./rows.ts";

/** A pod of this node in the table of endpoints: its address → how to reach it. */
export interface EndpointEntry {
  readonly target: "endpoints";
  readonly key: Ipv4;
  readonly value: Attachment;
}

/** What a pod needs in the kernel: nothing, unless it is attached to this node. */
export function endpointEntries(thisNode: string, endpoint: Endpoint): EndpointEntry[] {
  const { address, node, attachment } = endpoint;
  if (node !== thisNode || attachment === undefined) return [];
  return [{ target: "endpoints", key: address, value: attachment }];
}
