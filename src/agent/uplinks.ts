// SPDX-License-Identifier: Apache-2.0
import { hostname } from "node:os";
import type { Config } from "../config/schema.ts";
import { listAddresses } from "../kernel/netlink/address.ts";
import { findLink, type Link, listLinks } from "../kernel/netlink/link.ts";
import { listRoutes, ROUTE_TABLE } from "../kernel/netlink/route.ts";
import type { Netlink } from "../kernel/netlink/socket.ts";
import type { Ipv4 } from "../net/address.ts";

/** This node as its configuration and its devices make it. */
export interface NodeIdentity {
  readonly name: string;
  readonly address: Ipv4;
  readonly uplinks: readonly Link[];
  /** Between nodes, in bytes of IP. */
  readonly mtu: number;
}

const ETHERNET = 1;
/** rtnetlink(7): addresses of a narrower scope don't leave the link or the host. */
const SCOPE_GLOBAL = 0;

/** Fills in what the configuration leaves to `auto`; throws with the key to set when it can't. */
export function identifyNode(config: Config, netlink: Netlink): NodeIdentity {
  const uplinks = config.devices === "auto" ? routedLinks(netlink) : named(config.devices, netlink);
  const { name, address } = config.node;
  return {
    name: name === "auto" ? hostname().toLowerCase() : name,
    address: address === "auto" ? firstAddress(uplinks, netlink) : address,
    uplinks,
    mtu: config.mtu === "auto" ? Math.min(...uplinks.map(({ mtu }) => mtu)) : config.mtu,
  };
}

function named(names: readonly string[], netlink: Netlink): Link[] {
  return names.map((name) => {
    const link = findLink(netlink, name);
    if (link === undefined) throw new Error(`there is no device ${name}: set devices`);
    if (link.hardware === ETHERNET) return link;
    throw new Error(`device ${name} is no Ethernet device: set devices`);
  });
}

/** Ethernet devices with a default route, in order of their routes' priority. */
function routedLinks(netlink: Netlink): Link[] {
  const routes = listRoutes(netlink, ROUTE_TABLE.main)
    .filter(({ destination, type }) => destination.length === 0 && type === "unicast")
    .toSorted((a, b) => a.priority - b.priority);
  const indexes = new Set(
    routes.flatMap(({ device, hops }) => [device, ...hops.map((hop) => hop.device)]),
  );
  const links = new Map(listLinks(netlink).map((link) => [link.index, link]));
  const uplinks = [...indexes]
    .map((index) => links.get(index))
    .filter((link) => link !== undefined)
    .filter(({ hardware }) => hardware === ETHERNET);
  if (uplinks.length > 0) return uplinks;
  throw new Error("no Ethernet device has a default route: name the uplinks in devices");
}

function firstAddress(uplinks: readonly Link[], netlink: Netlink): Ipv4 {
  const addresses = listAddresses(netlink).filter(({ scope }) => scope === SCOPE_GLOBAL);
  for (const { index } of uplinks) {
    const found = addresses.find(({ device }) => device === index);
    if (found !== undefined) return found.address.address;
  }
  const names = uplinks.map(({ name }) => name).join(", ");
  throw new Error(`no address is on ${names}: set node.address`);
}
