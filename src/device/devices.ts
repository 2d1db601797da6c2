// SPDX-License-Identifier: Apache-2.0
// What the kernel knows of this namespace's devices, routes and neighbours, kept up to date.

import { type DeviceAddress, listAddresses } from "../kernel/netlink/address.ts";
import { type Link, listLinks } from "../kernel/netlink/link.ts";
import { listNeighbours, type Neighbour } from "../kernel/netlink/neighbour.ts";
import { listRoutes, ROUTE_TABLE, type Route } from "../kernel/netlink/route.ts";
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
  /** Prefixes to which routes came, went or changed; "all" when they are many. */
  readonly routes: readonly Prefix[] | "all";
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

/** Who follows them looks for each prefix among all that it has: beyond, at all of it once. */
const MAX_PREFIXES = 256;
/** After a list that failed, as one of a table that never stood still does. */
const RETRY_MS = 500;

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
 * `failed` hears of lists that fail later; the tables stay as they were until one succeeds.
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
  readonly #failed: (error: Error) => void;
  #gathered: Gathered | undefined;
  #retry: NodeJS.Timeout | undefined;
  /** Whether routes are other than events told: they are listed before listeners hear of it. */
  #isStale = false;
  /** Devices that went down since. */
  readonly #downed = new Set<number>();
  #closed = false;

  constructor(namespace: string | undefined, failed: (error: Error) => void) {
    const where = namespace === undefined ? {} : { namespace };
    this.netlink = openNetlink(where);
    this.#failed = failed;
    const onEvent = (event: NetworkEvent): void => this.#attempt(() => this.#apply(event));
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
    clearTimeout(this.#retry);
    this.#listeners.clear();
    this.#watch.close();
    this.netlink.close();
  }

  /** What fails leaves tables behind that no event mends: everything is listed after a while. */
  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failed(error instanceof Error ? error : new Error(String(error)));
      this.#retry ??= setTimeout(() => {
        this.#retry = undefined;
        this.#attempt(() => this.#relist());
      }, RETRY_MS).unref();
    }
  }

  #relist(): void {
    this.#listAll();
    this.#gather().all = true;
  }

  #listAll(): void {
    const links = listLinks(this.netlink);
    const routes = listRoutes(this.netlink, ROUTE_TABLE.main);
    const neighbours = listNeighbours(this.netlink);
    this.addresses = listAddresses(this.netlink);
    this.links.clear();
    for (const link of links) this.links.set(link.index, link);
    this.#resetRoutes(routes);
    this.#neighbours.clear();
    for (const one of neighbours) {
      this.#neighbours.set(neighbourKey(one.device, one.address), one);
    }
  }

  #resetRoutes(routes: readonly Route[]): void {
    this.routes.reset(routes);
    this.#isStale = false;
    this.#downed.clear();
  }

  #apply(event: NetworkEvent): void {
    switch (event.kind) {
      case "resync":
        this.#relist();
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
        // Of several hops of IPv6 one may go alone, and a route for one by another device: what
        // is left is asked for.
        const leavesMore = !isSet || event.replaces;
        if (leavesMore && !isIpv4(route.destination.address)) this.#isStale = true;
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
      this.#isStale = true;
      this.#downed.add(link.index);
    }
  }

  #gather(): Gathered {
    if (this.#gathered === undefined) {
      this.#gathered = gatherNothing();
      setImmediate(() => this.#tell());
    }
    return this.#gathered;
  }

  #listRoutes(changes: Gathered): void {
    const routes = listRoutes(this.netlink, ROUTE_TABLE.main);
    for (const prefix of this.routes.prefixesBy(this.#downed)) changes.routes.push(prefix);
    this.#resetRoutes(routes);
  }

  #tell(): void {
    const changes = this.#gathered;
    this.#gathered = undefined;
    if (changes === undefined || this.#closed) return;
    if (this.#isStale) this.#attempt(() => this.#listRoutes(changes));
    const routes = changes.routes.length > MAX_PREFIXES ? "all" : changes.routes;
    for (const listener of [...this.#listeners]) listener({ ...changes, routes });
  }
}
