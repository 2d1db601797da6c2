// SPDX-License-Identifier: Apache-2.0
// What each way of saying a service costs at the balancer, and each in IPv6, beside IPIP in IPv4:
// all in the same rounds, at the edge and at tc.

import { Dispatch, Place, Verdict } from "../src/datapath/gen/abi.ts";
import type { BpfProgram } from "../src/kernel/program.ts";
import { FAMILIES, type Family } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import { type FrameKind, frameTo, STRANGERS } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { createSkbRunner } from "./skb.ts";
import { type Contender, interleave, type Summary } from "./statistics.ts";
import { MANY_FLOWS, openWrapper, type Traffic } from "./variation.ts";
import { createWorld, VIPS, type World } from "./world.ts";

const WAYS = ["ipip", "geneve", "option"] as const;
type Way = (typeof WAYS)[number];

/** One row of the tables. */
interface Round {
  readonly family: Family;
  readonly way: Way;
  readonly kind: FrameKind;
  readonly flows: number;
}

/** Whatever the packet is, Geneve and options do the same with it. */
const KINDS: Readonly<Record<Way, readonly FrameKind[]>> = {
  ipip: ["tcp_established", "tcp_syn", "udp", "pass"],
  geneve: ["tcp_established"],
  option: ["tcp_established"],
};

const ROUNDS: readonly Round[] = [1, MANY_FLOWS].flatMap((flows) =>
  FAMILIES.flatMap((family) =>
    WAYS.flatMap((way) => KINDS[way].map((kind) => ({ family, way, kind, flows }))),
  ),
);

/** A place where packets are balanced. */
interface Stage {
  readonly name: "xdp" | "tc";
  readonly place: Place;
  readonly nothing: BpfProgram;
  programOf(world: World): BpfProgram;
  /** ns of a packet. */
  run(program: BpfProgram, traffic: Traffic, ours: boolean): number;
}

const XDP_PASS = 2;
const XDP_TX = 3;

export async function benchModes(results: Results, budget: Budget): Promise<void> {
  using stack = new DisposableStack();
  const wrapper = stack.use(openWrapper());
  const runner = createSkbRunner(budget);
  const worlds = {} as Record<Way, World>;
  for (const way of WAYS) {
    const constants = { dispatch: Dispatch[way] };
    worlds[way] = stack.use(await createWorld({ services: 1, wide: true, constants }));
  }
  const stages: readonly Stage[] = [
    {
      name: "xdp",
      place: Place.edge,
      nothing: wrapper.object.program("nothing"),
      programOf: (world) => world.datapath.programs.edgeIngress,
      run: (program, traffic, ours) =>
        wrapper.run(program, traffic, { ...budget, verdict: ours ? XDP_TX : XDP_PASS }),
    },
    {
      name: "tc",
      place: Place.host,
      nothing: wrapper.object.program("nothing_tc"),
      programOf: (world) => world.datapath.programs.fromNetwork,
      run: (program, traffic) => runner.run(program, traffic),
    },
  ];
  for (const stage of stages) measure(stage, worlds, results, budget);
}

function measure(
  stage: Stage,
  worlds: Readonly<Record<Way, World>>,
  results: Results,
  { rounds }: Budget,
): void {
  const zeros = new Map(
    FAMILIES.map((family) => {
      const traffic = { frame: frameTo(VIPS, "tcp_established", family), flows: MANY_FLOWS };
      const sample = (): number => stage.run(stage.nothing, traffic, true);
      return [family, { name: `nothing.${family}`, sample }];
    }),
  );
  const contenders = ROUNDS.map((round) => ({
    ...contenderOf(stage, worlds[round.way], round),
    zero: zeros.get(round.family) as Contender,
  }));
  const found = interleave(contenders, rounds);
  const rows = [["packet", "flows", "ns", "of IPIP", "of IPv4"]];
  for (const round of ROUNDS) {
    const ns = found.get(nameOf(round)) as Summary;
    const ratio = (other: Partial<Round>): string => {
      const than = found.get(nameOf({ ...round, ...other }));
      return than === undefined ? "" : (ns.value / than.value).toFixed(2);
    };
    const ofIpip = round.way === "ipip" ? "" : ratio({ way: "ipip" });
    const ofIpv4 = round.family === "ipv4" ? "" : ratio({ family: "ipv4" });
    const vs = [ofIpip && `${ofIpip} x ipip`, ofIpv4 && `${ofIpv4} x ipv4`].filter(Boolean);
    results.add(`modes.${stage.name}.${nameOf(round)}.ns`, "ns", ns, vs.join(", "));
    const { family, way, kind, flows } = round;
    const packet = kind === "pass" ? kind : `${way} ${kind}`;
    rows.push([`${family} ${packet}`, String(flows), formatSummary(ns), ofIpip, ofIpv4]);
  }
  printTable(`Ways to other nodes, ${stage.name}, net ns per packet: median (min–max)`, rows);
}

function nameOf({ family, way, kind, flows }: Round): string {
  const what = kind === "pass" ? kind : `${way}.${kind}`;
  return `${family}.${what}.${flows === 1 ? "1_flow" : "64k_flows"}`;
}

function contenderOf(stage: Stage, world: World, round: Round): Contender {
  const { family, kind, flows } = round;
  const ours = kind !== "pass";
  const frame = frameTo(ours ? VIPS : STRANGERS, kind, family);
  const spread = ours || flows === 1 ? 0 : MANY_FLOWS;
  const traffic = { frame, flows, targets: spread };
  const expected = ours ? Verdict.sentEncapsulated : Verdict.passNotOurs;
  const program = stage.programOf(world);
  return {
    name: nameOf(round),
    sample() {
      const good = world.count(stage.place, expected);
      const bad = world.countOthers(stage.place, expected);
      const ns = stage.run(program, traffic, ours);
      if (world.count(stage.place, expected) === good) throw new Error(`${nameOf(round)}: lost`);
      if (world.countOthers(stage.place, expected) === bad) return ns;
      throw new Error(`packets of ${nameOf(round)} ended otherwise than in verdict ${expected}`);
    },
  };
}
