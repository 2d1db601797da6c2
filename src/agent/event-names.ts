// SPDX-License-Identifier: Apache-2.0
import type { Devices } from "../device/devices.ts";
import type { EventNames } from "./monitor.ts";
import type { Services } from "./services.ts";

/** An id that nobody has is looked for again after this time. */
const STALE_MS = 1000;

/** Names for what events know by number. */
export function createEventNames(devices: Devices, { lb }: Services): EventNames {
  let names = new Map<number, string>();
  let builtMs = Number.NEGATIVE_INFINITY;
  return {
    device: (ifindex) => devices.links.get(ifindex)?.name ?? "",
    service(id) {
      const stale = performance.now() - builtMs > STALE_MS;
      if (!names.has(id) && stale) {
        names = new Map([...lb.ports.rows()].map((row) => [row.id, row.key]));
        builtMs = performance.now();
      }
      return names.get(id) ?? "";
    },
  };
}
