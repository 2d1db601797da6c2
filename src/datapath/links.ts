// SPDX-License-Identifier: Apache-2.0
// Pinned links, as those who keep programs attached need them.

import { unpin } from "../kernel/bpffs.ts";
import { KernelError } from "../kernel/error.ts";
import { BpfLink } from "../kernel/link.ts";
import { finishPins } from "../kernel/pin.ts";

/** The link that is pinned at `path`; undefined where nothing is. */
export function openLink(path: string): BpfLink | undefined {
  try {
    return BpfLink.openPinned(path);
  } catch (error) {
    if (error instanceof KernelError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Takes a program off its hook at once, not when the last holder of the link goes. */
export function removeLink(path: string): void {
  const link = openLink(path);
  if (link === undefined) return;
  using held = link;
  const { ifindex, cgroupId } = held.info();
  if (ifindex !== 0 || cgroupId !== 0n) held.detach();
  unpin(path);
}

/**
 * Ends what an agent that was killed had begun to pin. A link's program runs already, and no other
 * may get onto its hook; a map is made anew.
 */
export function finishLinks(pins: string): void {
  finishPins(pins, (name) => name.startsWith("link_"));
}

/** What went wrong, for status. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
