// SPDX-License-Identifier: Apache-2.0
// What the kernel has of the packet path and of the network around it, for people who look for a
// fault from afar. Everything is of the calling namespace, in words.

import { join } from "node:path";
import { Command, listIds } from "../kernel/bpf.ts";
import { listPins } from "../kernel/bpffs.ts";
import { KernelError } from "../kernel/error.ts";
import { BpfLink, type LinkInfo, queryTcx } from "../kernel/link.ts";
import { BpfMap, type MapInfo } from "../kernel/map.ts";
import { listAddresses } from "../kernel/netlink/address.ts";
import { type Link, listLinks } from "../kernel/netlink/link.ts";
import { listNeighbours } from "../kernel/netlink/neighbour.ts";
import { listRoutes, type NextHop } from "../kernel/netlink/route.ts";
import { listRules } from "../kernel/netlink/rule.ts";
import { type Netlink, openNetlink } from "../kernel/netlink/socket.ts";
import { listBpfFilters } from "../kernel/netlink/traffic-control.ts";
import { BpfProgram, type ProgramInfo } from "../kernel/program.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { type Address, formatAddress } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { formatPrefix } from "../net/prefix.ts";

type Pinned =
  | ({ readonly pin: string; readonly kind: "map" } & MapInfo)
  | ({ readonly pin: string; readonly kind: "link" } & LinkInfo)
  | { readonly pin: string; readonly kind: "other"; readonly reason: string };

/** The maps and links that are pinned in `directory`. */
export function readPins(directory: string): Pinned[] {
  return listPins(directory).map((pin) => {
    const path = join(directory, pin);
    try {
      if (pin.startsWith("link_")) {
        using link = BpfLink.openPinned(path);
        return { pin, kind: "link", ...link.info() };
      }
      using map = BpfMap.openPinned(path);
      return { pin, kind: "map", ...map.info };
    } catch (error) {
      return { pin, kind: "other", reason: reasonOf(error) };
    }
  });
}

/** Programs that use a map of `directory`, older ones that still run included. */
export function readPrograms(directory: string): ProgramInfo[] {
  const ours = new Set(
    readPins(directory).flatMap((pinned) => (pinned.kind === "map" ? [pinned.id] : [])),
  );
  return listIds(Command.programNextId).flatMap((id) => {
    const info = programInfo(id);
    return info?.mapIds.some((map) => ours.has(map)) ? [info] : [];
  });
}

/** Undefined for a program that has gone since its id was read. */
function programInfo(id: number): ProgramInfo | undefined {
  try {
    using program = BpfProgram.openId(id);
    return program.info();
  } catch (error) {
    if (error instanceof KernelError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Devices with their addresses and every program on them, foreign ones included. */
export function readDevices() {
  using netlink = openNetlink();
  const addresses = listAddresses(netlink);
  return listLinks(netlink).map((link) => ({
    ...link,
    mac: link.mac === undefined ? "" : formatMac(link.mac),
    addresses: addresses
      .filter(({ device }) => device === link.index)
      .map(({ address }) => `${formatAddress(address.address)}/${address.length}`),
    programs: programsOn(netlink, link),
  }));
}

function programsOn(netlink: Netlink, { index, xdp }: Link) {
  const orReason = <Result>(read: () => Result): Result | string => {
    try {
      return read();
    } catch (error) {
      return reasonOf(error);
    }
  };
  const of = (direction: "ingress" | "egress") => ({
    tcx: orReason(() => queryTcx(index, direction).programs),
    filters: orReason(() => listBpfFilters(netlink, index, direction)),
  });
  return { xdp, ingress: of("ingress"), egress: of("egress") };
}

/** Routes of all tables, rules and neighbours; `most` of each kind at most. */
export function readNetwork(most: number) {
  using netlink = openNetlink();
  const names = new Map(listLinks(netlink).map(({ index, name }) => [index, name]));
  const nameOf = (device: number): string => names.get(device) ?? "";
  const hopOf = ({ device, gateway, weight }: NextHop) => ({
    device: nameOf(device),
    gateway: addressText(gateway),
    weight,
  });
  const [routes, rules, neighbours] = [
    listRoutes(netlink),
    listRules(netlink),
    listNeighbours(netlink),
  ];
  return {
    counts: { routes: routes.length, rules: rules.length, neighbours: neighbours.length },
    rules: rules.slice(0, most).map(({ source, destination, ...rule }) => ({
      ...rule,
      source: source === undefined ? "" : formatPrefix(source),
      destination: destination === undefined ? "" : formatPrefix(destination),
    })),
    routes: routes.slice(0, most).map((route) => ({
      ...route,
      destination: formatPrefix(route.destination),
      gateway: addressText(route.gateway),
      device: nameOf(route.device),
      hops: route.hops.map(hopOf),
      source: addressText(route.source),
    })),
    neighbours: neighbours.slice(0, most).map((one) => ({
      ...one,
      device: nameOf(one.device),
      address: formatAddress(one.address),
      mac: one.mac === undefined ? "" : formatMac(one.mac),
    })),
  };
}

const SYSCTLS = [
  "kernel/bpf_stats_enabled",
  "kernel/unprivileged_bpf_disabled",
  "net/core/bpf_jit_enable",
  "net/core/bpf_jit_harden",
  "net/core/netdev_max_backlog",
  "net/ipv4/icmp_msgs_per_sec",
  "net/ipv4/ip_forward",
  "net/ipv4/ip_local_port_range",
  "net/ipv4/ip_local_reserved_ports",
  "net/ipv4/ip_no_pmtu_disc",
  "net/ipv4/route/min_pmtu",
  "net/ipv4/tcp_mtu_probing",
  "net/ipv6/conf/all/disable_ipv6",
  "net/ipv6/conf/all/forwarding",
] as const;
const SYSCTLS_OF_DEVICE = ["accept_local", "forwarding", "rp_filter", "send_redirects"] as const;
const MAX_DEVICES = 256;

/** Sysctls that packets for services depend on; `undefined` for those that this kernel lacks. */
export function readSysctls(): Record<string, string | undefined> {
  using netlink = openNetlink();
  const devices = listLinks(netlink).map(({ name }) => name);
  const ofDevices = ["all", "default", ...devices.slice(0, MAX_DEVICES)].flatMap((device) =>
    SYSCTLS_OF_DEVICE.map((key) => `net/ipv4/conf/${device}/${key}`),
  );
  return Object.fromEntries([...SYSCTLS, ...ofDevices].map((key) => [key, sysctlOrNone(key)]));
}

function sysctlOrNone(key: string): string | undefined {
  try {
    return readSysctl(key);
  } catch {
    return undefined;
  }
}

function addressText(address: Address | undefined): string {
  return address === undefined ? "" : formatAddress(address);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
