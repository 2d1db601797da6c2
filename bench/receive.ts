// SPDX-License-Identifier: Apache-2.0
// The backend's side of each way of saying a service, in both families and in the same rounds: a
// packet of a known flow into its pod, and the pod's answer to the client.

import {
  Dispatch,
  type Ifindex,
  Place,
  type Port,
  type ServiceId,
  Trust,
  Verdict,
} from "../src/datapath/gen/abi.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import { FAMILIES, type Family, type Ipv4, parseIpv4 } from "../src/net/address.ts";
import { type Mac, writeMac } from "../src/net/mac.ts";
import type { Budget } from "./budget.ts";
import { frameInIpip, frameOfReply, frameTo } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { createSite } from "./site.ts";
import {
  createSkbRunner,
  type FieldsOfFamilies,
  frameOfFlow,
  IN_IPIP,
  PLAIN,
  REPLY,
} from "./skb.ts";
import { type Contender, interleave, type Summary } from "./statistics.ts";
import { MANY_FLOWS, openWrapper } from "./variation.ts";
import {
  createWorld,
  NODE_ADDRESS,
  NODE_MAC,
  TARGET_PORT,
  VIPS,
  type World,
  wide,
} from "./world.ts";

/** A node that the worlds trust. */
const SENDER = parseIpv4("10.0.0.5");
const POD_MAC = 0x02_00_00_00_00_11 as Mac;
const NODE_SIDE_MAC = 0x02_00_00_00_00_12 as Mac;
const POD_DEVICE = 1000 as Ifindex;
const SERVICE_IDS = { ipv4: 1 as ServiceId, ipv6: 2 as ServiceId } as const;

const STEPS = ["ipip", "geneve", "option", "reply"] as const;
type Step = (typeof STEPS)[number];

interface Round {
  readonly family: Family;
  readonly step: Step;
  readonly flows: number;
}

const ROUNDS: readonly Round[] = [1, MANY_FLOWS].flatMap((flows) =>
  FAMILIES.flatMap((family) => STEPS.map((step) => ({ family, step, flows }))),
);

/** Outer headers of Geneve, and an option: behind Ethernet. */
const GENEVE_BYTES = { ipv4: 62, ipv6: 94 } as const;
const OPTION_BYTES = { ipv4: 8, ipv6: 24 } as const;

/** Where the inner fields are: behind Geneve all moves, behind an option the port alone. */
const FIELDS: Readonly<Record<Step, FieldsOfFamilies>> = {
  ipip: IN_IPIP,
  geneve: { ipv4: movedBy("ipv4", true), ipv6: movedBy("ipv6", true) },
  option: { ipv4: movedBy("ipv4", false), ipv6: movedBy("ipv6", false) },
  reply: REPLY,
};

function movedBy(family: Family, isGeneve: boolean): FieldsOfFamilies[Family] {
  const { source, destination, sourcePort } = PLAIN[family];
  const all = isGeneve ? GENEVE_BYTES[family] : 0;
  const behind = isGeneve ? all : OPTION_BYTES[family];
  return { source: source + all, destination: destination + all, sourcePort: sourcePort + behind };
}

/** The node of the pod, and those that send there. */
interface Nodes {
  readonly receiver: World;
  readonly geneve: World;
  readonly option: World;
  /** Whom the senders choose for the frames that are measured. */
  readonly pods: Readonly<Record<Family, Ipv4>>;
}

export async function benchReceive(results: Results, budget: Budget): Promise<void> {
  using stack = new DisposableStack();
  const site = stack.use(createSite());
  const wrapper = stack.use(openWrapper());
  const runner = createSkbRunner(budget);
  const nodes = await createNodes(stack);
  for (const family of FAMILIES) adoptFlows(nodes, family);
  const run = (program: World["datapath"]["programs"]["fromPod"], round: Round): number => {
    const traffic = { frame: frameOf(nodes, round), flows: round.flows };
    return inNamespace(site.path, () =>
      runner.run(program, traffic, FIELDS[round.step], site.uplink),
    );
  };
  const nothing = wrapper.object.program("nothing_tc");
  const contenders = ROUNDS.map(
    (round): Contender => ({
      name: nameOf(round),
      zero: { name: "nothing", sample: () => run(nothing, round) },
      sample: () => checked(nodes.receiver, round, (program) => run(program, round)),
    }),
  );
  report(interleave(contenders, budget.rounds), results);
}

async function createNodes(stack: DisposableStack): Promise<Nodes> {
  const open = async (constants: Parameters<typeof createWorld>[0]["constants"]): Promise<World> =>
    stack.use(await createWorld({ services: 1, wide: true, ...(constants && { constants }) }));
  const receiver = await open({ acceptOption: 1 });
  const geneve = await open({ dispatch: Dispatch.geneve });
  const option = await open({ dispatch: Dispatch.option });
  const { maps, wide: wideMaps } = receiver.datapath;
  maps.trusted.update({ prefixLength: 32, address: NODE_ADDRESS }, { kind: Trust.node });
  const address = wide(NODE_ADDRESS);
  wideMaps?.trusted.update({ prefixLength: 128, address }, { kind: Trust.node });
  const podOf = (family: Family): Ipv4 => {
    const sent = sentBy(option, frameTo(VIPS, "tcp_established", family));
    const view = new DataView(sent.buffer, sent.byteOffset, sent.byteLength);
    return view.getUint32(PLAIN[family].destination) as Ipv4;
  };
  return { receiver, geneve, option, pods: { ipv4: podOf("ipv4"), ipv6: podOf("ipv6") } };
}

function sentBy({ datapath }: World, frame: Uint8Array): Uint8Array {
  const sent = datapath.programs.edgeIngress.testRun({ data: frame }).data.slice();
  writeMac(sent, 0, NODE_MAC); // the uplink's
  return sent;
}

function frameOf({ geneve, option, pods }: Nodes, { family, step }: Round): Uint8Array {
  const inner = frameTo(VIPS, "tcp_established", family);
  if (step === "geneve") return sentBy(geneve, inner);
  if (step === "option") return sentBy(option, inner);
  const pod = pods[family];
  const frame =
    step === "reply" ? frameOfReply(pod, TARGET_PORT, family) : frameInIpip(inner, SENDER, pod);
  writeMac(frame, 0, NODE_MAC);
  return frame;
}

/** Makes the pod one of the node, and gives it MANY_FLOWS connections. */
function adoptFlows({ receiver, pods }: Nodes, family: Family): void {
  const { maps, wide: wideMaps, programs } = receiver.datapath;
  const endpoint = {
    ifindex: POD_DEVICE,
    netns: -1,
    podMac: POD_MAC,
    nodeMac: NODE_SIDE_MAC,
    identity: 0 as never,
  };
  const target = { port: TARGET_PORT as Port, flags: 1, counter: 0 };
  const pod = pods[family];
  const service = SERVICE_IDS[family];
  if (family === "ipv4") {
    maps.endpoints.update({ address: pod }, endpoint);
    maps.targets.update({ service, pod }, target);
  } else {
    wideMaps?.endpoints.update({ address: wide(pod) }, endpoint);
    wideMaps?.targets.update({ service, pod: wide(pod) }, target);
  }
  const frame = frameInIpip(frameTo(VIPS, "tcp_syn", family), SENDER, pod);
  const before = receiver.count(Place.host, Verdict.sentPod);
  for (let flow = 0; flow < MANY_FLOWS; flow++) {
    programs.fromNetwork.testRun({ data: frameOfFlow({ frame, flows: 1 }, flow, IN_IPIP) });
  }
  const sent = receiver.count(Place.host, Verdict.sentPod) - before;
  if (sent !== MANY_FLOWS) throw new Error(`${sent} of ${MANY_FLOWS} flows were taken up`);
}

/** Runs the step's program; throws if a packet ended otherwise than it should. */
function checked(
  world: World,
  round: Round,
  run: (program: World["datapath"]["programs"]["fromPod"]) => number,
): number {
  const { fromPod, fromNetwork } = world.datapath.programs;
  const isReply = round.step === "reply";
  const [place, verdict] = isReply ? [Place.pod, Verdict.sentReply] : [Place.host, Verdict.sentPod];
  const before = world.countOthers(place, verdict);
  const ns = run(isReply ? fromPod : fromNetwork);
  if (world.countOthers(place, verdict) === before) return ns;
  throw new Error(`packets of ${nameOf(round)} ended otherwise than in verdict ${verdict}`);
}

function nameOf({ family, step, flows }: Round): string {
  return `${family}.${step}.${flows === 1 ? "1_flow" : "64k_flows"}`;
}

function report(found: ReadonlyMap<string, Summary>, results: Results): void {
  const rows = [["packet", "flows", "ns", "of IPIP", "of IPv4"]];
  for (const round of ROUNDS) {
    const { family, step, flows } = round;
    const ns = found.get(nameOf(round)) as Summary;
    const ratio = (other: Partial<Round>): string => {
      const than = found.get(nameOf({ ...round, ...other })) as Summary;
      return (ns.value / than.value).toFixed(2);
    };
    const told = step === "geneve" || step === "option";
    const ofIpip = told ? ratio({ step: "ipip" }) : "";
    const ofIpv4 = family === "ipv4" ? "" : ratio({ family: "ipv4" });
    const vs = [ofIpip && `${ofIpip} x ipip`, ofIpv4 && `${ofIpv4} x ipv4`].filter(Boolean);
    results.add(`modes.receive.${nameOf(round)}.ns`, "ns", ns, vs.join(", "));
    const packet = step === "reply" ? "reply of a pod" : `${step} into a pod`;
    rows.push([`${family} ${packet}`, String(flows), formatSummary(ns), ofIpip, ofIpv4]);
  }
  printTable("The backend's side, tc, net ns per packet: median (min–max)", rows);
}
