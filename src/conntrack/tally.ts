// SPDX-License-Identifier: Apache-2.0
// What a sweep counts besides removing: who has how many of this node's ports, and which services
// still have flows of SNAT.

import type { ServiceId } from "../datapath/gen/abi.ts";
import type { Address } from "../net/address.ts";

/** Ports of this node that flows to one port of one pod have. */
export interface SnatPorts {
  readonly pod: Address;
  readonly port: number;
  /** As in the IP header. */
  readonly protocol: number;
  readonly used: number;
}

/** Ports are taken for one backend at a time: others may have the same ones. */
export class Tally {
  /** When the sweep began, by the clock of the collector. */
  readonly beganMs: number;
  entries = 0;
  removed = 0;
  /** Of a core. */
  costMs = 0;
  readonly snatServices = new Set<ServiceId>();
  readonly #ports = new Map<Address, Map<number, number>>();

  constructor(beganMs: number) {
    this.beganMs = beganMs;
  }

  /** A flow of SNAT whose ports can't be another flow's. */
  addSnat(pod: Address, port: number, protocol: number): void {
    let ports = this.#ports.get(pod);
    if (ports === undefined) {
      ports = new Map();
      this.#ports.set(pod, ports);
    }
    const key = port * 256 + protocol;
    ports.set(key, (ports.get(key) ?? 0) + 1);
  }

  /** The backends that have most, in this order; `covered` of the table has been seen. */
  snatPorts(count: number, covered = 1): SnatPorts[] {
    const all: SnatPorts[] = [];
    for (const [pod, ports] of this.#ports) {
      for (const [key, used] of ports) {
        const port = Math.floor(key / 256);
        all.push({ pod, port, protocol: key % 256, used: Math.round(used / covered) });
      }
    }
    return all.sort((a, b) => b.used - a.used).slice(0, count);
  }
}
