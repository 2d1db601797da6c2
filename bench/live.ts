// SPDX-License-Identifier: Apache-2.0
// Packets per second of one CPU that really leave: XDP_TX out of a veth, counted at its peer.

import type { Ifindex } from "../src/datapath/gen/abi.ts";
import { attachXdp } from "../src/kernel/link.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import type { BpfProgram } from "../src/kernel/program.ts";
import type { Ipv4 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { loadFloor } from "./floor.ts";
import { frameTo } from "./frame.ts";
import { printTable, type Results } from "./results.ts";
import { createSite } from "./site.ts";
import { interleave } from "./statistics.ts";
import { MANY_FLOWS, openWrapper, type Wrapper } from "./variation.ts";
import { createWorld, VIPS } from "./world.ts";

const SERVICES = 100;
const XDP_TX = 3;
/** Of the packets that were sent, what must arrive for a sample to count. */
const DELIVERED = 0.99;

export async function benchLive(results: Results, budget: Budget): Promise<void> {
  using site = createSite();
  using wrapper = openWrapper();
  using world = await createWorld({ services: SERVICES, egress: site.uplink as Ifindex });
  using floor = loadFloor(SERVICES);
  const sink = wrapper.object.program("sink");
  const [here, there] = inNamespace(site.path, () =>
    [site.uplink, site.peer].map((ifindex) =>
      attachXdp({ program: sink, ifindex, mode: "native" }),
    ),
  );
  using _here = here;
  using _there = there;
  const traffic = {
    frame: frameTo((VIPS + SERVICES / 2) as Ipv4, "tcp_established"),
    flows: MANY_FLOWS,
  };
  const contender = (name: string, program: BpfProgram) => ({
    name,
    sample(): number {
      const before = arrivedAt(wrapper);
      const ns = inNamespace(site.path, () =>
        wrapper.run(program, traffic, {
          ...budget,
          verdict: XDP_TX,
          live: { ifindex: site.uplink },
        }),
      );
      const share = (arrivedAt(wrapper) - before) / budget.packets;
      if (share < DELIVERED) throw new Error(`${name}: ${share * 100} % of packets arrived`);
      return 1000 / ns;
    },
  });
  const found = interleave(
    [
      contender("edge_ingress", world.datapath.programs.edgeIngress),
      contender("floor.hash", floor.program("floor_hash")),
      contender("floor.none", floor.program("floor_none")),
      contender("no work", wrapper.object.program("nothing")),
    ],
    budget.rounds,
  );
  const hash = found.get("floor.hash")?.value ?? Number.NaN;
  const rows = [["program", "Mpps", "of floor.hash"]];
  for (const [name, summary] of found) {
    const ratio = (summary.value / hash).toFixed(2);
    const { value, min, max } = summary;
    rows.push([name, `${value.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`, ratio]);
    const key =
      name === "edge_ingress" ? "xdp.live.mpps" : `xdp.live.${name.replace(" ", "_")}.mpps`;
    results.add(key, "Mpps", summary, name === "floor.hash" ? "" : `${ratio} x floor.hash`);
  }
  printTable(`Live frames over veth, one CPU, wrapper included: median (min–max)`, rows);
}

function arrivedAt(wrapper: Wrapper): number {
  const value = wrapper.object.map(".bss").lookup(new Uint8Array(4));
  return value === undefined ? 0 : Number(new DataView(value.buffer).getBigUint64(0, true));
}
