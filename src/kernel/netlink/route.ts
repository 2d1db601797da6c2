// SPDX-License-Identifier: Apache-2.0
// Routes: RTM_*ROUTE (include/uapi/linux/rtnetlink.h).

import {
  type Address,
  addressFromBytes,
  addressToBytes,
  formatAddress,
} from "../../net/address.ts";
import { formatPrefix, type Prefix } from "../../net/prefix.ts";
import { KernelError } from "../error.ts";
import {
  addressAttribute,
  addressFrom,
  bitsOf,
  dumpFamilies,
  type FamilyNumber,
  familyOfMessage,
  numberOfFamily,
  withLength,
} from "./family.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import {
  type Attribute,
  type Attributes,
  attribute,
  decodeAttributes,
  encodeAttributes,
  encodeBody,
  nested,
  type Received,
  u32,
  viewOf,
} from "./wire.ts";

const RTM = { new: 24, delete: 25, get: 26 } as const;
const RTA = {
  destination: 1,
  source: 2,
  inputDevice: 3,
  device: 4,
  gateway: 5,
  priority: 6,
  preferredSource: 7,
  metrics: 8,
  multipath: 9,
  table: 15,
  mark: 16,
  via: 18,
} as const;
const RTAX = { lock: 1, mtu: 2, advmss: 8 } as const;
const RTM_F_CLONED = 0x200;
const RTNH_F_ONLINK = 4;
const RTNH_BYTES = 8;
const RTMSG_BYTES = 12;
const SCOPE = { universe: 0, link: 253, nowhere: 255 } as const;

export const ROUTE_TABLE = { default: 253, main: 254, local: 255 } as const;
/** Who made a route: RTPROT_*. */
export const ROUTE_PROTOCOL = { kernel: 2, boot: 3, static: 4 } as const;

const TYPES = [
  "unspecified",
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
] as const;
export type RouteType = (typeof TYPES)[number];

/** One way of a route with several. */
export interface NextHop {
  /** That of a route to IPv4 may be of IPv6 (RFC 5549). */
  readonly gateway?: Address;
  readonly device: number;
  /** 1…256: its share among the hops. */
  readonly weight: number;
}

/** A route to add; what is left out is as `ip route add` has it. */
export interface RouteSpec {
  readonly destination: Prefix;
  readonly type?: RouteType;
  readonly gateway?: Address;
  readonly device?: number;
  /** Instead of gateway and device. */
  readonly hops?: readonly NextHop[];
  /** The gateway is on the link even if no address says so. */
  readonly onLink?: boolean;
  readonly source?: Address;
  readonly table?: number;
  readonly protocol?: number;
  readonly priority?: number;
  /** In bytes. */
  readonly mtu?: number;
  /** The maximum segment size that TCP offers over this route, in bytes. */
  readonly advmss?: number;
}

/** A route as the kernel has it. */
export interface Route {
  readonly destination: Prefix;
  readonly type: RouteType;
  /** That of a route to IPv4 may be of IPv6 (RFC 5549). */
  readonly gateway: Address | undefined;
  /** 0 where there is none: several hops, or a route to nowhere. */
  readonly device: number;
  readonly hops: readonly NextHop[];
  readonly source: Address | undefined;
  readonly table: number;
  readonly protocol: number;
  readonly scope: number;
  readonly priority: number;
  readonly mtu: number | undefined;
  readonly advmss: number | undefined;
}

interface HeaderFields {
  readonly family: FamilyNumber;
  readonly destination: number;
  readonly source?: number;
  readonly table?: number;
  readonly protocol?: number;
  readonly scope?: number;
  readonly type?: number;
  readonly flags?: number;
}

function header(fields: HeaderFields): Uint8Array {
  const bytes = Uint8Array.of(
    ...[fields.family, fields.destination, fields.source ?? 0, 0],
    ...[fields.table ?? 0, fields.protocol ?? 0, fields.scope ?? 0, fields.type ?? 0],
    ...[0, 0, 0, 0],
  );
  viewOf(bytes).setUint32(8, fields.flags ?? 0, true);
  return bytes;
}

/** RTA_VIA (struct rtvia) names a gateway of another family than the route's. */
function gatewayAttributes(gateway: Address | undefined, family: FamilyNumber): Attribute[] {
  if (gateway === undefined) return [];
  const own = numberOfFamily(gateway);
  if (own === family) return [addressAttribute(RTA.gateway, gateway)];
  return [attribute(RTA.via, Uint8Array.of(own, 0, ...addressToBytes(gateway)))];
}

function gatewayFrom(attributes: Attributes): Address | undefined {
  const via = attributes.bytes(RTA.via);
  return via === undefined ? attributes.address(RTA.gateway) : addressFromBytes(via.subarray(2));
}

function encodeHops(spec: RouteSpec, hops: readonly NextHop[]): Uint8Array {
  const family = numberOfFamily(spec.destination.address);
  const parts = hops.map((hop) => {
    const attributes = encodeAttributes(gatewayAttributes(hop.gateway, family));
    const bytes = new Uint8Array(RTNH_BYTES + attributes.length);
    const view = viewOf(bytes);
    view.setUint16(0, bytes.length, true);
    view.setUint8(2, spec.onLink === true ? RTNH_F_ONLINK : 0);
    view.setUint8(3, hop.weight - 1);
    view.setInt32(4, hop.device, true);
    bytes.set(attributes, RTNH_BYTES);
    return bytes;
  });
  return Buffer.concat(parts);
}

function routeAttributes(spec: RouteSpec): Attribute[] {
  const { address, length } = spec.destination;
  const attributes = [u32(RTA.table, spec.table ?? ROUTE_TABLE.main)];
  if (length > 0) attributes.push(addressAttribute(RTA.destination, address));
  attributes.push(...gatewayAttributes(spec.gateway, numberOfFamily(address)));
  if (spec.device !== undefined) attributes.push(u32(RTA.device, spec.device));
  if (spec.source !== undefined) {
    attributes.push(addressAttribute(RTA.preferredSource, spec.source));
  }
  if (spec.priority !== undefined) attributes.push(u32(RTA.priority, spec.priority));
  if (spec.hops !== undefined) {
    attributes.push(attribute(RTA.multipath, encodeHops(spec, spec.hops)));
  }
  const metrics: Attribute[] = [];
  if (spec.mtu !== undefined) metrics.push(u32(RTAX.mtu, spec.mtu));
  if (spec.advmss !== undefined) metrics.push(u32(RTAX.advmss, spec.advmss));
  if (metrics.length > 0) attributes.push(nested(RTA.metrics, metrics));
  return attributes;
}

/** What `ip route` takes for a route without a scope: link for those without a gateway. */
function scopeOf(spec: RouteSpec, type: RouteType): number {
  if (type !== "unicast" || spec.gateway !== undefined || spec.hops !== undefined) {
    return SCOPE.universe;
  }
  return SCOPE.link;
}

function request(operation: string, type: number, flags: number, spec: RouteSpec): Request {
  const routeType = spec.type ?? "unicast";
  const bytes = header({
    family: numberOfFamily(spec.destination.address),
    destination: spec.destination.length,
    protocol: spec.protocol ?? ROUTE_PROTOCOL.boot,
    scope: type === RTM.delete ? SCOPE.nowhere : scopeOf(spec, routeType),
    type: TYPES.indexOf(routeType),
    flags: spec.onLink === true ? RTNH_F_ONLINK : 0,
  });
  const via = spec.gateway === undefined ? "" : ` via ${formatAddress(spec.gateway)}`;
  const device = spec.device === undefined ? "" : ` on device ${spec.device}`;
  return {
    operation,
    object: `${formatPrefix(spec.destination)}${via}${device}`,
    message: { type, flags, body: encodeBody(bytes, routeAttributes(spec)) },
  };
}

/** Adds a route; EEXIST when its table has one to the same place at the same priority. */
export function addRoute(spec: RouteSpec): Request {
  const add = request("add route", RTM.new, FLAG.create | FLAG.exclusive, spec);
  return { ...add, undo: deleteRoute(spec) };
}

/** Adds a route, or changes the one to the same place at the same priority. */
export function replaceRoute(spec: RouteSpec): Request {
  return request("replace route", RTM.new, FLAG.create | FLAG.replace, spec);
}

/** Deletes the first route that has all that the spec names; ESRCH when there is none. */
export function deleteRoute(spec: RouteSpec): Request {
  return request("delete route", RTM.delete, 0, spec);
}

/** Every route, IPv4's first, or those of one table; a table that was never used is empty. */
export function listRoutes(netlink: Netlink, table?: number): Route[] {
  const attributes = table === undefined ? [] : [u32(RTA.table, table)];
  const body = (family: FamilyNumber) => encodeBody(header({ family, destination: 0 }), attributes);
  const isUnused = ({ code }: KernelError) => table !== undefined && code === "ENOENT";
  return dumpFamilies(netlink, "routes", RTM.get, body, isUnused).map(decodeRoute);
}

/** What a packet to be routed has. */
export interface RouteQuery {
  readonly destination: Address;
  readonly source?: Address;
  readonly mark?: number;
  /** The device that the packet came in by; for a packet of this host leave it out. */
  readonly inputDevice?: number;
  readonly device?: number;
}

/** The way the kernel would send a packet; throws KernelError ENETUNREACH where there is none. */
export function getRoute(netlink: Netlink, query: RouteQuery): Route {
  const attributes = [addressAttribute(RTA.destination, query.destination)];
  if (query.source !== undefined) attributes.push(addressAttribute(RTA.source, query.source));
  if (query.mark !== undefined) attributes.push(u32(RTA.mark, query.mark));
  if (query.inputDevice !== undefined) attributes.push(u32(RTA.inputDevice, query.inputDevice));
  if (query.device !== undefined) attributes.push(u32(RTA.device, query.device));
  const bytes = header({
    family: numberOfFamily(query.destination),
    destination: bitsOf(query.destination),
    source: query.source === undefined ? 0 : bitsOf(query.source),
  });
  const object = formatAddress(query.destination);
  const message = { type: RTM.get, flags: 0, body: encodeBody(bytes, attributes) };
  const [reply] = netlink.query({ operation: "find route to", object, message });
  if (reply === undefined) throw new KernelError("find route to", object, 101);
  return decodeRoute(reply);
}

function* decodeHops(bytes: Uint8Array): Generator<NextHop> {
  let at = 0;
  while (at + RTNH_BYTES <= bytes.length) {
    const view = viewOf(bytes.subarray(at));
    const length = view.getUint16(0, true);
    if (length < RTNH_BYTES || at + length > bytes.length) return;
    const attributes = decodeAttributes(bytes.subarray(at, at + length), RTNH_BYTES);
    const gateway = gatewayFrom(attributes);
    const hop = { device: view.getInt32(4, true), weight: view.getUint8(3) + 1 };
    yield gateway === undefined ? hop : { ...hop, gateway };
    at += (length + 3) & ~3;
  }
}

/** A route from an RTM_NEWROUTE or RTM_DELROUTE of family IPv4 or IPv6. */
export function decodeRoute(message: Received): Route {
  const { body } = message;
  const attributes = decodeAttributes(body, RTMSG_BYTES);
  const metrics = attributes.nested(RTA.metrics);
  const multipath = attributes.bytes(RTA.multipath);
  const destination = addressFrom(attributes, RTA.destination, familyOfMessage(message));
  return {
    destination: withLength(destination, body[1] ?? 0),
    type: TYPES[body[7] ?? 0] ?? "unspecified",
    gateway: gatewayFrom(attributes),
    device: attributes.u32(RTA.device) ?? 0,
    hops: multipath === undefined ? [] : [...decodeHops(multipath)],
    source: attributes.address(RTA.preferredSource),
    table: attributes.u32(RTA.table) ?? body[4] ?? 0,
    protocol: body[5] ?? 0,
    scope: body[6] ?? 0,
    priority: attributes.u32(RTA.priority) ?? 0,
    mtu: metrics?.u32(RTAX.mtu),
    advmss: metrics?.u32(RTAX.advmss),
  };
}

/** Whether a message is about a cached route, of which notifications are noise. */
export function isClonedRoute(message: Received): boolean {
  return (viewOf(message.body).getUint32(8, true) & RTM_F_CLONED) !== 0;
}
