// SPDX-License-Identifier: Apache-2.0
// Devices: RTM_*LINK (include/uapi/linux/if_link.h).

import type { Mac } from "../../net/mac.ts";
import { check, KernelError } from "../error.ts";
import { close, O_RDONLY, open } from "../ffi.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import {
  type Attribute,
  type Attributes,
  decodeAttributes,
  encodeBody,
  macAttribute,
  nested,
  type Received,
  text,
  u32,
  viewOf,
} from "./wire.ts";

const RTM = { new: 16, delete: 17, get: 18 } as const;
const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  master: 10,
  txQueueLength: 13,
  operState: 16,
  linkInfo: 18,
  alias: 20,
  stats64: 23,
  netnsFd: 28,
  carrier: 33,
  linkNetnsId: 37,
  xdp: 43,
} as const;
const IFLA_INFO = { kind: 1, data: 2 } as const;
const IFLA_XDP = { attached: 2, programId: 4 } as const;
const VETH_PEER = 1;
const IFF_UP = 1;
const IFINFO_BYTES = 16;
const ENODEV = 19;
const IFNAMSIZ = 16;

const OPER_STATES = [
  "unknown",
  "not-present",
  "down",
  "lower-layer-down",
  "testing",
  "dormant",
  "up",
] as const;
const XDP_MODES = ["none", "native", "generic", "offload", "several"] as const;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** ARPHRD_*: 1 is Ethernet, 772 loopback. */
  readonly hardware: number;
  readonly up: boolean;
  readonly carrier: boolean;
  readonly operState: (typeof OPER_STATES)[number];
  readonly mtu: number;
  /** Undefined where a device has none, as a tunnel. */
  readonly mac: Mac | undefined;
  /** "veth", "bridge", …; "" for hardware. */
  readonly kind: string;
  /** Index of the bridge or bond that it is a port of, 0 for none. */
  readonly master: number;
  /** Index of the device below, or of a veth's peer (in `peerNamespaceId` if that is set). */
  readonly peer: number;
  readonly peerNamespaceId: number | undefined;
  readonly alias: string;
  readonly xdp: { readonly mode: (typeof XDP_MODES)[number]; readonly programId: number };
  readonly received: { readonly packets: number; readonly bytes: number };
  readonly sent: { readonly packets: number; readonly bytes: number };
}

/** What a new device, or a veth's peer, shall be. */
export interface LinkSpec {
  readonly name: string;
  readonly mac?: Mac;
  readonly mtu?: number;
  readonly up?: boolean;
  /** Index of the bridge that it becomes a port of. */
  readonly master?: number;
  /** Descriptor of the network namespace that it is born in: see `withNamespaces`. */
  readonly namespaceFd?: number;
  readonly txQueueLength?: number;
}

/** What changes about a device; what is left out stays. */
export interface LinkChange {
  readonly name?: string;
  readonly mac?: Mac;
  readonly mtu?: number;
  readonly up?: boolean;
  /** 0 takes it out of its bridge. */
  readonly master?: number;
  readonly namespaceFd?: number;
  readonly alias?: string;
}

function header(index: number, up: boolean | undefined): Uint8Array {
  const bytes = new Uint8Array(IFINFO_BYTES);
  const view = viewOf(bytes);
  view.setInt32(4, index, true);
  if (up !== undefined) {
    view.setUint32(8, up ? IFF_UP : 0, true);
    view.setUint32(12, IFF_UP, true);
  }
  return bytes;
}

function checkedName(name: string): string {
  if (!/^[^\s/:]+$/.test(name) || Buffer.byteLength(name) >= IFNAMSIZ || /^\.\.?$/.test(name)) {
    throw new TypeError(
      `${JSON.stringify(name)} can't name a device: use up to 15 characters, no space, slash or colon`,
    );
  }
  return name;
}

function changeAttributes(change: LinkChange & Pick<LinkSpec, "txQueueLength">): Attribute[] {
  const attributes: Attribute[] = [];
  if (change.name !== undefined) attributes.push(text(IFLA.name, checkedName(change.name)));
  if (change.mac !== undefined) attributes.push(macAttribute(IFLA.address, change.mac));
  if (change.mtu !== undefined) attributes.push(u32(IFLA.mtu, change.mtu));
  if (change.master !== undefined) attributes.push(u32(IFLA.master, change.master));
  if (change.namespaceFd !== undefined) attributes.push(u32(IFLA.netnsFd, change.namespaceFd));
  if (change.alias !== undefined) attributes.push(text(IFLA.alias, change.alias));
  if (change.txQueueLength !== undefined) {
    attributes.push(u32(IFLA.txQueueLength, change.txQueueLength));
  }
  return attributes;
}

/**
 * Makes a device of a kind ("bridge", "vxlan", …) with the kind's own attributes. Taken back by
 * name, unless it is born in another namespace.
 */
export function createLink(kind: string, spec: LinkSpec, data: readonly Attribute[] = []): Request {
  const info = [text(IFLA_INFO.kind, kind)];
  if (data.length > 0) info.push(nested(IFLA_INFO.data, data));
  const attributes = [...changeAttributes(spec), nested(IFLA.linkInfo, info)];
  const message = {
    type: RTM.new,
    flags: FLAG.create | FLAG.exclusive,
    body: encodeBody(header(0, spec.up), attributes),
  };
  const request = { operation: `create ${kind} device`, object: spec.name, message };
  return spec.namespaceFd === undefined
    ? { ...request, undo: deleteLinkNamed(spec.name) }
    : request;
}

/** Makes a pair of veth devices; either end may be born in another namespace. */
export function createVeth(spec: LinkSpec, peer: LinkSpec): Request {
  // The kernel refuses a peer that is born up (ENOTCONN).
  const { up, ...rest } = peer;
  if (up === true)
    throw new TypeError(`${peer.name}: a veth's peer can't be born up; set it later`);
  const body = encodeBody(header(0, undefined), changeAttributes(rest));
  return createLink("veth", spec, [{ type: VETH_PEER, value: body }]);
}

/** Changes a device; `index` as in `Link`. */
export function setLink(index: number, change: LinkChange): Request {
  const body = encodeBody(header(index, change.up), changeAttributes(change));
  const what = Object.keys(change).join(", ");
  return {
    operation: `set ${what} of device`,
    object: change.name ?? `number ${index}`,
    message: { type: RTM.new, flags: 0, body },
  };
}

/** Deletes a device; of a veth its peer goes too. */
export function deleteLink(index: number): Request {
  const message = { type: RTM.delete, flags: 0, body: header(index, undefined) };
  return { operation: "delete device", object: `number ${index}`, message };
}

/** The same by name. */
export function deleteLinkNamed(name: string): Request {
  const body = encodeBody(header(0, undefined), [text(IFLA.name, name)]);
  return {
    operation: "delete device",
    object: name,
    message: { type: RTM.delete, flags: 0, body },
  };
}

/** Every device of the socket's namespace, by index. */
export function listLinks(netlink: Netlink): Link[] {
  const message = { type: RTM.get, flags: 0, body: header(0, undefined) };
  const replies = netlink.dump({ operation: "list", object: "devices", message });
  return replies.map(decodeLink).sort((a, b) => a.index - b.index);
}

/** The device of this name or index; undefined when there is none. */
export function findLink(netlink: Netlink, which: string | number): Link | undefined {
  const body =
    typeof which === "number"
      ? header(which, undefined)
      : encodeBody(header(0, undefined), [text(IFLA.name, which)]);
  const object = String(which);
  try {
    const message = { type: RTM.get, flags: 0, body };
    const [reply] = netlink.query({ operation: "find device", object, message });
    return reply === undefined ? undefined : decodeLink(reply);
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENODEV) return undefined;
    throw error;
  }
}

/** The device of this name or index; throws KernelError ENODEV. */
export function getLink(netlink: Netlink, which: string | number): Link {
  const link = findLink(netlink, which);
  if (link === undefined) throw new KernelError("find device", String(which), ENODEV);
  return link;
}

function decodeStats(attributes: Attributes): Pick<Link, "received" | "sent"> {
  const bytes = attributes.bytes(IFLA.stats64);
  if (bytes === undefined || bytes.length < 32) {
    return { received: { packets: 0, bytes: 0 }, sent: { packets: 0, bytes: 0 } };
  }
  const view = viewOf(bytes);
  const counter = (offset: number): number => Number(view.getBigUint64(offset, true));
  return {
    received: { packets: counter(0), bytes: counter(16) },
    sent: { packets: counter(8), bytes: counter(24) },
  };
}

/** A device from an RTM_NEWLINK or RTM_DELLINK. */
export function decodeLink(message: Received): Link {
  const view = viewOf(message.body);
  const attributes = decodeAttributes(message.body, IFINFO_BYTES);
  const xdp = attributes.nested(IFLA.xdp);
  return {
    index: view.getInt32(4, true),
    name: attributes.text(IFLA.name) ?? "",
    hardware: view.getUint16(2, true),
    up: (view.getUint32(8, true) & IFF_UP) !== 0,
    carrier: attributes.u8(IFLA.carrier) === 1,
    operState: OPER_STATES[attributes.u8(IFLA.operState) ?? 0] ?? "unknown",
    mtu: attributes.u32(IFLA.mtu) ?? 0,
    mac: attributes.mac(IFLA.address),
    kind: attributes.nested(IFLA.linkInfo)?.text(IFLA_INFO.kind) ?? "",
    master: attributes.u32(IFLA.master) ?? 0,
    peer: attributes.u32(IFLA.link) ?? 0,
    peerNamespaceId: attributes.s32(IFLA.linkNetnsId),
    alias: attributes.text(IFLA.alias) ?? "",
    xdp: {
      mode: XDP_MODES[xdp?.u8(IFLA_XDP.attached) ?? 0] ?? "none",
      programId: xdp?.u32(IFLA_XDP.programId) ?? 0,
    },
    ...decodeStats(attributes),
  };
}

/**
 * Opens the namespaces at `paths` and calls `run` with their descriptors, which requests name
 * them by; they are closed when it returns.
 */
export function withNamespaces<T>(paths: readonly string[], run: (fds: number[]) => T): T {
  const fds: number[] = [];
  try {
    for (const path of paths) fds.push(check(open(path, O_RDONLY), "open namespace", path));
    return run(fds);
  } finally {
    for (const fd of fds) close(fd);
  }
}
