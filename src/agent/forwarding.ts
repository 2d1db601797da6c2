// SPDX-License-Identifier: Apache-2.0

// Whether the kernel tells programs ways at all: bpf_fib_lookup knows none for a packet that came
// by a device on which forwarding is off.

import { readSysctl } from "../kernel/sysctl.ts";
import { FAMILIES, type Family } from "../net/address.ts";
import type { Log } from "../telemetry/log.ts";
import type { NodeDatapath } from "./datapath.ts";

/** Names of devices by which packets of services come in. */
export type Inputs = Readonly<Record<Family, readonly string[]>>;

/** What turns it on for every device. */
const FOR_ALL = { ipv4: "net/ipv4/ip_forward", ipv6: "net/ipv6/conf/all/forwarding" } as const;

/** Of which devices forwarding is off, by which sysctl, and what turns it on; "" if none. */
export function whyNotForwarded(inputs: Inputs, read = readSysctl): string {
  return FAMILIES.flatMap((family) => {
    const off = inputs[family].filter((device) => isOff(keyOf(family, device), read));
    const [first] = off;
    if (first === undefined) return [];
    const key = isOff(FOR_ALL[family], read) ? FOR_ALL[family] : keyOf(family, first);
    const more = off.length === 1 ? "" : ` and ${off.length - 1} more`;
    return (
      `${nameOf(key)} is 0, so packets by ${first}${more} find no way out by programs: ` +
      `sysctl -w ${nameOf(key)}=1`
    );
  }).join("; ");
}

/** The devices that have programs now: uplinks, and of each family the pods'. */
export function inputsOf({ devices, endpoints, wide }: NodeDatapath): Inputs {
  const statuses = devices().filter(({ ifindex }) => ifindex !== 0);
  const uplinks = statuses.filter(({ role }) => role === "uplink").map(({ name }) => name);
  const pods = (target: Pick<typeof endpoints, "devices">): string[] =>
    statuses.length === 0 ? [] : target.devices().map(({ name }) => name);
  return {
    ipv4: [...uplinks, ...pods(endpoints)],
    ipv6: wide === undefined ? [] : [...uplinks, ...pods(wide.endpoints)],
  };
}

/** Says it once; status goes on saying it. */
export function warnOfForwarding(node: NodeDatapath, log: Log): void {
  const reason = whyNotForwarded(inputsOf(node));
  if (reason !== "") log.warn("forwarding is off", { reason });
}

function keyOf(family: Family, device: string): string {
  return `net/${family}/conf/${device}/forwarding`;
}

/** A device that is gone, or has no IPv6, isn't asked for. */
function isOff(key: string, read: typeof readSysctl): boolean {
  try {
    return read(key) === "0";
  } catch {
    return false;
  }
}

/** As sysctl(8) takes it: with slashes where a device's own name has dots. */
function nameOf(key: string): string {
  return key.includes(".") ? key : key.replaceAll("/", ".");
}
