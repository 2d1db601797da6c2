// SPDX-License-Identifier: Apache-2.0
// Keeps our programs on the devices that they belong to, and nobody else's.

import { join } from "node:path";
import { listPins, unpin } from "../kernel/bpffs.ts";
import { KernelError } from "../kernel/error.ts";
import { attachTcx, attachXdp, type XdpMode } from "../kernel/link.ts";
import { findLink, listLinks } from "../kernel/netlink/link.ts";
import type { Netlink } from "../kernel/netlink/socket.ts";
import {
  addClsact,
  type BpfFilter,
  deleteBpfFilter,
  type FilterPlace,
  hasClsact,
  listBpfFilters,
  replaceBpfFilter,
} from "../kernel/netlink/traffic-control.ts";
import { hasFeature } from "../kernel/probe.ts";
import type { BpfProgram } from "../kernel/program.ts";
import { openLink, reasonOf, removeLink } from "./links.ts";
import type { DatapathPrograms } from "./load.ts";
import { dropOtherPrograms } from "./programs.ts";

/** Where services are balanced: the node's file calls it `acceleration`. */
export type Acceleration = XdpMode | "off";

/** A device of this node's namespace. */
export interface AttachDevice {
  readonly ifindex: number;
  readonly name: string;
}

/** One on which traffic for services arrives. */
export interface UplinkDevice extends AttachDevice {
  /** Why XDP must not run there, whatever is asked for; undefined when it may. */
  readonly withoutXdp?: string | undefined;
}

/** Which devices shall have programs. */
export interface Wanted {
  readonly uplinks: readonly UplinkDevice[];
  /** Devices of this node's pods, on the node's side. */
  readonly pods: readonly AttachDevice[];
  readonly acceleration: Acceleration;
  /** Whether the node's own packets are translated, on the way out of all of them. */
  readonly ownPackets: boolean;
  /** Whether what it answers to clients outside is, on the way out of uplinks; left out: no. */
  readonly ownReplies?: boolean;
}

/** What a device has. */
export interface DeviceStatus extends AttachDevice {
  readonly role: "uplink" | "pod";
  /** How XDP runs, for uplinks. */
  readonly xdp: XdpMode | "none";
  /** How tc runs. */
  readonly tc: "tcx" | "clsact" | "none";
  /** Why it has less than was asked for, "" when it has all. */
  readonly reason: string;
}

export interface AttacherOptions {
  readonly programs: DatapathPrograms;
  /** Directory of the links' pins, the one of the maps. */
  readonly pins: string;
  /** For looking at devices, in the caller's namespace. */
  readonly netlink: Netlink;
  /** Whether the kernel has tcx; asked of it when left out. */
  readonly tcx?: boolean;
}

/** Attaches and detaches; the links are pinned and outlive it. */
export interface Attacher {
  /**
   * Makes devices as wanted and says how they are now. To be called again whenever devices come,
   * go or change; what is in place already is left alone. Never throws for a single device.
   */
  sync(wanted: Wanted): readonly DeviceStatus[];
}

type TcHook = "from_network" | "from_pod" | "from_node";
type Hook = "edge_ingress" | TcHook;

/** `link_<hook>_<ifindex>`: names of devices may have dots, which bpffs refuses. */
const PIN = /^link_(edge_ingress|from_network|from_pod|from_node)_(\d+)$/;
const DIRECTION = { from_network: "ingress", from_pod: "ingress", from_node: "egress" } as const;
const DIRECTIONS = ["ingress", "egress"] as const;
/** Filters with this prefix are ours. */
const FILTER_PREFIX = "ciliate_";
/** Before anybody who leaves the choice to the kernel, which begins at 49152. */
const PRIORITY = 1;

/** Takes over the links that a predecessor pinned, at the first sync. */
export function createAttacher(options: AttacherOptions): Attacher {
  const hooks = new Hooks(options);
  return { sync: (wanted) => hooks.sync(wanted) };
}

/**
 * Devices of the caller's namespace that a program of ours is on, by its link or, on kernels
 * without tcx, as a filter.
 */
export function devicesWith(pins: string, netlink: Netlink, hook: Hook): number[] {
  const linked = listPins(pins).flatMap((name) => {
    const [, of, ifindex] = PIN.exec(name) ?? [];
    return of === hook ? [Number(ifindex)] : [];
  });
  if (linked.length > 0 || hook === "edge_ingress") return linked;
  const name = `${FILTER_PREFIX}${hook}`;
  return listLinks(netlink)
    .map(({ index }) => index)
    .filter((index) =>
      listBpfFilters(netlink, index, DIRECTION[hook]).some((filter) => filter.name === name),
    );
}

interface TcResult {
  readonly tc: DeviceStatus["tc"];
  readonly reason: string;
}

const NO_TC: TcResult = { tc: "none", reason: "" };

interface XdpResult {
  readonly xdp: DeviceStatus["xdp"];
  readonly reason: string;
}

class Hooks {
  readonly #programs: Readonly<Record<Hook, BpfProgram>>;
  readonly #tables: ReadonlySet<number>;
  readonly #pins: string;
  readonly #netlink: Netlink;
  readonly #tcx: boolean;
  /** Devices with clsact filters of ours; undefined as long as tcx does. */
  #filtered: Set<number> | undefined;

  constructor({ programs, pins, netlink, tcx }: AttacherOptions) {
    this.#programs = {
      edge_ingress: programs.edgeIngress,
      from_network: programs.fromNetwork,
      from_pod: programs.fromPod,
      from_node: programs.fromNode,
    };
    this.#tables = programs.tables;
    this.#pins = pins;
    this.#netlink = netlink;
    this.#tcx = tcx ?? hasFeature("tcx");
  }

  sync({
    uplinks,
    pods,
    acceleration,
    ownPackets,
    ownReplies = false,
  }: Wanted): readonly DeviceStatus[] {
    const statuses: DeviceStatus[] = [];
    const kept = new Set<string>();
    const keep = (hook: Hook, ifindex: number): void => void kept.add(pinName(hook, ifindex));
    const bothWays = (hook: TcHook, device: AttachDevice, isEgress: boolean): TcResult => {
      const hooks = isEgress ? ([hook, "from_node"] as const) : [hook];
      const results = hooks.map((one) => {
        keep(one, device.ifindex);
        return this.#tc(one, device);
      });
      return results.find(({ tc }) => tc === "none") ?? results[0] ?? NO_TC;
    };
    for (const { withoutXdp, ...device } of uplinks) {
      const tc = bothWays("from_network", device, ownPackets || ownReplies);
      const xdp = this.#xdp(device, acceleration, withoutXdp);
      if (xdp.xdp !== "none") keep("edge_ingress", device.ifindex);
      const reason = [xdp.reason, tc.reason].filter((text) => text !== "").join("; ");
      statuses.push({ ...device, role: "uplink", xdp: xdp.xdp, tc: tc.tc, reason });
    }
    for (const device of pods) {
      statuses.push({
        ...device,
        role: "pod",
        xdp: "none",
        ...bothWays("from_pod", device, ownPackets),
      });
    }
    this.#removeOthers(kept);
    dropOtherPrograms(this.#pins, this.#tables);
    return statuses;
  }

  #tc(hook: TcHook, device: AttachDevice): TcResult {
    const program = this.#programs[hook];
    const direction = DIRECTION[hook];
    if (!this.#tcx) return this.#clsact(hook, device);
    try {
      if (this.#adopt(hook, device.ifindex)) return { tc: "tcx", reason: "" };
      const { ifindex } = device;
      using link = attachTcx({ program, ifindex, direction, position: "first" });
      link.pinByRename(this.#pinPath(hook, ifindex));
      return { tc: "tcx", reason: "" };
    } catch (error) {
      return { tc: "none", reason: reasonOf(error) };
    }
  }

  /** The way of kernels before 6.6. */
  #clsact(hook: TcHook, { ifindex }: AttachDevice): TcResult {
    const program = this.#programs[hook];
    const direction = DIRECTION[hook];
    const name = `${FILTER_PREFIX}${program.name}`;
    try {
      const there = listBpfFilters(this.#netlink, ifindex, direction);
      const ours = there.find((filter) => filter.name === name);
      if (ours?.programId !== program.id) {
        if (!hasClsact(this.#netlink, ifindex)) this.#netlink.run(addClsact(ifindex));
        const place = { ...(ours ?? freePlace(there)), device: ifindex, direction };
        this.#netlink.run(replaceBpfFilter(place, program.fd, name));
      }
      this.#filtered ??= this.#findFiltered();
      this.#filtered.add(ifindex);
      return { tc: "clsact", reason: "" };
    } catch (error) {
      return { tc: "none", reason: reasonOf(error) };
    }
  }

  #xdp({ ifindex }: AttachDevice, acceleration: Acceleration, without?: string): XdpResult {
    if (acceleration === "off") return { xdp: "none", reason: "" };
    if (without !== undefined) return { xdp: "none", reason: `balanced in tc: ${without}` };
    const path = this.#pinPath("edge_ingress", ifindex);
    try {
      const mode = findLink(this.#netlink, ifindex)?.xdp.mode;
      const otherMode = mode !== acceleration && (mode === "native" || mode === "generic");
      if (otherMode) removeLink(path);
      else if (this.#adopt("edge_ingress", ifindex)) return { xdp: acceleration, reason: "" };
      const program = this.#programs.edge_ingress;
      using link = attachXdp({ program, ifindex, mode: acceleration });
      link.pinByRename(path);
      return { xdp: acceleration, reason: "" };
    } catch (error) {
      return { xdp: "none", reason: `balanced in tc: ${reasonOf(error)}` };
    }
  }

  /** Puts our program into the link that is pinned for a device; false if there is none alive. */
  #adopt(hook: Hook, ifindex: number): boolean {
    const path = this.#pinPath(hook, ifindex);
    const link = openLink(path);
    if (link === undefined) return false;
    using held = link;
    const program = this.#programs[hook];
    const info = held.info();
    if (info.ifindex !== ifindex) {
      unpin(path);
      return false;
    }
    if (info.programId !== program.id) held.update(program);
    return true;
  }

  #removeOthers(kept: ReadonlySet<string>): void {
    for (const name of listPins(this.#pins)) {
      if (PIN.test(name) && !kept.has(name)) removeLink(join(this.#pins, name));
    }
    if (this.#filtered === undefined) return;
    for (const ifindex of this.#filtered) {
      const filters = this.#ourFilters(ifindex);
      const others = filters.filter(({ name }) => !kept.has(pinOfFilter(name, ifindex)));
      for (const filter of others) this.#netlink.run(deleteBpfFilter(filter));
      if (others.length === filters.length) this.#filtered.delete(ifindex);
    }
  }

  /** A predecessor may have left some. */
  #findFiltered(): Set<number> {
    const indexes = listLinks(this.#netlink).map(({ index }) => index);
    return new Set(indexes.filter((index) => this.#ourFilters(index).length > 0));
  }

  #ourFilters(ifindex: number): BpfFilter[] {
    try {
      const filters = DIRECTIONS.flatMap((direction) =>
        listBpfFilters(this.#netlink, ifindex, direction),
      );
      return filters.filter(({ name }) => name.startsWith(FILTER_PREFIX));
    } catch (error) {
      if (error instanceof KernelError && error.code === "ENODEV") return [];
      throw error;
    }
  }

  #pinPath(hook: Hook, ifindex: number): string {
    return join(this.#pins, pinName(hook, ifindex));
  }
}

function pinName(hook: string, ifindex: number): string {
  return `link_${hook}_${ifindex}`;
}

/** What the pin of a filter's program would be called if it had a link. */
function pinOfFilter(name: string, ifindex: number): string {
  return pinName(name.slice(FILTER_PREFIX.length), ifindex);
}

/** The first place at our priority that no other eBPF filter has. */
function freePlace(filters: readonly BpfFilter[]): FilterPlace {
  const handles = filters
    .filter(({ priority }) => priority === PRIORITY)
    .map(({ handle }) => handle);
  const handle = Math.max(0, ...handles) + 1;
  return { device: 0, direction: "ingress", priority: PRIORITY, handle };
}
