// SPDX-License-Identifier: Apache-2.0
// Addresses of 4 and of 16 bytes in the tables that every packet touches, side by side: what
// docs/decisions/address-families.md stands on.

import { openObject } from "../src/kernel/object.ts";
import type { Ipv4 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { frameTo } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { interleave } from "./statistics.ts";
import { BUILD, MANY_FLOWS, openWrapper, type Traffic } from "./variation.ts";
import { VIPS } from "./world.ts";

const SERVICES = 10_000;
const XDP_TX = 3;

const TABLES = [
  {
    name: "services",
    title: "service, flow hash, ring, backend",
    four: "table4",
    sixteen: "table16",
  },
  { name: "flows", title: "flow in a kernel hash map", four: "track4", sixteen: "track16" },
] as const;

export function benchFamilies(results: Results, budget: Budget): void {
  using wrapper = openWrapper();
  using opened = openObject(`${BUILD}/families.bpf.o`);
  using object = opened.load();
  const one = frameTo((VIPS + SERVICES / 2) as Ipv4, "tcp_established");
  object.program("fill").testRun({ data: one });
  const all = { frame: frameTo(VIPS, "tcp_established"), flows: MANY_FLOWS, targets: SERVICES };
  const traffics: readonly (readonly [string, Traffic])[] = [
    ["1_flow", { frame: one, flows: 1 }],
    ["64k_flows", { frame: one, flows: MANY_FLOWS }],
    ["64k_flows_all", all],
  ];
  const rows = [["tables", "flows", "4 bytes", "16 bytes", "ratio"]];
  for (const { name, title, four, sixteen } of TABLES) {
    for (const [flows, traffic] of traffics) {
      const contender = (program: string) => ({
        name: program,
        sample: () => wrapper.run(object.program(program), traffic, { ...budget, verdict: XDP_TX }),
      });
      const found = interleave([contender(four), contender(sixteen)], budget.rounds, {
        name: "nothing",
        sample: () =>
          wrapper.run(wrapper.object.program("nothing"), traffic, { ...budget, verdict: XDP_TX }),
      });
      const [narrow, wide] = [found.get(four), found.get(sixteen)];
      if (narrow === undefined || wide === undefined) continue;
      const ratio = wide.value / narrow.value;
      results.add(`families.${name}.4_bytes.${flows}.ns`, "ns", narrow);
      const vs = `${ratio.toFixed(2)} x 4_bytes`;
      results.add(`families.${name}.16_bytes.${flows}.ns`, "ns", wide, vs);
      rows.push([title, flows, formatSummary(narrow), formatSummary(wide), ratio.toFixed(2)]);
    }
  }
  printTable("Address widths, net ns per packet: median (min–max)", rows);
}
