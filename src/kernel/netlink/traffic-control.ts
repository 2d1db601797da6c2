// SPDX-License-Identifier: Apache-2.0
// clsact and its eBPF filters: RTM_*QDISC, RTM_*TFILTER (include/uapi/linux/pkt_{sched,cls}.h).
// For kernels without tcx, which came with Linux 6.6.

import { KernelError } from "../error.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import { decodeAttributes, encodeBody, nested, type Received, text, u32, viewOf } from "./wire.ts";

const RTM = {
  newQdisc: 36,
  deleteQdisc: 37,
  getQdisc: 38,
  newFilter: 44,
  deleteFilter: 45,
  getFilter: 46,
} as const;
const TCA = { kind: 1, options: 2 } as const;
const TCA_BPF = { fd: 6, name: 7, flags: 8, id: 11 } as const;
const DIRECT_ACTION = 1;
const TC_H_CLSACT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const PARENT = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const;
const ETH_P_ALL_NETWORK_ORDER = 0x0300;
const TCMSG_BYTES = 20;

export type Direction = keyof typeof PARENT;

/** Where a filter stands: its place in the order of a device's filters of a direction. */
export interface FilterPlace {
  readonly device: number;
  readonly direction: Direction;
  /** 1…65535, lower runs first. */
  readonly priority: number;
  readonly handle: number;
}

export interface BpfFilter extends FilterPlace {
  readonly name: string;
  readonly programId: number;
}

interface Fields {
  readonly device: number;
  readonly handle?: number;
  readonly parent?: number;
  readonly info?: number;
}

function header({ device, handle = 0, parent = 0, info = 0 }: Fields): Uint8Array {
  const bytes = new Uint8Array(TCMSG_BYTES);
  const view = viewOf(bytes);
  view.setInt32(4, device, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, parent, true);
  view.setUint32(16, info, true);
  return bytes;
}

/** Gives a device a clsact qdisc; EEXIST when it has one. */
export function addClsact(device: number): Request {
  const bytes = header({ device, handle: CLSACT_HANDLE, parent: TC_H_CLSACT });
  const body = encodeBody(bytes, [text(TCA.kind, "clsact")]);
  return {
    operation: "add clsact to device",
    object: `number ${device}`,
    message: { type: RTM.newQdisc, flags: FLAG.create | FLAG.exclusive, body },
    undo: deleteClsact(device),
  };
}

/** Takes the clsact qdisc with all its filters from a device; EINVAL when it has none. */
export function deleteClsact(device: number): Request {
  const bytes = header({ device, handle: CLSACT_HANDLE, parent: TC_H_CLSACT });
  const body = encodeBody(bytes, [text(TCA.kind, "clsact")]);
  const message = { type: RTM.deleteQdisc, flags: 0, body };
  return { operation: "delete clsact of device", object: `number ${device}`, message };
}

/** Whether a device has a clsact qdisc. */
export function hasClsact(netlink: Netlink, device: number): boolean {
  const message = { type: RTM.getQdisc, flags: 0, body: header({ device }) };
  const replies = netlink.dump({ operation: "list", object: "queueing disciplines", message });
  return replies.some(
    ({ body }) =>
      viewOf(body).getInt32(4, true) === device &&
      decodeAttributes(body, TCMSG_BYTES).text(TCA.kind) === "clsact",
  );
}

function placeHeader(place: FilterPlace): Uint8Array {
  return header({
    device: place.device,
    handle: place.handle,
    parent: PARENT[place.direction],
    info: ((place.priority << 16) | ETH_P_ALL_NETWORK_ORDER) >>> 0,
  });
}

const describe = ({ device, direction, priority }: FilterPlace): string =>
  `${priority} at ${direction} of device ${device}`;

/**
 * Puts a program (direct action) in its place, atomically instead of the one that is there. The
 * device needs a clsact qdisc.
 */
export function replaceBpfFilter(place: FilterPlace, programFd: number, name: string): Request {
  const options = [
    u32(TCA_BPF.fd, programFd),
    text(TCA_BPF.name, name),
    u32(TCA_BPF.flags, DIRECT_ACTION),
  ];
  const attributes = [text(TCA.kind, "bpf"), nested(TCA.options, options)];
  return {
    operation: "attach tc filter",
    object: `${name} as ${describe(place)}`,
    message: {
      type: RTM.newFilter,
      flags: FLAG.create | FLAG.replace,
      body: encodeBody(placeHeader(place), attributes),
    },
  };
}

/** Takes a filter away; ENOENT when its place is empty. */
export function deleteBpfFilter(place: FilterPlace): Request {
  const body = encodeBody(placeHeader(place), [text(TCA.kind, "bpf")]);
  const message = { type: RTM.deleteFilter, flags: 0, body };
  return { operation: "detach tc filter", object: describe(place), message };
}

/** The eBPF filters of a device's direction in order; none where it has no clsact. */
export function listBpfFilters(
  netlink: Netlink,
  device: number,
  direction: Direction,
): BpfFilter[] {
  const body = header({ device, parent: PARENT[direction] });
  const object = `tc filters at ${direction} of device ${device}`;
  try {
    const message = { type: RTM.getFilter, flags: 0, body };
    return netlink
      .dump({ operation: "list", object, message })
      .flatMap((reply) => decodeFilter(reply, direction));
  } catch (error) {
    if (error instanceof KernelError && error.code === "EINVAL") return [];
    throw error;
  }
}

function decodeFilter(message: Received, direction: Direction): BpfFilter[] {
  const view = viewOf(message.body);
  const attributes = decodeAttributes(message.body, TCMSG_BYTES);
  const options = attributes.nested(TCA.options);
  const programId = options?.u32(TCA_BPF.id);
  // The kernel also lists the chain itself, without options.
  if (attributes.text(TCA.kind) !== "bpf" || programId === undefined) return [];
  return [
    {
      device: view.getInt32(4, true),
      direction,
      priority: view.getUint32(16, true) >>> 16,
      handle: view.getUint32(8, true),
      name: options?.text(TCA_BPF.name) ?? "",
      programId,
    },
  ];
}
