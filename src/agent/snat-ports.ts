// SPDX-License-Identifier: Apache-2.0

// Whether SNAT has ports left, in words, before it has none.

import type { SnatPorts } from "../conntrack/tally.ts";
import { formatAddressPort } from "../net/address.ts";
import type { TableUse } from "./feature-metrics.ts";

export interface SnatPortsOptions {
  /** Ports that clients of one backend can get. */
  readonly ports: number;
  /** The backends to which flows have most of them, first the one with most. */
  readonly most: () => readonly SnatPorts[];
  /** New flows that got none, ever. */
  readonly refused: () => number;
  /** Milliseconds, monotonic. */
  readonly nowMs: () => number;
}

/** What is known of this node's ports. */
export interface SnatPortsWatch {
  readonly ports: number;
  most(): readonly SnatPorts[];
  /** Of the backend with most of them. */
  use(): TableUse;
  /** Looks at what was refused; to be called every few seconds. */
  look(): void;
}

/**
 * A new flow tries 33 ports: with six of ten taken, one flow in ten million finds none; with nine,
 * one in thirty.
 */
const FROM = 0.6;
const UNTIL = 0.5;
const RECENT_MS = 60_000;
const WAY_OUT = "add backends, widen snat.ports, or use mode dsr";

export function createSnatPorts({ ports, most, refused, nowMs }: SnatPortsOptions): SnatPortsWatch {
  let near = false;
  // Those of before the agent started are not its to tell.
  let refusedBefore = refused();
  let refusedMs = Number.NEGATIVE_INFINITY;
  const look = (): void => {
    const now = refused();
    if (now > refusedBefore) refusedMs = nowMs();
    refusedBefore = now;
  };
  return {
    ports,
    most,
    look,
    use() {
      look();
      const [first] = most();
      const used = Math.min(first?.used ?? 0, ports);
      near = used >= ports * (near ? UNTIL : FROM);
      const isEmpty = nowMs() - refusedMs < RECENT_MS;
      const who = first === undefined ? "a backend" : nameOf(first);
      const what = isEmpty
        ? `new connections to ${who} were dropped in the last minute, as no port was free`
        : `flows to ${who} have most of the ports, and new ones soon find none`;
      const problem = isEmpty || near ? `${what}; ${WAY_OUT}` : "";
      return { table: "snat_ports", used, limit: ports, problem };
    },
  };
}

const PROTOCOLS: Readonly<Record<number, string>> = { 6: "tcp", 17: "udp", 132: "sctp" };

/** `10.0.2.1:8080/tcp`. */
export function nameOf({ pod, port, protocol }: SnatPorts): string {
  return `${formatAddressPort(pod, port)}/${PROTOCOLS[protocol] ?? protocol}`;
}
