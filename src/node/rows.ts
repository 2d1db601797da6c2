// SPDX-License-Identifier: Apache-2.0
import type { Address } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";

/** A node of the cluster. Key: `name`. */
export interface Node {
  readonly name: string;
  /** By which the other nodes reach it, the first one preferred. */
  readonly addresses: readonly Address[];
  readonly podPrefixes: readonly Prefix[];
}

/** Whose encapsulated packets are believed: a node of ours, or a balancer that is none. */
export type Trust = "node" | "load-balancer";

/** Key: `key`. */
export interface TrustedSource {
  /** The prefix as text. */
  readonly key: string;
  readonly prefix: Prefix;
  readonly trust: Trust;
}

/** A pod of another node. Key: `pod`. */
export interface PeerRow {
  readonly pod: Address;
  /** Its node's address, of the same family. */
  readonly node: Address;
}

/** An address of a node. Key: `address`. */
export interface NodeAddressRow {
  readonly address: Address;
  /** Whether it is this node's. */
  readonly own: boolean;
  /** Whether this node serves node ports there. */
  readonly served: boolean;
}
