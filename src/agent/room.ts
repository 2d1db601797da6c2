// SPDX-License-Identifier: Apache-2.0

// Whether packets between nodes leave room for those of clients: docs/decisions/packet-sizes.md.

import { DISPATCH_BYTES, DISPATCH_BYTES6 } from "../config/dispatch.ts";
import type { Config } from "../config/schema.ts";

/** net.ipv4.route.min_pmtu: what is told to be less is ignored. */
const LEAST_MTU = 552;
/** RFC 8200, 5: every link of IPv6 carries as much. */
const LEAST_MTU6 = 1280;

/** Throws when packets of clients can't fit, however small clients are told to make them. */
export function checkDispatch({ dispatch }: Pick<Config, "dispatch">, mtu: number): void {
  const left = mtu - DISPATCH_BYTES[dispatch];
  if (left >= LEAST_MTU) return;
  throw new Error(
    `dispatch ${dispatch} leaves clients ${left} of ${mtu} bytes, and Linux makes no packet ` +
      `smaller than ${LEAST_MTU} for a path: raise the uplinks' MTU, or choose another dispatch`,
  );
}

/** What IPv6 loses by a device of this MTU in bytes, and what it would need; "" for nothing. */
export function whyNarrow6(
  { dispatch, mtu }: Pick<Config, "dispatch" | "mtu">,
  deviceMtu: number | undefined,
): string {
  const fits = Math.min(deviceMtu ?? Infinity, mtu === "auto" ? Infinity : mtu);
  const needed = LEAST_MTU6 + DISPATCH_BYTES6[dispatch];
  if (fits >= needed) return "";
  return (
    `an MTU of ${fits} carries no IPv6 packet of ${LEAST_MTU6} bytes by dispatch ${dispatch}, ` +
    `and large datagrams to other nodes are dropped: raise it to ${needed}, or use mode snat`
  );
}
