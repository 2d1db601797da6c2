// SPDX-License-Identifier: Apache-2.0
import { FlowFlag } from "../datapath/gen/abi.ts";

/** Where a flow is in its life, as far as its timeout goes. */
export type FlowState = "syn" | "established" | "closing" | "udp" | "remote";

/** For how long a flow without traffic is kept, in milliseconds; SCTP's as TCP's. */
export interface FlowTimeouts {
  readonly tcpEstablishedMs: number;
  readonly tcpSynMs: number;
  readonly tcpClosingMs: number;
  readonly udpMs: number;
}

const UDP = 17;
const BOTH_FINS = FlowFlag.finClient | FlowFlag.finPod;

/** A flow whose pod is elsewhere: its owner knows it, here it is only remembered who that is. */
const REMOTE_MS = { tcp: 300_000, udp: 60_000 } as const;

/** Whether nothing more is to come: its ports may be another flow's. */
export function isOver(flags: number): boolean {
  return (flags & FlowFlag.reset) !== 0 || (flags & BOTH_FINS) === BOTH_FINS;
}

/**
 * Whether a flow may have had one side only, and any source: a SYN or an INIT, another packet of no
 * known flow until the pod goes on, also if the pod has reset it; a datagram without answer. By the
 * flags of its REQUEST entry.
 */
export function isHalfOpen(protocol: number, flags: number): boolean {
  if ((flags & FlowFlag.remote) !== 0) return false;
  return (flags & (protocol === UDP ? FlowFlag.replied : FlowFlag.confirmed)) === 0;
}

/** The state of a flow; `flags` are those of both its entries together. */
export function flowState(protocol: number, flags: number): FlowState {
  if ((flags & FlowFlag.remote) !== 0) return "remote";
  if (protocol === UDP) return "udp";
  if (isOver(flags)) return "closing";
  return (flags & FlowFlag.confirmed) !== 0 ? "established" : "syn";
}

/** After how many milliseconds without a packet a flow is forgotten. */
export function flowTimeoutMs(protocol: number, flags: number, timeouts: FlowTimeouts): number {
  switch (flowState(protocol, flags)) {
    case "remote":
      return protocol === UDP ? REMOTE_MS.udp : REMOTE_MS.tcp;
    case "udp":
      return timeouts.udpMs;
    case "closing":
      return timeouts.tcpClosingMs;
    case "established":
      return timeouts.tcpEstablishedMs;
    case "syn":
      return timeouts.tcpSynMs;
  }
}

/** Why an entry was removed. */
export type Removal = "expired" | "pod-gone" | "orphan" | "half-open";
