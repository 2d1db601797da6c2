// SPDX-License-Identifier: Apache-2.0
// XDP: what a packet costs at the edge, beside the floors, with few and many services and flows.

import { Place, Verdict } from "../src/datapath/gen/abi.ts";
import type { LoadedObject } from "../src/kernel/object.ts";
import type { Ipv4 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { loadFloor } from "./floor.ts";
import { type FrameKind, frameTo, STRANGERS } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { type Contender, interleave, type Summary } from "./statistics.ts";
import { MANY_FLOWS, openWrapper, type Traffic, type Wrapper } from "./variation.ts";
import { createWorld, VIPS, type World } from "./world.ts";

const SERVICES = [1, 100, 10_000] as const;
const XDP_PASS = 2;
const XDP_TX = 3;

/** Programs on the tables of so many services. */
interface Field {
  readonly services: number;
  readonly world: World;
  readonly floor: LoadedObject;
}

/** What the flows are sent to: one service among all, each in turn, or none of ours. */
type Aim = "one" | "all" | "none";

interface Round {
  readonly kind: FrameKind;
  readonly flows: number;
  readonly aim: Aim;
}

const SENT: readonly FrameKind[] = ["tcp_established", "tcp_syn", "udp"];

const ROUNDS: readonly Round[] = [
  ...SENT.flatMap((kind) => [
    { kind, flows: 1, aim: "one" as const },
    { kind, flows: MANY_FLOWS, aim: "one" as const },
    { kind, flows: MANY_FLOWS, aim: "all" as const },
  ]),
  { kind: "pass", flows: 1, aim: "none" },
  { kind: "pass", flows: MANY_FLOWS, aim: "none" },
];

/** Measures all of it. */
export async function benchXdp(results: Results, budget: Budget): Promise<void> {
  using stack = new DisposableStack();
  const wrapper = stack.use(openWrapper());
  const fields: Field[] = [];
  for (const services of SERVICES) {
    fields.push({
      services,
      world: stack.use(await createWorld({ services })),
      floor: stack.use(loadFloor(services)),
    });
  }
  const rows: string[][] = [
    ["packet", "flows", "services", "edge", "floor.hash", "floor.none", "ratio"],
  ];
  for (const round of ROUNDS) rows.push(...measure(round, fields, wrapper, results, budget));
  printTable("XDP, net ns per packet: median (min–max)", rows);
}

function trafficOf({ kind, flows, aim }: Round, services: number): Traffic {
  if (aim === "none") {
    return { frame: frameTo(STRANGERS, kind), flows, targets: flows === 1 ? 0 : MANY_FLOWS };
  }
  if (aim === "all") return { frame: frameTo(VIPS, kind), flows, targets: services };
  return { frame: frameTo((VIPS + (services >> 1)) as Ipv4, kind), flows };
}

/** One kind of traffic through everything; rows of the table, one for each number of services. */
function measure(
  round: Round,
  fields: readonly Field[],
  wrapper: Wrapper,
  results: Results,
  { rounds, packets, cpu }: Budget,
): string[][] {
  const ours = round.aim !== "none";
  const verdict = ours ? XDP_TX : XDP_PASS;
  const measured = fields.filter(({ services }) => round.aim !== "all" || services > 1);
  const contenders = measured.flatMap(({ services, world, floor }) => {
    const traffic = trafficOf(round, services);
    const options = { packets, verdict, ...(cpu === undefined ? {} : { cpu }) };
    const edge = (): number => {
      const before = world.count(Place.edge, ours ? Verdict.sentEncapsulated : Verdict.passNotOurs);
      const ns = wrapper.run(world.datapath.programs.edgeIngress, traffic, options);
      const counted =
        world.count(Place.edge, ours ? Verdict.sentEncapsulated : Verdict.passNotOurs) - before;
      if (counted < packets) throw new Error(`edge counted ${counted} of ${packets} packets`);
      return ns;
    };
    const floorOf = (name: string): Contender => ({
      name: `${name}.${services}`,
      sample: () => wrapper.run(floor.program(name), traffic, options),
    });
    return [
      { name: `edge.${services}`, sample: edge },
      floorOf("floor_hash"),
      floorOf("floor_none"),
    ];
  });
  const baseline: Contender = {
    name: "wrapper",
    sample: () => {
      const traffic = trafficOf(round, measured.at(-1)?.services ?? 1);
      return wrapper.run(wrapper.object.program("nothing"), traffic, {
        packets,
        verdict: XDP_TX,
        ...(cpu === undefined ? {} : { cpu }),
      });
    },
  };
  const found = interleave(contenders, rounds, baseline);
  return measured.map(({ services }) => report(round, services, found, results));
}

function report(
  round: Round,
  services: number,
  found: ReadonlyMap<string, Summary>,
  results: Results,
): string[] {
  const [edge, hash, none] = ["edge", "floor_hash", "floor_none"].map((name) => {
    const summary = found.get(`${name}.${services}`);
    if (summary === undefined) throw new Error(`no samples of ${name}`);
    return summary;
  }) as [Summary, Summary, Summary];
  const { kind, flows, aim } = round;
  const flowsText = flows === 1 ? "1_flow" : "64k_flows";
  const where = `${flowsText}.${services}_services${aim === "all" ? "_all" : ""}`;
  const ratio = edge.value / hash.value;
  const vs = `${ratio.toFixed(2)} x floor.hash`;
  const name = kind === "pass" ? "xdp.pass" : `xdp.dsr_ipip.${kind}`;
  results.add(`${name}.${where}.ns`, "ns", edge, vs);
  results.add(`xdp.floor.hash.${kind}.${where}.ns`, "ns", hash);
  results.add(`xdp.floor.none.${kind}.${where}.ns`, "ns", none);
  if (services === 1 && flows === (kind === "pass" ? 1 : MANY_FLOWS)) {
    results.add(`${name}.ns`, "ns", edge, vs);
  }
  const target = aim === "all" ? `each of ${services}` : `${services}`;
  const texts = [edge, hash, none].map(formatSummary);
  return [kind, String(flows), target, ...texts, ratio.toFixed(2)];
}
