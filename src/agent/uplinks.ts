// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Config } from "../config/schema.ts";
import { maps } from "../datapath/gen/abi.ts";
import type { Devices } from "../device/devices.ts";
import type { Link } from "../kernel/netlink/link.ts";
import { FAMILIES, type Family, formatIpv6, type Ipv4, type Ipv6, isIpv4 } from "../net/address.ts";

/** This node as its configuration and its devices make it. */
export interface NodeIdentity {
  readonly name: string;
  readonly address: Ipv4;
  /** Undefined where IPv6 is off. */
  readonly address6?: Ipv6 | undefined;
  /** Why IPv6 is off; undefined if it isn't. */
  readonly ipv6Off?: string | undefined;
  /** Between nodes, in bytes of IP. */
  readonly mtu: number;
}

/** The devices on which traffic for services arrives and leaves, and those that are missing. */
export interface Uplinks {
  readonly links: readonly Link[];
  /** Device by name → why it can't be one. */
  readonly missing: ReadonlyMap<string, string>;
}

/** For how long a device is an uplink without its default route: setting routes anew takes time. */
const HOLD_MS = 10_000;
/** An address by router advertisement or DHCP takes seconds after a boot. */
const ADDRESS_MS = 5000;
const NO_DEFAULT_ROUTE = "no Ethernet device has a default route: name the uplinks in devices";

const ETHERNET = 1;
/** rtnetlink(7): addresses of a narrower scope don't leave the link or the host. */
const SCOPE_GLOBAL = 0;

/** The uplinks as the configuration names them, or every device with a default route. */
export function findUplinks(config: Config, devices: Devices): Uplinks {
  const { devices: names } = config;
  if (names === "auto") return { links: routedLinks(config, devices), missing: new Map() };
  const links: Link[] = [];
  const missing = new Map<string, string>();
  for (const name of names) {
    const link = devices.link(name);
    if (link === undefined) missing.set(name, `there is no device ${name}`);
    else if (link.hardware !== ETHERNET) missing.set(name, `${name} is no Ethernet device`);
    else links.push(link);
  }
  return { links, missing };
}

/** Fills in what the configuration leaves to `auto`; throws with the key to set when it can't. */
export function identifyNode(config: Config, devices: Devices): NodeIdentity {
  const { links, missing } = findUplinks(config, devices);
  for (const why of missing.values()) throw new Error(`${why}: set devices`);
  if (links.length === 0) {
    throw new Error(NO_DEFAULT_ROUTE);
  }
  const { name, address } = config.node;
  return {
    name: name === "auto" ? hostname().toLowerCase() : name,
    address: address === "auto" ? firstAddress(links, devices) : address,
    ...findAddress6(config, links, devices),
    mtu: Math.min(config.mtu === "auto" ? Infinity : config.mtu, ...links.map(({ mtu }) => mtu)),
  };
}

/**
 * As `identifyNode`. Where IPv6 was served before, its address is waited for, five seconds at most:
 * without one, what the tables of IPv6 hold is let go.
 */
export async function identifyAgain(
  config: Config,
  devices: Devices,
  limitMs = ADDRESS_MS,
): Promise<NodeIdentity> {
  const identity = identifyNode(config, devices);
  if (config.ipv6 === "off" || identity.address6 !== undefined) return identity;
  if (!existsSync(join(config.paths.bpffs, maps.frontends6.name))) return identity;
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const limit = setTimeout(resolve, limitMs);
  const unlisten = devices.listen(() => {
    if (whyRestart6(config, identity, devices) !== undefined) resolve();
  });
  await over;
  clearTimeout(limit);
  unlisten();
  return identifyNode(config, devices);
}

/** Why an agent without IPv6 is to be started anew; undefined if there is no need. */
export function whyRestart6(
  config: Config,
  { address6 }: Pick<NodeIdentity, "address6">,
  devices: Devices,
): string | undefined {
  if (address6 !== undefined) return undefined;
  const { address6: come } = findAddress6(config, findUplinks(config, devices).links, devices);
  if (come === undefined) return undefined;
  return (
    `IPv6 is off, and since the start ${formatIpv6(come)} has come to an uplink: ` +
    "restart the agent to serve IPv6, or set ipv6 to off"
  );
}

/**
 * Gives what finds the uplinks of each moment. One of `auto` that loses its default route stays for
 * ten seconds, and for as long as no device has one; `later` hears in how many ms to look again.
 */
export function followUplinks(
  config: Config,
  devices: Devices,
  later: (ms: number) => void,
  now: () => number = () => performance.now(),
): () => Uplinks {
  if (config.devices !== "auto") return () => findUplinks(config, devices);
  /** Uplinks by index → since when, in ms, they have no default route. */
  const lostAt = new Map<number, number>();
  const find = (): readonly Link[] => {
    const { links } = findUplinks(config, devices);
    for (const { index } of links) lostAt.set(index, Infinity);
    return links;
  };
  find();
  return () => {
    const time = now();
    const links = find();
    const held: Link[] = [];
    for (const [index, lost] of lostAt) {
      const link = devices.links.get(index);
      if (link !== undefined && links.includes(link)) continue;
      const since = Math.min(lost, time);
      const isOver = links.length > 0 && time - since >= HOLD_MS;
      if (link === undefined || isOver) {
        lostAt.delete(index);
        continue;
      }
      lostAt.set(index, since);
      held.push(link);
    }
    if (links.length === 0) return { links: held, missing: new Map([["auto", NO_DEFAULT_ROUTE]]) };
    const ends = held.map(({ index }) => (lostAt.get(index) ?? time) + HOLD_MS);
    if (ends.length > 0) later(Math.min(...ends) - time);
    return { links: [...links, ...held], missing: new Map() };
  };
}

/** Ethernet devices with a default route, IPv4's first, best first. */
function routedLinks({ ipv6 }: Config, { routes, links }: Devices): Link[] {
  const families: readonly Family[] = ipv6 === "off" ? ["ipv4"] : FAMILIES;
  const defaults = families
    .flatMap((family) => routes.defaults(family))
    .filter(({ type }) => type === "unicast");
  const indexes = new Set(
    defaults.flatMap(({ device, hops }) => [device, ...hops.map((hop) => hop.device)]),
  );
  return [...indexes]
    .map((index) => links.get(index))
    .filter((link) => link !== undefined)
    .filter(({ hardware }) => hardware === ETHERNET);
}

function findAddress6(
  { ipv6, node }: Config,
  links: readonly Link[],
  devices: Devices,
): Pick<NodeIdentity, "address6" | "ipv6Off"> {
  if (ipv6 === "off") return { address6: undefined, ipv6Off: "ipv6 is off in the node's file" };
  if (node.address6 !== "auto") return { address6: node.address6, ipv6Off: undefined };
  for (const { index } of links) {
    const own = devices.addresses.filter(
      ({ device, scope, address }) =>
        device === index && scope === SCOPE_GLOBAL && !isIpv4(address.address),
    );
    // One that another host may have is better than none: it is asked for right after a boot.
    const found = own.find(({ tentative }) => !tentative) ?? own[0];
    const address6 = found?.address.address;
    if (address6 !== undefined && !isIpv4(address6)) return { address6, ipv6Off: undefined };
  }
  const names = links.map(({ name }) => name).join(", ");
  return {
    address6: undefined,
    ipv6Off: `no global IPv6 address is on ${names}: set node.address6`,
  };
}

function firstAddress(links: readonly Link[], devices: Devices): Ipv4 {
  const addresses = devices.addresses.filter(({ scope }) => scope === SCOPE_GLOBAL);
  for (const { index } of links) {
    const own = addresses.filter(({ device }) => device === index);
    const found = own.map(({ address }) => address.address).find(isIpv4);
    if (found !== undefined) return found;
  }
  const names = links.map(({ name }) => name).join(", ");
  throw new Error(`no IPv4 address is on ${names}: set node.address`);
}
