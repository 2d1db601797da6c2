// SPDX-License-Identifier: Apache-2.0
import type { Address } from "../net/address.ts";
import type { Mac } from "../net/mac.ts";

/**
 * A pod: something with addresses that lives on a node. Of pods on other nodes only addresses
 * and the node are known; that they are known says that they live. Key: `key`.
 */
export interface Endpoint {
  /** `namespace/name` of the Pod. */
  readonly key: string;
  /** One of each family at most, the first one preferred. */
  readonly addresses: readonly Address[];
  readonly node: string;
  /** How this node reaches it; undefined for pods of other nodes. */
  readonly attachment: Attachment | undefined;
  /** Ports of its node that are its own; undefined: none. */
  readonly hostPorts: readonly HostPort[] | undefined;
}

/** A port of a node that leads to a pod on it. */
export interface HostPort {
  readonly port: number;
  /** Where the pod serves it. */
  readonly podPort: number;
  readonly protocol: "tcp" | "udp" | "sctp";
  /** Undefined: all of the node's. */
  readonly address: Address | undefined;
}

/** In place of an attachment: the address is the node's own, which is the backend of a service. */
export const THIS_NODE = "this node";

export interface Attachment {
  /** Name of the device on the node's side. */
  readonly device: string;
  /** Of the pod's own device; undefined: to be found out. */
  readonly mac: Mac | undefined;
  /** Name or path of the pod's network namespace; undefined: not known. */
  readonly netns: string | undefined;
}
