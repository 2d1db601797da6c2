// SPDX-License-Identifier: Apache-2.0
// Pinned links, as those who keep programs attached need them.

import { unpin } from "../kernel/bpffs.ts";
import { KernelError } from "../kernel/error.ts";
import { BpfLink } from "../kernel/link.ts";

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

/** What went wrong, for status. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
