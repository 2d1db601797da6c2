// SPDX-License-Identifier: Apache-2.0

import { join } from "node:path";
import { listPins } from "../../../src/kernel/bpffs.ts";
import { BpfLink } from "../../../src/kernel/link.ts";
import { BpfMap } from "../../../src/kernel/map.ts";
import type { Lab } from "../../../src/lab/lab.ts";
import { pinsOf } from "./inspect.ts";

/**
 * What a node has pinned: the kernel's ids by name, and which program each link runs. Tables of
 * programs are made anew by each load, and left out.
 */
export interface Pinned {
  readonly maps: Readonly<Record<string, number>>;
  readonly links: Readonly<Record<string, number>>;
  readonly programs: Readonly<Record<string, number>>;
}

export function pinnedAt(lab: Lab, node: string): Pinned {
  const directory = pinsOf(lab, node);
  const maps: Record<string, number> = {};
  const links: Record<string, number> = {};
  const programs: Record<string, number> = {};
  for (const name of listPins(directory)) {
    const path = join(directory, name);
    if (name.startsWith("link_")) {
      using link = BpfLink.openPinned(path);
      const { id, programId } = link.info();
      links[name] = id;
      programs[name] = programId;
    } else if (!/_programs6?_\d+$/.test(name)) {
      using map = BpfMap.openPinned(path);
      maps[name] = map.id;
    }
  }
  return { maps, links, programs };
}
