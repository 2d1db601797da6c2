// SPDX-License-Identifier: Apache-2.0
import type { Ifindex } from "../datapath/gen/abi.ts";
import { type Address, anyOf, type Family } from "../net/address.ts";
import { type Mac, ZERO_MAC } from "../net/mac.ts";

/** A row of nexthops, of either family. */
export interface NexthopRow<A extends Address = Address> {
  readonly ifindex: Ifindex;
  readonly mtu: number;
  readonly flags: number;
  readonly destination: Mac;
  readonly source: Mac;
  readonly gateway: A;
  readonly outerSource: A;
  readonly checksum: number;
  readonly peer: A;
}

/** Leads nowhere. */
export function emptyRow(family: Family): NexthopRow {
  return {
    ifindex: 0 as Ifindex,
    mtu: 0,
    flags: 0,
    destination: ZERO_MAC,
    source: ZERO_MAC,
    gateway: anyOf(family),
    outerSource: anyOf(family),
    checksum: 0,
    peer: anyOf(family),
  };
}

/** Different for rows that differ. */
export function textOf(row: NexthopRow): string {
  return Object.values(row).join(" ");
}
