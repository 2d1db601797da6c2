// SPDX-License-Identifier: Apache-2.0
// Rows of nexthops: for each device, gateway and MTU of the routes to backends, and for each node
// where packets go to nodes (dispatch: geneve), everything that a packet needs to leave. Programs
// read a row while it is flagged as resolved; so the flag goes first, then a grace period, then the
// row is rewritten and the flag comes back.
//
// A flow of SNAT remembers its row and the row's generation, which stands in the flags' high byte.
// It is raised when the row gets another way, and when some address is routed by
// another row: the flows that were made before ask the FIB from then on.

import { type Ifindex, NexthopFlag } from "../datapath/gen/abi.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { NexthopSource } from "../datapath/tables/images.ts";
import { type Grace, Quarantine } from "../datapath/tables/quarantine.ts";
import { type DeviceChanges, type Devices, neighbourKey } from "../device/devices.ts";
import type { Way } from "../device/routes.ts";
import type { Codec } from "../kernel/codec.ts";
import { KernelError } from "../kernel/error.ts";
import type { MapMapping } from "../kernel/map-memory.ts";
import { manageNeighbour, resolveNeighbour } from "../kernel/netlink/neighbour.ts";
import {
  type Address,
  anyOf,
  type Family,
  familyOf,
  formatAddress,
  isAny,
  isIpv4,
} from "../net/address.ts";
import { prefixContains } from "../net/prefix.ts";
import { emptyRow, type NexthopRow, textOf } from "./nexthop-row.ts";
import { outerChecksum } from "./outer.ts";

/** One way out of this node, for status. */
export interface NexthopStatus {
  readonly row: number;
  readonly device: string;
  readonly gateway: Address;
  readonly mtu: number;
  /** Backends that it leads to. */
  readonly backends: number;
  readonly resolved: boolean;
  /** Why it isn't, "" when it is. */
  readonly reason: string;
}

export interface NexthopOptions<A extends Address = Address> {
  /** Of one family. */
  readonly map: TypedMap<number, NexthopRow<A>>;
  readonly devices: Devices;
  /** This node's address: the outer source, and the one by which rows differ from hashed ones. */
  readonly outerSource: A;
  /** Outer sources are made from the flow's hash: only the packet path knows them. */
  readonly hashedSource: boolean;
  /** The largest IP packet between nodes in bytes, where it is configured. */
  readonly mtu: number | undefined;
  /** Whether packets go to the backends' nodes, so that ways lead there. */
  readonly toPeers: boolean;
  /** Whether XDP can send by a device; `refresh` when that has changed. */
  readonly edgeSendsBy: (ifindex: number) => boolean;
  /** Called when a neighbour can't be asked for; it is tried again. */
  readonly failed: (error: Error) => void;
  readonly grace?: Grace;
}

/** Knows the way to every backend on another node. */
export interface Nexthops extends NexthopSource, Disposable {
  status(): readonly NexthopStatus[];
  /** Backends that the main routing table leads nowhere. */
  unrouted(): readonly Address[];
  /**
   * Looks again at which node each backend is, where ways lead to nodes. Until the first call, it
   * is what the rows of before say.
   */
  lead(peerOf: (backend: Address) => Address | undefined): void;
  /** Looks again by which devices XDP can send. */
  refresh(): void;
  /** Frees rows of before that nobody asked for; to be called once the hot tables are open. */
  prune(): void;
  /** Settles when every row is as the kernel's tables were when it was called. */
  settled(): Promise<void>;
}

/** Row 0 is never resolved: programs ask the FIB. */
const UNRESOLVED = 0;
const ETHERNET = 1;
const RETRY_MS = 1000;
const MAX_MTU = 0xffff;

interface Row {
  readonly row: number;
  readonly device: number;
  readonly gateway: Address;
  /** The backends' node, where ways lead to nodes. */
  readonly peer: Address;
  /** Of the routes that lead here, undefined for none: each MTU has a row of its own. */
  readonly mtu: number | undefined;
  readonly addresses: Set<Address>;
  /** What is in memory now, "" while it isn't resolved. */
  written: string;
  /** The flag has gone and the grace period is not over. */
  waiting: boolean;
}

interface Destination {
  wanters: number;
  row: Row | undefined;
  /** The backend's node, as far as it is known. */
  peer: Address;
}

/** Takes the map over: rows that are there are used for the same ways. */
export function createNexthops<A extends Address>(options: NexthopOptions<A>): Nexthops {
  return new NexthopTable(options);
}

class NexthopTable<A extends Address> implements Nexthops {
  readonly #options: NexthopOptions<A>;
  readonly #codec: Codec<NexthopRow>;
  readonly #family: Family;
  /** Bytes from one row to the next. */
  readonly #stride: number;
  readonly #quarantine: Quarantine;
  readonly #mapping: MapMapping;
  readonly #view: DataView;
  readonly #flags: Uint16Array;
  /** Of each row, as its flags have them. */
  readonly #generations: Uint8Array;
  readonly #limit: number;
  readonly #destinations = new Map<Address, Destination>();
  readonly #rows = new Map<string, Row>();
  readonly #free: number[] = [];
  /** Rows from before this process that nobody has asked for yet, as #rows. */
  readonly #found = new Map<string, number>();
  readonly #unlisten: () => void;
  readonly #timer: NodeJS.Timeout;
  #managed = true;
  #peerOf: ((backend: Address) => Address) | undefined;
  #rerouted: (rows: ReadonlyMap<Address, number>) => void = () => undefined;

  constructor(options: NexthopOptions<A>) {
    this.#options = options;
    this.#codec = options.map.spec.value;
    this.#family = familyOf(options.outerSource);
    this.#quarantine = new Quarantine(options.grace);
    this.#mapping = options.map.raw.mmap();
    this.#stride = this.#mapping.stride;
    this.#view = new DataView(this.#mapping.buffer);
    this.#flags = new Uint16Array(this.#mapping.buffer);
    this.#limit = options.map.raw.info.maxEntries;
    this.#generations = new Uint8Array(this.#limit);
    this.#restore();
    this.#unlisten = options.devices.listen((changes) => this.#follow(changes));
    this.#timer = setInterval(() => this.#retry(), RETRY_MS).unref();
  }

  refresh(): void {
    for (const row of this.#rows.values()) this.#refresh(row);
  }

  lead(peerOf: (backend: Address) => Address | undefined): void {
    if (!this.#options.toPeers) return;
    this.#peerOf = (address) => peerOf(address) ?? anyOf(this.#family);
    const moved = new Map<Address, number>();
    for (const [address, destination] of this.#destinations) {
      const peer = this.#peerOf(address);
      if (destination.peer === peer) continue;
      destination.peer = peer;
      this.#route(address, destination);
      moved.set(address, destination.row?.row ?? UNRESOLVED);
    }
    if (moved.size > 0) this.#rerouted(moved);
  }

  acquire(address: Address, before = UNRESOLVED): number {
    const known = this.#destinations.get(address);
    if (known !== undefined) {
      known.wanters++;
      return known.row?.row ?? UNRESOLVED;
    }
    const peer = this.#peerOf?.(address) ?? this.#peerBefore(before);
    const destination: Destination = { wanters: 1, row: undefined, peer };
    this.#destinations.set(address, destination);
    this.#route(address, destination);
    return destination.row?.row ?? UNRESOLVED;
  }

  release(address: Address): void {
    const destination = this.#destinations.get(address);
    if (destination === undefined || --destination.wanters > 0) return;
    this.#destinations.delete(address);
    this.#leave(address, destination);
  }

  follow(rerouted: (rows: ReadonlyMap<Address, number>) => void): void {
    this.#rerouted = rerouted;
  }

  status(): readonly NexthopStatus[] {
    return [...this.#rows.values()].map((row) => {
      const { device, gateway, addresses } = row;
      const reason = row.written === "" ? this.#reasonOf(row) : "";
      const name = this.#options.devices.links.get(device)?.name ?? `number ${device}`;
      const mtu = this.#mtuOf(row);
      const resolved = row.written !== "";
      return {
        row: row.row,
        device: name,
        gateway,
        mtu,
        backends: addresses.size,
        resolved,
        reason,
      };
    });
  }

  unrouted(): readonly Address[] {
    const { routes } = this.#options.devices;
    return [...this.#destinations]
      .filter(([, { row }]) => row === undefined)
      .filter(([address, it]) => routes.lookup(targetOf(address, it))[0]?.type !== "unicast")
      .map(([address]) => address);
  }

  prune(): void {
    for (const row of this.#found.values()) this.#empty(row);
    this.#found.clear();
  }

  settled(): Promise<void> {
    return this.#quarantine.settled();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#unlisten();
    // A grace period that is still under way must not write into memory that is gone.
    this.#rows.clear();
    this.#mapping.close();
  }

  /** Old rows stay in force until backends have been asked for; the rest is given out anew. */
  #restore(): void {
    this.#flags.fill(0, 0, this.#stride / 2);
    for (let row = this.#limit - 1; row > UNRESOLVED; row--) {
      const it = this.#codec.decode(this.#view, row * this.#stride);
      this.#generations[row] = it.flags / NexthopFlag.generation;
      const key = rowKey(it.ifindex, it.gateway, it.peer, it.mtu);
      if (it.ifindex === 0 || this.#found.has(key)) this.#free.push(row);
      else this.#found.set(key, row);
    }
  }

  /** The node to which a row of before led. */
  #peerBefore(row: number): Address {
    if (!this.#options.toPeers || row === UNRESOLVED || row >= this.#limit)
      return anyOf(this.#family);
    return this.#codec.decode(this.#view, row * this.#stride).peer;
  }

  /** Gives an address the row of the way that its route says. */
  #route(address: Address, destination: Destination): void {
    const { devices } = this.#options;
    const { peer } = destination;
    const target = targetOf(address, destination);
    const way = devices.routes.wayTo(target, (device) => this.#usable(device));
    const row = way === undefined ? undefined : this.#rowOf(way, peer);
    if (row !== destination.row) {
      if (destination.row !== undefined) this.#raise(destination.row.row);
      this.#leave(address, destination);
      destination.row = row;
      row?.addresses.add(address);
    }
    if (row !== undefined) this.#refresh(row);
  }

  #usable(device: number): boolean {
    const link = this.#options.devices.links.get(device);
    return link?.up === true && link.hardware === ETHERNET && link.mac !== undefined;
  }

  #rowOf({ device, gateway, mtu }: Way, peer: Address): Row | undefined {
    const key = rowKey(device, gateway, peer, mtu);
    const known = this.#rows.get(key);
    if (known !== undefined) return known;
    const foundKey = rowKey(device, gateway, peer, this.#mtuOf({ device, mtu }));
    const found = this.#found.get(foundKey);
    const number = found ?? this.#free.pop();
    this.#found.delete(foundKey);
    if (number === undefined) return undefined;
    // Where the FIB is asked for the way, the row still says to whom.
    if (found === undefined) this.#write(number, { ...emptyRow(this.#family), peer });
    const row: Row = {
      row: number,
      device,
      gateway,
      peer,
      mtu,
      addresses: new Set(),
      written: this.#isResolved(number) ? "before" : "",
      waiting: false,
    };
    this.#rows.set(key, row);
    this.#ask(row);
    return row;
  }

  /** The last address that leaves takes the row along, once no program reads it any more. */
  #leave(address: Address, destination: Destination): void {
    const { row } = destination;
    destination.row = undefined;
    if (row === undefined) return;
    row.addresses.delete(address);
    // A whole turn later: another address may come for the same row meanwhile.
    if (row.addresses.size === 0) this.#quarantine.retire(() => this.#discard(row));
  }

  #discard(row: Row): void {
    const key = rowKey(row.device, row.gateway, row.peer, row.mtu);
    if (row.addresses.size > 0 || this.#rows.get(key) !== row) return;
    this.#rows.delete(key);
    this.#empty(row.row);
  }

  #empty(row: number): void {
    this.#setFlags(row, 0);
    this.#raise(row);
    this.#quarantine.retire(() => {
      this.#write(row, emptyRow(this.#family));
      this.#free.push(row);
    });
  }

  #isResolved(row: number): boolean {
    return (this.#flagsOf(row) & NexthopFlag.resolved) !== 0;
  }

  #flagsOf(row: number): number {
    return (this.#flags[row * (this.#stride / 2) + 3] ?? 0) % NexthopFlag.generation;
  }

  #setFlags(row: number, flags: number): void {
    const generation = (this.#generations[row] ?? 0) * NexthopFlag.generation;
    Atomics.store(this.#flags, row * (this.#stride / 2) + 3, flags | generation);
  }

  /** Takes the row from flows that remember it. */
  #raise(row: number): void {
    this.#generations[row] = (this.#generations[row] ?? 0) + 1;
    this.#setFlags(row, this.#flagsOf(row));
  }

  #clear(row: Row): void {
    row.written = "";
    this.#setFlags(row.row, 0);
  }

  #write(row: number, value: NexthopRow): void {
    if (this.#flags.length === 0) return;
    const generation = (this.#generations[row] ?? 0) * NexthopFlag.generation;
    this.#codec.encode(this.#view, row * this.#stride, { ...value, flags: generation });
    this.#setFlags(row, value.flags);
  }

  #mtuOf({ device, mtu }: Pick<Row, "device" | "mtu">): number {
    const link = this.#options.devices.links.get(device);
    return Math.min(mtu ?? MAX_MTU, link?.mtu ?? MAX_MTU, this.#options.mtu ?? MAX_MTU, MAX_MTU);
  }

  /** What the row should be; undefined while the neighbour isn't resolved. */
  #wanted(row: Row): NexthopRow | undefined {
    const { devices, outerSource, hashedSource, edgeSendsBy } = this.#options;
    const link = devices.links.get(row.device);
    // The kernel tells a MAC only while it is good, if only until it is proved otherwise.
    const destination = devices.neighbour(row.device, row.gateway)?.mac;
    if (link?.mac === undefined || !link.up || destination === undefined) return undefined;
    return {
      ifindex: row.device as Ifindex,
      mtu: this.#mtuOf(row),
      flags: NexthopFlag.resolved | (edgeSendsBy(row.device) ? NexthopFlag.edge : 0),
      destination,
      source: link.mac,
      gateway: row.gateway,
      outerSource,
      // IPv6's outer header has none.
      checksum: isIpv4(outerSource) ? outerChecksum(hashedSource ? undefined : outerSource) : 0,
      peer: row.peer,
    };
  }

  #refresh(row: Row): void {
    const wanted = this.#wanted(row);
    const text = wanted === undefined ? "" : textOf(wanted);
    if (row.written === "before" && text !== "") {
      const there = this.#codec.decode(this.#view, row.row * this.#stride);
      const same = textOf({ ...there, flags: this.#flagsOf(row.row) }) === text;
      row.written = same ? text : "other";
    }
    if (row.waiting || text === row.written) return;
    this.#clear(row);
    if (wanted === undefined) return;
    row.waiting = true;
    this.#quarantine.retire(() => this.#rewrite(row));
  }

  #rewrite(row: Row): void {
    row.waiting = false;
    if (this.#rows.get(rowKey(row.device, row.gateway, row.peer, row.mtu)) !== row) return;
    const wanted = this.#wanted(row);
    if (wanted === undefined) return;
    this.#write(row.row, wanted);
    row.written = textOf(wanted);
  }

  /** Has the kernel resolve the gateway and keep it so; older kernels are asked again and again. */
  #ask(row: Row): void {
    const { devices, failed } = this.#options;
    const ask = this.#managed ? manageNeighbour : resolveNeighbour;
    const there = devices.neighbour(row.device, row.gateway);
    if (there?.state === "permanent" || there?.state === "noArp" || there?.managed === true) return;
    try {
      devices.netlink.run(ask(row.device, row.gateway));
    } catch (error) {
      if (this.#managed && error instanceof KernelError && error.code === "EINVAL") {
        this.#managed = false;
        this.#ask(row);
        return;
      }
      failed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #retry(): void {
    for (const row of this.#rows.values()) {
      if (row.addresses.size === 0 || !this.#usable(row.device)) continue;
      const state = this.#options.devices.neighbour(row.device, row.gateway);
      if (state?.managed !== true || !this.#managed) this.#ask(row);
    }
  }

  #follow({ all, links, routes, neighbours }: DeviceChanges): void {
    if (all || routes.length > 0 || links.size > 0) {
      const moved = new Map<Address, number>();
      for (const [address, destination] of this.#destinations) {
        const target = targetOf(address, destination);
        const near = routes === "all" || routes.some((prefix) => prefixContains(prefix, target));
        const on = destination.row === undefined || links.has(destination.row.device);
        if (!all && !near && !(links.size > 0 && on)) continue;
        const before = destination.row;
        this.#route(address, destination);
        if (destination.row !== before) moved.set(address, destination.row?.row ?? UNRESOLVED);
      }
      if (moved.size > 0) this.#rerouted(moved);
    }
    for (const row of this.#rows.values()) {
      const touched = neighbours.has(neighbourKey(row.device, row.gateway));
      if (!all && !links.has(row.device) && !touched) continue;
      this.#refresh(row);
      // A device that was down has forgotten its neighbours. Where the kernel doesn't keep them,
      // each answer would be a change that asks again: there the timer does.
      if (this.#managed && row.addresses.size > 0 && this.#usable(row.device)) this.#ask(row);
    }
  }

  #reasonOf({ device, gateway }: Row): string {
    const { devices } = this.#options;
    const link = devices.links.get(device);
    if (link === undefined) return "its device is gone";
    if (!link.up) return `device ${link.name} is down`;
    const state = devices.neighbour(device, gateway)?.state ?? "none";
    return `${formatAddress(gateway)} has no MAC on ${link.name} yet (neighbour ${state})`;
  }
}

/** Where a backend's packets are routed to. */
function targetOf(address: Address, { peer }: Destination): Address {
  return isAny(peer) ? address : peer;
}

function rowKey(device: number, gateway: Address, peer: Address, mtu: number | undefined): string {
  return `${device} ${gateway} ${peer} ${mtu ?? 0}`;
}
