// SPDX-License-Identifier: Apache-2.0
// The packet path of a node with IPv6, whose tables say of IPv6 what IPv4's say of IPv4.

import {
  type Datapath,
  type DatapathMaps,
  type DatapathOptions,
  openDatapath,
} from "../../src/datapath/load.ts";
import type { TypedMap } from "../../src/datapath/maps.ts";
import { widen } from "../wide/address.ts";
import { narrowed } from "../wide/tables.ts";
import { NODE } from "./cluster.ts";
import { addFrontend } from "./tables.ts";
import { NARROW_PORTS, WIDE_PORTS } from "./wide-ports.ts";

/** Opens it on the pins of a node without IPv6, which share what holds no address. */
export function openWide({ constants, ...options }: DatapathOptions): Datapath {
  const datapath = openDatapath({
    ...options,
    constants: { ...constants, nodeAddress6: widen(NODE) },
  });
  const { maps, wide } = datapath;
  if (wide === undefined) throw new Error("the packet path has no tables of IPv6");
  const seen = narrowed(maps, wide, { widen: WIDE_PORTS, narrow: NARROW_PORTS });
  copyTables(maps, seen);
  return { ...datapath, maps: seen };
}

function copyTables(from: DatapathMaps, to: DatapathMaps): void {
  copy(from.backends, to.backends);
  copy(from.nexthops, to.nexthops);
  copy(from.peers, to.peers);
  copy(from.endpoints, to.endpoints);
  copy(from.targets, to.targets);
  copy(from.trusted, to.trusted);
  copy(from.formerOwners, to.formerOwners);
  for (const [, { slot }] of from.frontends.entries()) {
    for (const frontend of slot) {
      if (frontend.kind !== 0) addFrontend({ family: "ipv6", maps: to }, frontend);
    }
  }
}

function copy<K, V>(from: TypedMap<K, V>, to: TypedMap<K, V>): void {
  for (const [key, value] of from.entries()) to.update(key, value);
}
