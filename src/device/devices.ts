// SPDX-License-Identifier: Apache-2.0
// What the kernel knows of this namespace's devices, routes and neighbours, kept up to date.

import { type DeviceAddress, listAddresses } from "../kernel/netlink/address.ts";
import { type Link, listLinks } from "../kernel/netlink/link.ts";
import { listNeighbours, type Neighbour } from "../kernel/netlink/neighbour.ts";
import { listRoutes, ROUTE_TABLE } from "../kernel/netlink/route.ts";
import { type Netlink, openNetlink } from "../kernel/netlink/socket.ts";
import { type NetworkEvent, watchNetwork } from "../kernel/netlink/watch.ts";
import { type Address, isIpv4 } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";
import { RouteTable } from "./routes.ts";

/** What has changed since the last call, gathered over one turn of the event loop. */
export interface DeviceChanges {
  /** Everything may have changed. */
  readonly all: boolean;
  /** Devices that came, went or changed, by index. */
  readonly links: ReadonlySet<number>;
  readonly addresses: boolean;
  /** Prefixes to which routes came, went or changed. */
  readonly routes: readonly Prefix[];
  /** Neighbours that came, went or changed, by `neighbourKey`. */
  readonly neighbours: ReadonlySet<NeighbourKey>;
}

/** The tables. Readers see them as of the last event. */
export interface Devices extends Disposable {
  readonly links: ReadonlyMap<number, Link>;
  readonly addresses: readonly DeviceAddress[];
  readonly routes: RouteTable;
  link(name: string): Link | undefined;
  neighbour(device: number, address: Address): Neighbour | undefined;
  /** Calls `listener` after changes, never before this returns. Returns what ends it. */
  listen(listener: (changes: DeviceChanges) => void): () => void;
  /** The socket on which the tables are listed, for requests about the same namespace. */
  readonly netlink: Netlink;
}

/** A neighbour as one number, different for each. */
export type NeighbourKey = number | bigint;

export function neighbourKey(device: number, address: Address): NeighbourKey {
  return isIpv4(address) ? device * 2 ** 32 + address : (BigInt(device) << 128n) | address;
}

interface Gathered {
  all: boolean;
  readonly links: Set<number>;
  addresses: boolean;
  readonly routes: Prefix[];
  readonly neighbours: Set<NeighbourKey>;
}

function gatherNothing(): Gathered {
  return { all: false, links: new Set(), addresses: false, routes: [], neighbours: new Set() };
}

/**
 * Lists everything of the namespace (a path; the caller's own when left out) and follows it.
 * `failed` hears of lists that fail later; the tables then stay as they were.
 */
export function openDevices(options: {
  readonly namespace?: string;
  readonly failed: (error: Error) => void;
}): Devices {
  return new DeviceTables(options.namespace, options.failed);
}

class DeviceTables implements Devices {
  readonly links = new Map<number, Link>();
  addresses: readonly DeviceAddress[] = [];
  readonly routes = new RouteTable();
  readonly netlink: Netlink;
  readonly #neighbours = new Map<NeighbourKey, Neighbour>();
  readonly #listeners = new Set<(changes: DeviceChanges) => void>();
  readonly #watch: { close(): void };
  #gathered: Gathered | undefined;
  #closed = false;

  constructor(namespace: string | undefined, failed: (error: Error) => void) {
    const where = namespace === undefined ? {} : { namespace };
    this.netlink = openNetlink(where);
    const onEvent = (event: NetworkEvent): void => {
      try {
        this.#apply(event);
      } catch (error) {
        failed(error instanceof Error ? error : new Error(String(error)));
      }
    };
    try {
      // The watch begins before the list, so nothing is missed between them.
      this.#watch = watchNetwork(onEvent, where);
      this.#listAll();
    } catch (error) {
      this.netlink.close();
      throw error;
    }
  }

  link(name: string): Link | undefined {
    for (const link of this.links.values()) if (link.name === name) return link;
    return undefined;
  }

  neighbour(device: number, address: Address): Neighbour | undefined {
    return this.#neighbours.get(neighbourKey(device, address));
  }

  listen(listener: (changes: DeviceChanges) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#watch.close();
    this.netlink.close();
  }

  #listAll(): void {
    const links = listLinks(this.netlink);
    const routes = listRoutes(this.netlink, ROUTE_TABLE.main);
    const neighbours = listNeighbours(this.netlink);
    this.addresses = listAddresses(this.netlink);
    this.links.clear();
    for (const link of links) this.links.set(link.index, link);
    this.routes.reset(routes);
    this.#neighbours.clear();
    for (const one of neighbours) {
      this.#neighbours.set(neighbourKey(one.device, one.address), one);
    }
  }

  #apply(event: NetworkEvent): void {
    switch (event.kind) {
      case "resync":
        this.#listAll();
        this.#gather().all = true;
        return;
      case "link":
        this.#applyLink(event.link, event.change === "set");
        return;
      case "address":
        this.addresses = listAddresses(this.netlink);
        this.#gather().addresses = true;
        return;
      case "route": {
        const { route } = event;
        const isSet = event.change === "set";
        // Of several hops of IPv6 one may go alone: what is left is asked for.
        if (!isSet && !isIpv4(route.destination.address)) {
          this.routes.reset(listRoutes(this.netlink, ROUTE_TABLE.main));
          this.#gather().routes.push(route.destination);
          return;
        }
        const prefix = isSet ? this.routes.set(route) : this.routes.delete(route);
        if (prefix !== undefined) this.#gather().routes.push(prefix);
        return;
      }
      case "neighbour": {
        const { device, address } = event.neighbour;
        const key = neighbourKey(device, address);
        if (event.change === "set") this.#neighbours.set(key, event.neighbour);
        else this.#neighbours.delete(key);
        this.#gather().neighbours.add(key);
      }
    }
  }

  #applyLink(link: Link, exists: boolean): void {
    const before = this.links.get(link.index);
    if (exists) this.links.set(link.index, link);
    else this.links.delete(link.index);
    this.#gather().links.add(link.index);
    // A device that goes down takes its routes along, and the kernel doesn't tell of each.
    if (before?.up === true && !(exists && link.up)) {
      this.routes.reset(listRoutes(this.netlink, ROUTE_TABLE.main));
      this.#gather().all = true;
    }
  }

  #gather(): Gathered {
    if (this.#gathered === undefined) {
      this.#gathered = gatherNothing();
      setImmediate(() => this.#tell());
    }
    return this.#gathered;
  }

  #tell(): void {
    const changes = this.#gathered;
    this.#gathered = undefined;
    if (changes === undefined || this.#closed) return;
    for (const listener of [...this.#listeners]) listener(changes);
  }
}
