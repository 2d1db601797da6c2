// SPDX-License-Identifier: Apache-2.0
// What a packet costs at the balancer, in XDP and at tc, beside the floors, with few and many
// services and flows.

import { Place, Verdict } from "../src/datapath/gen/abi.ts";
import type { LoadedObject } from "../src/kernel/object.ts";
import type { BpfProgram } from "../src/kernel/program.ts";
import type { Ipv4 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { loadFloor } from "./floor.ts";
import { type FrameKind, frameTo, STRANGERS } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { createSkbRunner } from "./skb.ts";
import { type Contender, interleave, type Summary } from "./statistics.ts";
import { MANY_FLOWS, openWrapper, type Traffic } from "./variation.ts";
import { createWorld, VIPS, type World } from "./world.ts";

const SERVICES = [1, 100, 10_000] as const;

/** Programs on the tables of so many services. */
interface Field {
  readonly services: number;
  readonly world: World;
  readonly floor: LoadedObject;
}

/** A place where packets are balanced, and how one is run there. */
interface Stage {
  readonly name: "xdp" | "tc";
  readonly title: string;
  readonly place: Place;
  readonly floors: readonly string[];
  readonly nothing: BpfProgram;
  programOf(world: World): BpfProgram;
  /** ns of a packet; throws if packets ended otherwise than they should. */
  run(program: BpfProgram, traffic: Traffic, ours: boolean): number;
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

const XDP_PASS = 2;
const XDP_TX = 3;

/** XDP: the same packet many times in one call, restored by the wrapper. */
export async function benchXdp(results: Results, budget: Budget): Promise<void> {
  using wrapper = openWrapper();
  await bench(results, budget, {
    name: "xdp",
    title: "XDP, net ns per packet: median (min–max)",
    place: Place.edge,
    floors: ["floor_hash", "floor_none"],
    nothing: wrapper.object.program("nothing"),
    programOf: (world) => world.datapath.programs.edgeIngress,
    run: (program, traffic, ours) =>
      wrapper.run(program, traffic, { ...budget, verdict: ours ? XDP_TX : XDP_PASS }),
  });
}

/** tc: one packet a call, since what encapsulates an skb can't be undone. */
export async function benchTc(results: Results, budget: Budget): Promise<void> {
  using wrapper = openWrapper();
  const runner = createSkbRunner(budget);
  await bench(results, budget, {
    name: "tc",
    title: "tc, net ns per packet: median (min–max)",
    place: Place.host,
    floors: ["floor_hash_tc", "floor_none_tc"],
    nothing: wrapper.object.program("nothing_tc"),
    programOf: (world) => world.datapath.programs.fromNetwork,
    run: (program, traffic) => runner.run(program, traffic),
  });
}

async function bench(results: Results, { rounds }: Budget, stage: Stage): Promise<void> {
  using stack = new DisposableStack();
  const fields: Field[] = [];
  for (const services of SERVICES) {
    fields.push({
      services,
      world: stack.use(await createWorld({ services })),
      floor: stack.use(loadFloor(services)),
    });
  }
  const program = stage.name === "xdp" ? "edge_ingress" : "from_network";
  const rows = [["packet", "flows", "services", program, "floor.hash", "floor.none", "ratio"]];
  for (const round of ROUNDS) {
    const measured = fields.filter(({ services }) => round.aim !== "all" || services > 1);
    const found = interleave(
      measured.flatMap((field) => contendersOf(stage, round, field)),
      rounds,
      {
        name: "nothing",
        sample: () =>
          stage.run(stage.nothing, trafficOf(round, measured.at(-1)?.services ?? 1), true),
      },
    );
    for (const { services } of measured) rows.push(report(stage, round, services, found, results));
  }
  printTable(stage.title, rows);
}

function trafficOf({ kind, flows, aim }: Round, services: number): Traffic {
  if (aim === "none") {
    return { frame: frameTo(STRANGERS, kind), flows, targets: flows === 1 ? 0 : MANY_FLOWS };
  }
  if (aim === "all") return { frame: frameTo(VIPS, kind), flows, targets: services };
  return { frame: frameTo((VIPS + (services >> 1)) as Ipv4, kind), flows };
}

function contendersOf(stage: Stage, round: Round, { services, world, floor }: Field): Contender[] {
  const ours = round.aim !== "none";
  const traffic = trafficOf(round, services);
  const expected = ours ? Verdict.sentEncapsulated : Verdict.passNotOurs;
  const floorOf = (name: string): Contender => ({
    name: `${name}.${services}`,
    sample: () => stage.run(floor.program(name), traffic, ours),
  });
  const program = stage.programOf(world);
  return [
    {
      name: `ours.${services}`,
      sample() {
        const [good, bad] = [
          world.count(stage.place, expected),
          world.countOthers(stage.place, expected),
        ];
        const ns = stage.run(program, traffic, ours);
        if (
          world.count(stage.place, expected) === good ||
          world.countOthers(stage.place, expected) !== bad
        ) {
          throw new Error(`${program.name} ended packets otherwise than in verdict ${expected}`);
        }
        return ns;
      },
    },
    ...stage.floors.map(floorOf),
  ];
}

function report(
  stage: Stage,
  round: Round,
  services: number,
  found: ReadonlyMap<string, Summary>,
  results: Results,
): string[] {
  const [ours, hash, none] = ["ours", ...stage.floors].map((name) => {
    const summary = found.get(`${name}.${services}`);
    if (summary === undefined) throw new Error(`no samples of ${name}`);
    return summary;
  }) as [Summary, Summary, Summary];
  const { kind, flows, aim } = round;
  const flowsText = flows === 1 ? "1_flow" : "64k_flows";
  const where = `${flowsText}.${services}_services${aim === "all" ? "_all" : ""}`;
  const ratio = ours.value / hash.value;
  const vs = `${ratio.toFixed(2)} x floor.hash`;
  const name = kind === "pass" ? `${stage.name}.pass` : `${stage.name}.dsr_ipip.${kind}`;
  results.add(`${name}.${where}.ns`, "ns", ours, vs);
  results.add(`${stage.name}.floor.hash.${kind}.${where}.ns`, "ns", hash);
  results.add(`${stage.name}.floor.none.${kind}.${where}.ns`, "ns", none);
  if (services === 1 && flows === (kind === "pass" ? 1 : MANY_FLOWS)) {
    results.add(`${name}.ns`, "ns", ours, vs);
  }
  const target = aim === "all" ? `each of ${services}` : `${services}`;
  const texts = [ours, hash, none].map(formatSummary);
  return [kind, String(flows), target, ...texts, ratio.toFixed(2)];
}
