// SPDX-License-Identifier: Apache-2.0
// Pinned tables for who reads them from outside of the agent, and words for what is in them.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { readBtf } from "../kernel/btf-load.ts";
import type { TypedMapSpec } from "../kernel/codec.ts";
import { BpfMap } from "../kernel/map.ts";
import { checkMap } from "./check.ts";
import {
  type Affinity,
  type Affinity6,
  type AffinityKey,
  type AffinityKey6,
  type Backend,
  type Backend6,
  type Flow,
  type Flow6,
  type FlowKey,
  type FlowKey6,
  type FrontendBucket,
  type FrontendBucket6,
  maps,
  type Nexthop,
  type Nexthop6,
  type SocketPeer,
  type SocketPeer6,
  type SocketPeerKey,
  type SocketPeerKey6,
  type SourceRange,
  type SourceRangeKey,
  type SourceRangeKey6,
} from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";

/** The tables of one family of addresses. */
export interface FamilyTables {
  readonly affinities: TypedMapSpec<AffinityKey | AffinityKey6, Affinity | Affinity6>;
  readonly backends: TypedMapSpec<number, Backend | Backend6>;
  readonly conntrack: TypedMapSpec<FlowKey | FlowKey6, Flow | Flow6>;
  readonly frontends: TypedMapSpec<number, FrontendBucket | FrontendBucket6>;
  readonly nexthops: TypedMapSpec<number, Nexthop | Nexthop6>;
  readonly socketPeers: TypedMapSpec<SocketPeerKey | SocketPeerKey6, SocketPeer | SocketPeer6>;
  readonly sourceRanges: TypedMapSpec<SourceRangeKey | SourceRangeKey6, SourceRange>;
}

const IPV4: FamilyTables = {
  affinities: maps.affinities,
  backends: maps.backends,
  conntrack: maps.conntrack,
  frontends: maps.frontends,
  nexthops: maps.nexthops,
  socketPeers: maps.socketPeers,
  sourceRanges: maps.sourceRanges,
};
const IPV6: FamilyTables = {
  affinities: maps.affinities6,
  backends: maps.backends6,
  conntrack: maps.conntrack6,
  frontends: maps.frontends6,
  nexthops: maps.nexthops6,
  socketPeers: maps.socketPeers6,
  sourceRanges: maps.sourceRanges6,
};

/** The families that the node has tables of; IPv4's always. */
export function familiesIn(directory: string): readonly FamilyTables[] {
  return existsSync(join(directory, maps.frontends6.name)) ? [IPV4, IPV6] : [IPV4];
}

/** The rows of a mapped array, decoded one by one as they are asked for. */
export interface Rows<V> extends Disposable {
  readonly count: number;
  at(index: number): V;
}

/**
 * The map that an agent keeps in `directory`. Throws KernelError, ENOENT without a pin, and an
 * Error for a map of another version.
 */
export function openPinned<K, V>(directory: string, spec: TypedMapSpec<K, V>): TypedMap<K, V> {
  const raw = BpfMap.openPinned(join(directory, spec.name));
  try {
    const { info } = raw;
    const found = checkMap(spec, info, info.btfId === 0 ? undefined : readBtf(info.btfId));
    if (found.kind === "refuse") throw new Error(found.reason);
    if (found.kind === "migrate") {
      throw new Error(`map ${spec.name} is of another version: read it with the program of then`);
    }
    return new TypedMap(raw, spec);
  } catch (error) {
    raw.close();
    throw error;
  }
}

/** A mapped array, as above. */
export function openRows<V>(directory: string, spec: TypedMapSpec<number, V>): Rows<V> {
  using map = openPinned(directory, spec);
  const mapping = map.raw.mmap({ readOnly: true });
  const view = new DataView(mapping.buffer);
  const count = map.raw.info.maxEntries;
  return {
    count,
    at(index) {
      if (index < count) return spec.value.decode(view, index * mapping.stride);
      throw new Error(`table ${spec.name} has no row ${index}: it has ${count}`);
    },
    [Symbol.dispose]: () => mapping.close(),
  };
}

/** `tcp`, `udp`, `sctp`, or the number. */
export function protocolName(protocol: number): string {
  if (protocol === 6) return "tcp";
  if (protocol === 17) return "udp";
  return protocol === 132 ? "sctp" : String(protocol);
}

/** The names of the bits that are set. */
export function namesOf(flags: number, names: { readonly [value: number]: string }): string[] {
  return Object.entries(names)
    .filter(([value]) => (flags & Number(value)) !== 0)
    .map(([, name]) => name);
}
