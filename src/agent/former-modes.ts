// SPDX-License-Identifier: Apache-2.0

// Services that were SNAT's look at their flows of then with every packet. When none of them is
// left they needn't.

import type { Sweep } from "../conntrack/collector.ts";
import { maps } from "../datapath/gen/abi.ts";
import type { ServicePort } from "../lb/rows.ts";

export interface FormerModesOptions {
  readonly ports: () => Iterable<Pick<ServicePort, "key" | "id" | "family" | "snat" | "wasOther">>;
  /** Whether the kernel has all rows as they are. */
  readonly settled: () => boolean;
  /** The service port has no flow of its former mode. */
  readonly forget: (key: string) => void;
}

/** Takes every sweep of a table of flows. */
export type FormerModes = (table: string, sweep: Pick<Sweep, "snatServices">) => void;

/**
 * A port's mode of before is forgotten when two sweeps in a row have seen no flow of it: the second
 * began after the mode had changed in the kernel, too, and so can't have missed one.
 *
 * That a service was DSR is never forgotten. A balancer has no entries of such flows that could be
 * counted, they may live as long as they like, and knowing costs known flows of SNAT nothing.
 */
export function createFormerModes({ ports, settled, forget }: FormerModesOptions): FormerModes {
  let unseen = new Set<string>();
  return (table, { snatServices }) => {
    const family = table === maps.conntrack.name ? "ipv4" : "ipv6";
    const next = new Set<string>();
    for (const port of ports()) {
      if (!port.wasOther || port.snat) continue;
      const { key } = port;
      if (port.family !== family) {
        if (unseen.has(key)) next.add(key);
      } else if (!snatServices.has(port.id)) {
        if (unseen.has(key)) forget(key);
        else if (settled()) next.add(key);
      }
    }
    unseen = next;
  };
}
