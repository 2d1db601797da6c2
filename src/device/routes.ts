// SPDX-License-Identifier: Apache-2.0
// The main routing table, for finding the way to an address as the kernel would.

import type { NextHop, Route } from "../kernel/netlink/route.ts";
import { ROUTE_TABLE } from "../kernel/netlink/route.ts";
import { type Address, type Family, familyOf, isIpv4 } from "../net/address.ts";
import { type Prefix, prefixOf } from "../net/prefix.ts";

/** Where a packet to an address goes next. */
export interface Way {
  readonly device: number;
  /** Whose MAC it goes to: the gateway, or the address itself on its own link. */
  readonly gateway: Address;
  /** The route's own MTU in bytes, where it has one. */
  readonly mtu: number | undefined;
}

/** Routes of the main table, of both families; policy rules and other tables are not looked at. */
export class RouteTable {
  /** By family and length of the prefix: network → its routes, best first. */
  readonly #byLength: Readonly<Record<Family, readonly Map<Address, Route[]>[]>> = {
    ipv4: Array.from({ length: 33 }, () => new Map()),
    ipv6: Array.from({ length: 129 }, () => new Map()),
  };

  /** Forgets everything and takes these. */
  reset(routes: Iterable<Route>): void {
    for (const lengths of Object.values(this.#byLength)) {
      for (const networks of lengths) networks.clear();
    }
    for (const route of routes) this.set(route);
  }

  /** Adds or replaces a route. Returns the prefix whose ways may have changed. */
  set(route: Route): Prefix | undefined {
    const { destination, table } = route;
    if (table !== ROUTE_TABLE.main) return undefined;
    const networks = this.#of(destination);
    const others = (networks.get(destination.address) ?? []).filter((one) => !rivals(one, route));
    others.push(route);
    others.sort((a, b) => a.priority - b.priority);
    networks.set(destination.address, others);
    return destination;
  }

  /** Removes a route. Returns the prefix whose ways may have changed. */
  delete(route: Route): Prefix | undefined {
    const { destination, table } = route;
    if (table !== ROUTE_TABLE.main) return undefined;
    const networks = this.#of(destination);
    const rest = (networks.get(destination.address) ?? []).filter((one) => !rivals(one, route));
    if (rest.length === 0) networks.delete(destination.address);
    else networks.set(destination.address, rest);
    return destination;
  }

  /** The routes to the longest prefix that holds the address, best first. */
  lookup(address: Address): readonly Route[] {
    const lengths = this.#byLength[familyOf(address)];
    for (let length = lengths.length - 1; length >= 0; length--) {
      const networks = lengths[length];
      if (networks === undefined || networks.size === 0) continue;
      const found = networks.get(prefixOf(address, length).address);
      if (found !== undefined) return found;
    }
    return [];
  }

  /** The prefixes to which a route goes by one of these devices. */
  *prefixesBy(devices: ReadonlySet<number>): Generator<Prefix> {
    for (const lengths of Object.values(this.#byLength)) {
      for (const routes of lengths.flatMap((networks) => [...networks.values()])) {
        const found = routes.find((route) => goesBy(route, devices));
        if (found !== undefined) yield found.destination;
      }
    }
  }

  /** The routes to everywhere, best first, of one family. */
  defaults(family: Family): readonly Route[] {
    const [networks] = this.#byLength[family];
    return [...(networks?.values() ?? [])].flat();
  }

  /**
   * The way to an address over devices that `usable` accepts; undefined when there is none, or
   * its gateway is one of the other family (RFC 5549). Of several hops, each address has its own,
   * by weight.
   */
  wayTo(address: Address, usable: (device: number) => boolean): Way | undefined {
    for (const route of this.lookup(address)) {
      if (route.type !== "unicast") return undefined;
      const hop = hopOf(route, address, usable);
      if (hop === undefined) continue;
      const { device, gateway = address } = hop;
      const isOther = familyOf(gateway) !== familyOf(address);
      return isOther ? undefined : { device, gateway, mtu: route.mtu };
    }
    return undefined;
  }

  #of({ address, length }: Prefix): Map<Address, Route[]> {
    const networks = this.#byLength[familyOf(address)][length];
    if (networks === undefined) throw new RangeError(`no prefix has a length of ${length}`);
    return networks;
  }
}

/**
 * The kernel has one route for each destination, TOS and priority; of IPv6 also one for each
 * device, unless they are the hops of one.
 */
function rivals(a: Route, b: Route): boolean {
  if (a.priority !== b.priority) return false;
  const isShared = a.hops.length > 0 || b.hops.length > 0 || a.device === b.device;
  return isIpv4(a.destination.address) || isShared;
}

function goesBy({ device, hops }: Route, devices: ReadonlySet<number>): boolean {
  return devices.has(device) || hops.some((hop) => devices.has(hop.device));
}

function hopOf(
  route: Route,
  address: Address,
  usable: (device: number) => boolean,
): NextHop | undefined {
  const only = { device: route.device, weight: 1 };
  const single = route.gateway === undefined ? only : { ...only, gateway: route.gateway };
  const hops = (route.hops.length > 0 ? route.hops : [single]).filter(({ device }) =>
    usable(device),
  );
  const total = hops.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return undefined;
  const bits = isIpv4(address) ? address : Number(BigInt.asUintN(32, address ^ (address >> 64n)));
  let place = (Math.imul(bits, 0x9e3779b1) >>> 8) % total;
  for (const hop of hops) {
    place -= hop.weight;
    if (place < 0) return hop;
  }
  return undefined;
}
