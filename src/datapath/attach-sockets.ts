// SPDX-License-Identifier: Apache-2.0
// Keeps the programs of sockets on one cgroup; the links are pinned and outlive the agent.

import { join } from "node:path";
import { unpin } from "../kernel/bpffs.ts";
import { cgroupId } from "../kernel/cgroup.ts";
import { attachCgroup, type SocketHook } from "../kernel/link.ts";
import type { BpfProgram } from "../kernel/program.ts";
import { openLink, reasonOf, removeLink } from "./links.ts";

/** The programs of sockets, by where they belong. */
export type SocketPrograms = Readonly<Record<SocketHook, BpfProgram>>;

/** Whether services are translated at the socket. */
export interface SocketStatus {
  /** The cgroup whose sockets are, "" for none. */
  readonly cgroup: string;
  /** Why there is none though it was asked for; "" when all is as asked. */
  readonly reason: string;
}

/** Those that translate back first: a peer must never be seen as the backend that it is. */
const HOOKS: readonly SocketHook[] = ["recvmsg4", "getpeername4", "sendmsg4", "connect4"];

/**
 * Puts the programs on the cgroup at `path`, in place of those that a predecessor pinned there:
 * every call meets the old or the new one. They are all on it afterwards, or none is. Undefined
 * for `path` takes them off.
 */
export function attachSockets(
  programs: SocketPrograms,
  pins: string,
  path: string | undefined,
): SocketStatus {
  try {
    if (path !== undefined) {
      const id = cgroupId(path);
      for (const hook of HOOKS) attach(programs[hook], join(pins, pinName(hook)), path, hook, id);
      return { cgroup: path, reason: "" };
    }
    detachSockets(pins);
    return { cgroup: "", reason: "" };
  } catch (error) {
    detachSockets(pins);
    return { cgroup: "", reason: reasonOf(error) };
  }
}

function attach(
  program: BpfProgram,
  pinPath: string,
  path: string,
  hook: SocketHook,
  wantedId: bigint,
): void {
  const link = openLink(pinPath);
  if (link !== undefined) {
    using held = link;
    const info = held.info();
    if (info.cgroupId === wantedId) {
      if (info.programId !== program.id) held.update(program);
      return;
    }
    if (info.cgroupId !== 0n) held.detach();
    unpin(pinPath);
  }
  using made = attachCgroup(program, path, hook);
  made.pinByRename(pinPath);
}

function detachSockets(pins: string): void {
  for (const hook of HOOKS.toReversed()) removeLink(join(pins, pinName(hook)));
}

function pinName(hook: SocketHook): string {
  return `link_${hook}`;
}
