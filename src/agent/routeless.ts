// SPDX-License-Identifier: Apache-2.0

// Backends on other nodes to which this node has no route, in words.

import type { Dispatch } from "../config/dispatch.ts";
import type { ServicePort } from "../lb/rows.ts";
import { type Address, formatAddress } from "../net/address.ts";
import type { Log } from "../telemetry/log.ts";
import type { Services } from "./services.ts";

const MAX_NAMED = 3;

const WAYS_OUT: Readonly<Record<Dispatch, string>> = {
  ipip: "dispatch ipip sends to pods: route their addresses, or set dispatch: geneve",
  option: "dispatch option sends to pods: route their addresses, or set dispatch: geneve",
  geneve: "dispatch geneve sends to nodes: route their addresses",
};

/** Says which of the backends have none, and what they need; "" if all have one. */
export function whyRouteless(backends: Iterable<Address>, dispatch: Dispatch): string {
  const names = [...new Set(backends)].map(formatAddress);
  if (names.length === 0) return "";
  const named = names.slice(0, MAX_NAMED).join(", ");
  const more = names.length > MAX_NAMED ? ` and ${names.length - MAX_NAMED} more` : "";
  const who = names.length === 1 ? "backend has" : "backends have";
  const what = `${names.length} ${who} no route from this node, and packets there are dropped`;
  return `${what}: ${named}${more}; ${WAYS_OUT[dispatch]}`;
}

/** Of the backends that get new flows, those without a route. */
export function routelessOf(
  rows: readonly Pick<ServicePort, "backends">[],
  unrouted: ReadonlySet<Address>,
): Address[] {
  const remote = rows.flatMap(({ backends }) => backends).filter(({ local }) => !local);
  return remote.map(({ address }) => address).filter((address) => unrouted.has(address));
}

/** Says it once, when what is known at start is in force: routes may come later. */
export function logRouteless(services: Services, log: Log): void {
  void services.loaded.opened
    .then(() => services.settled())
    .then(() => {
      const reason = whyRouteless(services.unrouted(), services.dispatch);
      if (reason !== "") log.warn("backends are out of reach", { reason });
    });
}
