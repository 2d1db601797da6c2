// SPDX-License-Identifier: Apache-2.0
// Keeps the programs of sockets on one cgroup; the links are pinned and outlive the agent.

import { join } from "node:path";
import { unpin } from "../kernel/bpffs.ts";
import { cgroupId } from "../kernel/cgroup.ts";
import { attachCgroup, type SocketHook } from "../kernel/link.ts";
import type { BpfProgram } from "../kernel/program.ts";
import { openLink, reasonOf, removeLink } from "./links.ts";

/** The hook of each program of sockets; IPv6's are there where the node has IPv6. */
const HOOKS = {
  recvmsg4: "recvmsg4",
  recvmsg_mapped: "recvmsg6",
  recvmsg6: "recvmsg6",
  getpeername4: "getpeername4",
  getpeer_mapped: "getpeername6",
  getpeername6: "getpeername6",
  sendmsg4: "sendmsg4",
  sendmsg6: "sendmsg6",
  connect4: "connect4",
  connect_mapped: "connect6",
  connect6: "connect6",
  bind4: "bind4",
  bind_mapped: "bind6",
  bind6: "bind6",
} as const satisfies Readonly<Record<string, SocketHook>>;

type Name = keyof typeof HOOKS;

/** Those that translate back first: a peer must never be seen as the backend that it is. */
const NAMES = Object.keys(HOOKS) as Name[];

/** Those that keep programs from node ports of services. */
const GUARDS: ReadonlySet<Name> = new Set(["bind4", "bind_mapped", "bind6"]);

/** The programs of sockets by their names. */
export type SocketPrograms = ReadonlyMap<Name, BpfProgram>;

/** Those of the programs that are sockets'. */
export function socketPrograms(programs: ReadonlyMap<string, BpfProgram>): SocketPrograms {
  return new Map(
    NAMES.flatMap((name) => {
      const program = programs.get(name);
      return program === undefined ? [] : [[name, program] as const];
    }),
  );
}

/** What is wanted of the programs of sockets. */
export interface SocketAttachment {
  readonly programs: SocketPrograms;
  /** The directory of this node's pins. */
  readonly pins: string;
  /** The directory of the cgroup whose sockets are translated; undefined: none are. */
  readonly cgroup: string | undefined;
  /** Whether binds of node ports that services have are refused. */
  readonly guardsNodePorts: boolean;
}

/** Whether services are translated at the socket. */
export interface SocketStatus {
  /** The cgroup whose sockets are, "" for none. */
  readonly cgroup: string;
  /** Why there is none though it was asked for; "" when all is as asked. */
  readonly reason: string;
}

/**
 * Puts the programs on the cgroup, in place of those that a predecessor pinned there: every call
 * meets the old or the new one. All that are wanted are on it afterwards, or none is.
 */
export function attachSockets(wanted: SocketAttachment): SocketStatus {
  const { programs, pins, cgroup, guardsNodePorts } = wanted;
  try {
    if (cgroup === undefined) {
      detachSockets(pins);
      return { cgroup: "", reason: "" };
    }
    const id = cgroupId(cgroup);
    for (const name of NAMES) {
      const program = guardsNodePorts || !GUARDS.has(name) ? programs.get(name) : undefined;
      const pin = join(pins, pinName(name));
      if (program === undefined) removeLink(pin);
      else attach(program, pin, cgroup, HOOKS[name], id);
    }
    return { cgroup, reason: "" };
  } catch (error) {
    detachSockets(pins);
    return { cgroup: "", reason: reasonOf(error) };
  }
}

function detachSockets(pins: string): void {
  for (const name of NAMES.toReversed()) removeLink(join(pins, pinName(name)));
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

function pinName(name: Name): string {
  return `link_${name}`;
}
