// SPDX-License-Identifier: Apache-2.0

import { createAttacher } from "../../src/datapath/attach.ts";
import { openNetlink } from "../../src/kernel/netlink/socket.ts";
import { deviceOf } from "../differential/world.ts";
import type { Stage } from "./stage.ts";

/** Puts the stage's programs on its first uplink, as an agent does on this kernel. */
export function attachUplink({ world, programs, pins }: Stage): void {
  const uplink = { ifindex: deviceOf(world, "up0"), name: "up0" };
  world.run(() => {
    using netlink = openNetlink();
    const wanted = { pods: [], acceleration: "generic", ownPackets: false } as const;
    const attacher = createAttacher({ programs, pins, netlink });
    const [status] = attacher.sync({ ...wanted, uplinks: [uplink] });
    if (status?.reason !== "") throw new Error(`up0 has less than it shall: ${status?.reason}`);
  });
}
