// SPDX-License-Identifier: Apache-2.0
// A veth takes in what XDP sends back out of its peer only if it has an XDP program itself.

import { join } from "node:path";
import { ensurePinDirectory } from "../kernel/bpffs.ts";
import { attachXdp } from "../kernel/link.ts";
import { listLinks } from "../kernel/netlink/link.ts";
import { openNetlink } from "../kernel/netlink/socket.ts";
import { inNamespace, namespacePath } from "../kernel/netns.ts";
import { BpfProgram } from "../kernel/program.ts";
import type { LabPlan } from "./plan.ts";
import { labPaths } from "./plan.ts";

const ATTACH_XDP = 37;
/** BPF_F_XDP_HAS_FRAGS: packets may be larger than a page, so any MTU will do. */
const HAS_FRAGS = 32;
/** `r0 = XDP_PASS; exit` */
const PASS = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

/** Puts a program that passes everything on the switch's ports to the nodes. */
export function receiveFromXdp(plan: LabPlan): void {
  const path = namespacePath(plan.switch.namespace);
  const pins = join(labPaths(plan.settings.name).pins, "switch");
  using netlink = openNetlink({ namespace: path });
  const byName = new Map(listLinks(netlink).map(({ name, index }) => [name, index]));
  ensurePinDirectory(pins);
  using program = BpfProgram.fromInstructions("xdp", "lab_receive", PASS, ATTACH_XDP, HAS_FRAGS);
  for (const { wire } of plan.nodes) {
    const port = wire[1].device;
    const ifindex = byName.get(port) ?? 0;
    using link = inNamespace(path, () => attachXdp({ program, ifindex, mode: "native" }));
    link.pin(join(pins, port));
  }
}
