// SPDX-License-Identifier: Apache-2.0
// VLAN tags that XDP wouldn't see: it would take what is for a VLAN device for frames without a
// tag. tc has `skb->vlan_present`.

import { KernelError } from "../kernel/error.ts";
import type { XdpMode } from "../kernel/link.ts";
import { openEthtool, TAG_STRIPPING } from "../kernel/netlink/ethtool.ts";
import type { Link } from "../kernel/netlink/link.ts";

/** How a device is asked by which features, in the words of `ethtool -K`, it strips tags. */
export type AskStripping = (device: string) => readonly string[];

/**
 * Kinds whose features tell whether a tag stays in the frame: hardware, and taps. Others get their
 * frames from the kernel with the tag beside them, a veth by its peer's `txvlan`.
 */
const TELLING: ReadonlySet<string> = new Set(["", "tun"]);
const MAX_NAMED = 3;

/**
 * Why XDP must not run on a device: VLAN devices of this namespace are on it and their tags would
 * be out of XDP's sight. The text names them and the way out; undefined when XDP may run.
 */
export function whyTagsHide(
  device: Link,
  mode: XdpMode,
  links: ReadonlyMap<number, Link>,
  askStripping: AskStripping,
): string | undefined {
  const vlans = vlansOn(device, links);
  if (vlans.length === 0) return undefined;
  const wayOut = wayToShowTags(wiresOf(device, mode, links), askStripping);
  if (wayOut === undefined) return undefined;
  return `XDP on ${device.name} would not see the VLAN tags of ${listed(vlans)}: ${wayOut}`;
}

/** Names of the VLAN devices on a device, or on the bond or bridge that it is a port of. */
function vlansOn(device: Link, links: ReadonlyMap<number, Link>): string[] {
  const under = new Set([device.index]);
  let { master } = device;
  while (master !== 0 && !under.has(master)) {
    under.add(master);
    master = links.get(master)?.master ?? 0;
  }
  return [...links.values()]
    .filter(({ kind, peer, peerNamespaceId }) => {
      return kind === "vlan" && peerNamespaceId === undefined && under.has(peer);
    })
    .map(({ name }) => name);
}

/** The devices at which XDP takes frames: a bond has its ports' drivers run it. */
function wiresOf(device: Link, mode: XdpMode, links: ReadonlyMap<number, Link>): Link[] {
  if (device.kind !== "bond" || mode !== "native") return [device];
  return [...links.values()].filter(({ master }) => master === device.index);
}

/** What to do to see tags in what comes by these devices; undefined when they are seen. */
function wayToShowTags(wires: readonly Link[], askStripping: AskStripping): string | undefined {
  const mute = wires.find(({ kind }) => !TELLING.has(kind));
  if (mute !== undefined) {
    return `a ${mute.kind} keeps them beside the frame, so remove those or set acceleration: off`;
  }
  const commands = wires.flatMap(({ name }) =>
    askStripping(name).map((feature) => `ethtool -K ${name} ${feature} off`),
  );
  return commands.length === 0 ? undefined : commands.join("; ");
}

function listed(names: readonly string[]): string {
  if (names.length <= MAX_NAMED) return names.join(", ");
  return `${names.slice(0, MAX_NAMED).join(", ")} and ${names.length - MAX_NAMED} more`;
}

/**
 * Asks a device of a namespace (a path; the caller's own when left out). One that the kernel says
 * nothing about strips nothing.
 */
export function readStripping(device: string, namespace?: string): string[] {
  try {
    using ethtool = openEthtool(namespace);
    const active = ethtool.activeFeatures(device);
    return TAG_STRIPPING.filter(({ feature }) => active.has(feature)).map(({ word }) => word);
  } catch (error) {
    if (error instanceof KernelError) return [];
    throw error;
  }
}
