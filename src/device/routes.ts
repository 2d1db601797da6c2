// SPDX-License-Identifier: Apache-2.0
// The main routing table, for finding the way to an address as the kernel would.

import type { NextHop, Route } from "../kernel/netlink/route.ts";
import { ROUTE_TABLE } from "../kernel/netlink/route.ts";
import { type Ipv4, isIpv4 } from "../net/address.ts";
import { isPrefix4, maskOf, type Prefix4 } from "../net/prefix.ts";

/** Where a packet to an address goes next. */
export interface Way {
  readonly device: number;
  /** Whose MAC it goes to: the gateway, or the address itself on its own link. */
  readonly gateway: Ipv4;
  /** The route's own MTU in bytes, where it has one. */
  readonly mtu: number | undefined;
}

/** IPv4 routes of the main table; policy rules and other tables are not looked at. */
export class RouteTable {
  /** By length of the prefix: network → its routes, best first. */
  readonly #byLength = Array.from({ length: 33 }, () => new Map<number, Route[]>());

  /** Forgets everything and takes these. */
  reset(routes: Iterable<Route>): void {
    for (const networks of this.#byLength) networks.clear();
    for (const route of routes) this.set(route);
  }

  /** Adds or replaces a route. Returns the prefix whose ways may have changed. */
  set(route: Route): Prefix4 | undefined {
    const { destination, table } = route;
    if (table !== ROUTE_TABLE.main || !isPrefix4(destination)) return undefined;
    const networks = this.#of(destination);
    const others = (networks.get(destination.address) ?? []).filter((one) => !rivals(one, route));
    others.push(route);
    others.sort((a, b) => a.priority - b.priority);
    networks.set(destination.address, others);
    return destination;
  }

  /** Removes a route. Returns the prefix whose ways may have changed. */
  delete(route: Route): Prefix4 | undefined {
    const { destination, table } = route;
    if (table !== ROUTE_TABLE.main || !isPrefix4(destination)) return undefined;
    const networks = this.#of(destination);
    const rest = (networks.get(destination.address) ?? []).filter((one) => !rivals(one, route));
    if (rest.length === 0) networks.delete(destination.address);
    else networks.set(destination.address, rest);
    return destination;
  }

  /** The routes to the longest prefix that holds the address, best first. */
  lookup(address: Ipv4): readonly Route[] {
    for (let length = 32; length >= 0; length--) {
      const networks = this.#byLength[length];
      if (networks === undefined || networks.size === 0) continue;
      const found = networks.get((address & maskOf(length)) >>> 0);
      if (found !== undefined) return found;
    }
    return [];
  }

  /**
   * The way to an address over devices that `usable` accepts; undefined when there is none, or
   * its gateway is one of IPv6 (RFC 5549). Of several hops, each address has its own, by weight.
   */
  wayTo(address: Ipv4, usable: (device: number) => boolean): Way | undefined {
    for (const route of this.lookup(address)) {
      if (route.type !== "unicast") return undefined;
      const hop = hopOf(route, address, usable);
      if (hop === undefined) continue;
      const { device, gateway = address } = hop;
      return isIpv4(gateway) ? { device, gateway, mtu: route.mtu } : undefined;
    }
    return undefined;
  }

  #of({ length }: Prefix4): Map<number, Route[]> {
    const networks = this.#byLength[length];
    if (networks === undefined) throw new RangeError(`no prefix has a length of ${length}`);
    return networks;
  }
}

/** The kernel has one route for each destination, TOS and priority. */
function rivals(a: Route, b: Route): boolean {
  return a.priority === b.priority;
}

function hopOf(
  route: Route,
  address: Ipv4,
  usable: (device: number) => boolean,
): NextHop | undefined {
  const only = { device: route.device, weight: 1 };
  const single = route.gateway === undefined ? only : { ...only, gateway: route.gateway };
  const hops = (route.hops.length > 0 ? route.hops : [single]).filter(({ device }) =>
    usable(device),
  );
  const total = hops.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return undefined;
  let place = (Math.imul(address, 0x9e3779b1) >>> 8) % total;
  for (const hop of hops) {
    place -= hop.weight;
    if (place < 0) return hop;
  }
  return undefined;
}
