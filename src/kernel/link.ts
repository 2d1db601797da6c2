// SPDX-License-Identifier: Apache-2.0

import { Attr, bpf, Command, objectInfo, openId, openPin } from "./bpf.ts";
import { check, errorCode, KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import { AttachType, type LinkType, linkTypeName } from "./kinds.ts";
import { pin, pinByRename } from "./pin.ts";
import { explainFeature } from "./probe.ts";
import type { BpfProgram } from "./program.ts";

/** What the kernel knows of a link. */
export interface LinkInfo {
  readonly id: number;
  readonly type: LinkType;
  readonly programId: number;
  /** The device of an XDP or tcx link; 0 when detached or the device is gone. */
  readonly ifindex: number;
  /** The cgroup of a cgroup link, as `cgroupId` says it; 0 when detached or the cgroup is gone. */
  readonly cgroupId: bigint;
}

/** A program attached to a hook. It stays attached while a descriptor or a pin holds the link. */
export class BpfLink implements Disposable {
  readonly id: number;
  readonly type: LinkType;
  #fd: number;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#fd = fd;
    const info = readInfo(fd);
    this.id = info.id;
    this.type = info.type;
  }

  /** Opens the link that is pinned at `path`. */
  static openPinned(path: string): BpfLink {
    return new BpfLink(openPin(path, "link"));
  }

  /** Opens the link with this id, whoever made it. */
  static openId(id: number): BpfLink {
    return new BpfLink(openId(Command.linkFdById, "link", id));
  }

  /** The descriptor; it stays this object's. Throws after close. */
  get fd(): number {
    if (this.#fd < 0) throw new Error(`${this.#object} is closed`);
    return this.#fd;
  }

  get #object(): string {
    return `${this.type} link ${this.id}`;
  }

  /** Asks the kernel, so that program and device are of now. */
  info(): LinkInfo {
    return readInfo(this.fd);
  }

  /**
   * Puts `program` in the place of the one that runs: every packet meets the old or the new. With
   * `replacing`, refuses (EPERM) when another program than that one runs.
   */
  update(program: BpfProgram, replacing?: BpfProgram): void {
    const attr = new Attr(16).u32(0, this.fd).u32(4, program.fd);
    if (replacing !== undefined) attr.u32(8, F_REPLACE).u32(12, replacing.fd);
    const result = bpf(Command.linkUpdate, attr);
    if (result === 0) return;
    const code = errorCode(-result);
    const detail =
      code === "EPERM" && replacing !== undefined
        ? `another program than ${replacing.name} runs there`
        : code === "ENOLINK"
          ? "it is detached, or its device is gone"
          : "";
    throw new KernelError(`put program ${program.name} into`, this.#object, result, { detail });
  }

  /** Takes the program off the hook though descriptors and pins of the link remain. */
  detach(): void {
    check(bpf(Command.linkDetach, new Attr(4).u32(0, this.fd)), "detach", this.#object);
  }

  /** Pins the link at a free `path`: it then outlives this process. */
  pin(path: string): void {
    pin(this.fd, this.#object, path);
  }

  /** Pins the link at `path` in the place of what is there. */
  pinByRename(path: string): void {
    pinByRename(this.fd, this.#object, path);
  }

  /** Gives the descriptor back. Without a pin the program is detached by it. */
  close(): void {
    if (this.#fd >= 0) sys.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const F_REPLACE = 1 << 2;
const F_BEFORE = 1 << 3;
const F_AFTER = 1 << 4;
const F_ID = 1 << 5;
const F_LINK = 1 << 13;
const LINK_CREATE_BYTES = 48;

function readInfo(fd: number): LinkInfo {
  const info = objectInfo(fd, "a link", new Attr(64));
  const type = linkTypeName(info.getU32(0));
  return {
    id: info.getU32(4),
    type,
    programId: info.getU32(8),
    ifindex: type === "xdp" || type === "tcx" ? info.getU32(16) : 0,
    cgroupId: type === "cgroup" ? info.getU64(16) : 0n,
  };
}

/** The side of a device that a tcx program sees: packets that come in, or that go out. */
export type Direction = "ingress" | "egress";

/** A program on a device's list, by what holds it there. */
export type Anchor = { readonly programId: number } | { readonly linkId: number };

/** Where on a device's list of programs a new one goes. */
export type Position = "first" | "last" | { readonly before: Anchor } | { readonly after: Anchor };

/** How to attach to a device's tcx hook. */
export interface TcxAttachment {
  readonly program: BpfProgram;
  readonly ifindex: number;
  readonly direction: Direction;
  /** "last" when left out. */
  readonly position?: Position;
  /** Refuse (ESTALE) when the list has changed since queryTcx gave this revision. */
  readonly expectedRevision?: bigint;
}

/** Attaches a tc program to a device of the calling namespace (Linux 6.6 and newer). */
export function attachTcx(attachment: TcxAttachment): BpfLink {
  const { program, ifindex, direction, position = "last" } = attachment;
  const { flags, relative } = encodePosition(position);
  const attr = new Attr(LINK_CREATE_BYTES)
    .u32(0, program.fd)
    .u32(4, ifindex)
    .u32(8, hook(direction))
    .u32(12, flags)
    .u32(16, relative)
    .u64(24, attachment.expectedRevision ?? 0n);
  const fd = bpf(Command.linkCreate, attr);
  if (fd >= 0) return new BpfLink(fd);
  const operation = `attach program ${program.name} to tcx ${direction} of`;
  throw new KernelError(operation, deviceName(ifindex), fd, { detail: explainTcx(fd) });
}

function hook(direction: Direction): number {
  return direction === "ingress" ? AttachType.tcxIngress : AttachType.tcxEgress;
}

function encodePosition(position: Position): { flags: number; relative: number } {
  if (position === "first") return { flags: F_BEFORE, relative: 0 };
  if (position === "last") return { flags: F_AFTER, relative: 0 };
  const side = "before" in position ? F_BEFORE : F_AFTER;
  const anchor = "before" in position ? position.before : position.after;
  return "linkId" in anchor
    ? { flags: side | F_ID | F_LINK, relative: anchor.linkId }
    : { flags: side | F_ID, relative: anchor.programId };
}

const TCX_REASONS: Readonly<Record<string, string>> = {
  EEXIST: "this program is attached there already",
  ESTALE: "the programs on it have changed: query them again",
  ENODEV: "there is no such device in this namespace",
  ENOENT: "the program or link to attach next to is not there",
  ERANGE: "its list of programs is full",
};

function explainTcx(result: number): string {
  const code = errorCode(-result);
  return code === "EINVAL" ? explainFeature("tcx") : (TCX_REASONS[code] ?? "");
}

/** How XDP runs: in the driver, or after it, for every device but slower. */
export type XdpMode = "native" | "generic";

/** How to attach to a device's XDP hook, which holds one program. */
export interface XdpAttachment {
  readonly program: BpfProgram;
  readonly ifindex: number;
  readonly mode: XdpMode;
}

const XDP_FLAGS = { generic: 1 << 1, native: 1 << 2 } as const;

/**
 * Attaches an XDP program to a device of the calling namespace. A program that is there is never
 * replaced: EBUSY.
 */
export function attachXdp({ program, ifindex, mode }: XdpAttachment): BpfLink {
  const attr = new Attr(LINK_CREATE_BYTES)
    .u32(0, program.fd)
    .u32(4, ifindex)
    .u32(8, AttachType.xdp)
    .u32(12, XDP_FLAGS[mode]);
  const fd = bpf(Command.linkCreate, attr);
  if (fd >= 0) return new BpfLink(fd);
  const operation = `attach program ${program.name} as ${mode} XDP to`;
  throw new KernelError(operation, deviceName(ifindex), fd, { detail: explainXdp(fd) });
}

const XDP_REASONS: Readonly<Record<string, string>> = {
  EBUSY: "it has an XDP program already, which is left alone",
  EEXIST: "it has an XDP program of the other mode already, which is left alone",
  EOPNOTSUPP: "its driver has no native XDP: use the generic mode, or tc",
  ENODEV: "there is no such device in this namespace",
  ERANGE: "its MTU is too large for XDP",
};

function explainXdp(result: number): string {
  const code = errorCode(-result);
  return code === "EINVAL" ? explainFeature("xdpLink") : (XDP_REASONS[code] ?? "");
}

/** Where a cgroup's sockets meet a program: the system calls of these names, by address family. */
export type SocketHook = `${"bind" | "connect" | "sendmsg" | "recvmsg" | "getpeername"}${4 | 6}`;

/**
 * Attaches a program to the sockets of the cgroup at `path` and of all below it, after those that
 * are there already. The program's section must be that of the hook.
 */
export function attachCgroup(program: BpfProgram, path: string, socketHook: SocketHook): BpfLink {
  const cgroup = check(sys.open(path, sys.O_RDONLY), "open cgroup", path);
  try {
    const attr = new Attr(LINK_CREATE_BYTES)
      .u32(0, program.fd)
      .u32(4, cgroup)
      .u32(8, AttachType[socketHook]);
    const fd = bpf(Command.linkCreate, attr);
    if (fd >= 0) return new BpfLink(fd);
    const detail = CGROUP_REASONS[errorCode(-fd)] ?? "";
    throw new KernelError(`attach program ${program.name} to cgroup`, path, fd, { detail });
  } finally {
    sys.close(cgroup);
  }
}

const CGROUP_REASONS: Readonly<Record<string, string>> = {
  EBADF: "it is no directory of a cgroup2 file system",
  EPERM: "root is needed, or a program that was attached without sharing has it for itself",
  E2BIG: "64 programs are attached to it already",
};

/**
 * A program on a device's tcx list, in the order in which they run; `linkId` is 0 where it was
 * attached without one.
 */
export interface AttachedProgram {
  readonly programId: number;
  readonly linkId: number;
}

/** A device's tcx list, foreign programs included. */
export interface TcxList {
  /** For `expectedRevision`. */
  readonly revision: bigint;
  readonly programs: readonly AttachedProgram[];
}

const MAX_PROGRAMS = 64; // BPF_MPROG_MAX

/** What is attached to a device of the calling namespace, in order. */
export function queryTcx(ifindex: number, direction: Direction): TcxList {
  const programIds = new Uint32Array(MAX_PROGRAMS);
  const linkIds = new Uint32Array(MAX_PROGRAMS);
  const attr = new Attr(64)
    .u32(0, ifindex)
    .u32(4, hook(direction))
    .pointer(16, new Uint8Array(programIds.buffer))
    .u32(24, MAX_PROGRAMS)
    .pointer(40, new Uint8Array(linkIds.buffer));
  const result = bpf(Command.programQuery, attr);
  // Early 6.6 answers so for a device that never had a program.
  if (result < 0 && errorCode(-result) === "ENOENT") return { revision: 1n, programs: [] };
  if (result < 0) {
    const operation = `query tcx ${direction} of`;
    throw new KernelError(operation, deviceName(ifindex), result, { detail: explainTcx(result) });
  }
  const programs = [...programIds.subarray(0, attr.getU32(24))].map((programId, index) => ({
    programId,
    linkId: linkIds[index] ?? 0,
  }));
  return { revision: attr.getU64(56), programs };
}

function deviceName(ifindex: number): string {
  const name = sys.interfaceName(ifindex);
  return name === undefined ? `device with index ${ifindex}` : `device ${name}`;
}
